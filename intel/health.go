package intel

import (
	"context"
	"encoding/json"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/internal/panics"
)

// counts are what a worker has done since it was made.
type counts struct {
	passes, enriched, scheduled atomic.Uint64
	conflicts, unsaved          atomic.Uint64
}

// save counts an update that was stored.
func (c *counts) save(j *job) {
	if !j.update.SavedAt.IsZero() {
		c.enriched.Add(1)
	} else {
		c.scheduled.Add(1)
	}
}

// done returns the number of updates that were stored.
func (c *counts) done() uint64 { return c.enriched.Load() + c.scheduled.Load() }

// health is the payload of a health event.
type health struct {
	Worker string  `json:"worker"` // always "enrich": which service this is
	TS     float64 `json:"ts"`     // seconds since 1970
	Status
	Lookups lookupCounts `json:"lookups"`
}

// lookupCounts are those of all providers together.
type lookupCounts struct {
	Answered uint64 `json:"answered"`
	Reused   uint64 `json:"reused"`
	Failed   uint64 `json:"failed"`
	Deferred uint64 `json:"deferred"`
}

// health returns the event that tells how the worker is.
func (w *Worker) health(ctx context.Context) bus.Event {
	s, err := w.Status(ctx)
	if err != nil && ctx.Err() == nil {
		w.log.Debug("no backlog in the health event", "error", err)
	}
	now := time.Now()
	payload, _ := json.Marshal(health{ // numbers and text always marshal
		Worker: "enrich", TS: float64(now.UnixMicro()) / 1e6, Status: s,
		Lookups: lookupCounts{
			Answered: s.sum(func(p *ProviderStatus) uint64 { return p.Answered }),
			Reused:   s.sum(func(p *ProviderStatus) uint64 { return p.Reused }),
			Failed:   s.sum((*ProviderStatus).failed),
			Deferred: s.sum(func(p *ProviderStatus) uint64 { return p.Deferred }),
		},
	})
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
		err := panics.Catch(func() error { return w.config.Bus.Publish(ctx, w.health(ctx)) })
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
