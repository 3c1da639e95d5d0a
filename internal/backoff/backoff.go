// Package backoff spaces the retries of what keeps failing.
package backoff

import (
	"math/rand/v2"
	"time"
)

// Delay returns how long to wait after a number of failures in a row: min after
// the first, and twice as long after each further one, up to max. The result is
// up to a fifth shorter than that, at random, so that processes that failed
// together do not retry together; it is never longer than max. Zero failures
// count as one. Both durations have to be greater than zero; a max below min
// wins.
func Delay(min, max time.Duration, failures int) time.Duration {
	d := max
	if failures < 1 {
		failures = 1
	}
	if doublings := failures - 1; min <= max>>doublings { // min<<doublings does not overflow
		d = min << doublings
	}
	return d - rand.N(d/5+1)
}
