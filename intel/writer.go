package intel

import (
	"context"
	"errors"
	"sync"
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
	// saving them cheaper and delays nobody. Without one they are saved at once.
	linger = 20 * time.Millisecond
)

// job is one thing for the store to do: save an update, or only release its
// lease.
type job struct {
	update  store.Update
	saved   *SavedInfo // nil if nobody wants to know
	after   string     // ID of the attacker's event that was in the outbox when it was claimed, or ""
	release bool
}

// writer saves updates. While one call of the store runs, the next updates
// gather and are saved together.
type writer struct {
	w       *Worker
	jobs    chan *job
	claimed atomic.Int64          // attackers claimed whose last update is not here yet
	open    atomic.Int64          // attackers claimed and not yet saved or released
	due     chan time.Time        // cap 1: when the first of the attackers saved lately is due again
	idle    chan struct{}         // cap 1: nothing that was claimed is left to do
	setback atomic.Pointer[error] // of the last save, if it failed as a whole
}

func newWriter(w *Worker) *writer {
	return &writer{w: w, jobs: make(chan *job, maxSave), due: make(chan time.Time, 1), idle: make(chan struct{}, 1)}
}

func (wr *writer) put(j *job) { wr.jobs <- j }

func (wr *writer) release(l store.Lease) { wr.put(&job{update: store.Update{Lease: l}, release: true}) }

// close ends run once everything that was put is done.
func (wr *writer) close() { close(wr.jobs) }

// failing returns the error of the last save if the store failed as a whole.
func (wr *writer) failing() error {
	if err := wr.setback.Load(); err != nil {
		return *err
	}
	return nil
}

// backlog reports whether more attackers are claimed than are worked on at once.
func (wr *writer) backlog() bool { return wr.claimed.Load() > int64(wr.w.config.Concurrency) }

// run does the jobs. Once ctx is done it gives up on those that are left.
func (wr *writer) run(ctx context.Context) {
	var saves, releases []*job
	for first := range wr.jobs {
		saves, releases = saves[:0], releases[:0]
		done := 0 // attackers
		var full <-chan time.Time
		if wr.backlog() {
			full = time.After(linger)
		}
		for j, more := first, true; more; {
			if j.release {
				releases = append(releases, j)
			} else {
				saves = append(saves, j)
			}
			if !j.update.Hold {
				wr.claimed.Add(-1)
				done++
			}
			if len(saves)+len(releases) == maxSave {
				break
			}
			select {
			case j, more = <-wr.jobs:
				continue
			default:
			}
			if more = full != nil && wr.backlog(); more {
				select {
				case j, more = <-wr.jobs:
				case <-full:
					more = false
				}
			}
		}
		if len(saves) > 0 {
			err := wr.w.save(ctx, saves)
			if err == nil {
				wr.setback.Store(nil)
			} else {
				wr.setback.Store(&err)
			}
		}
		wr.w.giveBack(ctx, releases)
		wr.remind(saves, releases)
		clear(saves)
		if wr.open.Add(-int64(done)) == 0 {
			select {
			case wr.idle <- struct{}{}:
			default:
			}
		}
	}
}

// remind tells the loop when the first of these attackers is due again.
func (wr *writer) remind(lists ...[]*job) {
	var first time.Time
	sooner := func(t time.Time) {
		if first.IsZero() || !t.IsZero() && t.Before(first) {
			first = t
		}
	}
	for _, jobs := range lists {
		for i := range jobs {
			if !jobs[i].update.Hold {
				sooner(jobs[i].update.Due)
			}
		}
	}
	select {
	case earlier := <-wr.due: // not received yet
		sooner(earlier)
	default:
	}
	if !first.IsZero() {
		wr.due <- first // this goroutine is the only sender
	}
}

