package gate

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/internal/quota"
	"github.com/decnet/enrich/provider"
)

// scarce returns a gate, in front of a source that has answered before, with a
// quota of that many calls a day.
func scarce(s *source, calls int, change ...func(*Config)) *Gate {
	s.limits.Quotas = []provider.Quota{{Calls: calls, Window: provider.Day}}
	g := newcomer(s, change...)
	g.breaker.proven = true
	return g
}

// unspent returns how many calls of the first quota are left.
func unspent(g *Gate) int { return g.Windows(time.Now())[0].Left }

// refused returns a source's refusal with status 429.
func refused(kind error, wait time.Duration, u *provider.Usage) *provider.Error {
	return &provider.Error{Provider: "source", Kind: kind, StatusCode: 429, RetryAfter: wait, Usage: u}
}

// rests fails the test unless the provider is left alone for d from now, and
// asked by one lookup afterwards.
func rests(t *testing.T, g *Gate, s *source, state State, d time.Duration) {
	t.Helper()
	until := time.Now().Add(d)
	require.Equal(t, Status{State: state, Until: until}, g.Status(t.Context(), time.Now()))
	calls := s.calls()
	for range 3 {
		require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, addr))
	}
	<-time.After(d - 1)
	require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, addr))
	require.Equal(t, calls, s.calls())
	<-time.After(1)
	require.Equal(t, 1, g.Status(t.Context(), time.Now()).Calls)
}

func TestBurst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(refused(provider.ErrRateLimited, 0, nil))}
		g := newGate(s)
		for range 2 {
			for _, seconds := range []time.Duration{10, 20, 40, 80, 160, 320, 600, 600, 600} {
				out := lookup(t.Context(), g, addr)
				require.ErrorIs(t, out.Err, provider.ErrRateLimited)
				require.Equal(t, Outcome{Kind: Waiting, Err: out.Err, Started: time.Now()}, out)
				rests(t, g, s, Limited, seconds*time.Second)
			}
			// An answer makes up for all.
			answer := s.answer
			s.answer = nil
			require.NotNil(t, lookup(t.Context(), g, nth(s.calls())).Finding)
			s.answer = answer
		}
	})
}

func TestBurstWithRetryAfter(t *testing.T) {
	for _, c := range []struct {
		after, wait time.Duration
		state       State
	}{
		{3 * time.Second, 10 * time.Second, Limited},
		{10 * time.Second, 10 * time.Second, Limited},
		{90 * time.Second, 90 * time.Second, Limited},
		{10 * time.Minute, 10 * time.Minute, Limited},
		{10*time.Minute + 1, 10*time.Minute + 1, Exhausted},
		{5 * time.Hour, 5 * time.Hour, Exhausted},
		{24 * time.Hour, 24 * time.Hour, Exhausted},
		{24*time.Hour + 1, 24 * time.Hour, Exhausted},
		{math.MaxInt64, 24 * time.Hour, Exhausted},
	} {
		t.Run(c.after.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{answer: fails(refused(provider.ErrRateLimited, c.after, nil))}
				g := newGate(s)
				require.Equal(t, Waiting, lookup(t.Context(), g, addr).Kind)
				rests(t, g, s, c.state, c.wait)
			})
		})
	}
}

// TestBurstGrowsPastRetryAfter: a source that asks for too little is given
// more.
func TestBurstGrowsPastRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(refused(provider.ErrRateLimited, 15*time.Second, nil))}
		g := newGate(s)
		for _, seconds := range []time.Duration{15, 20, 40} {
			lookup(t.Context(), g, addr)
			rests(t, g, s, Limited, seconds*time.Second)
		}
	})
}

