package intel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

// EnrichOption changes what [Worker.Enrich] does.
type EnrichOption func(*demand)

// Force makes Enrich query the named providers, or all if none is named, although
// their findings are fresh, and although an answer is at hand. Limits hold: a
// provider that cannot be queried now is queried when it can be. A name that no
// provider has is an error of Enrich.
func Force(providers ...string) EnrichOption {
	return func(d *demand) { d.again, d.all = append(d.again, providers...), d.all || len(providers) == 0 }
}

// demand says which providers a pass queries besides the due ones.
type demand struct {
	now   bool     // those whose finding is missing or expired, although they are not due
	again []string // these, although their finding is fresh
	all   bool     // all, although their finding is fresh
	only  string   // no other; empty: others, too
	// since is when an answer at hand must have been obtained to do instead of one
	// that is demanded again. Zero: after the start of the pass.
	since time.Time
}

// before returns the time by which an answer is too old for what is demanded again.
func (d *demand) before(started time.Time) time.Time {
	if d.since.IsZero() {
		return started
	}
	return d.since
}

// repeats reports whether a provider is queried although its finding is fresh.
func (d *demand) repeats(name string) bool { return d.all || slices.Contains(d.again, name) }

// includes reports whether a provider may be queried at all.
func (d *demand) includes(name string) bool { return d.only == "" || d.only == name }

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
func (w *Worker) Enrich(ctx context.Context, id uuid.UUID, options ...EnrichOption) (store.Record, error) {
	d := demand{now: true}
	for _, option := range options {
		option(&d)
	}
	for _, name := range d.again {
		if w.sources.byName(name) == nil {
			return store.Record{}, fmt.Errorf("intel: there is no provider %.40q to force; the providers are %s", name, strings.Join(w.names, ", "))
		}
	}
	return w.enrichNow(ctx, id, d)
}

// enrichNow is Enrich with a demand.
func (w *Worker) enrichNow(ctx context.Context, id uuid.UUID, d demand) (store.Record, error) {
	w.loadLists(ctx)
	for attempt := 1; ; attempt++ {
		c, err := w.config.Store.Claim(ctx, store.ClaimRequest{
			Now: time.Now(), Owner: w.config.Owner, Lease: w.config.Lease, Limit: 1,
			Providers: w.remote, Only: []uuid.UUID{id},
		})
		if err != nil {
			return store.Record{}, fmt.Errorf("intel: claim attacker %s: %w", id, err)
		}
		if len(c.Records) == 1 {
			if err := w.enrich(ctx, c.Records[0], d); err != nil && !errors.Is(err, store.ErrConflict) {
				return store.Record{}, fmt.Errorf("intel: enrich attacker %s: %w", id, err)
			}
			return w.config.Store.Get(ctx, id)
		}
		if _, err := w.config.Store.Get(ctx, id); err != nil {
			return store.Record{}, fmt.Errorf("intel: enrich: %w", named(id, err))
		}
		if !pause(ctx, backoff.Delay(10*time.Millisecond, time.Second, attempt)) {
			return store.Record{}, fmt.Errorf("intel: attacker %s is being worked on: %w", id, ctx.Err())
		}
	}
}

// named returns err with the attacker's ID in its text.
func named(id uuid.UUID, err error) error {
	if strings.Contains(err.Error(), id.String()) {
		return err
	}
	return fmt.Errorf("attacker %s: %w", id, err)
}

// enrich works on one claimed attacker.
func (w *Worker) enrich(ctx context.Context, r store.Record, d demand) (err error) {
	saving := context.WithoutCancel(ctx) // what was learnt is saved in any case
	p := newPass(w, r)
	defer func() {
		if err != nil {
			w.release(saving, time.Now().UTC(), p.lease())
		}
	}()
	return panics.Catch(func() error {
		if d.since.IsZero() { // otherwise a cached answer that lives longer would replace the demanded one
			w.recall(ctx, []store.Record{r}, p.started)
		}
		pool := newPool(ctx, &w.config)
		defer pool.close()
		p.start(ctx, pool, d)
		p.wait(ctx, pool)
		p.finish(ctx, func() {})
		j := p.last(ctx)
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
