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

// Enrich enriches one attacker now, asking every provider whose finding is not
// fresh, within all limits, and returns the record as it is then. It works
// whether or not the worker runs. It returns an error that wraps
// store.ErrNotFound if there is no such attacker, and the store's error if it
// fails; failures of providers are no error. While another worker has the
// attacker, Enrich waits. If ctx ends first, its error is returned and what was
// cut off leaves no trace. If this worker runs, its event may be published
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

func (w *Worker) enrich(ctx context.Context, r store.Record) (err error) {
	lease := store.Lease{ID: r.ID, Fence: r.Fence}
	keep := context.WithoutCancel(ctx) // what was learnt is saved in any case
	defer func() {
		if err != nil {
			w.giveBack(keep, []*job{{update: store.Update{Lease: lease}}})
		}
	}()
	return safely(func() error {
		w.recall(ctx, []store.Record{r}, time.Now())
		s := w.newShift(ctx)
		defer s.crew.dismiss()
		p := w.newPass(r)
		p.begin(ctx, s, true)
		p.finish(ctx, s, func() {})
		j := p.update(false)
		if j.release {
			w.giveBack(keep, []*job{j})
			return ctx.Err()
		}
		if err := w.config.Store.Save(keep, j.update); err != nil {
			return err
		}
		w.counts.save(j)
		w.waits(j.update.Entries)
		if j.saved != nil {
			w.config.Hooks.Saved(*j.saved)
		}
		if ev := j.update.Event; ev != nil {
			w.events.Publish(ctx, ev, j.after)
		}
		return ctx.Err()
	})
}
