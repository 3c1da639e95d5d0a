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

// metered is a source that counts its calls against its own quotas, for each key
// apart, refuses what exceeds them as a real one would, and fails now and then.
type metered struct {
	name   string
	quotas []provider.Quota // as the source counts them

	mu       sync.Mutex
	rnd      *rand.Rand
	key      string
	skew     time.Duration // how far the clock of the workers is ahead of the source's
	poisoned netip.Addr    // it always fails for this one
	calls    []meteredCall // all that arrived
	over     int           // calls beyond a quota
	unsent   int           // calls that did not arrive
	answers  int
	answered map[netip.Addr]int
}

type meteredCall struct {
	at  time.Time // on the clock of the source
	key string
}

// The outages of every metered source, after the start of a bubble.
const (
	noDNS      = 12 * time.Hour
	badGateway = noDNS + 3*time.Hour
)

var bubbleStart = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func newMetered(name string, quotas ...provider.Quota) *metered {
	return &metered{
		name: name, quotas: quotas, rnd: rand.New(rand.NewPCG(7, uint64(len(name)))), key: "first",
		poisoned: netip.MustParseAddr(ip(3)), answered: make(map[netip.Addr]int),
	}
}

// keyed is a source as it is configured with a key.
type keyed struct {
	*metered
	key string
}

func (k keyed) Account() string { return k.key }

func (k keyed) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	return k.lookup(ctx, addr, k.key)
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

func (m *metered) now() time.Time { return time.Now().Add(-m.skew) }

func (m *metered) lookup(ctx context.Context, addr netip.Addr, key string) (provider.Finding, error) {
	failed := func(status int) (provider.Finding, error) {
		return provider.Finding{}, &provider.Error{Provider: m.name, Kind: provider.ErrUnavailable, StatusCode: status, Unsent: status == 0}
	}
	m.mu.Lock()
	took, fault := time.Duration(50+m.rnd.IntN(900))*time.Millisecond, m.rnd.IntN(50) == 0
	since := m.now().Sub(bubbleStart)
	if since < noDNS {
		m.unsent++
	}
	m.mu.Unlock()
	if since < noDNS {
		return failed(0)
	}
	arrives := time.Duration(rand.Int64N(int64(took)))
	select {
	case <-time.After(arrives):
	case <-ctx.Done():
		return provider.Finding{}, ctx.Err()
	}
	m.mu.Lock()
	spent := m.spent(m.now(), key)
	m.calls = append(m.calls, meteredCall{m.now(), key})
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
	case addr == m.poisoned:
		return provider.Finding{}, &provider.Error{Provider: m.name, Kind: provider.ErrBadResponse, StatusCode: 400}
	case fault, since < badGateway:
		return failed(502)
	}
	m.mu.Lock()
	m.answers++
	m.answered[addr]++
	m.mu.Unlock()
	return provider.Finding{Addr: addr, Known: true, Verdict: provider.Unknown}, nil
}

// spent reports whether a call at now would exceed a quota. Refused and failed
// calls count, too.
func (m *metered) spent(now time.Time, key string) bool {
	for _, q := range m.quotas {
		from := now.Add(-q.Window)
		if q.Calendar {
			from = q.Start(now).Add(-1)
		}
		n := 0
		for i := len(m.calls) - 1; i >= 0 && m.calls[i].at.After(from); i-- {
			if m.calls[i].key == key {
				n++
			}
		}
		if n >= q.Calls {
			return true
		}
	}
	return false
}

// fleet is a number of workers on one store, some of which die now and then.
type fleet struct {
	t       *testing.T
	store   *memstore.Store
	sources []*metered
	poll    time.Duration
	stops   []func()
}

func (f *fleet) start() {
	var ps []intel.Provider
	for _, m := range f.sources {
		ps = append(ps, keyed{m, m.key})
	}
	w, err := intel.NewWorker(intel.Config{
		Store: f.store, Providers: ps, Logger: slog.New(slog.DiscardHandler), ShutdownGrace: -1, TTL: 30 * provider.Day,
		PollInterval: f.poll,
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
// largest of them allows. There is no DNS for 12 hours, then 502 for three, one
// address always fails, workers are killed, their clock is nine hours ahead for a
// minute, and one source gets a new key.
func TestAWeekOfQuotas(t *testing.T) {
	t.Parallel()
	const workers, days = 4, 7
	arrivals, poll := 7, time.Duration(0) // in a minute: ten times what the largest daily quota allows
	if raceDetector {
		arrivals, poll = 1, time.Minute
	}
	rolling := func(calls int, window time.Duration) provider.Quota {
		return provider.Quota{Calls: calls, Window: window}
	}
	weekly := newMetered("weekly", rolling(25, provider.Week))
	daily := newMetered("daily", provider.Quota{Calls: 1000, Window: provider.Day, Calendar: true})
	stacked := newMetered("stacked", rolling(4, time.Minute), rolling(500, provider.Day), rolling(15_500, provider.Month))
	free := newMetered("free")
	s, sources, attackers := memstore.New(), []*metered{weekly, daily, stacked, free}, 0

	// live is a part of the week: some minutes from one on, as the workers' clock says.
	live := func(from, minutes int, ahead time.Duration) {
		synctest.Test(t, func(t *testing.T) {
			for _, m := range sources {
				m.skew = ahead
			}
			time.Sleep(time.Duration(from)*time.Minute + ahead)
			f := &fleet{t: t, store: s, sources: sources, poll: poll}
			for range workers {
				f.start()
			}
			for minute := range minutes {
				var some []store.Attacker
				for range arrivals {
					id := uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, attackers))
					some = append(some, store.Attacker{ID: id, IP: ip(attackers)})
					attackers++
				}
				require.NoError(t, s.Observe(t.Context(), some...))
				if minute%97 == 96 {
					f.restart()
				}
				time.Sleep(time.Minute)
			}
			for _, stop := range f.stops {
				stop()
			}
		})
	}
	const day = 24 * 60
	live(0, 3*day, 0)
	live(3*day, 1, 9*time.Hour)
	live(3*day+1, 2*day, 0)
	weekly.key = "second"
	live(5*day+1, 2*day, 0)

	for _, m := range sources {
		t.Logf("%s: %d calls charged, %d answered, %d not sent, %d addresses answered of %d",
			m.name, len(m.calls), m.answers, m.unsent, len(m.answered), attackers)
		require.Zero(t, m.over, "%s was asked %d times beyond its quota", m.name, m.over)
		require.GreaterOrEqual(t, float64(m.answers), 0.75*float64(len(m.calls)), m.name)
	}
	used := func(m *metered, allowed int) {
		require.GreaterOrEqual(t, float64(len(m.calls)), 0.95*float64(allowed), "%s: %d calls of %d allowed", m.name, len(m.calls), allowed)
	}
	used(weekly, 2*25)
	used(daily, days*1000)
	used(stacked, days*500)
	require.GreaterOrEqual(t, len(free.answered), attackers*99/100)
}
