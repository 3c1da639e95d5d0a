package upstream

import "time"

// Quota is a number of calls that a plan allows in a window of time.
type Quota struct {
	// Calls is the number allowed; zero refuses every call.
	Calls int
	// Window is the time they are counted over. It must be positive.
	Window time.Duration
	// Calendar makes the quota start afresh at every multiple of Window in UTC
	// (midnight for a day, Monday's midnight for a week). Otherwise the window
	// is rolling: a call counts until it is Window old.
	Calendar bool
}

// allowance is a quota and what was used of it.
type allowance struct {
	Quota
	used []time.Time // calls that count, oldest first
	from time.Time   // start of the calendar window
}

// left returns how many calls are allowed at now, and when that number next
// grows.
func (a *allowance) left(now time.Time) (int, time.Time) {
	if a.Calendar {
		if from := now.UTC().Truncate(a.Window); !from.Equal(a.from) {
			a.from, a.used = from, a.used[:0]
		}
		return a.Calls - len(a.used), a.from.Add(a.Window)
	}
	for len(a.used) > 0 && now.Sub(a.used[0]) >= a.Window {
		a.used = a.used[1:]
	}
	if len(a.used) == 0 {
		return a.Calls, now.Add(a.Window)
	}
	return a.Calls - len(a.used), a.used[0].Add(a.Window)
}

// budget is what the quotas of one service say about one call.
type budget struct {
	limited   bool // there is a quota at all
	refused   bool
	quota     Quota     // the quota that refused, or the one with least left
	remaining int       // calls left in that quota after this one
	reset     time.Time // when it has room again
}

// charge counts a call against all allowances, or against none if one of them
// has no room.
func charge(as []allowance, now time.Time) budget {
	b := budget{}
	for i := range as {
		left, reset := as[i].left(now)
		if left <= 0 {
			return budget{limited: true, refused: true, quota: as[i].Quota, reset: reset}
		}
		if !b.limited || left-1 < b.remaining {
			b = budget{limited: true, quota: as[i].Quota, remaining: left - 1, reset: reset}
		}
	}
	for i := range as {
		as[i].used = append(as[i].used, now)
	}
	return b
}
