package quota

import (
	"encoding/json"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// noon is on a Wednesday, and a little after noon.
var noon = time.Date(2026, 6, 3, 12, 0, 0, 123, time.UTC)

func rolling(calls int, window time.Duration) provider.Quota {
	return provider.Quota{Calls: calls, Window: window}
}

func calendar(calls int, window time.Duration) provider.Quota {
	return provider.Quota{Calls: calls, Window: window, Calendar: true}
}

func budget(quotas ...provider.Quota) *Budget {
	return NewBudget(provider.Limits{Quotas: quotas}, provider.Month)
}

// assumed returns a budget of quotas that nobody configured.
func assumed(quotas ...provider.Quota) *Budget {
	return NewBudget(provider.Limits{Quotas: quotas, Assumed: true}, provider.Month)
}

// spend spends n calls that end when they start.
func spend(t *testing.T, b *Budget, n int, at time.Time) {
	t.Helper()
	for i := range n {
		require.True(t, b.Spend(at, at), "call %d of %d", i+1, n)
	}
}

// left returns only how many calls are left.
func left(b *Budget, now time.Time) int {
	calls, _, _ := b.Left(now)
	return calls
}

func TestWithoutQuotas(t *testing.T) {
	b := budget()
	for range 1000 {
		require.True(t, b.Spend(noon, noon))
	}
	calls, next, why := b.Left(noon)
	require.Equal(t, math.MaxInt, calls)
	require.Zero(t, next)
	require.Equal(t, None, why)
	require.True(t, b.Idle(noon))
	require.False(t, b.Settle(noon, noon.Add(time.Hour)))
	require.False(t, b.Correct(noon, provider.Usage{Limit: 1, Window: provider.Day}))
	require.Equal(t, math.MaxInt, left(b, noon))
}

func TestRollingWindow(t *testing.T) {
	for _, window := range []time.Duration{
		time.Second, 1100 * time.Millisecond, time.Minute, time.Hour, provider.Day, provider.Week, provider.Month,
	} {
		t.Run(window.String(), func(t *testing.T) {
			b := budget(rolling(3, window))
			spend(t, b, 2, noon)
			half := noon.Add(window / 2)
			spend(t, b, 1, half)
			require.False(t, b.Spend(half, half), "a fourth call")

			calls, next, why := b.Left(half)
			require.Zero(t, calls)
			require.Equal(t, Spent, why)
			require.False(t, next.Before(noon.Add(window)), "a call was forgotten before it left the window")
			require.LessOrEqual(t, next.Sub(noon.Add(window)), window/grain+1)
			require.Zero(t, left(b, next.Add(-1)))
			require.Equal(t, 2, left(b, next))
			spend(t, b, 2, next)
			require.False(t, b.Spend(next, next))
		})
	}
}

func TestCalendarWindow(t *testing.T) {
	for _, window := range []time.Duration{
		time.Second, 7 * time.Second, time.Minute, time.Hour, provider.Day, provider.Week, provider.Month,
	} {
		t.Run(window.String(), func(t *testing.T) {
			q := calendar(3, window)
			end := q.End(noon)
			last := end.Add(-1)
			b := budget(q)
			spend(t, b, 3, last) // as late as can be
			calls, next, why := b.Left(last)
			require.Zero(t, calls)
			require.Equal(t, end, next.UTC())
			require.Equal(t, Spent, why)

			require.Equal(t, 3, left(b, end), "calls of the window before count")
			spend(t, b, 3, end)
			require.False(t, b.Spend(end, end))
			require.False(t, b.Spend(q.End(end).Add(-1), q.End(end).Add(-1)))
			require.Equal(t, 3, left(b, q.End(end)))
		})
	}
}

// TestCalendarDoubt: a call that is under way when a calendar window ends may
// be counted in this one or in the next.
func TestCalendarDoubt(t *testing.T) {
	q := calendar(2, provider.Day)
	end := q.End(noon)
	before, after := end.Add(-time.Second), end.Add(time.Second)

	b := budget(q)
	require.True(t, b.Spend(before, after))
	require.Equal(t, 1, left(b, before))
	require.Equal(t, 1, left(b, end))
	require.True(t, b.Settle(after, before.Add(time.Millisecond)))
	require.Equal(t, 1, left(b, before.Add(time.Millisecond)))
	require.Equal(t, 2, left(b, end), "it was answered in time")

	b = budget(q)
	require.True(t, b.Spend(before, after))
	require.False(t, b.Settle(after, end.Add(1)), "it may be either")
	require.Equal(t, 1, left(b, end.Add(1)))
}

func TestStackedWindows(t *testing.T) {
	b := budget(rolling(2, time.Minute), rolling(5, time.Hour), calendar(6, provider.Day))
	now, made := noon, 0
	for made < 5 {
		if b.Spend(now, now) {
			made++
			continue
		}
		calls, next, why := b.Left(now)
		require.Zero(t, calls)
		require.Equal(t, Spent, why)
		require.Less(t, next.Sub(now), 61*time.Second)
		now = next
	}
	_, next, _ := b.Left(now)
	require.Less(t, next.Sub(noon.Add(time.Hour)), time.Hour/grain+1)
	require.GreaterOrEqual(t, next.Sub(noon), time.Hour)
	require.Equal(t, 1, left(b, next), "of the day, though the hour has two")
	spend(t, b, 1, next)
	_, end, _ := b.Left(next)
	require.Equal(t, time.Date(2026, 6, 4, 0, 0, 0, 0, time.UTC), end.UTC())
}

func TestSpendCountsUntil(t *testing.T) {
	b := budget(rolling(1, time.Minute))
	by := noon.Add(10 * time.Second)
	require.True(t, b.Spend(noon, by))
	require.Zero(t, left(b, noon.Add(time.Minute+9*time.Second)), "it may have reached the source only lately")
	end := noon.Add(time.Second)
	require.True(t, b.Settle(by, end))
	require.False(t, b.Settle(end, end), "nothing to change")
	_, next, _ := b.Left(end)
	require.LessOrEqual(t, next.Sub(end.Add(time.Minute)), time.Minute/grain)
	require.GreaterOrEqual(t, next.Sub(end), time.Minute)
}

func TestRefund(t *testing.T) {
	b := budget(rolling(2, time.Minute), calendar(3, provider.Day))
	by := noon.Add(time.Second)
	for range 50 {
		require.True(t, b.Spend(noon, by))
		b.Refund(by)
	}
	require.Equal(t, 2, left(b, noon))
	b.Refund(by) // of a call that nobody knows
	require.Equal(t, 2, left(b, noon))
	spend(t, b, 2, noon)
	b.Refund(noon.Add(time.Hour))
	require.Zero(t, left(b, noon))
}

func TestIdle(t *testing.T) {
	b := budget(rolling(4, time.Minute), rolling(100, time.Hour))
	require.True(t, b.Idle(noon))
	spend(t, b, 1, noon)
	require.True(t, b.Idle(noon))
	spend(t, b, 1, noon)
	require.False(t, b.Idle(noon), "half is not more than half")
	require.True(t, b.Idle(noon.Add(2*time.Minute)))

	b = budget(rolling(4, time.Minute))
	b.Rest(noon, noon.Add(time.Hour), Limited)
	require.False(t, b.Idle(noon.Add(time.Hour-1)))
	require.True(t, b.Idle(noon.Add(time.Hour)))
}

func TestCorrect(t *testing.T) {
	day, month := rolling(10, provider.Day), rolling(100, provider.Month)
	for _, c := range []struct {
		name    string
		quotas  []provider.Quota
		usage   provider.Usage
		changed bool
		left    int // after two calls
	}{
		{"nothing said", []provider.Quota{day}, provider.Usage{}, false, 8},
		{"as we thought", []provider.Quota{day}, provider.Usage{Limit: 10, Remaining: 8, Window: provider.Day}, false, 8},
		{"less left", []provider.Quota{day}, provider.Usage{Limit: 10, Remaining: 3, Window: provider.Day}, true, 3},
		{"nothing left", []provider.Quota{day}, provider.Usage{Limit: 10, Window: provider.Day}, true, 0},
		{"less than nothing", []provider.Quota{day}, provider.Usage{Limit: 10, Remaining: -4, Window: provider.Day}, true, 0},
		{"more left", []provider.Quota{day}, provider.Usage{Limit: 10, Remaining: 10, Window: provider.Day}, false, 8},
		{"lower limit", []provider.Quota{day}, provider.Usage{Limit: 5, Remaining: 4, Window: provider.Day}, true, 3},
		{"lower than used", []provider.Quota{day}, provider.Usage{Limit: 1, Remaining: 1, Window: provider.Day}, true, 0},
		{"higher limit", []provider.Quota{day}, provider.Usage{Limit: 50, Remaining: 48, Window: provider.Day}, true, 48},
		{"higher limit, less left", []provider.Quota{day}, provider.Usage{Limit: 50, Remaining: 7, Window: provider.Day}, true, 7},
		{"highest limit", []provider.Quota{day}, provider.Usage{Limit: math.MaxInt, Window: provider.Day}, true, 0},
		{"no limit", []provider.Quota{day}, provider.Usage{Remaining: 3, Window: provider.Day}, false, 8},
		{"negative limit", []provider.Quota{day}, provider.Usage{Limit: -1, Window: provider.Day}, false, 8},
		{"another window", []provider.Quota{day}, provider.Usage{Limit: 3, Window: time.Hour}, false, 8},
		{"no window is the longest", []provider.Quota{month, day}, provider.Usage{Limit: 100, Remaining: 4}, true, 4},
		{"no window is not the shortest", []provider.Quota{day, month}, provider.Usage{Limit: 100, Remaining: 90}, true, 8},
		{"a month of 30 days", []provider.Quota{day, month}, provider.Usage{Limit: 100, Remaining: 4, Window: 30 * provider.Day}, true, 4},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := assumed(c.quotas...)
			spend(t, b, 2, noon)
			require.Equal(t, c.changed, b.Correct(noon, c.usage))
			require.Equal(t, c.left, left(b, noon))
			require.False(t, b.Correct(noon, c.usage), "corrected twice")
			require.Equal(t, c.left, left(b, noon))

			// What others have used leaves the window as our own does.
			all := math.MaxInt
			for _, w := range b.windows {
				all = min(all, w.Calls)
			}
			require.Equal(t, all, left(b, noon.Add(2*provider.Month)))
		})
	}
}

