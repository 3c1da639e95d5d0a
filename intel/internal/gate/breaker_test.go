package gate

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// probe takes the permit for a probe.
func probe(t *testing.T, b *breaker, now time.Time) permit {
	t.Helper()
	p := b.pass(now, now.Add(timeout))
	require.True(t, p.granted)
	require.NotNil(t, p.probe)
	return p
}

// fail lets calls fail that a proven breaker permits.
func fail(t *testing.T, b *breaker, now time.Time, times int) {
	t.Helper()
	for range times {
		p := b.pass(now, now.Add(timeout))
		require.True(t, p.granted)
		require.False(t, b.leave(now, p, failure))
	}
}

// cools fails the test unless the provider is left alone for about d from now.
func cools(t *testing.T, b *breaker, now time.Time, d time.Duration) time.Time {
	t.Helper()
	p := b.pass(now, now.Add(timeout))
	require.False(t, p.granted)
	require.Nil(t, p.probing)
	require.GreaterOrEqual(t, p.until.Sub(now), d*4/5-1)
	require.LessOrEqual(t, p.until.Sub(now), d*6/5+1)
	require.False(t, b.pass(p.until.Add(-1), p.until).granted)
	return p.until
}

func TestBreakerProbe(t *testing.T) {
	var b breaker
	p := probe(t, &b, noon)
	for range 3 {
		waits := b.pass(noon, noon.Add(timeout))
		require.False(t, waits.granted)
		require.Equal(t, (<-chan struct{})(p.probe), waits.probing)
	}
	require.True(t, b.leave(noon, p, success))
	<-p.probe // closed
	for range 3 {
		free := b.pass(noon, noon.Add(timeout))
		require.Equal(t, permit{granted: true}, free)
		require.False(t, b.leave(noon, free, success))
	}
}

func TestBreakerTrips(t *testing.T) {
	b := breaker{proven: true}
	for range 10 { // never five in a row
		fail(t, &b, noon, tripAfter-1)
		b.leave(noon, b.pass(noon, noon), success)
	}
	fail(t, &b, noon, tripAfter)
	cools(t, &b, noon, coolMin)
}

// TestBreakerTripsUnproven: a provider that never worked is tried as often as
// one that did.
func TestBreakerTripsUnproven(t *testing.T) {
	var b breaker
	for n := range tripAfter {
		opened := b.leave(noon, probe(t, &b, noon), failure)
		require.Equal(t, n < tripAfter-1, opened)
	}
	cools(t, &b, noon, coolMin)
}

func TestBreakerCoolsLonger(t *testing.T) {
	b := breaker{proven: true}
	fail(t, &b, noon, tripAfter)
	now := noon
	for _, d := range []time.Duration{30, 60, 120, 240, 480, 960, 1800, 1800, 1800} {
		now = cools(t, &b, now, d*time.Second)
		p := probe(t, &b, now)
		require.NotNil(t, b.pass(now, now).probing, "two probes")
		require.False(t, b.leave(now, p, failure))
		<-p.probe
	}
	for range 100 { // many failures later
		p := b.pass(now, now)
		now = p.until
		b.leave(now, probe(t, &b, now), failure)
	}
	now = cools(t, &b, now, coolMax)

	// One answer makes up for all.
	require.True(t, b.leave(now, probe(t, &b, now), success))
	fail(t, &b, now, tripAfter)
	cools(t, &b, now, coolMin)
}

func TestBreakerJitter(t *testing.T) {
	seen := make(map[time.Time]bool)
	for range 100 {
		b := breaker{proven: true}
		fail(t, &b, noon, tripAfter)
		seen[cools(t, &b, noon, coolMin)] = true
	}
	require.Greater(t, len(seen), 90)
}

// TestBreakerCut: a probe that was cut off, or never called, leaves no trace.
func TestBreakerCut(t *testing.T) {
	tripped := breaker{proven: true}
	fail(t, &tripped, noon, tripAfter)
	for name, b := range map[string]*breaker{"new": {}, "failed before": {failures: 3}, "half open": &tripped} {
		t.Run(name, func(t *testing.T) {
			later := noon.Add(time.Hour)
			failures, trips, until := b.failures, b.trips, b.until
			p := probe(t, b, later)
			require.True(t, b.leave(later, p, noResult))
			<-p.probe
			require.Equal(t, failures, b.failures)
			require.Equal(t, trips, b.trips)
			require.Equal(t, until, b.until)
			probe(t, b, later)
		})
	}
}

