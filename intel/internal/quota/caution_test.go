package quota

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// TestLadder: the pauses for the smallest real quota, and what an outage costs of
// any quota.
func TestLadder(t *testing.T) {
	for step, hours := range []time.Duration{1, 4, 16, 64, 84, 84, 84} {
		require.Equal(t, hours*time.Hour, ladder(25, provider.Week, step+1))
	}
	for calls, first := range map[int]time.Duration{124: time.Hour, 125: 15 * time.Minute, 499: 15 * time.Minute, 500: 225 * time.Second} {
		require.Equal(t, first, ladder(calls, provider.Week, 1))
	}
	for _, window := range []time.Duration{time.Minute, provider.Day, provider.Week, provider.Month} {
		for calls := 1; calls < 5_000; calls += 1 + calls/10 {
			var at []time.Duration // of the calls that fail
			for now, step := time.Duration(0), 1; now < 3*window; step++ {
				at = append(at, now)
				now += ladder(calls, window, step)
			}
			last := 0
			for i, from := range at {
				for last < len(at) && at[last] < from+window {
					last++
				}
				require.LessOrEqual(t, last-i, max(2, calls/5), "of %d in %v", calls, window)
			}
		}
	}
	// The end of an outage of two hours is noticed within six.
	for calls := 1; calls <= 1000; calls++ {
		now := time.Duration(0)
		for step := 1; now < 2*time.Hour; step++ {
			now += ladder(calls, provider.Week, step)
		}
		require.LessOrEqual(t, now, 6*time.Hour, "of %d a week", calls)
	}
}

// TestOutage: while a source fails for every address, few calls are made, by
// however many workers, and the first answer ends it.
func TestOutage(t *testing.T) {
	for _, c := range []struct {
		quotas string
		most   int // calls in a window
	}{{"25/week", 5}, {"5/week", 2}, {"60/day", 12}, {"100/day", 20}, {"1000/day", 200}, {"4/minute, 500/day", 100}} {
		t.Run(c.quotas, func(t *testing.T) {
			quotas, err := provider.ParseQuotas(c.quotas)
			require.NoError(t, err)
			l := &ledger{}
			var workers []*Governor
			for range 4 {
				workers = append(workers, govern(l, quotas...))
			}
			window := quotas[len(quotas)-1].Window
			calls, now := 0, noon
			for n := 0; now.Before(noon.Add(window)); n++ {
				g := workers[n%4]
				by := now.Add(10 * time.Second)
				p, err := g.Spend(t.Context(), now, by, nth(n))
				require.NoError(t, err)
				if p.Granted {
					calls++
					_, err = g.End(t.Context(), Call{nth(n), by, now.Add(time.Second)}, Report{Result: Failed})
					require.NoError(t, err)
				}
				now = now.Add(10 * time.Second)
			}
			require.LessOrEqual(t, calls, c.most)
			require.GreaterOrEqual(t, calls, 2)

			now = now.Add(window)
			pay(t, workers[0], now)
			require.NoError(t, end(t.Context(), workers[0], now, now, Report{Result: Answered}))
			require.Zero(t, workers[0].budget.caution.steps)
			require.Equal(t, None, workers[1].State(t.Context(), now.Add(2*time.Minute)).Why)
		})
	}
}

func nth(n int) netip.Addr { return netip.AddrFrom4([4]byte{45, 9, byte(n >> 8), byte(n)}) }

// TestOneAtATime: no second call of a scarce quota is under way, also in another
// process; one that never ends is given up.
func TestOneAtATime(t *testing.T) {
	l := &ledger{}
	g, other := govern(l, day), govern(l, day)
	by := noon.Add(10 * time.Second)
	ok, err := try(t.Context(), g, noon, by)
	require.NoError(t, err)
	require.True(t, ok)
	broke(t, other, noon.Add(time.Second))
	require.WithinDuration(t, by, other.State(t.Context(), noon.Add(time.Second)).Busy, time.Microsecond)
	require.NoError(t, settle(t.Context(), g, by, noon.Add(2*time.Second), nil))
	ok, err = try(t.Context(), other, noon.Add(3*time.Second), by.Add(3*time.Second))
	require.NoError(t, err)
	require.True(t, ok, "the end of the call was not read")
	broke(t, g, noon.Add(4*time.Second))
	pay(t, g, by.Add(3*time.Second)) // its process was killed
}