// TestConfiguredIsACeiling: what the source says of a quota that somebody
// configured can only lower it, also when it comes out of a document.
func TestConfiguredIsACeiling(t *testing.T) {
	day := rolling(5, provider.Day)
	b := budget(day)
	require.False(t, b.Correct(noon, provider.Usage{Limit: 1000, Remaining: 999, Window: provider.Day}))
	require.Equal(t, 5, left(b, noon))
	require.True(t, b.Correct(noon, provider.Usage{Limit: 3, Remaining: 3, Window: provider.Day}))
	require.Equal(t, 3, left(b, noon))
	require.True(t, b.Correct(noon, provider.Usage{Limit: 1000, Remaining: 997, Window: provider.Day}))
	require.Equal(t, 5, left(b, noon))
	b.Refuse(noon, Spent, provider.Usage{Limit: 1000, Remaining: 990, Window: provider.Day}, time.Minute)
	require.Equal(t, 5, left(b, noon.Add(time.Minute)))

	raised := assumed(day) // stored by a program that believed the source
	require.True(t, raised.Correct(noon, provider.Usage{Limit: 1000, Remaining: 999, Window: provider.Day}))
	require.NoError(t, b.decode(raised.encode()))
	require.LessOrEqual(t, left(b, noon), 5)
	spend(t, b, left(b, noon), noon)
	require.False(t, b.Spend(noon, noon))
}

