package intel

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

const (
	// maxSave is the greatest number of updates saved in one call.
	maxSave = 256
	// linger is how long updates gather while there is a backlog, which makes
	// saving them cheaper and delays no attacker. Without a backlog they are saved
	// at once.
	linger = 20 * time.Millisecond
	// releaseTimeout bounds the release of leases after a save that failed. Leases
	// that are not released expire by themselves.
	releaseTimeout = 5 * time.Second
)

// job is one thing for the writer to do.
type job struct {
	kind   jobKind
	update store.Update
	saved  *SavedInfo // for Hooks.Saved; nil without that hook
	line   []any      // for the log at Debug; nil if it is not wanted
	after  string     // ID of the attacker's event that was in the outbox when it was claimed, or ""
}

// ends reports whether the job is the last one about its attacker.
func (j *job) ends() bool { return j.kind != save || !j.update.Hold }

type jobKind uint8

const (
	save     jobKind = iota // save the update
	release                 // only end the lease; the attacker is due again at once
	panicked                // only end the lease; the attacker is due again after a delay
)

// report is what the writer tells the loop.
type report struct {
	done int       // attackers whose last job was done
	due  time.Time // when the first of them is due again; zero if none is
	err  error     // of the last save, if nothing could be saved
}

// writer saves updates and has them announced. While one call of the store runs,
// the next updates gather and are saved together.
type writer struct {
	w    *Worker
	jobs chan *job
	// reports has capacity 1. The writer is the only sender; it merges a report
	// that was not received yet into the next one.
	reports chan report
	// claimed counts the attackers claimed so far. Only the loop changes it.
	claimed atomic.Int64

	// Only the goroutine of run uses the fields below.
	done     int64          // attackers whose last job has come
	updates  []store.Update // of one call of the store
	failures int            // calls in a row that saved nothing
	err      error          // of the last of them; nil once a call has saved something
	// unsaved is the number of failures in a row of single attackers, of at most
	// maxUnsaved.
	unsaved map[uuid.UUID]int
}

const maxUnsaved = 10_000

func newWriter(w *Worker) *writer {
	return &writer{
		w: w, jobs: make(chan *job, maxSave), reports: make(chan report, 1),
		unsaved: make(map[uuid.UUID]int),
	}
}

// put hands over a job. It waits while the writer is behind.
func (wr *writer) put(j *job) { wr.jobs <- j }

// release ends a lease; the attacker is due again at once.
func (wr *writer) release(l store.Lease) { wr.put(&job{kind: release, update: store.Update{Lease: l}}) }

// close ends run once all jobs are done.
func (wr *writer) close() { close(wr.jobs) }

// run does the jobs. Once ctx is done it gives up on those that are left.
func (wr *writer) run(ctx context.Context) {
	var jobs []*job
	for first := range wr.jobs {
		before := wr.done
		jobs = wr.gather(jobs[:0], first)
		due := wr.do(ctx, jobs)
		clear(jobs)
		wr.report(report{done: int(wr.done - before), due: due, err: wr.err})
	}
}

// gather adds the first job and those that have come since. While there is a
// backlog it waits for more, up to linger.
func (wr *writer) gather(jobs []*job, first *job) []*job {
	var full <-chan time.Time
	if wr.backlog() {
		full = time.After(linger)
	}
	for j, open := first, true; open; {
		if jobs = append(jobs, j); j.ends() {
			wr.done++
		}
		if len(jobs) == maxSave {
			break
		}
		select {
		case j, open = <-wr.jobs:
			continue
		default:
		}
		if open = full != nil && wr.backlog(); open {
			select {
			case j, open = <-wr.jobs:
			case <-full:
				open = false
			}
		}
	}
	return jobs
}

// backlog reports whether more attackers are claimed than are worked on at once.
func (wr *writer) backlog() bool { return wr.claimed.Load()-wr.done > int64(wr.w.config.Concurrency) }

// report tells the loop what was done.
func (wr *writer) report(r report) {
	select {
	case earlier := <-wr.reports:
		r.done += earlier.done
		r.due = earliest(r.due, earlier.due)
	default:
	}
	wr.reports <- r
}