// save stores updates and announces those that were stored. An update that
// cannot be stored is put off, a little longer at each failure. It returns an
// error if the store seems to be unable to save anything.
func (w *Worker) save(ctx context.Context, jobs []*job) error {
	updates := make([]store.Update, len(jobs))
	for i := range jobs {
		updates[i] = jobs[i].update
	}
	failed, whole := unsaved(w.config.Store.Save(ctx, updates...))
	if whole != nil && len(jobs) > 1 {
		failed, whole = w.saveSingly(ctx, updates, whole)
	} else if whole != nil {
		failed = map[uuid.UUID]error{updates[0].ID: whole}
	}
	var putOff []*job
	dues := make(map[int]time.Time) // by failures in a row, for few to be released at a time of their own
	for i := range jobs {
		id := jobs[i].update.ID
		err, bad := failed[id]
		switch {
		case !bad:
			w.trouble.over(id)
			w.counts.save(jobs[i])
			w.waits(jobs[i].update.Entries)
			if saved := jobs[i].saved; saved != nil {
				w.config.Hooks.Saved(*saved)
			}
			if ev := jobs[i].update.Event; ev != nil {
				w.events.Announce(ev, jobs[i].after)
			}
		case errors.Is(err, store.ErrConflict):
			w.counts.conflicts.Add(1)
			w.log.Warn("lost the lease on an attacker before its record was saved; whoever has it goes on", "attacker", id)
		default:
			w.counts.unsaved.Add(1)
			failures := w.trouble.count(id)
			due, ok := dues[failures]
			if !ok {
				due = time.Now().Add(backoff.Delay(w.config.RetryMin, w.config.RetryMax, failures)).UTC()
				dues[failures] = due
			}
			if ctx.Err() == nil {
				w.log.Error("cannot save a record; trying again", "attacker", id, "error", err, "in", time.Until(due))
			}
			jobs[i].update.Due, jobs[i].update.Hold = due, false
			putOff = append(putOff, jobs[i])
		}
	}
	w.giveBack(ctx, putOff)
	return whole
}

// unsaved takes apart an error of the store's Save: the updates that were not
// stored, by attacker, and an error if none was.
func unsaved(err error) (failed map[uuid.UUID]error, whole error) {
	if e, ok := errors.AsType[*store.SaveError](err); ok {
		return e.Failed, nil
	}
	return nil, err
}

// saveSingly finds out whether one update spoils the others or the store is
// down: it saves them one by one and stops at the third failure if nothing
// could be saved by then.
func (w *Worker) saveSingly(ctx context.Context, updates []store.Update, whole error) (map[uuid.UUID]error, error) {
	all := make(map[uuid.UUID]error)
	saved := 0
	for _, u := range updates {
		if saved == 0 && len(all) >= 3 {
			all[u.ID] = whole
			continue
		}
		failed, err := unsaved(w.config.Store.Save(ctx, u))
		if err == nil && failed == nil {
			saved++
			continue
		}
		if all[u.ID] = failed[u.ID]; err != nil {
			all[u.ID] = err
		}
	}
	if saved > 0 {
		whole = nil
	}
	return all, whole
}

// giveBack releases the leases of updates; their attackers are then due when the
// updates say, or at once. If that fails the leases expire by themselves.
func (w *Worker) giveBack(ctx context.Context, jobs []*job) {
	now, leases := time.Now(), make(map[time.Time][]store.Lease)
	for _, j := range jobs {
		due := j.update.Due
		if due.IsZero() {
			due = now
		}
		leases[due] = append(leases[due], j.update.Lease)
	}
	for due, leases := range leases {
		if err := w.config.Store.Release(ctx, due, leases...); err != nil {
			w.log.Warn("cannot release leases; they will expire", "leases", len(jobs), "error", err)
			return
		}
	}
}

// trouble remembers the attackers whose records cannot be saved. The zero value
// is ready to use.
type trouble struct {
	mu       sync.Mutex
	failures map[uuid.UUID]int
}

// maxTrouble bounds how many attackers are remembered.
const maxTrouble = 10_000

// count counts a failure and returns how many in a row there were.
func (t *trouble) count(id uuid.UUID) int {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.failures == nil || len(t.failures) >= maxTrouble {
		t.failures = make(map[uuid.UUID]int)
	}
	t.failures[id]++
	return t.failures[id]
}

// over forgets an attacker whose record was saved.
func (t *trouble) over(id uuid.UUID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.failures) > 0 {
		delete(t.failures, id)
	}
}
