package gate

import (
	"context"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// putOff fails the test unless the lookup was not made and may come again
// after the given time at the soonest.
func putOff(t *testing.T, out Outcome, soonest time.Time) {
	t.Helper()
	require.True(t, out.NotBefore.After(soonest), "%v is not after %v", out.NotBefore, soonest)
	require.Equal(t, time.UTC, out.NotBefore.Location())
	require.Equal(t, Outcome{Kind: Deferred, NotBefore: out.NotBefore}, out)
}

func TestSlots(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(400 * time.Millisecond)}
		g := newGate(s) // two at once, for up to a second of waiting
		start := time.Now()
		var outs []<-chan Outcome
		for n := range 6 {
			outs = append(outs, begin(t.Context(), g, nth(n)))
		}
		synctest.Wait()
		require.Equal(t, 2, s.calls())
		putOff(t, hurried(t.Context(), g, addr), start)
		require.Equal(t, start, time.Now(), "a lookup in a hurry has waited")

		for _, c := range outs {
			out := <-c
			require.NotNil(t, out.Finding)
			require.Equal(t, 400*time.Millisecond, out.Took)
		}
		require.Equal(t, 6, s.calls())
		require.Equal(t, 2, s.worst)
		require.Equal(t, start.Add(1200*time.Millisecond), time.Now())
		require.NotNil(t, hurried(t.Context(), g, addr).Finding)
	})
}

func TestSlotsMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := newGate(s)
		start := time.Now()
		busy := []<-chan Outcome{begin(t.Context(), g, nth(0)), begin(t.Context(), g, nth(1))}
		synctest.Wait()
		out := lookup(t.Context(), g, addr)
		require.Equal(t, time.Second, time.Since(start))
		require.True(t, out.Late(time.Second))
		out.Took = 0
		putOff(t, out, time.Now())
		require.Equal(t, 2, s.calls())
		for _, c := range busy {
			require.NotNil(t, (<-c).Finding)
		}
		require.NotNil(t, lookup(t.Context(), g, addr).Finding, "a lookup that was put off has kept its slot")
	})
}

func TestInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 10, MinInterval: 400 * time.Millisecond}}
		g := newGate(s)
		start := time.Now()
		var outs []<-chan Outcome
		for n := range 4 {
			outs = append(outs, begin(t.Context(), g, nth(n)))
			synctest.Wait() // so that they come in order
		}
		require.Equal(t, 1, s.calls())
		putOff(t, hurried(t.Context(), g, addr), start)
		for _, c := range outs[:3] {
			require.NotNil(t, (<-c).Finding)
		}
		// The fourth could start after 1.2 s, which is longer than it waits.
		putOff(t, <-outs[3], start.Add(time.Second))
		require.Equal(t, []time.Time{start, start.Add(400 * time.Millisecond), start.Add(800 * time.Millisecond)}, s.starts)

		<-time.After(time.Minute) // unused intervals are not saved up
		lookup(t.Context(), g, nth(5))
		lookup(t.Context(), g, nth(6))
		require.Equal(t, 400*time.Millisecond, s.starts[4].Sub(s.starts[3]))
	})
}

// TestPutOffComesInTime: lookups that come again when they were told to find
// their place, even if they do not wait.
func TestPutOffComesInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 1, MinInterval: time.Second}, answer: takes(100 * time.Millisecond)}
		g := newGate(s)
		lookup(t.Context(), g, nth(0))
		var at []time.Time
		for n := range 20 {
			out := hurried(t.Context(), g, nth(n+1))
			putOff(t, out, time.Now())
			at = append(at, out.NotBefore)
		}
		require.True(t, slices.IsSortedFunc(at, time.Time.Compare))
		for n, when := range at {
			<-time.After(time.Until(when))
			require.NotNil(t, hurried(t.Context(), g, nth(n+1)).Finding, n)
		}
		require.Equal(t, 21, s.calls())
	})
}

