package main

import (
	"context"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// registerAtOnce is how many attackers are handed to the store in one call.
const registerAtOnce = 1000

// register adds an attacker for each address. The first address was seen last,
// so that it is the first to be asked about.
func (p *program) register(ctx context.Context) error {
	registering := p.term.progress("Registering", len(p.addrs))
	defer registering.end()
	seen := time.Now()
	attackers := make([]store.Attacker, 0, registerAtOnce)
	for chunk := range slices.Chunk(p.addrs, registerAtOnce) {
		attackers = attackers[:0]
		for _, addr := range chunk {
			attackers = append(attackers, store.Attacker{ID: store.AttackerID(addr), IP: addr.String(), LastSeen: seen.UTC()})
			seen = seen.Add(-time.Microsecond)
		}
		if err := p.db.Observe(ctx, attackers...); err != nil {
			return err
		}
		registering.add(len(chunk))
	}
	return nil
}

// tally counts what happens while attackers are enriched.
type tally struct {
	mu      sync.Mutex
	lookups int                    // made
	answers int                    // to them, or at hand
	putOff  time.Time              // the latest time until which one was put off
	resting []intel.ProviderStatus // those that addresses wait for in the end
}

// enrich registers the addresses and asks the providers about all attackers
// that are due: those, and what an earlier run has left. It returns early if
// ctx ends, and the store's error if that fails.
func (p *program) enrich(ctx context.Context) (*tally, error) {
	t := &tally{}
	if err := p.register(ctx); err != nil {
		return t, err
	}
	stats, err := p.db.Stats(ctx, time.Now())
	if err != nil || stats.Due == 0 && len(stats.Waiting) == 0 {
		return t, err
	}
	asking := p.term.progress("Asking", stats.Due)
	defer asking.end()
	w, err := intel.NewWorker(intel.Config{
		Store:     p.db.recordStore,
		Providers: p.sources.providers,
		Guard:     provider.Guard{Own: p.ownNetworks},
		Logger:    slog.New(slog.NewTextHandler(p.term, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Hooks: intel.Hooks{
			Lookup: t.lookup,
			Saved: func(s intel.SavedInfo) {
				if isSettled(s) {
					asking.add(1)
				}
			},
		},
	})
	if err != nil {
		return t, err
	}
	for {
		began := time.Now()
		if err := w.Drain(ctx); err != nil {
			return t, err
		}
		// A provider that is busy or limits its rate has put lookups off, or lets
		// them wait.
		wait, more := t.wait(began)
		status, err := w.Status(context.WithoutCancel(ctx))
		if err != nil {
			return t, err
		}
		t.resting = nil
		for _, p := range status.Providers {
			if status.Backlog.Waiting[p.Name] == 0 {
				continue
			}
			t.resting = append(t.resting, p)
			if soon := time.Until(p.Until); !more && soon > 0 && soon < patience {
				wait, more = soon, true
			}
		}
		if !more {
			return t, nil
		}
		select {
		case <-ctx.Done():
			return t, nil
		case <-time.After(wait):
		}
	}
}

// lookup is called by the worker after each lookup.
func (t *tally) lookup(l intel.LookupInfo) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if l.Took > 0 {
		t.lookups++
	}
	switch {
	case l.NotBefore.After(t.putOff):
		t.putOff = l.NotBefore
	case l.NotBefore.IsZero() && l.Err == nil && !l.Waiting:
		t.answers++
	}
}

// isSettled reports whether every provider has answered about an attacker, or
// failed to.
func isSettled(s intel.SavedInfo) bool {
	return !slices.ContainsFunc(s.Pending, func(name string) bool {
		e := s.Record.Entry(name)
		return e == nil || e.Failures == 0 && e.State != store.Waiting
	})
}

// patience is how long a run waits for a provider that is being left alone.
const patience = 15 * time.Second

// lookAgain is the time between two looks for lookups that were put off.
const lookAgain = 250 * time.Millisecond

// wait returns whether a lookup was put off beyond the given time, and if so
// how long to wait before the next look.
func (t *tally) wait(began time.Time) (time.Duration, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.putOff.After(began) {
		return 0, false
	}
	return min(max(time.Until(t.putOff), time.Millisecond), lookAgain), true
}
