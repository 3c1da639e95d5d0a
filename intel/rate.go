package intel

import (
	"math"
	"sync/atomic"
	"time"
)

// rate is how many attackers a worker gets done in a second while there is a
// backlog. It is measured by one goroutine and read by any.
type rate struct {
	since time.Time
	done  uint64 // at that time
	bits  atomic.Uint64
}

// rateSpan is the least time to measure over.
const rateSpan = 5 * time.Second

// begin starts to measure with so many attackers done.
func (r *rate) begin(now time.Time, done uint64) { r.since, r.done = now, done }

// measure takes over what was done since begin, if that was long enough ago or
// nothing was measured yet, and begins anew.
func (r *rate) measure(now time.Time, done uint64) {
	span := now.Sub(r.since)
	if done == r.done || span <= 0 || span < rateSpan && r.get() > 0 {
		return
	}
	r.bits.Store(math.Float64bits(float64(done-r.done) / span.Seconds()))
	r.begin(now, done)
}

// get returns the rate, and zero if none was measured.
func (r *rate) get() float64 { return math.Float64frombits(r.bits.Load()) }
