package quota

import (
	"math"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// grain is into how many buckets a rolling window is divided. A call is
// forgotten when its bucket has left the window, so late by at most one of them.
// A calendar window is one bucket.
const grain = 256

// clockAhead is how far the clocks of other workers may be ahead without their calls
// being counted anew.
const clockAhead = 2 * time.Hour

// window counts the calls against one quota.
type window struct {
	provider.Quota        // with Calls as the source said, if it did
	declared       int    // Calls as configured
	width          int64  // of a bucket, in nanoseconds
	buckets        []slot // that count, in order
	total          int    // calls in buckets
}

// slot is a bucket with calls in it.
type slot struct {
	index int64 // its start, in widths since 1970
	calls int
}

func newWindow(q provider.Quota) window {
	w := window{Quota: q, declared: q.Calls, width: width(q)}
	if !q.Calendar {
		w.buckets = make([]slot, 0, grain+2)
	}
	return w
}

// width returns the width of a bucket, in nanoseconds. That of a calendar
// window, which is one bucket, is the unit of its start.
func width(q provider.Quota) int64 {
	if q.Calendar {
		return 1
	}
	return int64(q.Window / grain)
}

// index returns the bucket of a time.
func (w *window) index(t time.Time) int64 {
	if w.Calendar {
		t = w.Start(t)
	}
	n := t.UnixNano()
	if n < 0 {
		return (n+1)/w.width - 1
	}
	return n / w.width
}

// end returns the end of a bucket.
func (w *window) end(index int64) time.Time {
	if w.Calendar {
		return w.End(time.Unix(0, index))
	}
	return time.Unix(0, (index+1)*w.width)
}

// start returns since when calls count at now.
func (w *window) start(now time.Time) time.Time {
	if w.Calendar {
		return w.Start(now)
	}
	return now.Add(-w.Window)
}

// forget drops the buckets that have left the window.
func (w *window) forget(now time.Time) {
	start, gone := w.start(now), 0
	for gone < len(w.buckets) && !w.end(w.buckets[gone].index).After(start) {
		w.total -= w.buckets[gone].calls
		gone++
	}
	if gone > 0 {
		w.buckets = slices.Delete(w.buckets, 0, gone)
	}
}

// add counts calls at the given time; a negative number takes them back, as
// far as they are there.
func (w *window) add(at time.Time, calls int) {
	calls = min(calls, math.MaxInt-w.total)
	index := w.index(at)
	i := len(w.buckets)
	for i > 0 && w.buckets[i-1].index >= index {
		i--
	}
	found := i < len(w.buckets) && w.buckets[i].index == index
	switch {
	case found:
		calls = max(calls, -w.buckets[i].calls)
		w.buckets[i].calls += calls
		if w.buckets[i].calls == 0 {
			w.buckets = slices.Delete(w.buckets, i, i+1)
		}
	case calls > 0:
		w.buckets = slices.Insert(w.buckets, i, slot{index, calls})
	default:
		return
	}
	w.total += calls
}

// has reports whether calls are counted in the bucket of a time.
func (w *window) has(at time.Time) bool {
	index := w.index(at)
	i := len(w.buckets)
	for i > 0 && w.buckets[i-1].index > index {
		i--
	}
	return i > 0 && w.buckets[i-1].index == index
}

// trust counts calls as made at now that are counted further in the future than
// ahead, and reports whether there are any. A long window allows for a worker whose
// clock is ahead of ours: the loss is a small part of the window.
func (w *window) trust(now time.Time, ahead time.Duration) (changed bool) {
	latest := now.Add(max(ahead, min(w.Window/100, clockAhead))).UnixNano() / w.width
	wrong := 0
	for i := len(w.buckets); i > 0 && w.buckets[i-1].index > latest; i-- {
		wrong += w.buckets[i-1].calls
		w.buckets = w.buckets[:i-1]
	}
	if wrong > 0 {
		w.total -= wrong
		w.add(now, wrong)
	}
	return wrong > 0
}

// left returns how many more calls are allowed at now.
func (w *window) left(now time.Time) int {
	w.forget(now)
	return max(w.Calls-w.total, 0)
}

// below returns when less than a number of calls will count if none is made until
// then.
func (w *window) below(now time.Time, calls int) time.Time {
	excess := w.total - calls + 1
	if w.Calendar && excess > 0 {
		return w.End(now)
	}
	if excess <= 0 {
		return now
	}
	for _, b := range w.buckets {
		if excess -= b.calls; excess <= 0 {
			return w.end(b.index).Add(w.Window)
		}
	}
	return now
}