func TestRest(t *testing.T) {
	type rest struct {
		wait time.Duration
		why  Reason
	}
	for _, c := range []struct {
		name   string
		quotas []provider.Quota
		rests  []rest
		wait   time.Duration
		why    Reason
	}{
		{"until then", nil, []rest{{time.Hour, Limited}}, time.Hour, Limited},
		{"the longer one", nil, []rest{{time.Hour, Limited}, {time.Minute, Spent}}, time.Hour, Limited},
		{"the longer one last", nil, []rest{{time.Minute, Limited}, {time.Hour, Spent}}, time.Hour, Spent},
		{"a day at most", nil, []rest{{25 * time.Hour, Limited}}, 24 * time.Hour, Limited},
		{"forever", nil, []rest{{math.MaxInt64, Limited}}, 24 * time.Hour, Limited},
		{"short windows", []provider.Quota{rolling(1, time.Minute)}, []rest{{math.MaxInt64, Spent}}, 24 * time.Hour, Spent},
		{"the longest window", []provider.Quota{rolling(9, provider.Week), rolling(1, time.Minute)}, []rest{{math.MaxInt64, Spent}}, provider.Week, Spent},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := budget(c.quotas...)
			for _, r := range c.rests {
				b.Rest(noon, noon.Add(r.wait), r.why)
			}
			calls, next, why := b.Left(noon)
			require.Zero(t, calls)
			require.Equal(t, noon.Add(c.wait), next)
			require.Equal(t, c.why, why)
			require.False(t, b.Spend(next.Add(-1), next))
			require.True(t, b.Spend(next, next))
		})
	}
}

