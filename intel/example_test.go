package intel_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// saying returns a provider with one opinion about every address.
func saying(name string, v provider.Verdict) intel.Provider {
	return providertest.NewFake(name, providertest.Reply{Finding: provider.Finding{Known: true, Verdict: v}})
}

// A service runs the worker beside what else it does, registers attackers as it
// sees them, and listens for verdicts.
func ExampleWorker_Run() {
	ctx, stop := context.WithCancel(context.Background())
	attackers, events := memstore.New(), membus.New(membus.Options{})
	defer events.Close()
	enriched, err := events.Subscribe(ctx, intel.TopicEnriched)
	if err != nil {
		panic(err)
	}
	w, err := intel.NewWorker(intel.Config{
		Store: attackers, Bus: events, Providers: []intel.Provider{saying("mine", provider.Malicious)},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	stopped := make(chan error, 1)
	go func() { stopped <- w.Run(ctx) }()

	err = attackers.Observe(ctx, store.Attacker{ID: uuid.New(), IP: "45.155.205.233"})
	if err != nil {
		panic(err)
	}
	w.Wake() // an event on the topic attacker.observed does the same
	fmt.Println((<-enriched.Events()).Topic)

	stop()
	fmt.Println("stopped:", <-stopped)
	// Output:
	// attacker.intel.enriched
	// stopped: <nil>
}

// Enrich asks about one attacker while somebody waits for the answer.
func ExampleWorker_Enrich() {
	ctx := context.Background()
	attackers := memstore.New()
	id := uuid.New()
	if err := attackers.Observe(ctx, store.Attacker{ID: id, IP: "45.155.205.233"}); err != nil {
		panic(err)
	}
	failing := providertest.NewFake("failing", providertest.Reply{
		Err: &provider.Error{Provider: "failing", Kind: provider.ErrUnavailable},
	})
	w, err := intel.NewWorker(intel.Config{
		Store: attackers, Providers: []intel.Provider{saying("mine", provider.Suspicious), failing},
		Logger: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		panic(err)
	}
	r, err := w.Enrich(ctx, id)
	if err != nil { // the failure of a provider is no error
		panic(err)
	}
	fmt.Println(r.IP, "is", r.Decision.Verdict)
	for _, e := range r.Entries {
		fmt.Printf("%s: has answered %v, error %q\n", e.Provider, e.Finding != nil, e.Error)
	}
	// Output:
	// 45.155.205.233 is suspicious
	// failing: has answered false, error "unavailable"
	// mine: has answered true, error ""
}

// harmless is a policy that finds everything harmless.
type harmless struct{}

func (harmless) Name() string { return "harmless/1" }

func (harmless) Decide([]aggregate.Evidence, time.Time) aggregate.Decision {
	return aggregate.Decision{Verdict: provider.Benign, Policy: "harmless/1"}
}

// After a change of policy, Rescore decides again on what is stored. It asks no
// provider.
func ExampleWorker_Rescore() {
	ctx := context.Background()
	attackers := memstore.New()
	id := uuid.New()
	if err := attackers.Observe(ctx, store.Attacker{ID: id, IP: "45.155.205.233"}); err != nil {
		panic(err)
	}
	fake := providertest.NewFake("mine", providertest.Reply{Finding: provider.Finding{Known: true, Verdict: provider.Malicious}})
	c := intel.Config{Store: attackers, Providers: []intel.Provider{fake}, Logger: slog.New(slog.DiscardHandler)}
	before, err := intel.NewWorker(c)
	if err != nil {
		panic(err)
	}
	if err := before.Drain(ctx); err != nil {
		panic(err)
	}

	c.Policy = harmless{}
	after, err := intel.NewWorker(c)
	if err != nil {
		panic(err)
	}
	done, err := after.Rescore(ctx, "") // in case of an error, done.Next says where to go on
	if err != nil {
		panic(err)
	}
	r, err := attackers.Get(ctx, id)
	if err != nil {
		panic(err)
	}
	fmt.Printf("%d seen, %d changed: %s is %s after %d lookup\n", done.Seen, done.Changed, r.IP, r.Decision.Verdict, fake.Calls())
	// Output:
	// 1 seen, 1 changed: 45.155.205.233 is benign after 1 lookup
}

// Hooks feed metrics, logs and progress displays.
func ExampleHooks() {
	ctx := context.Background()
	attackers := memstore.New()
	w, err := intel.NewWorker(intel.Config{
		Store:     attackers,
		Providers: []intel.Provider{saying("mine", provider.Malicious)},
		Logger:    slog.New(slog.DiscardHandler),
		Hooks: intel.Hooks{
			Lookup: func(l intel.LookupInfo) { fmt.Printf("lookup of %s at %s: %v\n", l.Addr, l.Provider, l.Err) },
			Saved: func(s intel.SavedInfo) {
				fmt.Printf("saved: %s, verdict changed: %v\n", s.Record.Decision.Verdict, s.Changed)
			},
		},
	})
	if err != nil {
		panic(err)
	}
	addr := netip.MustParseAddr("45.155.205.233")
	if err := attackers.Observe(ctx, store.Attacker{ID: uuid.New(), IP: addr.String()}); err != nil {
		panic(err)
	}
	if err := w.Drain(ctx); err != nil { // a service calls Run
		panic(err)
	}
	// Output:
	// lookup of 45.155.205.233 at mine: <nil>
	// saved: malicious, verdict changed: true
}