// TestQuotaRefused: a spent quota is not asked for until the source said, or
// asked for; if it said nothing, a first probe follows soon.
func TestQuotaRefused(t *testing.T) {
	week := provider.Quota{Calls: 25, Window: provider.Week}
	for _, c := range []struct {
		name   string
		quotas []provider.Quota
		reset  time.Duration
		after  time.Duration
		window time.Duration
		wait   time.Duration
	}{
		{"reset", []provider.Quota{week}, 5 * time.Hour, 0, 0, 5 * time.Hour},
		{"reset and wait", []provider.Quota{week}, 5 * time.Hour, time.Minute, 0, 5 * time.Hour},
		{"wait", []provider.Quota{week}, 0, time.Minute, provider.Week, time.Minute},
		{"window in the body", []provider.Quota{week}, 0, 0, provider.Week, time.Hour},
		{"another window in the body", []provider.Quota{week}, 0, 0, provider.Day, time.Hour},
		{"nothing said", []provider.Quota{week}, 0, 0, 0, time.Hour},
		{"nothing said, no quotas", nil, 0, 0, 0, provider.Day / 168},
		{"window, no quotas", nil, 0, 0, 168 * time.Minute, time.Minute},
		{"absurd wait", []provider.Quota{week}, 0, math.MaxInt64, 0, provider.Week},
		{"absurd wait, no quotas", nil, 0, math.MaxInt64, 0, 24 * time.Hour},
		{"absurd reset", []provider.Quota{week}, 200 * 365 * 24 * time.Hour, 0, 0, provider.Week},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				u := &provider.Usage{Window: c.window}
				if c.reset > 0 {
					u.Reset = time.Now().Add(c.reset)
				}
				s := &source{limits: provider.Limits{Quotas: c.quotas}, answer: fails(refused(provider.ErrQuotaExhausted, c.after, u))}
				g := newcomer(s)
				out := lookup(t.Context(), g, addr)
				require.ErrorIs(t, out.Err, provider.ErrQuotaExhausted)
				require.Equal(t, Outcome{Kind: Waiting, Err: out.Err, Started: time.Now()}, out)
				rests(t, g, s, Exhausted, c.wait)
			})
		})
	}
}

// TestQuotaRefusedWithoutUsage: a refusal that says nothing at all.
func TestQuotaRefusedWithoutUsage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(provider.ErrQuotaExhausted)}
		g := scarce(s, 10)
		for _, pause := range []time.Duration{provider.Day / 168 * 4, provider.Day, provider.Day / 2, provider.Day / 2} {
			require.Equal(t, Waiting, lookup(t.Context(), g, addr).Kind)
			rests(t, g, s, Exhausted, pause)
		}
	})
}

// TestRefusalsAreNoFailures: however often a source asks to be left alone, it
// is asked again when it said, by one lookup at a time.
func TestRefusalsAreNoFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 8}, answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			<-time.After(50 * time.Millisecond)
			return provider.Finding{}, refused(provider.ErrRateLimited, 0, nil)
		}}
		g := newcomer(s)
		for round := range 4 * tripAfter {
			var outs []<-chan Outcome
			for n := range 8 {
				outs = append(outs, begin(t.Context(), g, nth(n)))
			}
			for _, c := range outs {
				require.Equal(t, Waiting, (<-c).Kind)
			}
			require.Equal(t, round+1, s.calls())
			status := g.Status(t.Context(), time.Now())
			require.Equal(t, Limited, status.State)
			<-time.After(time.Until(status.Until))
		}
	})
}

// TestQuotaSpent: the quota's last call is made, and no other until it has left
// the window.
func TestQuotaSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(100 * time.Millisecond)}
		g := scarce(s, 5)
		for n := range 5 {
			require.NotNil(t, lookup(t.Context(), g, nth(n)).Finding)
		}
		end := time.Now()
		for n := range 20 {
			require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, nth(5+n)))
		}
		status := g.Status(t.Context(), end)
		require.Equal(t, Exhausted, status.State)
		require.Zero(t, status.Calls)
		<-time.After(time.Until(status.Until))
		for n := range 6 {
			lookup(t.Context(), g, nth(30+n))
		}
		require.Equal(t, 10, s.calls())
		require.GreaterOrEqual(t, s.starts[5].Sub(s.starts[4]), provider.Day)
	})
}

// TestQuotaCheckedFirst: nobody waits for a place who cannot pay.
func TestQuotaCheckedFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := scarce(s, 2)
		require.NotNil(t, lookup(t.Context(), g, nth(0)).Finding)
		busy := begin(t.Context(), g, nth(1))
		synctest.Wait()
		start := time.Now()
		require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, addr))
		require.Equal(t, start, time.Now())
		require.NotNil(t, (<-busy).Finding)
	})
}