// TestRestOfSpent: of two reasons to wait the one that lasts longer is told.
func TestRestOfSpent(t *testing.T) {
	b := budget(rolling(1, time.Hour))
	spend(t, b, 1, noon)
	b.Rest(noon, noon.Add(time.Minute), Limited)
	_, next, why := b.Left(noon)
	require.Equal(t, Spent, why)
	require.GreaterOrEqual(t, next.Sub(noon), time.Hour)
	b.Rest(noon, noon.Add(2*time.Hour), Limited)
	_, next, why = b.Left(noon)
	require.Equal(t, Limited, why)
	require.Equal(t, noon.Add(2*time.Hour), next)
}

func TestRefuse(t *testing.T) {
	week := rolling(25, provider.Week)
	soon := noon.Add(5 * time.Hour)
	for _, c := range []struct {
		name   string
		quotas []provider.Quota
		usage  provider.Usage
		wait   time.Duration
		until  time.Time
	}{
		{"reset", []provider.Quota{week}, provider.Usage{Reset: soon}, 0, soon},
		{"reset before wait", []provider.Quota{week}, provider.Usage{Reset: soon}, time.Hour, soon},
		{"reset that has passed", []provider.Quota{week}, provider.Usage{Reset: noon.Add(-1)}, 2 * time.Hour, noon.Add(2 * time.Hour)},
		{"absurd reset", []provider.Quota{week}, provider.Usage{Reset: noon.AddDate(500, 0, 0)}, 0, noon.Add(provider.Week)},
		{"wait", []provider.Quota{week}, provider.Usage{Window: provider.Week}, 2 * time.Hour, noon.Add(2 * time.Hour)},
		{"absurd wait", []provider.Quota{week}, provider.Usage{}, math.MaxInt64, noon.Add(provider.Week)},
		{"nothing said", []provider.Quota{week}, provider.Usage{}, 0, noon.Add(time.Hour)},
		{"nothing said, of several", []provider.Quota{week, rolling(1, time.Minute)}, provider.Usage{}, 0, noon.Add(time.Hour)},
		{"the plan", []provider.Quota{week}, provider.Usage{Limit: 25, Window: provider.Week}, 0, noon.Add(time.Hour)},
		{"the plan and a wait", []provider.Quota{rolling(100, provider.Day)}, provider.Usage{Limit: 100, Window: provider.Day}, 2 * time.Hour, noon.Add(2 * time.Hour)},
		{"everything said", []provider.Quota{week}, provider.Usage{Limit: 25, Window: provider.Week, Reset: soon}, 0, soon},
		{"end of a calendar window", []provider.Quota{calendar(5, time.Hour)}, provider.Usage{}, 0, noon.Add(4 * (time.Hour / 168)).Truncate(time.Microsecond)},
		{"another window", []provider.Quota{calendar(5, provider.Day)}, provider.Usage{Limit: 5, Window: provider.Day, Reset: soon}, 0, soon},
		{"nothing at all", nil, provider.Usage{}, 0, noon.Add(provider.Day / 168)},
		{"a window without quotas", nil, provider.Usage{Window: 168 * time.Hour}, 0, noon.Add(time.Hour)},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := budget(c.quotas...)
			b.Refuse(noon, Spent, c.usage, c.wait)
			require.False(t, b.Spend(noon, noon))
			_, next, why := b.Left(noon)
			require.Equal(t, Spent, why)
			require.WithinDuration(t, c.until, next, time.Microsecond)
			require.Zero(t, left(b, next.Add(-1)))
			require.Positive(t, left(b, next), "calls were counted for longer than the source said")
		})
	}
}