// TestShareOfAnAddress: an address that keeps failing is excluded for a window once
// it has had its share, and an answer makes up for all.
func TestShareOfAnAddress(t *testing.T) {
	for _, c := range []struct {
		calls, share int
		result       Result
	}{{25, 2, Bad}, {25, 2, Failed}, {10, 2, Bad}, {100, 2, Bad}, {1000, 20, Bad}, {1000, 20, Failed}} {
		t.Run(fmt.Sprint(c), func(t *testing.T) {
			g := govern(&ledger{}, rolling(c.calls, provider.Week))
			now, first := noon, time.Time{}
			lookup := func(addr netip.Addr, r Result) (p Permit) {
				for {
					by := now.Add(10 * time.Second)
					p, err := g.Spend(t.Context(), now, by, addr)
					require.NoError(t, err)
					if !p.NotBefore.IsZero() {
						return p
					}
					if p.Granted {
						_, err = g.End(t.Context(), Call{addr, by, now}, Report{Result: r})
						require.NoError(t, err)
						return p
					}
					now = now.Add(time.Minute) // there is a pause
				}
			}
			spent := 0
			for {
				at := now
				if p := lookup(nth(1), c.result); !p.Granted {
					require.WithinDuration(t, first.Add(provider.Week), p.NotBefore, time.Minute)
					break
				}
				if first.IsZero() {
					first = at
				}
				spent++
				require.True(t, g.Failed(nth(1)))
				lookup(nth(2), Answered)
			}
			require.Equal(t, c.share, spent)
			require.False(t, g.Failed(nth(2)))
			now = first.Add(provider.Week + time.Hour)
			require.True(t, lookup(nth(1), Answered).Granted)
			require.False(t, g.Failed(nth(1)))
		})
	}
}

// TestOutageBlamesNoAddress: while nobody is answered, an address is not excluded.
func TestOutageBlamesNoAddress(t *testing.T) {
	b := budget(rolling(25, provider.Week))
	now := noon
	for range 4 {
		require.True(t, b.Fail(now, nth(1), true))
		_, now, _ = b.Left(now)
	}
	require.Zero(t, b.Excluded(nth(1), now))
}

// TestManyFailingAddresses: the document stays small.
func TestManyFailingAddresses(t *testing.T) {
	b := budget(rolling(1000, provider.Day))
	for n := range 1000 {
		b.Fail(noon.Add(time.Duration(n)*time.Second), nth(n), false)
	}
	require.Len(t, b.caution.costs, maxCosts)
	require.False(t, b.Failed(nth(1)))
	require.True(t, b.Failed(nth(999)))
	require.Less(t, len(b.encode()), 8000)
	c := copied(t, b, rolling(1000, provider.Day))
	require.Len(t, c.caution.costs, maxCosts)
	require.Equal(t, b.caution.steps, c.caution.steps)
}

// keyed returns a governor of a provider whose key may change.
func keyed(l Ledger, key *string) *Governor {
	return NewGovernor(Config{
		Name: "source", Limits: provider.Limits{Quotas: []provider.Quota{day}}, Account: func() string { return *key },
		Longest: 10 * time.Second, Ledger: l,
	})
}

// TestKeys: each of the last two keys has its own counts.
func TestKeys(t *testing.T) {
	for name, l := range map[string]Ledger{"ledger": &ledger{}, "alone": nil} {
		t.Run(name, func(t *testing.T) {
			key := "a"
			g := keyed(l, &key)
			use := func(account string, calls int) {
				t.Helper()
				key = account
				for range calls {
					pay(t, g, noon)
				}
				broke(t, g, noon)
			}
			use("a", 10)
			use("b", 10)
			use("a", 0)
			use("b", 0)
			use("", 10)
			use("b", 0)
			use("", 0)
			use("a", 10) // only the last two are remembered
			if l != nil {
				broke(t, keyed(l, new(string)), noon)
			}
		})
	}
	// A document of a program that knows no keys is that of whoever reads it first.
	l, key := &ledger{}, "c"
	for range 10 {
		pay(t, govern(l, day), noon)
	}
	broke(t, keyed(l, &key), noon)
}

