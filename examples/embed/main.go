// Embed shows the least that a program of another kind needs to use this
// module: a provider of its own, a store and a bus in memory, and the worker.
package main

import (
	"context"
	"errors"
	"log"
	"net/netip"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

func run(ctx context.Context) error {
	blocklist := map[netip.Addr]provider.Verdict{netip.MustParseAddr("45.155.205.233"): provider.Malicious}
	mine := provider.Func{ID: "mine", Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		verdict, known := blocklist[addr] // unknown is not innocent: no verdict
		return provider.Finding{Addr: addr, Known: known, Verdict: verdict, Attrs: map[string]any{"listed": known}}, nil
	}}

	attackers, events := memstore.New(), membus.New(membus.Options{})
	enriched, err := events.Subscribe(ctx, intel.TopicEnriched)
	err = errors.Join(err, attackers.Observe(ctx, store.Attacker{ID: uuid.New(), IP: "45.155.205.233"}))
	if err != nil {
		return err
	}
	w, err := intel.NewWorker(intel.Config{Store: attackers, Bus: events, Providers: []intel.Provider{mine}})
	if err != nil {
		return err
	}
	if err := w.Drain(ctx); err != nil { // a service would call w.Run(ctx)
		return err
	}
	return show(<-enriched.Events())
}
