// Package quota keeps a provider within its allowances: it counts calls before
// they are made, corrects itself by what the source says, and remembers how
// long a source is to be left alone.
//
// Nobody outside knows exactly when a source counts a call, so every doubt is
// resolved against us: a call counts from the last moment at which it may reach
// the source until its answer tells better, and one that was started is spent
// unless it certainly did not reach the source.
package quota

import (
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// maxRest bounds how long a source without quotas can ask to be left alone.
const maxRest = 24 * time.Hour

// Budget is what is left of one provider's quotas. It is not safe for
// concurrent use.
type Budget struct {
	key     string // of the account; empty if the provider has none
	windows []window
	assumed bool          // nobody configured the quotas: the source may raise them
	spaced  bool          // calls are spread evenly over each window
	ahead   time.Duration // how far after now a call may be counted: how long calls take
	until   time.Time     // no call before that
	why     Reason        // why not
	caution caution

	unused []windowDocument // what was spent of quotas that are not configured now
	other  *account         // the budget of the key that was used before; nil if there is none
}

// Reason is why a provider is left alone.
type Reason string

// The reasons.
const (
	None    Reason = ""
	Limited Reason = "rate limited"    // asked too fast
	Spent   Reason = "quota exhausted" // by our own count, or because the source said so
	Failing Reason = "failing"         // its last answers were failures that may have cost a call
	Spaced  Reason = "spaced"          // the next call is not due yet
)

// NewBudget returns a budget of the quotas in l, which must be valid. Nothing is
// spent. A call counts at most the given time after it was spent.
func NewBudget(l provider.Limits, ahead time.Duration) *Budget {
	b := &Budget{windows: make([]window, len(l.Quotas)), assumed: l.Assumed, ahead: ahead}
	for i, q := range l.Quotas {
		b.windows[i] = newWindow(q)
	}
	return b
}

// Spend counts a call that is about to be made and whose request reaches the
// source until by at the latest. It reports false, and counts nothing, if no
// call is allowed at now.
func (b *Budget) Spend(now, by time.Time) bool {
	if left, _, _ := b.Left(now); left == 0 {
		return false
	}
	for i := range b.windows {
		b.windows[i].add(by, 1)
	}
	return true
}

// Settle corrects a call that was spent until by: its answer came at end. It
// reports whether anything has changed. A call that is not counted at by any more
// was corrected by another worker, whose clock is behind ours.
func (b *Budget) Settle(by, end time.Time) (changed bool) {
	for i := range b.windows {
		w := &b.windows[i]
		if w.index(by) == w.index(end) || end.Before(by) && !w.has(by) {
			continue
		}
		w.add(by, -1)
		w.add(end, 1)
		changed = true
	}
	return changed
}

// Refund takes back a call that was spent until by and never made.
func (b *Budget) Refund(by time.Time) {
	for i := range b.windows {
		b.windows[i].add(by, -1)
	}
}

// unlimited is what is left without quotas.
const unlimited = int(^uint(0) >> 1)

// Left returns how many calls are allowed at now; if none, when there may be
// some again and why.
func (b *Budget) Left(now time.Time) (calls int, next time.Time, why Reason) {
	calls = unlimited
	for i := range b.windows {
		w := &b.windows[i]
		left := w.left(now)
		if calls = min(calls, left); left == 0 {
			why = Spent
			if at := w.below(now, w.Calls); at.After(next) {
				next = at
			}
		}
	}
	if b.paused(now) {
		if b.until.After(next) {
			next, why = b.until, b.why
		}
		return 0, next, why
	}
	if b.spaced && calls > 0 && len(b.windows) > 0 {
		if at := b.due(); at.After(now) {
			return 0, at, Spaced
		}
		return 1, next, why
	}
	return calls, next, why
}

// due returns when the next of calls that are spread evenly may be made: as long after
// the first that counts as all of them take. What was not used in the meantime can thus
// be used at once.
func (b *Budget) due() (at time.Time) {
	for i := range b.windows {
		w := &b.windows[i]
		if w.Calendar || len(w.buckets) == 0 {
			continue
		}
		first := time.Unix(0, w.buckets[0].index*w.width)
		next := first.Add(w.Window / time.Duration(w.Calls) * time.Duration(w.total))
		if next.After(at) {
			at = next
		}
	}
	return at
}

// paused reports whether the provider is left alone at now. A pause that ends
// later than any pause can was begun by a clock that was wrong, and is over.
func (b *Budget) paused(now time.Time) bool {
	return b.until.After(now) && !b.until.After(now.Add(b.longest()+clockSlack))
}

// longest returns the longest pause that there can be.
func (b *Budget) longest() time.Duration {
	longest := maxRest
	for i := range b.windows {
		longest = max(longest, b.windows[i].Window)
	}
	return longest
}

// clockSlack is how far apart clocks may be without being wrong.
const clockSlack = time.Minute

// trust takes back what a clock that was ahead has left: calls in the future count
// as made at now, a pause or a call under way that ends too late is over. It
// reports whether anything has changed.
func (b *Budget) trust(now time.Time) (changed bool) {
	for i := range b.windows {
		if b.windows[i].trust(now, b.ahead+clockSlack) {
			changed = true
		}
	}
	if b.until.After(now) && !b.paused(now) {
		b.until, b.why, changed = time.Time{}, None, true
	}
	if b.caution.trust(now, b.ahead+clockSlack) {
		changed = true
	}
	b.unused = slices.DeleteFunc(b.unused, func(wd windowDocument) bool {
		w := wd.empty()
		return !w.end(wd.Used[len(wd.Used)-1][0]).Add(wd.Window).After(now)
	})
	return changed
}

// Idle reports whether more than half of every quota is left.
func (b *Budget) Idle(now time.Time) bool {
	for i := range b.windows {
		if w := &b.windows[i]; 2*w.left(now) <= w.Calls {
			return false
		}
	}
	return !b.paused(now) && b.caution.steps == 0
}

// Spare returns when more than half of every quota will be left if no call is made
// until then.
func (b *Budget) Spare(now time.Time) (at time.Time) {
	at = now
	for i := range b.windows {
		w := &b.windows[i]
		w.forget(now)
		if next := w.below(now, (w.Calls+1)/2); next.After(at) {
			at = next
		}
	}
	if b.paused(now) && b.until.After(at) {
		at = b.until
	}
	return at
}

// Correct takes over what the source said at now: its limit, as far as the
// quota allows, and a number of calls left that is smaller than ours: calls that
// we do not know of have been made. They leave the window when the source says
// that it is reset. Correct reports whether anything has changed.
func (b *Budget) Correct(now time.Time, u provider.Usage) (changed bool) {
	return b.correct(now, u, u.Reset, true)
}

// correct counts the calls that we do not know of, so that they have left the
// window at reset. If reset is not known they count as made now, or not at all.
func (b *Budget) correct(now time.Time, u provider.Usage, reset time.Time, always bool) (changed bool) {
	w := b.window(u.Window)
	if w == nil || u.Limit <= 0 {
		return false
	}
	if limit := b.limit(w, u.Limit); limit != w.Calls {
		w.Calls, changed = limit, true
	}
	at := now
	switch {
	case reset.After(now) && w.Calendar && reset.Before(w.End(now)):
		return changed // the source counts otherwise; a pause lasts until reset
	case reset.After(now) && !w.Calendar && reset.Before(now.Add(w.Window)):
		at = reset.Add(-w.Window - time.Duration(w.width))
	case !reset.After(now) && !always && u.Remaining <= 0:
		return changed
	}
	if unknown := w.left(now) - max(u.Remaining, 0); unknown > 0 {
		w.add(at, unknown)
		changed = true
	}
	return changed
}

// limit returns the limit of a window for which the source reports the given
// one: a configured quota is a ceiling.
func (b *Budget) limit(w *window, reported int) int {
	if b.assumed {
		return reported
	}
	return min(reported, w.declared)
}

// window returns the window of that length, or, if the source did not say
// which, the longest.
func (b *Budget) window(length time.Duration) (found *window) {
	for i := range b.windows {
		w := &b.windows[i]
		switch {
		case length == 0 && (found == nil || w.Window > found.Window), length == w.Window,
			length == 30*provider.Day && w.Window == provider.Month:
			found = w
		}
	}
	return found
}

// Refuse enters that the source has refused a call because of a limit. It leaves
// the provider alone until the source said, or for the wait that it asked for. If
// it said neither, or if refusals follow each other, the pauses become longer.
func (b *Budget) Refuse(now time.Time, why Reason, u provider.Usage, wait time.Duration) {
	until := u.Reset
	if !until.After(now) && wait > 0 {
		until = now.Add(min(wait, b.longest()))
	}
	b.correct(now, u, until, false)
	if b.paused(now) { // by a call that was under way together with this one
		b.Rest(now, until, why)
		return
	}
	b.caution.steps++
	step := now.Add(b.pause(b.caution.steps, why, u.Window))
	if w := b.window(u.Window); w != nil && w.Calendar && why == Spent && step.After(w.End(now)) {
		step = w.End(now)
	}
	switch soonest := now.Add(burstMin); {
	case !until.After(now), b.caution.steps > 1 && step.After(until):
		until = step
	case why == Limited && soonest.After(until):
		until = soonest
	}
	b.Rest(now, until, why)
}

// Rest leaves the provider alone until a time, which is capped: at the end of
// the longest window, or after a day if that is longer.
func (b *Budget) Rest(now, until time.Time, why Reason) {
	if latest := now.Add(b.longest()); until.After(latest) {
		until = latest
	}
	if until.After(b.until) || !b.paused(now) {
		b.until, b.why = until, why
	}
}