// TestRefuseBelievesLimit: a refusal that names the plan teaches the plan.
func TestRefuseBelievesLimit(t *testing.T) {
	b := budget(rolling(100, provider.Week))
	b.Refuse(noon, Spent, provider.Usage{Limit: 25, Window: provider.Week}, 0)
	_, next, _ := b.Left(noon)
	require.Equal(t, time.Hour, next.Sub(noon))
	require.Equal(t, 25, left(b, next))
}

// copied returns what another process makes of the budget.
func copied(t *testing.T, b *Budget, quotas ...provider.Quota) *Budget {
	t.Helper()
	c := NewBudget(provider.Limits{Quotas: quotas, Assumed: b.assumed}, provider.Month)
	require.NoError(t, c.decode(b.encode()))
	return c
}

func TestDocument(t *testing.T) {
	quotas := []provider.Quota{rolling(4, time.Minute), calendar(50, provider.Day), rolling(50, provider.Day), calendar(900, provider.Month)}
	b := assumed(quotas...)
	spend(t, b, 3, noon)
	require.True(t, b.Spend(noon.Add(20*time.Second), noon.Add(30*time.Second)))
	b.Correct(noon, provider.Usage{Limit: 1000, Remaining: 700, Window: provider.Month})
	b.Rest(noon, noon.Add(time.Second).Truncate(time.Microsecond), Limited)

	c := b
	for range 3 { // again and again
		c = copied(t, c, quotas...)
	}
	require.JSONEq(t, string(b.encode()), string(c.encode()))
	for _, after := range []time.Duration{0, time.Second, 59 * time.Second, 61 * time.Second, 2 * time.Minute, provider.Day, 2 * provider.Day, provider.Month, 2 * provider.Month} {
		now := noon.Add(after)
		calls, next, why := b.Left(now)
		calls2, next2, why2 := c.Left(now)
		require.Equal(t, calls, calls2, after)
		require.True(t, next.Equal(next2), "%v: %v is not %v", after, next, next2)
		require.Equal(t, why, why2, after)
	}
}

func TestDocumentEmpty(t *testing.T) {
	b := budget(rolling(2, time.Minute))
	spend(t, b, 1, noon)
	b.Rest(noon, noon.Add(time.Hour), Limited)
	require.NoError(t, b.decode(nil), "none was stored yet")
	require.Equal(t, 2, left(b, noon))
}

// TestConfigured: what was spent is spent, whatever is configured afterwards.
func TestConfigured(t *testing.T) {
	for _, c := range []struct {
		name     string
		old, now []provider.Quota
		left     int // after three calls a second ago
	}{
		{"as before", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{rolling(5, provider.Day)}, 2},
		{"more calls", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{rolling(10, provider.Day)}, 7},
		{"fewer calls", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{rolling(2, provider.Day)}, 0},
		{"calendar now", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{calendar(5, provider.Day)}, 2},
		{"rolling now", []provider.Quota{calendar(5, provider.Month)}, []provider.Quota{rolling(5, provider.Month)}, 2},
		{"another window", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{rolling(5, time.Hour)}, 2},
		{"one window more", []provider.Quota{rolling(5, provider.Day)}, []provider.Quota{rolling(9, time.Hour), rolling(5, provider.Day)}, 2},
		{"one window less", []provider.Quota{rolling(9, time.Hour), rolling(5, provider.Day)}, []provider.Quota{rolling(9, time.Hour)}, 6},
		{"another order", []provider.Quota{rolling(9, time.Hour), rolling(5, provider.Day)}, []provider.Quota{rolling(5, provider.Day), rolling(9, time.Hour)}, 2},
		{"no quotas now", []provider.Quota{rolling(5, provider.Day)}, nil, math.MaxInt},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := budget(c.old...)
			spend(t, b, 3, noon)
			require.Equal(t, c.left, left(copied(t, b, c.now...), noon.Add(time.Second)))
		})
	}
}