// TestQuotaSpentLast: only a lookup that has its place pays.
func TestQuotaSpentLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 2}, answer: takes(5 * time.Second)}
		g := scarce(s, 100)
		busy := []<-chan Outcome{begin(t.Context(), g, nth(0)), begin(t.Context(), g, nth(1))}
		synctest.Wait()
		require.Equal(t, 98, unspent(g))

		late := lookup(t.Context(), g, addr)
		require.True(t, late.Late(time.Second))
		putOff(t, hurried(t.Context(), g, addr), time.Now())
		ctx, cancel := context.WithCancel(t.Context())
		waits := begin(ctx, g, addr)
		synctest.Wait()
		cancel()
		require.Equal(t, Outcome{Kind: Cut}, <-waits)
		require.Equal(t, 98, unspent(g))
		for _, c := range busy {
			<-c
		}
		require.Equal(t, 98, unspent(g))
		require.Equal(t, 2, s.calls())
	})
}

// TestQuotaSpentMeanwhile: of those who wait for a place when there is one call
// left, one makes it.
func TestQuotaSpentMeanwhile(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 1}, answer: takes(200 * time.Millisecond)}
		g := scarce(s, 2)
		var outs []<-chan Outcome
		for n := range 4 {
			outs = append(outs, begin(t.Context(), g, nth(n)))
		}
		found := 0
		for _, c := range outs {
			if out := <-c; out.Finding != nil {
				found++
			} else {
				require.Equal(t, Outcome{Kind: Waiting}, out)
			}
		}
		require.Equal(t, 2, found)
		require.Equal(t, 2, s.calls())
		require.Len(t, g.slots, 0)
	})
}

// TestCallsStaySpent: a call that was started is spent whatever became of it,
// and one that was not is not.
func TestCallsStaySpent(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(context.Context, netip.Addr) (provider.Finding, error)
		left   int // of ten
	}{
		{"answer", nil, 9},
		{"failure", fails(errBroken), 9},
		{"failed answer", fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 500}), 9},
		{"bad answer", says(provider.Finding{TTL: -1}), 9},
		{"panic", func(context.Context, netip.Addr) (provider.Finding, error) { panic("again") }, 9},
		{"deadline", takes(time.Hour), 9},
		{"refusal", fails(refused(provider.ErrRateLimited, 0, nil)), 9},
		{"bad key", fails(&provider.Error{Kind: provider.ErrUnauthorized, StatusCode: 401}), 9},
		{"bad key, not known how", fails(provider.ErrUnauthorized), 9},
		{"declined by the source", fails(&provider.Error{Kind: provider.ErrUnsupported, StatusCode: 422}), 9},
		{"plan refused by the source", fails(&provider.Error{Kind: provider.ErrConfig, StatusCode: 400}), 9},
		{"declined unasked", fails(provider.ErrUnsupported), 10},
		{"no key", fails(&provider.Error{Kind: provider.ErrConfig}), 10},
		{"usage of an answer", says(provider.Finding{Usage: &provider.Usage{Limit: 10, Remaining: 3, Window: provider.Day}}), 3},
		{"usage of a failure", fails(&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 500,
			Usage: &provider.Usage{Limit: 10, Remaining: 3, Window: provider.Day}}), 3},
		{"usage of a refusal", fails(refused(provider.ErrRateLimited, 0, &provider.Usage{Limit: 10, Remaining: 3, Window: provider.Day})), 3},
		{"a larger plan than configured", says(provider.Finding{Usage: &provider.Usage{Limit: 500, Remaining: 499, Window: provider.Day}}), 9},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := scarce(&source{answer: c.answer}, 10)
				out := lookup(t.Context(), g, addr)
				require.Equal(t, c.left, unspent(g))
				if out.Finding != nil {
					require.Nil(t, out.Finding.Usage, "is not part of the finding")
				}
			})
		})
	}
}

// TestAssumedQuotaIsRaised: of a quota that nobody configured the source knows
// more.
func TestAssumedQuotaIsRaised(t *testing.T) {
	usage := &provider.Usage{Limit: 500, Remaining: 499, Window: provider.Day}
	g := scarce(&source{limits: provider.Limits{Assumed: true}, answer: says(provider.Finding{Usage: usage})}, 10)
	require.NotNil(t, lookup(t.Context(), g, addr).Finding)
	require.Equal(t, 499, unspent(g))
}

func TestCutCallStaysSpent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(time.Hour)}
		g := scarce(s, 10)
		ctx, cancel := context.WithCancel(t.Context())
		out := begin(ctx, g, addr)
		<-time.After(time.Second)
		cancel()
		require.Equal(t, Cut, (<-out).Kind)
		require.Equal(t, 9, unspent(g))
		require.Equal(t, Working, g.Status(t.Context(), time.Now()).State)
	})
}

