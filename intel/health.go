package intel

import (
	"context"
	"encoding/json"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
)

// counts are what a worker has done since it was made.
type counts struct {
	passes, enriched, scheduled                atomic.Uint64
	answered, reused, failed, deferred         atomic.Uint64
	conflicts, unsaved, published, unpublished atomic.Uint64
}

// save counts an update that was stored.
func (c *counts) save(j *job) {
	if len(j.saved.Answered) > 0 {
		c.enriched.Add(1)
	} else {
		c.scheduled.Add(1)
	}
}

// health is the payload of a health event.
type health struct {
	Worker    string  `json:"worker"` // always "enrich": which service this is
	TS        float64 `json:"ts"`     // seconds since 1970
	Owner     string  `json:"owner"`  // which of its workers
	Passes    uint64  `json:"passes"`
	Enriched  uint64  `json:"enriched"`  // updates that stored a finding
	Scheduled uint64  `json:"scheduled"` // updates that only moved a schedule
	Lookups   struct {
		Answered uint64 `json:"answered"`
		Reused   uint64 `json:"reused"`
		Failed   uint64 `json:"failed"`
		Deferred uint64 `json:"deferred"`
	} `json:"lookups"`
	Conflicts   uint64 `json:"conflicts"`
	Unsaved     uint64 `json:"unsaved"`
	Published   uint64 `json:"published"`
	Unpublished uint64 `json:"unpublished"` // events lost or expired
}

func (w *Worker) health(now time.Time) bus.Event {
	c := &w.counts
	h := health{
		Worker: "enrich", TS: float64(now.UnixMicro()) / 1e6, Owner: w.config.Owner,
		Passes: c.passes.Load(), Enriched: c.enriched.Load(), Scheduled: c.scheduled.Load(),
		Conflicts: c.conflicts.Load(), Unsaved: c.unsaved.Load(),
		Published: c.published.Load(), Unpublished: c.unpublished.Load(),
	}
	h.Lookups.Answered, h.Lookups.Reused = c.answered.Load(), c.reused.Load()
	h.Lookups.Failed, h.Lookups.Deferred = c.failed.Load(), c.deferred.Load()
	payload, _ := json.Marshal(h) // numbers and text always marshal
	return bus.Event{Topic: TopicHealth, Type: typeHealth, Time: now.UTC(), Payload: payload}
}

// heartbeat publishes health at once and then at every interval.
func (w *Worker) heartbeat(ctx context.Context) {
	if w.config.HealthInterval < 0 {
		return
	}
	ticker := time.NewTicker(w.config.HealthInterval)
	defer ticker.Stop()
	for {
		err := safely(func() error { return w.config.Bus.Publish(ctx, w.health(time.Now())) })
		if err != nil && ctx.Err() == nil {
			w.log.Debug("no heartbeat", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// backoff returns a delay that doubles with each failure in a row from lo up
// to hi and varies by a fifth.
func backoff(lo, hi time.Duration, failures int) time.Duration {
	d := lo
	for range min(failures, 64) - 1 {
		if d *= 2; d >= hi {
			break
		}
	}
	return time.Duration(float64(min(d, hi)) * (0.8 + 0.4*rand.Float64()))
}
