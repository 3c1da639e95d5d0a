// Embed shows how a service of another kind uses this module: it embeds the
// worker, has a provider of its own, and reacts to verdicts. Its tests show how
// to test such a service with mocks, with fakes and in virtual time.
package main

import (
	"context"
	"fmt"
	"log"
	"log/slog"
	"net/netip"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// blocklist is what our own provider knows.
var blocklist = map[netip.Addr]provider.Verdict{
	netip.MustParseAddr("45.155.205.233"): provider.Malicious,
	netip.MustParseAddr("71.6.135.131"):   provider.Benign,
}

// lookup answers from the blocklist. An address that is not listed is not known,
// which is no opinion: absence is not innocence.
func lookup(_ context.Context, addr netip.Addr) (provider.Finding, error) {
	verdict, known := blocklist[addr]
	return provider.Finding{Addr: addr, Known: known, Verdict: verdict, Attrs: map[string]any{"listed": known}}, nil
}

// run runs a service while attackers come.
func run(ctx context.Context) error {
	events := membus.New(membus.Options{})
	defer events.Close()
	service, err := NewService(memstore.New(), events, slog.Default(), provider.Func{ID: "mine", Ask: lookup})
	if err != nil {
		return err
	}
	verdicts, err := events.Subscribe(ctx, intel.TopicEnriched)
	if err != nil {
		return err
	}
	ctx, stop := context.WithCancel(ctx)
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return service.Run(ctx) })
	group.Go(func() error {
		defer stop()
		return attack(ctx, service, verdicts)
	})
	return group.Wait()
}

// attack has three attackers fail to log in, one after the other, and prints
// what becomes of them.
func attack(ctx context.Context, service *Service, verdicts bus.Subscription) error {
	for _, text := range []string{"45.155.205.233", "71.6.135.131", "193.32.162.7"} {
		addr := netip.MustParseAddr(text)
		if err := service.LoginFailed(ctx, addr); err != nil {
			return err
		}
		if err := service.React(ctx, <-verdicts.Events()); err != nil { // Run does this, too, but says not when
			return err
		}
		fmt.Printf("%s is blocked: %v\n", addr, service.Blocked(addr))
	}
	return nil
}
