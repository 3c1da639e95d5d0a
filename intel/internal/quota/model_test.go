package quota

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// call is one that was made, with exact times.
type call struct {
	start, by time.Time
	end       time.Time // zero until it is settled
}

// counts returns until when the call counts in our books.
func (c *call) counts() time.Time {
	if c.end.IsZero() {
		return c.by
	}
	return c.end
}

// latest returns the last moment at which the call may have reached the source.
func (c *call) latest() time.Time {
	if c.counts().After(c.by) {
		return c.by
	}
	return c.counts()
}

// model is a budget that keeps everything and computes everything anew.
type model struct {
	t      *testing.T
	quotas []provider.Quota // with the Calls that hold now
	calls  []*call
	others [][]call // by quota: what the source said that others have made
	until  time.Time
}

// worst returns the greatest number of calls that a window of the quota which
// the new call may fall into can hold at the source.
func (m *model) worst(i int, new *call) int {
	q, all := m.quotas[i], slices.Clone(m.calls)
	for n := range m.others[i] {
		all = append(all, &m.others[i][n])
	}
	within := func(from, to time.Time) (n int) { // to excluded
		for _, c := range all {
			if c.start.Before(to) && !c.latest().Before(from) {
				n++
			}
		}
		return n
	}
	worst := 0
	for _, c := range all { // a window is fullest if a call may have ended at its start
		from := c.latest()
		to := from.Add(q.Window)
		if q.Calendar {
			from, to = q.Start(from), q.End(from)
		}
		if !from.After(new.by) && to.After(new.start) {
			worst = max(worst, within(from, to))
		}
	}
	return worst
}

// room returns how many calls the quota has left if every call counts for one
// bucket longer than it must.
func (m *model) room(i int, now time.Time) int {
	q := m.quotas[i]
	left := q.Calls
	counts := func(c *call) bool {
		if q.Calendar {
			return !c.counts().Before(q.Start(now))
		}
		return c.counts().Add(q.Window + q.Window/grain + grain).After(now)
	}
	for _, c := range m.calls {
		if counts(c) {
			left--
		}
	}
	for n := range m.others[i] {
		if counts(&m.others[i][n]) {
			left--
		}
	}
	return left
}

// spend compares a decision of the budget.
func (m *model) spend(now, by time.Time, ok bool) {
	if !ok {
		tight := m.until.After(now)
		for i := range m.quotas {
			tight = tight || m.room(i, now) <= 0
		}
		require.True(m.t, tight, "no call was allowed at %v although there is room", now)
		return
	}
	require.False(m.t, m.until.After(now), "a call was allowed at %v, before %v", now, m.until)
	c := &call{start: now, by: by}
	m.calls = append(m.calls, c)
	for i, q := range m.quotas {
		require.LessOrEqual(m.t, m.worst(i, c), q.Calls, "with the call at %v, of %+v", now, q)
	}
}

func (m *model) rest(now, until time.Time) {
	longest := maxRest
	for _, q := range m.quotas {
		longest = max(longest, q.Window)
	}
	if latest := now.Add(longest); until.After(latest) {
		until = latest
	}
	if until.After(m.until) {
		m.until = until
	}
}

// prune forgets what is of no importance any more.
func (m *model) prune(now time.Time) {
	longest := time.Duration(0)
	for _, q := range m.quotas {
		longest = max(longest, q.Window)
	}
	old := func(c *call) bool { return !c.end.IsZero() && c.end.Before(now.Add(-2*longest)) }
	m.calls = slices.DeleteFunc(m.calls, old)
	for i := range m.others {
		m.others[i] = slices.DeleteFunc(m.others[i], func(c call) bool { return old(&c) })
	}
}

// checkNext: what Left says of the future comes true.
func checkNext(t *testing.T, b *Budget, now time.Time, quotas []provider.Quota) {
	b = copied(t, b, quotas...)
	sure := !slices.ContainsFunc(quotas, func(q provider.Quota) bool { return q.Calendar })
	for range 100 {
		calls, next, why := b.Left(now)
		if calls > 0 {
			require.Zero(t, next)
			require.Equal(t, None, why)
			return
		}
		require.NotEqual(t, None, why)
		require.True(t, next.After(now))
		if next.UnixMicro() != b.until.UnixMicro() {
			require.Zero(t, left(b, next.Add(-1)), "there are calls left sooner than it was said")
			b = copied(t, b, quotas...) // it has seen the future
		}
		now = next
		require.False(t, sure && left(b, now) == 0, "there are no calls left when it was said")
	}
	// A call under way may count in many calendar windows to come.
	require.Positive(t, left(b, now.Add(3*provider.Month)), "there never are calls left again")
}

func TestModel(t *testing.T) {
	const runs, steps = 150, 400
	granted, refused := 0, 0
	for range runs {
		seed := rand.Uint64()
		t.Run(fmt.Sprintf("seed %d", seed), func(t *testing.T) {
			rnd := rand.New(rand.NewPCG(seed, 0))
			g, r := testModel(t, rnd, steps)
			granted, refused = granted+g, refused+r
		})
	}
	require.Greater(t, granted, runs*steps/20)
	require.Greater(t, refused, runs*steps/20)
}

