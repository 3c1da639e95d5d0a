package intel_test

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// metered is a source that counts its calls against its own quotas, refuses
// what exceeds them as a real one would, and fails now and then.
type metered struct {
	name   string
	quotas []provider.Quota // as the source counts them

	mu       sync.Mutex
	rnd      *rand.Rand
	calls    []time.Time // all of them
	over     int         // calls beyond a quota
	answered map[netip.Addr]int
}

func newMetered(name string, quotas ...provider.Quota) *metered {
	return &metered{name: name, quotas: quotas, rnd: rand.New(rand.NewPCG(7, uint64(len(name)))), answered: make(map[netip.Addr]int)}
}

func (m *metered) Name() string { return m.name }

// Limits declares every window as rolling, whatever the source does.
func (m *metered) Limits() provider.Limits {
	l := provider.Limits{}
	for _, q := range m.quotas {
		l.Quotas = append(l.Quotas, provider.Quota{Calls: q.Calls, Window: q.Window})
	}
	return l
}

func (m *metered) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	m.mu.Lock()
	took, fault := time.Duration(50+m.rnd.IntN(900))*time.Millisecond, m.rnd.IntN(20) == 0
	m.mu.Unlock()
	arrives := time.Duration(rand.Int64N(int64(took)))
	select {
	case <-time.After(arrives):
	case <-ctx.Done():
		return provider.Finding{}, ctx.Err()
	}
	m.mu.Lock()
	spent := m.spent(time.Now())
	m.calls = append(m.calls, time.Now())
	if spent {
		m.over++
	}
	m.mu.Unlock()
	select {
	case <-time.After(took - arrives):
	case <-ctx.Done():
		return provider.Finding{}, ctx.Err()
	}
	switch {
	case spent:
		return provider.Finding{}, &provider.Error{Provider: m.name, Kind: provider.ErrQuotaExhausted, StatusCode: 429}
	case fault:
		return provider.Finding{}, &provider.Error{Provider: m.name, Kind: provider.ErrUnavailable, StatusCode: 503}
	}
	m.mu.Lock()
	m.answered[addr]++
	m.mu.Unlock()
	return provider.Finding{Addr: addr, Known: true, Verdict: provider.Unknown}, nil
}

// spent reports whether a call at now would exceed a quota. Refused and failed
// calls count, too.
func (m *metered) spent(now time.Time) bool {
	for _, q := range m.quotas {
		from := now.Add(-q.Window)
		if q.Calendar {
			from = q.Start(now).Add(-1)
		}
		n := 0
		for i := len(m.calls) - 1; i >= 0 && m.calls[i].After(from); i-- {
			n++
		}
		if n >= q.Calls {
			return true
		}
	}
	return false
}

// fleet is a number of workers on one store, some of which die now and then.
type fleet struct {
	t         *testing.T
	store     *memstore.Store
	providers []intel.Provider
	stops     []func()
}

func (f *fleet) start() {
	w, err := intel.NewWorker(intel.Config{
		Store: f.store, Providers: f.providers, Logger: slog.New(slog.DiscardHandler), ShutdownGrace: -1, TTL: 30 * provider.Day,
	})
	require.NoError(f.t, err)
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	f.stops = append(f.stops, func() {
		cancel()
		require.NoError(f.t, <-done)
	})
}

// restart ends the oldest worker in the midst of its calls and starts another.
func (f *fleet) restart() {
	f.stops[0]()
	f.stops = f.stops[1:]
	f.start()
}

// TestAWeekOfQuotas lets four workers share the budgets of sources as small as
// the real ones for a week, while ten times as many attackers arrive as the
// largest of them allows, calls fail, and workers are replaced.
func TestAWeekOfQuotas(t *testing.T) {
	const workers, week = 4, 7
	synctest.Test(t, func(t *testing.T) {
		rolling := func(calls int, window time.Duration) provider.Quota {
			return provider.Quota{Calls: calls, Window: window}
		}
		weekly := newMetered("weekly", rolling(25, provider.Week))
		daily := newMetered("daily", provider.Quota{Calls: 1000, Window: provider.Day, Calendar: true})
		stacked := newMetered("stacked", rolling(4, time.Minute), rolling(500, provider.Day), rolling(15_500, provider.Month))
		free := newMetered("free")
		f := &fleet{t: t, store: memstore.New(), providers: []intel.Provider{weekly, daily, stacked, free}}
		for range workers {
			f.start()
		}
		attackers := 0
		arrive := func(n int) {
			var some []store.Attacker
			for range n {
				some = append(some, store.Attacker{ID: uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, attackers)), IP: ip(attackers)})
				attackers++
			}
			require.NoError(t, f.store.Observe(t.Context(), some...))
		}
		arrive(100)
		for minute := range week * 24 * 60 {
			arrive(7)
			if minute%97 == 96 {
				f.restart()
			}
			time.Sleep(time.Minute)
		}
		for _, stop := range f.stops {
			stop()
		}
		for _, m := range []*metered{weekly, daily, stacked, free} {
			require.Zero(t, m.over, "%s was asked %d times beyond its quota", m.name, m.over)
			t.Logf("%s: %d calls, %d answers for %d attackers", m.name, len(m.calls), len(m.answered), attackers)
		}
		used := func(m *metered, allowed int) {
			require.GreaterOrEqual(t, float64(len(m.calls)), 0.98*float64(allowed), "%s: %d calls of %d allowed", m.name, len(m.calls), allowed)
		}
		used(weekly, 25)
		used(daily, week*1000)
		used(stacked, week*500)
		require.GreaterOrEqual(t, len(free.answered), attackers*99/100)
	})
}