// earliest returns the earlier of two times, of which zero means never.
func earliest(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// do carries out jobs, and returns when the first of their attackers is due
// again. An attacker whose update could not be saved is due after a delay that
// grows with each failure in a row.
func (wr *writer) do(ctx context.Context, jobs []*job) (due time.Time) {
	leases := make(map[int][]store.Lease) // to be released, by the number of failures in a row
	wr.updates = wr.updates[:0]
	for _, j := range jobs {
		switch j.kind {
		case save:
			wr.updates = append(wr.updates, j.update)
		case release:
			leases[0] = append(leases[0], j.update.Lease)
		case panicked:
			n := wr.fails(j.update.ID)
			leases[n] = append(leases[n], j.update.Lease)
		}
	}
	failed := wr.save(ctx)
	for _, j := range jobs {
		if j.kind != save {
			continue
		}
		id := j.update.ID
		switch err := failed[id]; {
		case wr.err != nil:
			wr.w.counts.unsaved.Add(1)
			leases[wr.failures] = append(leases[wr.failures], j.update.Lease)
		case err == nil:
			delete(wr.unsaved, id)
			wr.w.stored(j)
			if j.update.Event != nil {
				wr.w.events.Announce(j.update.Event, j.after)
			}
			if j.ends() {
				due = earliest(due, j.update.Due)
			}
		case errors.Is(err, store.ErrConflict):
			wr.w.counts.conflicts.Add(1)
			wr.w.log.Warn("lost the lease on an attacker before its record was saved; the worker that has it now goes on", "attacker", id)
		default:
			wr.w.counts.unsaved.Add(1)
			if errors.Is(err, store.ErrLocked) {
				wr.w.log.Warn("another client of the database keeps an attacker locked; the record waits and the others are saved", "attacker", id, "error", err)
			} else {
				wr.w.log.Error("cannot save a record; trying again later", "attacker", id, "error", err)
			}
			n := wr.fails(id)
			leases[n] = append(leases[n], j.update.Lease)
		}
	}
	return earliest(due, wr.giveBack(ctx, leases))
}

// save saves the updates together. It returns the failures of single updates,
// and sets wr.err if nothing was saved.
func (wr *writer) save(ctx context.Context) (failed map[uuid.UUID]error) {
	if len(wr.updates) == 0 {
		return nil
	}
	failed, err := saveAll(ctx, wr.w.config.Store, wr.updates)
	clear(wr.updates)
	if wr.err = err; err == nil {
		wr.failures = 0
		return failed
	}
	wr.failures++
	if ctx.Err() == nil {
		wr.w.log.Error("the store saves nothing; trying again later", "updates", len(wr.updates), "error", err)
	}
	return nil
}

// fails counts a failure of an attacker, and returns how many there were in a
// row.
func (wr *writer) fails(id uuid.UUID) int {
	if len(wr.unsaved) >= maxUnsaved {
		clear(wr.unsaved)
	}
	wr.unsaved[id]++
	return wr.unsaved[id]
}

// giveBack releases leases after numbers of failures in a row, and returns when
// the first of the attackers is due again. Leases that cannot be released expire
// by themselves.
func (wr *writer) giveBack(ctx context.Context, leases map[int][]store.Lease) (first time.Time) {
	if len(leases) == 0 {
		return first
	}
	if wr.err != nil {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, releaseTimeout)
		defer cancel()
	}
	for failures, leases := range leases {
		due := time.Now().UTC()
		if failures > 0 {
			due = due.Add(backoff.Delay(wr.w.config.RetryMin, wr.w.config.RetryMax, failures))
		}
		first = earliest(first, due)
		wr.w.release(ctx, due, leases...)
	}
	return first
}

// saveAll calls Save. It returns the failures of single updates, or an error if
// nothing was saved.
func saveAll(ctx context.Context, s store.Store, updates []store.Update) (map[uuid.UUID]error, error) {
	err := s.Save(ctx, updates...)
	if e, ok := errors.AsType[*store.SaveError](err); ok {
		return e.Failed, nil
	}
	return nil, err
}

// stored does what follows an update that was saved, except announcing it.
func (w *Worker) stored(j *job) {
	w.counts.save(j)
	if w.sources.waiting(j.update.Entries) {
		w.wake.send()
	}
	if j.line != nil {
		w.log.Debug("enriched", j.line...)
	}
	if j.saved != nil {
		w.config.Hooks.Saved(*j.saved)
	}
}

// release ends leases, whose attackers are then due at a given time.
func (w *Worker) release(ctx context.Context, due time.Time, leases ...store.Lease) {
	if err := w.config.Store.Release(ctx, due, leases...); err != nil {
		w.log.Warn("cannot release leases; trying again before the next claim", "leases", len(leases), "error", err)
		w.owed.add(leases)
	}
}
