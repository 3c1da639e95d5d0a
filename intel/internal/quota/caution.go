package quota

import (
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

const (
	// scarceBelow is the number of calls below which a quota is scarce: one address
	// at a time is looked up, and the first failure that may have cost a call is
	// followed by a pause. Of larger quotas, tripAfter failures in a row are.
	scarceBelow = 100
	tripAfter   = 5

	// The share of an address that keeps failing: shareOf of a quota, and never less
	// than shareMin calls.
	shareOf  = 50
	shareMin = 2

	// maxCosts is the number of addresses whose failures are remembered.
	maxCosts = 64

	// The least pauses, which matter for large quotas. Those after a refusal double
	// from burstMin to burstMax, those after failures from coolMin to coolMax.
	burstMin = 10 * time.Second
	burstMax = 10 * time.Minute
	coolMin  = 30 * time.Second
	coolMax  = 30 * time.Minute
)

// caution is what keeps a quota from being wasted on a source that fails. It is
// part of a budget, so that all workers share it.
type caution struct {
	failures int       // in a row, without a pause
	steps    int       // pauses in a row, without an answer between them
	busy     time.Time // until when at the latest the one call lasts that is under way
	costs    []cost    // failures of single addresses, the latest failure last
}

// cost is what lookups of one address have cost without an answer.
type cost struct {
	addr  netip.Addr
	calls int
	first time.Time // when the first of them failed
}

// Alone reports whether one call at a time may be made: of a scarce quota, and
// after a pause until there is an answer.
func (b *Budget) Alone() bool { return b.caution.steps > 0 || b.scarce() }

// scarce reports whether the smallest quota is scarce.
func (b *Budget) scarce() bool {
	for i := range b.windows {
		if b.windows[i].Calls < scarceBelow {
			return true
		}
	}
	return false
}

// Slots returns how many calls may be under way at a time so that a sudden outage
// does not cost much of a quota: one of a scarce quota, and a twentieth of a
// larger one. It is zero without quotas.
func (b *Budget) Slots() (slots int) {
	for i := range b.windows {
		n := b.windows[i].Calls / (scarceBelow / 5)
		if b.windows[i].Calls < scarceBelow {
			n = 1
		}
		if slots == 0 || n < slots {
			slots = n
		}
	}
	return slots
}

// Busy returns until when at the latest a call lasts that must end before the next
// one; zero if there is none.
func (b *Budget) Busy(now time.Time) time.Time {
	if c := &b.caution; b.Alone() && c.busy.After(now) && !c.busy.After(now.Add(b.ahead+clockSlack)) {
		return c.busy
	}
	return time.Time{}
}

// Begin takes note of a call that was spent until by.
func (b *Budget) Begin(by time.Time) {
	if b.Alone() {
		b.caution.busy = by
	}
}

// end takes note that a call has ended, and reports whether that changes anything.
func (c *caution) end() (changed bool) {
	changed = !c.busy.IsZero()
	c.busy = time.Time{}
	return changed
}

// Works enters that the source has answered, about addr unless that is the zero
// Addr. It reports whether anything has changed. While the provider is left alone,
// an answer to a call from before changes only what is known of addr.
func (b *Budget) Works(now time.Time, addr netip.Addr) (changed bool) {
	c := &b.caution
	if i := c.find(addr); i >= 0 {
		c.costs, changed = slices.Delete(c.costs, i, i+1), true
	}
	if (c.failures > 0 || c.steps > 0) && !b.paused(now) {
		c.failures, c.steps, changed = 0, 0, true
	}
	return changed
}

// Fail enters that a call about addr has failed and may have been charged. If the
// source is to blame it may have failed for any address; otherwise it failed for
// this one. Fail reports whether a pause begins.
func (b *Budget) Fail(now time.Time, addr netip.Addr, source bool) (pauses bool) {
	c := &b.caution
	if !source || c.failures == 0 && c.steps == 0 {
		c.charge(addr, now, b.binding().Window)
	}
	if b.paused(now) { // by a call that was under way together with this one
		return true
	}
	c.failures++
	if c.failures < tripAfter && c.steps == 0 && !b.scarce() {
		return false
	}
	c.steps++
	c.failures = 0
	b.Rest(now, now.Add(b.pause(c.steps, Failing, 0)), Failing)
	return true
}

// pause returns the length of a number of pauses in a row.
func (b *Budget) pause(step int, why Reason, window time.Duration) time.Duration {
	least, most := burstMin, burstMax
	if why == Failing {
		least, most = coolMin, coolMax
	}
	pause := min(least<<min(step-1, 16), most)
	for i := range b.windows {
		w := &b.windows[i]
		pause = max(pause, ladder(w.Calls, w.Window, step))
	}
	if len(b.windows) == 0 && why == Spent {
		if window <= 0 {
			window = maxRest
		}
		pause = max(pause, ladder(25, window, step))
	}
	return pause
}

// ladder returns the length of a pause before the next call that may be wasted, so
// that an outage as long as the window costs at most a fifth of the quota, or two
// calls. Of 25 a week the pauses are 1, 4, 16 and 64 hours, and half a week
// afterwards. Those of other quotas are in proportion to the window; a quota of
// 125 calls begins with a quarter of that, one of 500 with a sixteenth.
func ladder(calls int, window time.Duration, step int) time.Duration {
	unit := window / 168
	for n := calls; n >= 125; n /= 4 {
		unit /= 4
	}
	last := window / time.Duration(max(2, calls/10-4)) // from when on the pauses are equal
	allowed := min(max(calls/5, 2), 5)
	switch {
	case allowed == 2 && step == 1:
		return 4 * unit
	case allowed > 2 && step < allowed:
		return min(unit<<(2*(step-1)), last)
	case allowed < 5 && step == allowed:
		return window
	}
	return last
}

// binding returns the quota that allows the fewest calls in the long run.
func (b *Budget) binding() (q provider.Quota) {
	for i := range b.windows {
		w := &b.windows[i].Quota
		if q.Window == 0 || float64(w.Calls)/float64(w.Window) < float64(q.Calls)/float64(q.Window) {
			q = *w
		}
	}
	return q
}

// charge counts a failure of an address. Its count begins anew with each window.
func (c *caution) charge(addr netip.Addr, now time.Time, window time.Duration) {
	if window <= 0 || !addr.IsValid() {
		return
	}
	spent := cost{addr: addr, first: now}
	if i := c.find(addr); i >= 0 {
		if now.Before(c.costs[i].first.Add(window)) {
			spent = c.costs[i]
		}
		c.costs = slices.Delete(c.costs, i, i+1)
	}
	spent.calls++
	if len(c.costs) >= maxCosts {
		c.costs = slices.Delete(c.costs, 0, 1)
	}
	c.costs = append(c.costs, spent)
}

func (c *caution) find(addr netip.Addr) int {
	return slices.IndexFunc(c.costs, func(spent cost) bool { return spent.addr == addr })
}

// Failed reports whether the last lookups of an address have cost calls without an
// answer.
func (b *Budget) Failed(addr netip.Addr) bool { return b.caution.find(addr) >= 0 }

// Excluded returns until when an address is not looked up because its failures have
// cost its share of the quota; zero if they have not.
func (b *Budget) Excluded(addr netip.Addr, now time.Time) time.Time {
	i := b.caution.find(addr)
	if i < 0 {
		return time.Time{}
	}
	spent, q := b.caution.costs[i], b.binding()
	until := spent.first.Add(q.Window)
	if spent.calls < max(q.Calls/shareOf, shareMin) || !now.Before(until) {
		return time.Time{}
	}
	return until
}

// trust is [Budget.trust].
func (c *caution) trust(now time.Time, ahead time.Duration) (changed bool) {
	if c.busy.After(now.Add(ahead)) {
		c.busy, changed = time.Time{}, true
	}
	for i := range c.costs {
		if c.costs[i].first.After(now.Add(ahead)) {
			c.costs[i].first, changed = now, true
		}
	}
	return changed
}
