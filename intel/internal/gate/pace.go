package gate

import (
	"sync"
	"time"
)

// maxDeferral bounds how far into the future a lookup is put off.
const maxDeferral = time.Hour

// pace spaces the calls to a provider: those that are made by its interval,
// and those that have to come again by what it was seen to manage.
type pace struct {
	interval time.Duration // least time between the starts of two calls

	mu       sync.Mutex
	next     time.Time     // when the next call may start
	deferred time.Time     // when the next lookup that is put off may come again
	latency  time.Duration // moving average over calls
}

// reserve takes the next start and returns how long to wait for it, unless it
// is after the deadline.
func (p *pace) reserve(now, deadline time.Time) (time.Duration, bool) {
	if p.interval <= 0 {
		return 0, true
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	start := now
	if p.next.After(now) {
		start = p.next
	}
	if start.After(deadline) {
		return 0, false
	}
	p.next = start.Add(p.interval)
	return start.Sub(now), true
}

// observe takes note of how long a call took.
func (p *pace) observe(took time.Duration) {
	p.mu.Lock()
	p.latency += (took - p.latency) / 8
	p.mu.Unlock()
}

// later returns when a lookup that found no place should come again: each
// such lookup a little after the one before, as fast as the provider with that
// many slots can be expected to take them.
func (p *pace) later(now, soonest time.Time, slots int) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, t := range []time.Time{p.next, p.deferred} {
		if t.After(soonest) {
			soonest = t
		}
	}
	if latest := now.Add(maxDeferral); soonest.After(latest) {
		soonest = latest
	}
	step := max(p.interval, p.latency/time.Duration(slots), time.Millisecond)
	p.deferred = soonest.Add(step)
	return soonest.Add(step).UTC()
}