// TestSettled: a call counts from its end, not from when it might have ended.
func TestSettled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		s.limits.Quotas = []provider.Quota{{Calls: 1, Window: time.Minute}}
		g := newcomer(s)
		start := time.Now()
		out := begin(t.Context(), g, addr)
		<-time.After(time.Second)
		reset := g.Windows(time.Now())[0].Reset
		require.GreaterOrEqual(t, reset.Sub(start), time.Minute+timeout, "it may yet reach the source")
		require.NotNil(t, (<-out).Finding)
		reset = g.Windows(time.Now())[0].Reset
		require.GreaterOrEqual(t, reset.Sub(start), time.Minute+5*time.Second)
		require.Less(t, reset.Sub(start), time.Minute+6*time.Second)
		<-time.After(time.Until(reset))
		require.NotNil(t, lookup(t.Context(), g, other).Finding)
	})
}

var errDown = errors.New("the ledger is down")

// ledger is a quota ledger that can fail.
type ledger struct {
	mu      sync.Mutex
	doc     []byte
	version uint64
	down    bool
	hangs   bool // until the context ends
}

func (l *ledger) set(f func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	f()
}

func (l *ledger) Budget(ctx context.Context, _ string) ([]byte, uint64, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.down {
		return nil, 0, errDown
	}
	return l.doc, l.version, ctx.Err()
}

func (l *ledger) SwapBudget(ctx context.Context, _ string, version uint64, doc []byte) (bool, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hangs {
		<-ctx.Done()
	}
	switch {
	case ctx.Err() != nil:
		return false, ctx.Err()
	case l.down:
		return false, errDown
	case l.version != version:
		return false, nil
	}
	l.doc, l.version = doc, version+1
	return true, nil
}

// troubles keeps what a gate tells about its ledger.
type troubles []error

func (all *troubles) of(l quota.Ledger) func(*Config) {
	return func(c *Config) {
		c.Ledger, c.Trouble = l, func(err error) { *all = append(*all, err) }
	}
}

// TestLedgerFails: without the ledger no call is made, each lookup tells so
// once and comes again soon.
func TestLedgerFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		l := &ledger{down: true}
		s := &source{}
		g := scarce(s, 10, told.of(l))
		for n := range 3 {
			require.Equal(t, Outcome{Kind: Deferred, NotBefore: time.Now().Add(30 * time.Second).UTC()}, lookup(t.Context(), g, nth(n)))
			require.Len(t, told, n+1)
			require.ErrorIs(t, told[n], errDown)
		}
		require.Zero(t, s.calls())
		require.Equal(t, Working, g.Status(t.Context(), time.Now()).State, "the source has not failed")
		require.Len(t, told, 3)
		require.Len(t, g.slots, 0)

		l.set(func() { l.down = false })
		require.NotNil(t, lookup(t.Context(), g, nth(0)).Finding)
		require.Equal(t, 9, unspent(g))
		require.Len(t, told, 3)
	})
}

// TestLedgerFailsDuringCall: an answer counts although it could not be noted
// when it came.
func TestLedgerFailsDuringCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		l := &ledger{}
		s := &source{answer: takes(time.Second)}
		s.limits.Quotas = []provider.Quota{{Calls: 10, Window: time.Minute}} // with buckets of less than a second
		g := newcomer(s, told.of(l))
		out := begin(t.Context(), g, addr)
		synctest.Wait()
		l.set(func() { l.down = true })
		require.NotNil(t, (<-out).Finding)
		require.Len(t, told, 1)
		require.ErrorIs(t, told[0], errDown)
		l.set(func() { l.down = false })
		<-time.After(2 * time.Minute)
		require.NotNil(t, lookup(t.Context(), g, other).Finding)
		require.Len(t, told, 1)
	})
}

