package gate

import (
	"sync"
	"time"

	"github.com/decnet/enrich/internal/backoff"
)

const (
	// tripAfter is the number of failures in a row after which a provider is
	// left alone.
	tripAfter = 5
	// coolMin is for how long; it doubles up to coolMax with every probe that
	// fails, and varies by a fifth.
	coolMin = 30 * time.Second
	coolMax = 30 * time.Minute
	// banRest is how long a provider is left alone that refuses our key.
	banRest = 6 * time.Hour
)

// breaker keeps lookups away from a provider that fails. As long as a provider
// has not answered yet, at the start and after it was left alone, one lookup at
// a time probes it. The zero value is such a breaker.
type breaker struct {
	mu       sync.Mutex
	proven   bool          // it has answered, and was not left alone since
	failures int           // in a row
	trips    int           // in a row, without an answer between them
	until    time.Time     // it is left alone until then
	banned   bool          // because it refuses our key or configuration
	probing  chan struct{} // closed when the probe under way has ended; nil if there is none
	overdue  time.Time     // when the probe counts as failed although it has not ended
}

// permit is what a breaker says about one call.
type permit struct {
	granted bool            // leave must be called afterwards
	probe   chan struct{}   // not nil if the call is a probe
	probing <-chan struct{} // if not granted: ends with the probe under way; nil if there is none
	until   time.Time       // if not granted and there is no probe: the provider is left alone until then
}

// pass asks for permission to make a call at now that returns by the given
// time, unless the provider ignores its deadline.
func (b *breaker) pass(now, by time.Time) permit {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp(now)
	switch {
	case b.proven:
		return permit{granted: true}
	case b.probing != nil:
		return permit{probing: b.probing}
	case now.Before(b.until):
		return permit{until: b.until}
	}
	b.probing, b.overdue = make(chan struct{}), by
	return permit{granted: true, probe: b.probing}
}

// giveUp ends a probe that does not end by itself.
func (b *breaker) giveUp(now time.Time) {
	if b.probing != nil && now.After(b.overdue) {
		close(b.probing)
		b.probing = nil
		b.trip(now)
	}
}

// result is what a call that was permitted told about the provider.
type result uint8

const (
	noResult result = iota // there was no call, or it was cut off
	success                // it works
	failure
	refusal // it works, but not for us now: the next call is a probe
	ban     // it will not work for us until somebody mends our configuration
)

// leave ends what pass permitted. It reports whether calls are permitted now
// that were not before.
func (b *breaker) leave(now time.Time, p permit, r result) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if p.probe != nil && p.probe == b.probing {
		close(b.probing)
		b.probing = nil
		opened = true
	}
	switch r {
	case success:
		opened = opened || !b.proven
		b.proven, b.banned, b.failures, b.trips, b.until = true, false, 0, 0, time.Time{}
	case failure:
		if b.failures++; b.failures >= tripAfter || b.trips > 0 {
			b.trip(now)
		}
	case refusal:
		b.proven, b.failures = false, 0
	case ban:
		b.proven, b.banned, b.until = false, true, now.Add(banRest)
	}
	return opened && !now.Before(b.until)
}

// loaded ends the pause of a provider whose bulk data is up to date: what was
// wrong with it is so no longer. The next call is a probe. It reports whether
// there was a pause at now.
func (b *breaker) loaded(now time.Time) (opened bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if opened = now.Before(b.until); opened {
		b.banned, b.failures, b.trips, b.until = false, 0, 0, time.Time{}
	}
	return opened
}

// trip leaves the provider alone for a while.
func (b *breaker) trip(now time.Time) {
	if now.Before(b.until) { // by a call that was under way together with this one
		return
	}
	b.trips++
	b.proven, b.banned, b.failures = false, false, 0
	b.until = now.Add(backoff.Delay(coolMin, coolMax, b.trips))
}

// state returns what the breaker permits at now. If that is nothing it also
// returns when that changes at the latest.
func (b *breaker) state(now time.Time) (State, time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.giveUp(now)
	switch {
	case b.proven:
		return Working, time.Time{}
	case b.probing != nil:
		return Probing, b.overdue
	case !now.Before(b.until):
		return Unproven, time.Time{}
	case b.banned:
		return Banned, b.until
	}
	return Failing, b.until
}
