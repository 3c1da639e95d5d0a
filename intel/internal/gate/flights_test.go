package gate

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// answered is an outcome with an answer that is fresh for the given time.
func answered(ttl time.Duration) Outcome {
	return Outcome{Kind: Answered, Finding: &provider.Finding{Provider: "source", Addr: addr}, Expires: time.Now().Add(ttl)}
}

func TestLookupsJoin(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(time.Second)}
		g := newGate(s)
		var outs []<-chan Outcome
		for range 20 {
			outs = append(outs, begin(t.Context(), g, addr))
		}
		alone := begin(t.Context(), g, other)
		reused := 0
		first := <-outs[0]
		for i, c := range outs {
			out := first
			if i > 0 {
				out = <-c
			}
			require.Equal(t, first.Finding, out.Finding)
			require.Equal(t, first.Expires, out.Expires)
			if out.Reused() {
				reused++
			}
		}
		require.Equal(t, 19, reused)
		out := <-alone
		require.Equal(t, other, out.Finding.Addr)
		require.False(t, out.Reused())
		require.Equal(t, 2, s.calls())
	})
}

func TestLookupOfRecentAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		g := newGate(s)
		first := lookup(t.Context(), g, addr)
		require.False(t, first.Reused())

		<-time.After(time.Until(first.Expires) - time.Microsecond)
		again := lookup(t.Context(), g, addr)
		require.Same(t, first.Finding, again.Finding)
		require.True(t, again.Reused())
		require.Equal(t, 1, s.calls())

		<-time.After(time.Microsecond)
		renewed := lookup(t.Context(), g, addr)
		require.NotSame(t, first.Finding, renewed.Finding)
		require.False(t, renewed.Reused())
		require.Equal(t, 2, s.calls())
	})
}

// TestFailureIsShared: those who wait for a lookup that fails do not repeat
// it; those who come later do.
func TestFailureIsShared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			<-time.After(time.Second)
			return provider.Finding{}, errors.New("broken")
		}}
		g := newGate(s)
		first, second := begin(t.Context(), g, addr), begin(t.Context(), g, addr)
		for _, out := range []Outcome{<-first, <-second} {
			require.EqualError(t, out.Err, "source: unavailable: broken")
			require.False(t, out.Reused())
		}
		require.Equal(t, 1, s.calls())
		lookup(t.Context(), g, addr)
		require.Equal(t, 2, s.calls())
	})
}

func TestWaiterIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := newGate(s)
		leader := begin(t.Context(), g, addr)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		waiter := begin(ctx, g, addr)
		<-time.After(time.Second)
		cancel()
		require.Equal(t, Outcome{Kind: Cut}, <-waiter)
		require.NotNil(t, (<-leader).Finding)
		require.Equal(t, 1, s.calls())
	})
}

// TestLeaderIsCut: when the one who calls is cut off, one of those who waited
// calls in its place, and only one.
func TestLeaderIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := newGate(s)
		ctx, cancel := context.WithCancel(t.Context())
		leader := begin(ctx, g, addr)
		synctest.Wait()
		var waiters []<-chan Outcome
		for range 5 {
			waiters = append(waiters, begin(t.Context(), g, addr))
		}
		<-time.After(time.Second)
		cancel()
		require.Equal(t, Cut, (<-leader).Kind)
		reused := 0
		for _, w := range waiters {
			out := <-w
			require.NotNil(t, out.Finding)
			require.NotEqual(t, Cut, out.Kind)
			if out.Reused() {
				reused++
			}
		}
		require.Equal(t, 4, reused)
		require.Equal(t, 2, s.calls())
	})
}

func TestRecent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(time.Second)}
		g := newGate(s)
		_, ok := g.Recent(addr, time.Now())
		require.False(t, ok, "never asked")

		under := begin(t.Context(), g, addr)
		synctest.Wait()
		_, ok = g.Recent(addr, time.Now())
		require.False(t, ok, "under way")

		out := <-under
		recent, ok := g.Recent(addr, out.Expires.Add(-1))
		require.True(t, ok)
		out.Started = time.Time{}
		require.Equal(t, out, recent)
		_, ok = g.Recent(addr, out.Expires)
		require.False(t, ok, "expired")
		_, ok = g.Recent(other, time.Now())
		require.False(t, ok, "another address")
	})
}

