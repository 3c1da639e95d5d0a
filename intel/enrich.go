package intel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

// Enrich enriches one attacker now: it queries every provider that has no fresh
// finding, within all limits, and returns the record as it is then. It works
// whether or not the worker runs. It returns an error that wraps
// store.ErrNotFound if there is no such attacker, and the store's error if the
// store fails; failures of providers are not errors. While another worker has the
// attacker, Enrich waits. If ctx ends first, Enrich returns its error, and
// interrupted lookups leave no trace. If this worker runs, the event may be published
// after Enrich has returned. An event that the bus does not take stays in the
// store's outbox, and later events about the attacker behind it, for a worker that
// runs, or drains.
func (w *Worker) Enrich(ctx context.Context, id uuid.UUID) (store.Record, error) {
	for attempt := 1; ; attempt++ {
		c, err := w.config.Store.Claim(ctx, store.ClaimRequest{
			Now: time.Now(), Owner: w.config.Owner, Lease: w.config.Lease, Limit: 1,
			Providers: w.names, Only: []uuid.UUID{id},
		})
		if err != nil {
			return store.Record{}, fmt.Errorf("intel: claim attacker %s: %w", id, err)
		}
		if len(c.Records) == 1 {
			if err := w.enrich(ctx, c.Records[0]); err != nil && !errors.Is(err, store.ErrConflict) {
				return store.Record{}, fmt.Errorf("intel: enrich attacker %s: %w", id, err)
			}
			return w.config.Store.Get(ctx, id)
		}
		if _, err := w.config.Store.Get(ctx, id); err != nil {
			return store.Record{}, fmt.Errorf("intel: attacker %s: %w", id, err)
		}
		select {
		case <-ctx.Done():
			return store.Record{}, fmt.Errorf("intel: attacker %s is being worked on: %w", id, ctx.Err())
		case <-time.After(backoff.Delay(10*time.Millisecond, time.Second, attempt)):
		}
	}
}

// enrich works on one claimed attacker.
func (w *Worker) enrich(ctx context.Context, r store.Record) (err error) {
	saving := context.WithoutCancel(ctx) // what was learnt is saved in any case
	p := newPass(w, r)
	defer func() {
		if err != nil {
			w.release(saving, time.Now().UTC(), p.lease())
		}
	}()
	return safely(func() error {
		w.recall(ctx, []store.Record{r}, p.started)
		pool := newPool(ctx, &w.config)
		defer pool.close()
		p.start(ctx, pool, true)
		p.wait(ctx, pool)
		p.finish(ctx, func() {})
		j := p.update(false)
		if j.kind == release {
			w.release(saving, time.Now().UTC(), p.lease())
			return ctx.Err()
		}
		if err := w.config.Store.Save(saving, j.update); err != nil {
			return err
		}
		w.stored(j)
		if ev := j.update.Event; ev != nil {
			w.events.Publish(ctx, ev, r.Unpublished)
		}
		return ctx.Err()
	})
}
