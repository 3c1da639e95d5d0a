// Package quota keeps a provider within its allowances: it counts calls before
// they are made, corrects itself by what the source says, and remembers how
// long a source is to be left alone.
//
// Nobody outside knows exactly when a source counts a call, so every doubt is
// resolved against us: a call counts from the last moment at which it may reach
// the source until its answer tells better, and one that was started is spent
// whatever becomes of it.
package quota

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/decnet/enrich/provider"
)

// maxRest bounds how long a source without quotas can ask to be left alone.
const maxRest = 24 * time.Hour

// Budget is what is left of one provider's quotas. It is not safe for
// concurrent use.
type Budget struct {
	windows []window
	assumed bool      // nobody configured the quotas: the source may raise them
	until   time.Time // no call before that
	why     Reason    // why not
}

// Reason is why a provider is left alone.
type Reason string

// The reasons.
const (
	None    Reason = ""
	Limited Reason = "rate limited"    // asked too fast
	Spent   Reason = "quota exhausted" // by our own count, or because the source said so
)

// NewBudget returns a budget of the quotas in l, which must be valid. Nothing is
// spent.
func NewBudget(l provider.Limits) *Budget {
	b := &Budget{windows: make([]window, len(l.Quotas)), assumed: l.Assumed}
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
// reports whether anything has changed.
func (b *Budget) Settle(by, end time.Time) (changed bool) {
	for i := range b.windows {
		w := &b.windows[i]
		if w.index(by) != w.index(end) {
			w.add(by, -1)
			w.add(end, 1)
			changed = true
		}
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
			if at := w.next(now); at.After(next) {
				next = at
			}
		}
	}
	if b.until.After(now) {
		if b.until.After(next) {
			next, why = b.until, b.why
		}
		return 0, next, why
	}
	return calls, next, why
}

// Idle reports whether more than half of every quota is left.
func (b *Budget) Idle(now time.Time) bool {
	for i := range b.windows {
		if w := &b.windows[i]; 2*w.left(now) <= w.Calls {
			return false
		}
	}
	return !b.until.After(now)
}

// Correct takes over what the source said at now: its limit, as far as the
// quota allows, and a number of calls left that is smaller than ours: calls that
// we do not know of have been made. It reports whether anything has changed.
func (b *Budget) Correct(now time.Time, u provider.Usage) (changed bool) {
	return b.correct(now, now, u)
}

// correct counts the calls that we do not know of at the given time.
func (b *Budget) correct(now, at time.Time, u provider.Usage) (changed bool) {
	w := b.window(u.Window)
	if w == nil || u.Limit <= 0 {
		return false
	}
	if limit := b.limit(w, u.Limit); limit != w.Calls {
		w.Calls, changed = limit, true
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

// Exhaust leaves the provider alone because the source says that its allowance
// is spent: until it said, or after the wait that it asked for, or else for as
// long as the window lasts.
func (b *Budget) Exhaust(now time.Time, u provider.Usage, wait time.Duration) {
	until, at := now.Add(maxRest), now
	switch w := b.window(u.Window); {
	case u.Reset.After(now):
		until = u.Reset
		if w != nil && !w.Calendar && until.Before(now.Add(w.Window)) {
			at = until.Add(-w.Window) // so that they leave the window by then
		}
	case wait > 0:
		until = now.Add(wait)
	case w != nil && w.Calendar:
		until = w.End(now)
	case w != nil:
		until = now.Add(w.Window)
	case u.Window > 0:
		until = now.Add(u.Window)
	}
	b.correct(now, at, u)
	b.Rest(now, until, Spent)
}

// Rest leaves the provider alone until a time, which is capped: at the end of
// the longest window, or after a day if that is longer.
func (b *Budget) Rest(now, until time.Time, why Reason) {
	longest := maxRest
	for i := range b.windows {
		longest = max(longest, b.windows[i].Window)
	}
	if latest := now.Add(longest); until.After(latest) {
		until = latest
	}
	if until.After(b.until) {
		b.until, b.why = until, why
	}
}

// document is a budget as it is stored. Times are in microseconds since 1970.
type document struct {
	Version int              `json:"v"`
	Until   int64            `json:"until,omitempty"`
	Why     Reason           `json:"why,omitempty"`
	Windows []windowDocument `json:"windows,omitempty"`
}

type windowDocument struct {
	Window   time.Duration `json:"window"`
	Calendar bool          `json:"calendar,omitempty"`
	Declared int           `json:"declared"`
	Calls    int           `json:"calls"`
	Used     [][2]int64    `json:"used,omitempty"` // bucket and number of calls
}

const documentVersion = 1

var errDamaged = errors.New("the stored budget is damaged")

// plausible reports whether the document can be one of ours.
func (d *document) plausible() bool {
	for i := range d.Windows {
		wd := &d.Windows[i]
		if wd.Window < time.Second {
			return false
		}
		limit := math.MaxInt64/wd.empty().width - 1
		for _, used := range wd.Used {
			if used[1] < 1 || used[0] < -limit || used[0] > limit {
				return false
			}
		}
	}
	return true
}

// window returns what the document says of the quota, or of one over as much
// time.
func (d *document) window(q provider.Quota) (found *windowDocument) {
	for i := range d.Windows {
		wd := &d.Windows[i]
		if wd.Window == q.Window && (found == nil || wd.Calendar == q.Calendar) {
			found = wd
		}
	}
	return found
}

// empty returns the window as it was stored, without its calls.
func (wd *windowDocument) empty() *window {
	q := provider.Quota{Window: wd.Window, Calendar: wd.Calendar}
	return &window{Quota: q, width: width(q)}
}

// encode returns the budget as a document.
func (b *Budget) encode() []byte {
	doc := document{Version: documentVersion}
	if !b.until.IsZero() {
		doc.Until, doc.Why = b.until.UnixMicro(), b.why
	}
	for i := range b.windows {
		w := &b.windows[i]
		wd := windowDocument{w.Window, w.Calendar, w.declared, w.Calls, make([][2]int64, len(w.buckets))}
		for j, s := range w.buckets {
			wd.Used[j] = [2]int64{s.index, int64(s.calls)}
		}
		doc.Windows = append(doc.Windows, wd)
	}
	text, _ := json.Marshal(doc) // numbers and text always marshal
	return text
}

// decode replaces what is spent by what a document says. What it says of a
// quota counts as long as that is configured as it was.
func (b *Budget) decode(text []byte) error {
	var doc document
	if len(text) > 0 {
		err := json.Unmarshal(text, &doc)
		if doc.Version > documentVersion {
			return fmt.Errorf("the stored budget has version %d and this program knows versions up to %d; use a newer program",
				doc.Version, documentVersion)
		}
		if err != nil || doc.Version < 1 || !doc.plausible() {
			return errDamaged
		}
	}
	b.until, b.why = time.Time{}, None
	if doc.Until != 0 {
		b.until, b.why = time.UnixMicro(doc.Until), doc.Why
	}
	for i := range b.windows {
		w := &b.windows[i]
		w.Calls, w.buckets, w.total = w.declared, w.buckets[:0], 0
		wd := doc.window(w.Quota)
		if wd == nil {
			continue
		}
		if wd.Declared == w.declared && wd.Calls > 0 {
			w.Calls = b.limit(w, wd.Calls)
		}
		stored := wd.empty()
		for _, used := range wd.Used {
			w.add(stored.end(used[0]).Add(-1), int(used[1]))
		}
	}
	return nil
}