func TestLearn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		g := newGate(s)
		now := time.Now()
		known := func(f *provider.Finding, expires time.Time) {
			t.Helper()
			out, ok := g.Recent(addr, now)
			require.True(t, ok)
			require.Equal(t, Outcome{Kind: Answered, Finding: f, Expires: expires}, out)
		}
		first := &provider.Finding{Provider: "source", Addr: addr, Verdict: provider.Malicious}
		g.Learn(first, now.Add(time.Minute))
		known(first, now.Add(time.Minute))

		g.Learn(&provider.Finding{Addr: addr}, now.Add(time.Second))
		g.Learn(&provider.Finding{Addr: addr}, now.Add(time.Minute))
		known(first, now.Add(time.Minute)) // it lives as long at least

		second := &provider.Finding{Provider: "source", Addr: addr, Verdict: provider.Unknown}
		g.Learn(second, now.Add(time.Hour))
		known(second, now.Add(time.Hour))

		require.Same(t, second, lookup(t.Context(), g, addr).Finding)
		require.Zero(t, s.calls())
	})
}

func TestLearnExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{}
		g := newGate(s)
		g.Learn(&provider.Finding{Addr: addr}, time.Now().Add(-time.Second))
		out := lookup(t.Context(), g, addr)
		require.False(t, out.Reused())
		require.Equal(t, 1, s.calls())
	})
}

func TestLearnInPlaceOfAnAnswerFromTheFuture(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(&source{})
		now := time.Now()
		ahead := now.Add(9 * time.Hour)
		g.Learn(&provider.Finding{Provider: "source", Addr: addr, ObservedAt: ahead}, ahead.Add(24*time.Hour))
		good := &provider.Finding{Provider: "source", Addr: addr, ObservedAt: now}
		g.Learn(good, now.Add(24*time.Hour))
		out, ok := g.Recent(addr, now)
		require.True(t, ok)
		require.Same(t, good, out.Finding)
	})
}

func TestLearnDuringLookup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(time.Second)}
		g := newGate(s)
		leader, waiter := begin(t.Context(), g, addr), begin(t.Context(), g, addr)
		synctest.Wait()
		learnt := &provider.Finding{Provider: "source", Addr: addr}
		g.Learn(learnt, time.Now().Add(24*time.Hour))
		first, second := <-leader, <-waiter
		require.NotSame(t, learnt, first.Finding)
		require.Same(t, first.Finding, second.Finding)
	})
}

func TestEviction(t *testing.T) {
	var fs flights
	now := time.Now()
	const kept = 2 * recentAnswers
	f, _, leader := fs.join(other, now) // under way all the time
	require.True(t, leader)
	for n := range 10 * recentAnswers {
		fs.learn(nth(n), answered(time.Hour))
		for _, k := range []int{1, recentAnswers / 2, recentAnswers - 2} {
			if n >= k {
				_, ok := fs.recent(nth(n-k), now)
				require.True(t, ok, "number %d after number %d", n-k, n)
			}
		}
		if n >= kept {
			_, ok := fs.recent(nth(n-kept), now)
			require.False(t, ok, "number %d after number %d", n-kept, n)
		}
		require.LessOrEqual(t, len(fs.young)+len(fs.old), kept+1)
	}

	_, _, leader = fs.join(other, now)
	require.False(t, leader, "the lookup under way was forgotten")
	f.out = answered(time.Hour)
	fs.land(other, f)
	_, ok := fs.recent(other, now)
	require.True(t, ok)
	for n := range kept {
		fs.learn(nth(n), answered(time.Hour))
	}
	_, ok = fs.recent(other, now)
	require.False(t, ok, "landed long ago")
}

// TestEvictionOfRenewed: an answer that replaced an older one about the same
// address is as young as it is.
func TestEvictionOfRenewed(t *testing.T) {
	var fs flights
	now := time.Now()
	fs.learn(addr, answered(time.Minute))
	for n := range recentAnswers {
		fs.learn(nth(n), answered(time.Hour))
	}
	fs.learn(addr, answered(time.Hour))
	for n := range recentAnswers - 2 {
		fs.learn(nth(recentAnswers+n), answered(time.Hour))
	}
	out, ok := fs.recent(addr, now)
	require.True(t, ok)
	require.Greater(t, out.Expires.Sub(now), 59*time.Minute)
}

// TestFailedRenewal: a lookup that fails leaves nothing behind.
func TestFailedRenewal(t *testing.T) {
	var fs flights
	fs.learn(addr, answered(time.Minute))
	later := time.Now().Add(time.Hour)
	f, _, leader := fs.join(addr, later)
	require.True(t, leader)
	f.out.Err = provider.ErrUnavailable
	fs.land(addr, f)
	require.Empty(t, fs.young)
	require.Empty(t, fs.old)
	_, _, leader = fs.join(addr, later)
	require.True(t, leader)
}