// TestLedgerFailsAtRefusal: a source that asks to be left alone is, also if the
// ledger cannot be told, and after it works again.
func TestLedgerFailsAtRefusal(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		l := &ledger{}
		s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			l.set(func() { l.down = true })
			return provider.Finding{}, refused(provider.ErrQuotaExhausted, 5*time.Hour, nil)
		}}
		g := scarce(s, 10, told.of(l))
		require.Equal(t, Waiting, lookup(t.Context(), g, addr).Kind)
		require.NotEmpty(t, told)
		require.Equal(t, Exhausted, g.Status(t.Context(), time.Now()).State)
		l.set(func() { l.down = false })
		rests(t, g, s, Exhausted, 5*time.Hour)
	})
}

// TestUnsentIsRefunded: a call that did not reach the source costs nothing, and one
// that may have reached it stays charged.
func TestUnsentIsRefunded(t *testing.T) {
	unsent := &provider.Error{Kind: provider.ErrUnavailable, Unsent: true}
	for name, c := range map[string]struct {
		err  error
		left int
	}{
		"marked":          {unsent, 10},
		"wrapped":         {fmt.Errorf("decorated: %w", unsent), 10},
		"an error of net": {&net.DNSError{Err: "no such host", IsNotFound: true}, 10},
		"in doubt":        {errors.New("oops"), 9},
		"an answer":       {&provider.Error{Kind: provider.ErrUnavailable, StatusCode: 502}, 9},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := scarce(&source{answer: fails(c.err)}, 10)
				require.Equal(t, Failed, lookup(t.Context(), g, addr).Kind)
				require.Equal(t, c.left, unspent(g))

				ctx, cancel := context.WithCancel(t.Context())
				g = scarce(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
					cancel()
					return provider.Finding{}, c.err
				}}, 10)
				require.Equal(t, Cut, lookup(ctx, g, addr).Kind)
				require.Equal(t, c.left, unspent(g), "cut off")
			})
		})
	}
}

// TestLedgerFailsRefund: what the ledger was not told stays spent.
func TestLedgerFailsRefund(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		l := &ledger{}
		g := scarce(&source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			l.set(func() { l.down = true })
			return provider.Finding{}, provider.ErrUnsupported
		}}, 100, told.of(l))
		require.ErrorIs(t, lookup(t.Context(), g, addr).Err, provider.ErrUnsupported)
		require.Len(t, told, 1)
		l.set(func() { l.down = false })
		require.Equal(t, 99, g.Status(t.Context(), time.Now()).Calls)
	})
}

// TestCutInLedger: a lookup that is cut off while the ledger is asked is no
// trouble of the ledger.
func TestCutInLedger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		s := &source{}
		g := scarce(s, 10, told.of(&ledger{hangs: true}))
		ctx, cancel := context.WithCancel(t.Context())
		out := begin(ctx, g, addr)
		synctest.Wait()
		cancel()
		require.Equal(t, Outcome{Kind: Cut}, <-out)
		require.Empty(t, told)
		require.Zero(t, s.calls())
	})
}

// TestCutAfterCall: what a call has cost is noted although nobody waits for it
// any more.
func TestCutAfterCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var told troubles
		l := &ledger{}
		ctx, cancel := context.WithCancel(t.Context())
		g := scarce(&source{answer: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			cancel()
			return provider.Finding{Addr: addr, Usage: &provider.Usage{Limit: 100, Remaining: 2, Window: provider.Day}}, nil
		}}, 100, told.of(l))
		require.NotNil(t, lookup(ctx, g, addr).Finding)
		require.Empty(t, told)
		require.Equal(t, 2, scarce(&source{}, 100, told.of(l)).Status(t.Context(), time.Now()).Calls)
	})
}

// TestGatesShareQuota: gates of several workers never ask more often together
// than one may.
func TestGatesShareQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &ledger{}
		const workers, calls, lookups = 4, 100, 40
		var sources []*source
		outs := make(chan Outcome)
		for w := range workers {
			s := &source{limits: provider.Limits{MaxInFlight: 20}, answer: takes(100 * time.Millisecond)}
			g := scarce(s, calls, func(c *Config) { c.Ledger = l })
			sources = append(sources, s)
			for n := range lookups {
				go func() { outs <- lookup(t.Context(), g, nth(lookups*w+n)) }()
			}
		}
		found := 0
		for range workers * lookups {
			if out := <-outs; out.Finding != nil {
				found++
			} else {
				require.Equal(t, Outcome{Kind: Waiting}, out)
			}
		}
		require.Equal(t, calls, found)
		sum := 0
		for _, s := range sources {
			sum += s.calls()
		}
		require.Equal(t, calls, sum)
	})
}