// TestQuotaOfTheSameKey: what was spent counts for whatever is configured later.
func TestQuotaOfTheSameKey(t *testing.T) {
	week, daily := rolling(25, provider.Week), rolling(500, provider.Day)
	b := budget(week)
	spend(t, b, 25, noon)
	now := noon.Add(time.Hour)
	require.Equal(t, 475, left(copied(t, b, daily), now))
	require.Zero(t, left(copied(t, copied(t, b, daily), week), now))
	require.Zero(t, left(copied(t, copied(t, b), week), now), "none in between")
	require.Equal(t, 25, left(copied(t, copied(t, b), week), noon.Add(8*provider.Day)))
}

// TestAClockThatWasWrong: a clock that was ahead, by hours or by years, and was then
// corrected has no effect that lasts.
func TestAClockThatWasWrong(t *testing.T) {
	for _, ahead := range []time.Duration{9 * time.Hour, 26 * 365 * provider.Day} {
		for _, quotas := range [][]provider.Quota{
			{rolling(25, provider.Week)}, {calendar(25, provider.Week)}, {rolling(4, time.Minute), rolling(25, provider.Day)},
		} {
			t.Run(fmt.Sprint(ahead, quotas), func(t *testing.T) {
				l := &ledger{}
				wrong := govern(l, quotas...)
				for n := range 4 {
					pay(t, wrong, noon.Add(ahead+time.Duration(n)*time.Hour))
				}
				at := noon.Add(ahead + 4*time.Hour)
				by := at.Add(10 * time.Second)
				p, err := wrong.Spend(t.Context(), at, by, nth(1))
				require.NoError(t, err)
				require.True(t, p.Granted)
				_, err = wrong.End(t.Context(), Call{nth(1), by, at}, Report{Result: Failed})
				require.NoError(t, err)
				p, err = wrong.Spend(t.Context(), by.Add(100*time.Hour), by.Add(101*time.Hour), nth(1)) // and one never ended
				require.NoError(t, err)
				require.True(t, p.Granted)

				swaps := l.swaps
				right := govern(l, quotas...)
				right.State(t.Context(), noon)
				require.Equal(t, swaps+1, l.swaps, "the correction is saved at once")
				calls := 0
				for now := noon; now.Before(noon.Add(100 * provider.Day)); now = now.Add(10 * time.Minute) {
					ok, err := try(t.Context(), right, now, now)
					require.NoError(t, err)
					if ok {
						require.NoError(t, end(t.Context(), right, now, now, Report{Result: Answered}))
						calls++
					}
				}
				require.Greater(t, calls, 300)
			})
		}
	}
}

// TestTwoClocks: two workers an hour apart lose precision and nothing else.
func TestTwoClocks(t *testing.T) {
	l := &ledger{}
	workers := []*Governor{govern(l, rolling(25, provider.Week)), govern(l, rolling(25, provider.Week))}
	calls := 0
	for now := noon; now.Before(noon.Add(10 * provider.Week)); now = now.Add(10 * time.Minute) {
		for i, g := range workers {
			clock := now.Add(time.Duration(i) * time.Hour)
			ok, err := try(t.Context(), g, clock, clock)
			require.NoError(t, err)
			if ok {
				require.NoError(t, end(t.Context(), g, clock, clock, Report{Result: Answered}))
				calls++
			}
		}
		weeks := int(now.Add(time.Hour).Sub(noon)/provider.Week) + 1
		require.LessOrEqual(t, calls, 25*weeks)
	}
	require.Equal(t, 250, calls)
}