// TestBreakerGivesUp: a probe that does not return has failed, and when it
// returns in the end it does not end the next one.
func TestBreakerGivesUp(t *testing.T) {
	for name, r := range map[string]result{"no result": noResult, "failure": failure, "refusal": refusal} {
		t.Run(name, func(t *testing.T) {
			var b breaker
			lost := probe(t, &b, noon)
			at := noon.Add(timeout)
			require.NotNil(t, b.pass(at, at).probing)
			at = at.Add(1)
			at = cools(t, &b, at, coolMin)
			<-lost.probe // nobody waits for it any more

			second := probe(t, &b, at)
			require.False(t, b.leave(at, lost, r))
			waits := b.pass(at, at)
			require.False(t, waits.granted)
			require.Equal(t, (<-chan struct{})(second.probe), waits.probing)
			require.True(t, b.leave(at, second, success))
			require.True(t, b.pass(at, at).granted)
		})
	}
}

// TestBreakerStragglers: calls that were under way together trip it once.
func TestBreakerStragglers(t *testing.T) {
	b := breaker{proven: true}
	var all []permit
	for range 4 * tripAfter {
		all = append(all, b.pass(noon, noon.Add(timeout)))
	}
	for _, p := range all {
		b.leave(noon, p, failure)
	}
	at := cools(t, &b, noon, coolMin)
	b.leave(at, probe(t, &b, at), failure)
	cools(t, &b, at, 2*coolMin)
}

func TestBreakerBan(t *testing.T) {
	for name, b := range map[string]*breaker{"new": {}, "proven": {proven: true}, "failing": {failures: 4}} {
		t.Run(name, func(t *testing.T) {
			first, second := b.pass(noon, noon.Add(timeout)), b.pass(noon, noon.Add(timeout))
			require.False(t, b.leave(noon, first, ban))
			if second.granted {
				b.leave(noon, second, failure)
			}
			state, until := b.state(noon)
			require.Equal(t, Banned, state)
			require.Equal(t, noon.Add(6*time.Hour), until)
			require.False(t, b.pass(until.Add(-1), until).granted)

			again := probe(t, b, until)
			require.False(t, b.leave(until, again, ban))
			until = until.Add(6 * time.Hour)
			require.True(t, b.leave(until, probe(t, b, until), success))
			state, _ = b.state(until)
			require.Equal(t, Working, state)
		})
	}
}

// TestBreakerFailsAfterBan: who fails after he refused our key is not said to
// refuse it still.
func TestBreakerFailsAfterBan(t *testing.T) {
	var b breaker
	b.leave(noon, probe(t, &b, noon), ban)
	at := noon.Add(banRest)
	for range tripAfter {
		b.leave(at, probe(t, &b, at), failure)
	}
	state, _ := b.state(at)
	require.Equal(t, Failing, state)
}

func TestBreakerRefusal(t *testing.T) {
	b := breaker{proven: true}
	fail(t, &b, noon, tripAfter-1)
	b.leave(noon, b.pass(noon, noon), refusal)
	p := probe(t, &b, noon) // one only
	require.NotNil(t, b.pass(noon, noon).probing)
	require.True(t, b.leave(noon, p, failure), "failures before the refusal count")
	require.True(t, b.leave(noon, probe(t, &b, noon), success))
	require.True(t, b.pass(noon, noon).granted)
}

// TestBreakerLateAnswer: an answer proves that the source works, also if it is
// not the probe's.
func TestBreakerLateAnswer(t *testing.T) {
	b := breaker{proven: true}
	first, second := b.pass(noon, noon), b.pass(noon, noon)
	require.False(t, b.leave(noon, first, refusal))
	require.True(t, b.leave(noon, second, success))
	require.Equal(t, permit{granted: true}, b.pass(noon, noon))
}