// TestConfiguredLimit: the limit that the source told is forgotten when the
// operator changes what he configured.
func TestConfiguredLimit(t *testing.T) {
	b := assumed(rolling(100, provider.Day))
	b.Correct(noon, provider.Usage{Limit: 1000, Remaining: 1000, Window: provider.Day})
	require.Equal(t, 1000, left(copied(t, b, rolling(100, provider.Day)), noon))
	require.Equal(t, 50, left(copied(t, b, rolling(50, provider.Day)), noon))
}

// TestConfiguredPause: a larger plan is believed. A pause that the smaller one has
// caused is over.
func TestConfiguredPause(t *testing.T) {
	b := budget(rolling(25, provider.Week))
	b.Refuse(noon, Spent, provider.Usage{}, 0)
	require.Zero(t, left(copied(t, b, rolling(25, provider.Week)), noon))
	require.Equal(t, 500, left(copied(t, b, rolling(500, provider.Day)), noon))
	require.Positive(t, left(copied(t, b), noon))
}

func TestDamagedDocument(t *testing.T) {
	for _, text := range []string{
		"null", "[]", "{}", "0", `""`, "<html>", "\x00", `{"v":0}`, `{"v":-1}`, `{"v":"1"}`, `{"v":1`, `{"v":1}{"v":1}`,
		`{"v":1,"windows":7}`, `{"v":1,"until":"tomorrow"}`,
		`{"v":1,"windows":[{"window":86400000000000,"declared":5,"calls":5,"used":[[1,-3]]}]}`,
		`{"v":1,"windows":[{"window":86400000000000,"declared":5,"calls":5,"used":[[1,0]]}]}`,
	} {
		b := budget(rolling(5, provider.Day))
		spend(t, b, 3, noon)
		require.ErrorIs(t, b.decode([]byte(text)), errDamaged, text)
		require.Equal(t, 2, left(b, noon), "%q has changed something", text)
	}
}

func TestNewerDocument(t *testing.T) {
	b := budget(rolling(5, provider.Day))
	spend(t, b, 3, noon)
	for _, text := range []string{`{"v":2,"windows":[]}`, `{"v":2,"windows":{"day":5}}`} {
		err := b.decode([]byte(text))
		require.EqualError(t, err, "the stored budget has version 2 and this program knows versions up to 1; use a newer program")
		require.NotErrorIs(t, err, errDamaged)
		require.Equal(t, 2, left(b, noon))
	}
}