// TestPauses: without a quota that asks for more, they double from their least to
// their greatest length.
func TestPauses(t *testing.T) {
	for _, b := range []*Budget{budget(), budget(rolling(1_000_000, provider.Day))} {
		for step, want := range []time.Duration{coolMin, 2 * coolMin, 4 * coolMin, 8 * coolMin, 16 * coolMin, 32 * coolMin, coolMax, coolMax} {
			require.Equal(t, want, b.pause(step+1, Failing, 0))
		}
		require.Equal(t, coolMax, b.pause(100, Failing, 0))
		for step, want := range []time.Duration{burstMin, 2 * burstMin, 4 * burstMin} {
			require.Equal(t, want, b.pause(step+1, Limited, 0))
		}
		require.Equal(t, burstMax, b.pause(100, Limited, 0))
	}
}

// TestFailuresBeforeAPause: one of a scarce quota, some in a row of another.
func TestFailuresBeforeAPause(t *testing.T) {
	require.True(t, budget(rolling(25, provider.Week)).Fail(noon, nth(1), true))
	b := budget(rolling(1000, provider.Day))
	for range 2 { // an answer begins the count anew
		for n := range tripAfter - 1 {
			require.False(t, b.Fail(noon, nth(n), true))
		}
		require.True(t, b.Works(noon, netip.Addr{}))
	}
	for n := range tripAfter {
		require.Equal(t, n == tripAfter-1, b.Fail(noon, nth(n), true))
	}
	later := b.until.Add(time.Second)
	require.True(t, b.Fail(later, nth(1), true), "the probe has failed")
}

// TestWhoIsBlamed: of an outage the first address only, of bad answers each.
func TestWhoIsBlamed(t *testing.T) {
	for result, blamed := range map[Result]int{Failed: 1, Bad: 3} {
		g := govern(&ledger{}, rolling(1000, provider.Day))
		for n := range 3 {
			_, err := g.End(t.Context(), Call{nth(n), noon, noon}, Report{Result: result})
			require.NoError(t, err)
		}
		require.Len(t, g.budget.caution.costs, blamed)
	}
}

// TestBinding: the quota that allows the fewest calls in the long run, in any order.
func TestBinding(t *testing.T) {
	few, many := rolling(500, provider.Day), rolling(4, time.Minute)
	require.Equal(t, few, budget(few, many).binding())
	require.Equal(t, few, budget(many, few).binding())
	require.Zero(t, budget().binding())
}

// TestRefusedAtTheEndOfTheDay: what is spent comes back with the next day, and other
// limits know no days.
func TestRefusedAtTheEndOfTheDay(t *testing.T) {
	day := calendar(10, provider.Day)
	late := day.End(noon).Add(-10 * time.Minute)
	for why, until := range map[Reason]time.Time{Spent: day.End(noon), Limited: late.Add(ladder(10, provider.Day, 1))} {
		b := budget(day)
		b.Refuse(late, why, provider.Usage{Window: provider.Day}, 0)
		require.Equal(t, until, b.until)
	}
}

// TestAnswerAfterALimit: without quotas, too, an answer ends what a refusal began, and
// failures are nobody's business.
func TestAnswerAfterALimit(t *testing.T) {
	g := govern(&ledger{})
	require.NoError(t, refuse(t.Context(), g, Limited))
	require.Equal(t, 1, g.budget.caution.steps)
	later := noon.Add(2 * time.Hour)
	for range 10 {
		pauses, err := g.End(t.Context(), Call{nth(1), later, later}, Report{Result: Failed})
		require.NoError(t, err)
		require.False(t, pauses)
	}
	require.Equal(t, 1, g.budget.caution.steps)
	require.NoError(t, end(t.Context(), g, later, later, Report{Result: Answered}))
	require.Zero(t, g.budget.caution.steps)
}

// TestWindowsOfARefusal: nothing is left where the source says that all is spent, and
// a limit of another kind takes nothing.
func TestWindowsOfARefusal(t *testing.T) {
	for why, left := range map[Reason]int{Spent: 0, Limited: 100} {
		g := govern(&ledger{}, rolling(100, provider.Day))
		require.NoError(t, refuse(t.Context(), g, why))
		require.Equal(t, left, g.Windows(noon)[0].Left)
	}
}