// newcomer returns a gate in front of a source that was not asked yet.
func newcomer(s *source, change ...func(*Config)) *Gate {
	c := Config{TTL: hour, MaxWait: time.Second, Timeout: timeout, MaxInFlight: 2}
	for _, f := range change {
		f(&c)
	}
	return New(identify(s), c)
}

var errBroken = errors.New("broken")

// TestProbe: of many lookups of a source that was not asked yet one calls, as
// many wait for it as there are slots, and the others wait for their turn.
func TestProbe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(300 * time.Millisecond)}
		g := newcomer(s)
		start := time.Now()
		first := begin(t.Context(), g, nth(0))
		synctest.Wait()
		require.Equal(t, Outcome{Kind: Waiting}, hurried(t.Context(), g, addr))
		second, third := begin(t.Context(), g, nth(1)), begin(t.Context(), g, nth(2))
		synctest.Wait()
		for n := range 20 {
			require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, nth(3+n)))
		}
		require.Equal(t, start, time.Now(), "too many have waited")
		require.Equal(t, 1, s.calls())

		require.NotNil(t, (<-first).Finding)
		require.Equal(t, 300*time.Millisecond, time.Since(start))
		for _, c := range []<-chan Outcome{second, third} {
			out := <-c
			require.NotNil(t, out.Finding)
			require.False(t, out.Late(time.Second))
		}
		require.Equal(t, 600*time.Millisecond, time.Since(start))
		require.Equal(t, 3, s.calls())
		require.Zero(t, g.hoping.Load())
	})
}

func TestProbeMaxWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(5 * time.Second)}
		g := newcomer(s)
		first := begin(t.Context(), g, addr)
		synctest.Wait()
		start := time.Now()
		require.Equal(t, Outcome{Kind: Waiting, Took: time.Second}, lookup(t.Context(), g, other))
		require.Equal(t, time.Second, time.Since(start))
		require.NotNil(t, (<-first).Finding)
		require.Equal(t, 1, s.calls())
		require.NotNil(t, lookup(t.Context(), g, other).Finding)
	})
}

// TestMaxWaitTogether: the waits for a probe and for a slot count together.
func TestMaxWaitTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(600 * time.Millisecond)}
		g := newcomer(s)
		g.slots <- struct{}{} // somebody takes long
		start := time.Now()
		first := begin(t.Context(), g, nth(0))
		synctest.Wait()
		second, third := begin(t.Context(), g, nth(1)), begin(t.Context(), g, nth(2))
		require.NotNil(t, (<-first).Finding)
		out := Outcome{}
		select { // one has the only slot, the other waits for it
		case out = <-second:
		case out = <-third:
		}
		require.Equal(t, time.Second, time.Since(start))
		require.True(t, out.Late(time.Second))
		out.Took = 0
		putOff(t, out, start)
		select {
		case out = <-second:
		case out = <-third:
		}
		require.NotNil(t, out.Finding)
	})
}

func TestProbeWaiterIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(500 * time.Millisecond)}
		g := newcomer(s)
		first := begin(t.Context(), g, addr)
		synctest.Wait()
		ctx, cancel := context.WithCancel(t.Context())
		second := begin(ctx, g, other)
		synctest.Wait()
		cancel()
		require.Equal(t, Outcome{Kind: Cut}, <-second)
		require.NotNil(t, (<-first).Finding)
		require.Equal(t, 1, s.calls())
		require.Zero(t, g.hoping.Load())
	})
}

// TestProbeIsCut: one of those who waited probes in place of a probe that was
// cut off, which is no failure.
func TestProbeIsCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: takes(500 * time.Millisecond)}
		var opened atomic.Int32
		g := newcomer(s, func(c *Config) { c.Opened = func() { opened.Add(1) } })
		for range 2 * tripAfter {
			ctx, cancel := context.WithCancel(t.Context())
			first := begin(ctx, g, addr)
			synctest.Wait()
			second := begin(ctx, g, other)
			synctest.Wait()
			cancel()
			require.Equal(t, Cut, (<-first).Kind)
			require.Equal(t, Cut, (<-second).Kind)
		}
		ctx, cancel := context.WithCancel(t.Context())
		first := begin(ctx, g, addr)
		synctest.Wait()
		second := begin(t.Context(), g, other)
		synctest.Wait()
		before := opened.Load()
		cancel()
		require.Equal(t, Cut, (<-first).Kind)
		synctest.Wait()
		require.Equal(t, before+1, opened.Load(), "another may probe now")
		require.NotNil(t, (<-second).Finding)
		require.Equal(t, Working, g.Status(t.Context(), time.Now()).State)
	})
}