// FuzzDocument: whatever was stored, no quota is exceeded.
func FuzzDocument(f *testing.F) {
	quotas := []provider.Quota{rolling(4, time.Minute), calendar(25, provider.Week), rolling(100, provider.Month)}
	b := budget(quotas...)
	for n := range 10 {
		at := noon.Add(time.Duration(n) * 17 * time.Second)
		b.Spend(at, at.Add(10*time.Second))
	}
	f.Add(b.encode())
	b.Refuse(noon, Spent, provider.Usage{Limit: 30, Window: provider.Week}, time.Hour)
	f.Add(b.encode())
	minute := index(rolling(4, time.Minute), noon)
	for _, used := range []string{
		fmt.Sprintf("[%d,%d],[%d,%d]", minute, math.MaxInt64, minute+1, math.MaxInt64),
		fmt.Sprintf("[%d,%d]", minute, math.MinInt64),
		fmt.Sprintf("[%d,1],[%d,-1]", minute, minute),
		fmt.Sprintf("[%d,1],[%d,1],[0,1]", math.MaxInt64, math.MinInt64),
	} {
		f.Add(fmt.Appendf(nil, `{"v":1,"windows":[{"window":60000000000,"declared":4,"calls":4,"used":[%s]}]}`, used))
	}
	f.Add([]byte(`{"v":1,"until":9223372036854775807,"why":"x","windows":[{"window":60000000000,"calls":-5,"declared":4}]}`))
	f.Add([]byte(`{"v":2}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		b := budget(quotas...)
		if b.decode(text) != nil {
			require.Equal(t, 4, left(b, noon))
			return
		}
		for _, now := range []time.Time{noon, noon.Add(time.Hour), noon.Add(provider.Month)} {
			calls, next, why := b.Left(now)
			require.GreaterOrEqual(t, calls, 0)
			require.Equal(t, calls == 0, why != None || b.until.After(now))
			require.Equal(t, calls == 0, next.After(now))
			b.Idle(now)
			for i := range b.windows {
				w := &b.windows[i]
				require.LessOrEqual(t, w.left(now), w.Calls)
				require.Positive(t, w.Calls)
				sum := 0
				for _, s := range w.buckets {
					require.Positive(t, s.calls)
					sum += s.calls
				}
				require.Equal(t, sum, w.total)
			}
			made := 0
			for made <= 200 && b.Spend(now, now) {
				made++
			}
			require.Equal(t, min(calls, 201), made)
		}
		var doc document
		require.NoError(t, json.Unmarshal(b.encode(), &doc))
		require.NoError(t, budget(quotas...).decode(b.encode()))
	})
}

func index(q provider.Quota, at time.Time) int64 {
	w := newWindow(q)
	return w.index(at)
}

// TestSpare: it is the time from when on a budget is idle.
func TestSpare(t *testing.T) {
	for _, q := range []provider.Quota{rolling(25, provider.Week), rolling(24, provider.Day), calendar(10, provider.Day)} {
		b := budget(q)
		require.Equal(t, noon, b.Spare(noon))
		spend(t, b, q.Calls/2, noon)
		spend(t, b, q.Calls-q.Calls/2, noon.Add(time.Hour))
		now := noon.Add(2 * time.Hour)
		at := b.Spare(now)
		require.False(t, b.Idle(at.Add(-time.Minute)), q)
		require.True(t, b.Idle(at), q)
	}
	b := budget(rolling(25, provider.Week))
	b.Rest(noon, noon.Add(time.Hour), Failing)
	require.Equal(t, noon.Add(time.Hour), b.Spare(noon))
}

// TestSpaced: calls that are spread evenly never exhaust a quota, and none is late.
func TestSpaced(t *testing.T) {
	for _, q := range []provider.Quota{rolling(25, provider.Week), rolling(1000, provider.Day)} {
		b := budget(q)
		b.spaced = true
		every := q.Window / time.Duration(q.Calls)
		now, calls := noon, 0
		for now.Before(noon.Add(3 * q.Window)) {
			left, next, why := b.Left(now)
			if left == 0 {
				require.True(t, why == Spaced || calls >= q.Calls, "%v after %d calls", why, calls)
				require.LessOrEqual(t, next.Sub(now), every+q.Window/grain)
				now = next
				continue
			}
			require.Equal(t, 1, left)
			require.True(t, b.Spend(now, now))
			if calls++; calls <= q.Calls {
				require.False(t, b.Spend(now, now), "call %d", calls+1)
			}
		}
		require.InDelta(t, 3*q.Calls, calls, float64(q.Calls)/20)
	}
	b := budget(rolling(10, provider.Day))
	spend(t, b, 10, noon)
	b.spaced = true
	_, next, why := b.Left(noon.Add(time.Hour))
	require.Equal(t, Spent, why, "what was spent before still counts")
	require.True(t, next.After(noon.Add(provider.Day)))
	b = budget()
	b.spaced = true
	require.Positive(t, left(b, noon), "without quotas there is nothing to spread")
}