func TestCutWhileWaiting(t *testing.T) {
	for _, c := range []struct {
		name   string
		limits provider.Limits
	}{
		{"for a slot", provider.Limits{MaxInFlight: 1}},
		{"for the interval", provider.Limits{MaxInFlight: 2, MinInterval: 900 * time.Millisecond}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{limits: c.limits, answer: takes(5 * time.Second)}
				g := newGate(s)
				busy := begin(t.Context(), g, addr)
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				out := begin(ctx, g, other)
				<-time.After(100 * time.Millisecond)
				cancel()
				require.Equal(t, Outcome{Kind: Cut}, <-out)
				require.Equal(t, 1, s.calls())
				require.NotNil(t, (<-busy).Finding)
				require.NotNil(t, lookup(t.Context(), g, other).Finding)
				require.Len(t, g.slots, 0, "a slot was lost")
			})
		})
	}
}

// TestLimitsHold: whatever happens, there are never more lookups at once and
// never closer together than the provider allows.
func TestLimitsHold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		limits := provider.Limits{MaxInFlight: 3, MinInterval: 50 * time.Millisecond}
		s := &source{limits: limits, answer: takes(170 * time.Millisecond)}
		g := newGate(s)
		outs := make(chan Outcome)
		const lookups = 200
		for n := range lookups {
			go func() {
				<-time.After(time.Duration(n%40) * 37 * time.Millisecond)
				if n%3 == 0 {
					outs <- hurried(t.Context(), g, nth(n))
					return
				}
				outs <- lookup(t.Context(), g, nth(n))
			}()
		}
		made, deferred := 0, 0
		for range lookups {
			switch out := <-outs; {
			case out.Finding != nil:
				made++
			case !out.NotBefore.IsZero():
				deferred++
			}
		}
		require.Equal(t, lookups, made+deferred)
		require.Equal(t, made, s.calls())
		require.Greater(t, made, 20)
		require.Greater(t, deferred, 20)
		require.LessOrEqual(t, s.worst, limits.MaxInFlight)
		for i := range s.starts[1:] {
			require.GreaterOrEqual(t, s.starts[i+1].Sub(s.starts[i]), limits.MinInterval)
		}
	})
}

// TestTheEndOfTheOneCallIsTold: a scarce quota allows one call at a time. The worker is
// told when the call has ended, unless it was the last of the quota.
func TestTheEndOfTheOneCallIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var opened atomic.Int32
		g := scarce(&source{answer: takes(time.Second)}, 3, func(c *Config) { c.Opened = func() { opened.Add(1) } })
		for n, want := range []int32{1, 2, 2} {
			out := begin(t.Context(), g, nth(n))
			synctest.Wait()
			require.Equal(t, Waiting, hurried(t.Context(), g, other).Kind)
			require.Equal(t, Answered, (<-out).Kind)
			synctest.Wait()
			require.Equal(t, want, opened.Load())
		}
	})
}

// TestTheEndOfACallAfterAnothersRefusalIsTold: one call at a time is allowed also after
// another worker was refused, until one is answered.
func TestTheEndOfACallAfterAnothersRefusalIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var shared ledger
		var opened atomic.Int32
		g := scarce(&source{answer: takes(time.Second)}, 1000, func(c *Config) {
			c.Ledger, c.Opened = &shared, func() { opened.Add(1) }
		})
		require.Equal(t, Answered, lookup(t.Context(), g, nth(1)).Kind)
		another := scarce(&source{answer: fails(refused(provider.ErrRateLimited, 0, nil))}, 1000, func(c *Config) { c.Ledger = &shared })
		require.Equal(t, Waiting, lookup(t.Context(), another, nth(2)).Kind)
		<-time.After(5 * time.Minute)
		opened.Store(0)
		out := begin(t.Context(), g, nth(3))
		synctest.Wait()
		require.Equal(t, Waiting, hurried(t.Context(), g, nth(4)).Kind)
		require.Equal(t, Answered, (<-out).Kind)
		synctest.Wait()
		require.EqualValues(t, 1, opened.Load())
	})
}