// TestProbeFails: those who waited probe in turn until it is enough.
func TestProbeFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{limits: provider.Limits{MaxInFlight: 20}, answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			<-time.After(10 * time.Millisecond)
			return provider.Finding{}, errBroken
		}}
		g := newcomer(s)
		var outs []<-chan Outcome
		for n := range 20 {
			outs = append(outs, begin(t.Context(), g, nth(n)))
		}
		failed := 0
		for _, c := range outs {
			if out := <-c; out.Err != nil {
				require.ErrorIs(t, out.Err, errBroken)
				require.Equal(t, Failed, out.Kind)
				failed++
			} else {
				require.Less(t, out.Took, time.Second)
				require.Equal(t, Outcome{Kind: Waiting, Took: out.Took}, out)
			}
		}
		require.Equal(t, tripAfter, failed)
		require.Equal(t, tripAfter, s.calls())
		require.Equal(t, 1, s.worst)
	})
}

// TestFailing: a source that fails is asked ever more rarely, by one lookup at
// a time, and as before once it has answered.
func TestFailing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(errBroken)}
		var opened atomic.Int32
		g := newcomer(s, func(c *Config) { c.Opened = func() { opened.Add(1) } })
		g.breaker.proven = true
		for n := range tripAfter {
			require.ErrorIs(t, lookup(t.Context(), g, nth(n)).Err, errBroken)
		}
		require.Zero(t, opened.Load())
		for n := range 100 {
			require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, nth(n)))
		}
		start := time.Now()
		for time.Since(start) < 24*time.Hour {
			status := g.Status(t.Context(), time.Now())
			require.Equal(t, Failing, status.State)
			<-time.After(time.Until(status.Until))
			require.Equal(t, Status{State: Unproven, Calls: 1}, g.Status(t.Context(), time.Now()))
			require.Error(t, lookup(t.Context(), g, addr).Err)
			require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, addr))
		}
		require.Zero(t, opened.Load(), "nothing can be called")
		require.InDelta(t, 24*2+6, s.calls()-tripAfter, 8)

		<-time.After(time.Until(g.Status(t.Context(), time.Now()).Until))
		s.answer = nil
		require.NotNil(t, lookup(t.Context(), g, addr).Finding)
		require.EqualValues(t, 1, opened.Load())
		require.NotNil(t, lookup(t.Context(), g, other).Finding)
		require.EqualValues(t, 1, opened.Load())
	})
}

// TestPanicsFail: a provider that panics fails.
func TestPanicsFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) { panic("again") }}
		g := newGate(s)
		for n := range 20 {
			lookup(t.Context(), g, nth(n))
		}
		require.Equal(t, tripAfter, s.calls())
	})
}

// TestProbeNeverReturns: a provider that ignores its context does not keep
// others waiting for ever, and when its call returns in the end nothing breaks.
func TestProbeNeverReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := make(chan struct{})
		s := &source{answer: func(context.Context, netip.Addr) (provider.Finding, error) {
			<-stuck
			return provider.Finding{}, errBroken
		}}
		g := newcomer(s)
		first := begin(t.Context(), g, addr)
		synctest.Wait()
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Probing, status.State)
		require.Greater(t, time.Until(status.Until), timeout+timeout/100)
		<-time.After(time.Until(status.Until) + 1)
		status = g.Status(t.Context(), time.Now())
		require.Equal(t, Failing, status.State)
		require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, other))

		<-time.After(time.Until(status.Until))
		s.answer = takes(time.Second)
		second := begin(t.Context(), g, other)
		synctest.Wait()
		close(stuck)
		require.ErrorIs(t, (<-first).Err, errDeadline)
		require.Equal(t, Probing, g.Status(t.Context(), time.Now()).State)
		require.Equal(t, Outcome{Kind: Waiting}, hurried(t.Context(), g, nth(1)))
		require.NotNil(t, (<-second).Finding)
		require.NotNil(t, lookup(t.Context(), g, nth(1)).Finding)
		require.Len(t, g.slots, 0)
	})
}