func testModel(t *testing.T, rnd *rand.Rand, steps int) (granted, refused int) {
	windows := []time.Duration{
		time.Second, 1100 * time.Millisecond, 7 * time.Second, time.Minute, time.Hour, provider.Day, provider.Week, provider.Month,
	}
	quotas := make([]provider.Quota, 1+rnd.IntN(3))
	for i := range quotas {
		quotas[i] = provider.Quota{Calls: 1 + rnd.IntN(12), Window: windows[rnd.IntN(len(windows))], Calendar: rnd.IntN(2) == 0}
	}
	usual := quotas[rnd.IntN(len(quotas))].Window // so that it matters
	// ahead returns a time that is some part of a window, or next to nothing.
	ahead := func() time.Duration {
		return time.Duration(rnd.Float64() * rnd.Float64() * rnd.Float64() * float64(usual))
	}

	b := NewBudget(provider.Limits{Quotas: quotas, Assumed: rnd.IntN(2) == 0}, provider.Month)
	m := &model{t: t, quotas: slices.Clone(quotas), others: make([][]call, len(quotas))}
	now := noon.Add(time.Duration(rnd.Int64N(int64(2 * provider.Month))))
	pick := func() (c *call) { // a call under way
		var open []*call
		for _, c := range m.calls {
			if c.end.IsZero() {
				open = append(open, c)
			}
		}
		if len(open) == 0 {
			return nil
		}
		return open[rnd.IntN(len(open))]
	}
	for range steps {
		switch op := rnd.IntN(100); {
		case op < 25:
			now = now.Add(ahead())
		case op < 28:
			if calls, next, _ := b.Left(now); calls == 0 {
				now = next
			}
		case op < 70:
			by := now.Add(ahead())
			ok := b.Spend(now, by)
			m.spend(now, by, ok)
			if ok {
				granted++
			} else {
				refused++
			}
		case op < 88:
			if c := pick(); c != nil {
				if rnd.IntN(4) > 0 && c.by.After(c.start) { // in time
					now = now.Add(time.Duration(rnd.Int64N(int64(c.by.Sub(c.start)))))
				}
				b.Settle(c.by, now)
				c.end = now
			}
		case op < 92:
			if c := pick(); c != nil {
				b.Refund(c.by)
				m.calls = slices.DeleteFunc(m.calls, func(other *call) bool { return other == c })
			}
		case op < 94:
			i := rnd.IntN(len(quotas))
			first := slices.IndexFunc(quotas, func(q provider.Quota) bool { return q.Window == quotas[i].Window })
			last := len(quotas) - 1
			for quotas[last].Window != quotas[i].Window {
				last--
			}
			if first != last {
				continue // the source cannot say which it means
			}
			u := provider.Usage{Limit: 1 + rnd.IntN(15), Window: quotas[i].Window}
			u.Remaining = rnd.IntN(u.Limit + 1)
			m.quotas[i].Calls = b.limit(&b.windows[i], u.Limit)
			b.windows[i].forget(now)
			for range m.quotas[i].Calls - b.windows[i].total - u.Remaining {
				m.others[i] = append(m.others[i], call{now, now, now})
			}
			b.Correct(now, u)
			require.LessOrEqual(t, b.windows[i].left(now), u.Remaining, "%+v", u)
		case op < 96:
			until := now.Add(ahead() + time.Millisecond).Truncate(time.Microsecond)
			if rnd.IntN(2) == 0 {
				b.Rest(now, until, Limited)
			} else {
				b.caution.steps = 0 // as if there had been an answer
				b.Refuse(now, Spent, provider.Usage{Reset: until}, 0)
			}
			m.rest(now, until)
			require.Zero(t, left(b, now))
		default:
			b.until = b.until.Truncate(time.Microsecond)
			m.until = m.until.Truncate(time.Microsecond)
			b = copied(t, b, quotas...)
		}
		if rnd.IntN(10) == 0 {
			checkNext(t, b, now, quotas)
			m.prune(now)
		}
	}
	return granted, refused
}

// TestBacklog: whoever always has something to ask uses nearly all of his quota
// and never more.
func TestBacklog(t *testing.T) {
	const latency = 5 * time.Millisecond
	for _, c := range []struct {
		quotas string
		took   time.Duration // of a call
		span   time.Duration
		best   int // calls that the source would have answered meanwhile
	}{
		{"1/second", latency, time.Hour, 3600},
		{"1/second calendar", latency, time.Hour, 3600},
		{"30/minute", 300 * time.Millisecond, provider.Day, 30 * 60 * 24},
		{"4/minute, 500/day", 300 * time.Millisecond, 2 * provider.Week, 500 * 14},
		{"4/minute, 500/day calendar, 15500/month", 300 * time.Millisecond, 4 * provider.Month, 500 * 124},
		{"1000/day", 300 * time.Millisecond, provider.Month, 1000 * 31},
		{"1000/day calendar, 400/hour calendar", 300 * time.Millisecond, provider.Month, 1000 * 31},
		{"25/week", time.Second, 52 * provider.Week, 25 * 52},
		{"25/week calendar", time.Second, 52 * provider.Week, 25 * 52},
		{"10000/month calendar", 300 * time.Millisecond, 365 * provider.Day, 10000 * 12},
	} {
		t.Run(c.quotas, func(t *testing.T) {
			quotas, err := provider.ParseQuotas(c.quotas)
			require.NoError(t, err)
			// Calendar windows begin with the year's first.
			start := time.Date(2029, 1, 1, 0, 0, 0, 0, time.UTC) // a Monday
			b, made := budget(quotas...), 0
			for now := start; now.Before(start.Add(c.span)); {
				if by := now.Add(10 * time.Second); b.Spend(now, by) {
					made++
					now = now.Add(c.took)
					b.Settle(by, now)
					continue
				}
				_, now, _ = b.Left(now)
			}
			require.GreaterOrEqual(t, float64(made), 0.98*float64(c.best), "of %d", c.best)
			require.LessOrEqual(t, made, c.best)
		})
	}
}
