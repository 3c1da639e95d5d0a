package intel

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
)

// Rescored is how far [Worker.Rescore] came.
type Rescored struct {
	Seen     int // records that were looked at
	Changed  int // records whose decision is another now
	Verdicts int // those of them whose verdict is another now
	Busy     int // records left alone because a worker has them
	Failed   int // records that could not be decided on or saved; the log says why
	// Next is where to go on: the cursor of the first page that was not
	// finished, and empty if it is the very first one or all were.
	Next string
}

// Rescore decides again on every record of the store, as after a change of
// policy, and asks no provider. It decides as a pass would now, with this
// worker's policy, providers, their profiles and MaxStale, and saves the decisions that are
// others than those stored. Nothing else changes: neither findings nor
// revisions nor when an attacker is due. Hooks.Saved is called; no event is
// published, for nothing was learnt.
//
// A decision is another one if its policy, its verdict, its conflict or its
// reasons differ. Scores, weights and ages alone, which time changes, do not
// count: what is stored stays what they were when it was decided.
//
// The first call passes an empty cursor. When ctx ends or the store fails,
// Rescore returns the error, and another call goes on from Next. It may run
// beside any number of workers. A record that one of them has, also this one,
// is left alone and counted as busy; so is an attacker forgotten meanwhile. One
// that is seen again while Rescore runs may be missed. To be sure of all, call
// it until nothing is changed or busy.
//
// An attacker whose address has changed is left to its next pass, which is due.
//
// It returns an error at once if the store is no [store.Lister] or the worker
// has no providers, since only findings of its providers count, and at the end
// if any record failed.
func (w *Worker) Rescore(ctx context.Context, cursor string) (Rescored, error) {
	done := Rescored{Next: cursor}
	lister, ok := store.As[store.Lister](w.config.Store)
	switch {
	case !ok:
		return done, errors.New("intel: rescore: the store cannot list its records; it has to be a store.Lister")
	case len(w.names) == 0:
		return done, errors.New("intel: rescore: the worker has no providers, so no finding would count; configure those whose findings are to")
	}
	for {
		page, err := lister.List(ctx, store.ListRequest{Limit: maxSave, Cursor: done.Next, Enriched: true})
		if err != nil {
			return done, fmt.Errorf("intel: rescore: list records: %w", err)
		}
		if err := w.rescore(ctx, page.Records, &done); err != nil {
			return done, fmt.Errorf("intel: rescore: %w", err)
		}
		if done.Next = page.Next; done.Next == "" {
			break
		}
	}
	if done.Failed > 0 {
		return done, fmt.Errorf("intel: rescore: %d of %d records failed; the log says which and why", done.Failed, done.Seen)
	}
	return done, nil
}

// rescore decides again on one page of records. It counts them in done unless
// it returns an error.
func (w *Worker) rescore(ctx context.Context, records []store.Record, done *Rescored) error {
	now, page := time.Now().UTC(), *done
	page.Seen += len(records)
	var others []uuid.UUID
	for i := range records {
		switch _, another, err := w.redecide(&records[i], now); {
		case err != nil:
			page.Failed++
		case another:
			others = append(others, records[i].ID)
		}
	}
	if len(others) == 0 {
		*done = page
		return nil
	}
	c, err := w.config.Store.Claim(ctx, store.ClaimRequest{
		Now: now, Owner: w.config.Owner, Lease: w.config.Lease, Limit: len(others), Providers: w.remote, Only: others,
	})
	if err != nil {
		return fmt.Errorf("claim records: %w", err)
	}
	page.Busy += len(others) - len(c.Records)
	updates := make([]store.Update, len(c.Records))
	for i := range c.Records {
		r := &c.Records[i]
		// Every lease is ended by a save, since a release would make the attacker
		// due. Sightings get the effect back that the claim ended; to no time,
		// since nothing was asked that could have had no budget.
		updates[i] = store.Update{
			Lease: store.Lease{ID: r.ID, Fence: r.Fence},
			IP:    r.IP, Entries: r.Entries, Revision: r.Revision,
			KeepDue: true, Ahead: w.config.sightingsFrom(&ledger{record: *r, retires: w.config.retires(r, now)}, w.remote, time.Time{}),
		}
		decision, another, err := w.redecide(r, now)
		if err != nil {
			page.Failed++
		}
		if another {
			updates[i].Decision = &decision
		}
	}
	if err := w.saveRescored(context.WithoutCancel(ctx), c.Records, updates, &page); err != nil {
		return fmt.Errorf("save records: %w", err)
	}
	*done = page
	return nil
}

// redecide returns the decision on a record, and whether it is another than the
// record's.
func (w *Worker) redecide(r *store.Record, now time.Time) (d aggregate.Decision, another bool, err error) {
	own := *r
	own.Entries = slices.Clone(r.Entries)
	l := openLedger(own, len(w.names))
	l.retires = w.config.retires(r, now)
	if len(l.changed) > 0 {
		return d, false, nil
	}
	err = panics.Catch(func() error {
		d = w.decide(l, now)
		return nil
	})
	if p, ok := errors.AsType[*panics.Error](err); ok {
		w.log.Error("panic while deciding on an attacker", "attacker", r.ID, "error", p, "stack", string(p.Stack))
	}
	return d, err == nil && !alike(&r.Decision, &d), err
}

// alike reports whether two decisions differ in nothing but what time changes.
func alike(a, b *aggregate.Decision) bool {
	return a.Verdict == b.Verdict && a.Policy == b.Policy && a.Conflict == b.Conflict &&
		slices.EqualFunc(a.Reasons, b.Reasons, func(x, y aggregate.Reason) bool {
			same := x.ObservedAt.Equal(y.ObservedAt)
			x.ObservedAt, x.Weight, x.Age = y.ObservedAt, y.Weight, y.Age
			return same && x == y
		})
}

// saveRescored saves updates of claimed records and counts what became of them.
func (w *Worker) saveRescored(ctx context.Context, claimed []store.Record, updates []store.Update, page *Rescored) error {
	failed, err := saveAll(ctx, w.config.Store, updates)
	if err != nil {
		return err // the leases expire; the attackers are then due when they were
	}
	for id, err := range failed {
		if errors.Is(err, store.ErrConflict) {
			page.Busy++
			continue
		}
		page.Failed++
		w.log.Error("cannot save a new decision", "attacker", id, "error", err)
	}
	for i := range updates {
		d := updates[i].Decision
		if d == nil || failed[updates[i].ID] != nil {
			continue
		}
		r := claimed[i]
		changed := r.Decision.Verdict != d.Verdict
		page.Changed++
		if changed {
			page.Verdicts++
		}
		if w.config.Hooks.Saved != nil {
			r.Decision = *d
			now := time.Now()
			l := ledger{record: r, retires: w.config.retires(&r, now)}
			w.config.Hooks.Saved(SavedInfo{Record: r, Pending: l.pending(w.remote, now), Changed: changed})
		}
	}
	return nil
}