// TestBadKey: a source that refuses our key is asked once, tells it once, and
// is asked again hours later.
func TestBadKey(t *testing.T) {
	for _, err := range []*provider.Error{
		{Provider: "source", Kind: provider.ErrUnauthorized, StatusCode: 401},
		{Provider: "source", Kind: provider.ErrUnauthorized, StatusCode: 403},
		{Provider: "source", Kind: provider.ErrConfig},
	} {
		t.Run(fmt.Sprint(err), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := &source{limits: provider.Limits{MaxInFlight: 10}, answer: func(context.Context, netip.Addr) (provider.Finding, error) {
					<-time.After(100 * time.Millisecond)
					return provider.Finding{}, err
				}}
				var opened atomic.Int32
				g := newcomer(s, func(c *Config) { c.Opened = func() { opened.Add(1) } })
				start := time.Now()
				told := 0
				for time.Since(start) < 6*time.Hour-time.Minute {
					outs := []<-chan Outcome{}
					for n := range 10 {
						outs = append(outs, begin(t.Context(), g, nth(n)))
					}
					for _, c := range outs {
						out := <-c
						require.Equal(t, Waiting, out.Kind)
						if out.Err != nil {
							expected := *err
							expected.Unsent = provider.Unsent(err)
							require.Equal(t, error(&expected), out.Err)
							told++
						}
					}
					<-time.After(5 * time.Minute)
				}
				require.Equal(t, 1, told)
				require.Equal(t, 1, s.calls())
				require.Zero(t, opened.Load())
				status := g.Status(t.Context(), time.Now())
				if status.State == Banned {
					require.Equal(t, start.Add(6*time.Hour+100*time.Millisecond), status.Until)
					<-time.After(time.Until(status.Until))
				}
				require.Equal(t, Unproven, g.Status(t.Context(), time.Now()).State)
				s.answer = nil
				require.NotNil(t, lookup(t.Context(), g, addr).Finding)
				require.Equal(t, 2, s.calls())
				require.EqualValues(t, 1, opened.Load())
			})
		})
	}
}

// TestBadKeyLater: a key that is revoked while lookups are under way.
func TestBadKeyLater(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(&provider.Error{Provider: "source", Kind: provider.ErrUnauthorized, StatusCode: 401})}
		g := newGate(s)
		out := lookup(t.Context(), g, addr)
		require.Equal(t, Waiting, out.Kind)
		require.ErrorIs(t, out.Err, provider.ErrUnauthorized)
		require.Equal(t, Outcome{Kind: Waiting}, lookup(t.Context(), g, other))
		require.Equal(t, 1, s.calls())
	})
}

// TestUnsupportedTellsNothing: an address that the provider declines without
// asking anybody says nothing about the source; one that the source declines
// says that it works.
func TestUnsupportedTellsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &source{answer: fails(errBroken)}
		g := newGate(s)
		for n := range tripAfter {
			lookup(t.Context(), g, nth(n))
		}
		<-time.After(time.Minute)
		s.answer = fails(provider.ErrUnsupported)
		out := lookup(t.Context(), g, six)
		require.ErrorIs(t, out.Err, provider.ErrUnsupported)
		require.Equal(t, Failed, out.Kind)
		require.Equal(t, Unproven, g.Status(t.Context(), time.Now()).State)

		s.answer = fails(&provider.Error{Kind: provider.ErrUnsupported, StatusCode: 422})
		require.ErrorIs(t, lookup(t.Context(), g, six).Err, provider.ErrUnsupported)
		require.Equal(t, Working, g.Status(t.Context(), time.Now()).State)
	})
}
