package gate

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var (
	addr  = netip.MustParseAddr("45.155.205.233")
	other = netip.MustParseAddr("193.32.162.7")
	six   = netip.MustParseAddr("2a0e:97c0::1")
)

// source is a provider whose answers and limits a test sets. It notes when its
// lookups start and how many of them run at once.
type source struct {
	limits provider.Limits
	answer func(ctx context.Context, addr netip.Addr) (provider.Finding, error)

	mu             sync.Mutex
	starts         []time.Time
	asked          []netip.Addr
	running, worst int
}

func (s *source) Name() string            { return "source" }
func (s *source) Limits() provider.Limits { return s.limits }

func (s *source) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	s.mu.Lock()
	s.starts = append(s.starts, time.Now())
	s.asked = append(s.asked, addr)
	s.running++
	s.worst = max(s.worst, s.running)
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.running--
	}()
	if s.answer == nil {
		return provider.Finding{Addr: addr, Verdict: provider.Malicious}, nil
	}
	return s.answer(ctx, addr)
}

func (s *source) calls() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// says answers every lookup with f, about the address asked.
func says(f provider.Finding) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		f.Addr = addr
		return f, nil
	}
}

func fails(err error) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(context.Context, netip.Addr) (provider.Finding, error) { return provider.Finding{}, err }
}

// takes answers after d, or with an error when its context ends.
func takes(d time.Duration) func(context.Context, netip.Addr) (provider.Finding, error) {
	return func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
		select {
		case <-time.After(d):
			return provider.Finding{Addr: addr, Verdict: provider.Malicious}, nil
		case <-ctx.Done():
			return provider.Finding{}, ctx.Err()
		}
	}
}

// timeout is that of the lookups in these tests.
const timeout = 10 * time.Second

// deadlines give every call a deadline of its own, a little late as those of
// the worker.
type deadlines struct{ ctx context.Context }

var errDeadline = errors.New("no answer in time (10s)")

func (d deadlines) Next(start time.Time) context.Context {
	ctx, cancel := context.WithDeadlineCause(d.ctx, start.Add(timeout+timeout/100), errDeadline)
	context.AfterFunc(ctx, cancel)
	return ctx
}

// newGate returns a gate in front of a source that has answered before.
func newGate(s *source) *Gate {
	g := New(identify(s), Config{TTL: hour, MaxWait: time.Second, Timeout: timeout, MaxInFlight: 2})
	g.breaker.proven = true
	return g
}

// identify identifies a provider that does not panic.
func identify(p provider.Provider) Identity {
	id, err := Identify(p)
	if err != nil {
		panic(err)
	}
	return id
}

// hour is the TTL of findings that bring none.
func hour(f provider.Finding) time.Duration { return cmp.Or(f.TTL, time.Hour) }

// lookup makes a patient lookup.
func lookup(ctx context.Context, g *Gate, addr netip.Addr) Outcome {
	return *g.Lookup(ctx, deadlines{ctx}, addr, true)
}

// hurried makes a lookup that does not wait for its turn.
func hurried(ctx context.Context, g *Gate, addr netip.Addr) Outcome {
	return *g.Lookup(ctx, deadlines{ctx}, addr, false)
}

// begin starts a patient lookup and returns where its outcome will arrive.
func begin(ctx context.Context, g *Gate, addr netip.Addr) <-chan Outcome {
	out := make(chan Outcome, 1)
	go func() { out <- lookup(ctx, g, addr) }()
	return out
}

// nth returns one of many public addresses.
func nth(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{45, byte(n >> 16), byte(n >> 8), byte(n)})
}

// wrapper hides nothing of the provider it wraps.
type wrapper struct{ provider.Provider }

func (w wrapper) Unwrap() provider.Provider { return w.Provider }

func TestNew(t *testing.T) {
	s := &source{limits: provider.Limits{MaxInFlight: 7, MinInterval: time.Second}}
	for _, p := range []provider.Provider{s, wrapper{s}, wrapper{wrapper{s}}} {
		g := New(identify(p), Config{MaxInFlight: 3})
		require.Equal(t, "source", g.Name())
		require.Equal(t, p, g.provider)
		require.Equal(t, 7, cap(g.slots))
		require.Equal(t, time.Second, g.pace.interval)
	}
	require.Equal(t, 3, cap(New(identify(&source{}), Config{MaxInFlight: 3}).slots))
	require.Equal(t, 3, cap(New(identify(provider.Func{ID: "bare"}), Config{MaxInFlight: 3}).slots))
}

func TestApplies(t *testing.T) {
	private := netip.MustParseAddr("192.168.1.7")
	own := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("45.155.0.0/16")}}
	for _, c := range []struct {
		name   string
		limits provider.Limits
		guard  provider.Guard
		addr   netip.Addr
		want   bool
	}{
		{"public", provider.Limits{}, provider.Guard{}, addr, true},
		{"public IPv6", provider.Limits{}, provider.Guard{}, six, true},
		{"no address", provider.Limits{}, provider.Guard{}, netip.Addr{}, false},
		{"no address, private provider", provider.Limits{Private: true}, provider.Guard{}, netip.Addr{}, false},
		{"private", provider.Limits{}, provider.Guard{}, private, false},
		{"private, private provider", provider.Limits{Private: true}, provider.Guard{}, private, true},
		{"own", provider.Limits{}, own, addr, false},
		{"own, private provider", provider.Limits{Private: true}, own, addr, true},
		{"not own", provider.Limits{}, own, other, true},
		{"IPv4 of an IPv4 provider", provider.Limits{IPv4Only: true}, provider.Guard{}, addr, true},
		{"IPv6 of an IPv4 provider", provider.Limits{IPv4Only: true}, provider.Guard{}, six, false},
		{"IPv6 of a private IPv4 provider", provider.Limits{IPv4Only: true, Private: true}, provider.Guard{}, six, false},
		{"private of an IPv4 provider", provider.Limits{IPv4Only: true}, provider.Guard{}, private, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := New(identify(&source{limits: c.limits}), Config{Guard: c.guard, MaxInFlight: 1})
			require.Equal(t, c.want, g.Applies(c.addr))
		})
	}
}
