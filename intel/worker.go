package intel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/internal/announce"
	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Worker enriches the attackers of one store. Make one with [NewWorker]. Its
// methods are safe for concurrent use; any number of workers, in one process
// or many, may share a store.
type Worker struct {
	config  Config
	log     *slog.Logger
	sources sources  // in order of provider name
	names   []string // of the providers, in the same order
	remote  []string // of those that are not local
	// configured are the names in the order of Config.Providers, as events have them.
	configured []string
	batch      int // attackers claimed at once
	queue      int // attackers claimed that no goroutine works on yet, at most
	retry      retrySchedule
	answers    store.Answers // nil if the store has none
	pruner     store.Pruner  // nil if the store has none
	wake       signal
	owed       owed
	running    atomic.Bool
	counts     counts
	invalid    invalid
	rate       rate
	events     *announce.Announcer
	// relisting is how many attackers are left to be decided on after a change in a
	// list. Only the goroutine of followLists changes it.
	relisting atomic.Int64

	profiles map[string]provider.Profile // of the providers, by name; constant
	policy   string                      // identifies the policy and the profiles; constant
}

// ErrStopped is returned by [Worker.Run] after a stop by an event on
// [TopicControl].
var ErrStopped = errors.New("intel: the worker was stopped by an event on " + TopicControl)

// NewWorker returns a worker for c. It does no I/O. It returns one error that
// names everything that is wrong with c.
func NewWorker(c Config) (*Worker, error) {
	c = c.withDefaults()
	providers, err := c.validate()
	if err != nil {
		return nil, err
	}
	c.Patience = c.patience()
	c.Hooks = c.Hooks.guarded(c.Logger)
	w := &Worker{
		config: c,
		log:    c.Logger.With("worker", c.Owner),
		retry:  retrySchedule{c.RetryMin, c.RetryMax},
		wake:   make(signal, 1),
	}
	w.batch, w.queue = c.load()
	w.profiles = c.profiles(providers)
	w.policy = aggregate.Fingerprint(c.Policy, w.profiles)
	ledger, _ := store.As[store.QuotaLedger](c.Store)
	for _, id := range providers {
		w.configured = append(w.configured, id.Name)
		s := &source{log: w.log}
		s.Gate = gate.New(id, gate.Config{
			Guard:       c.Guard,
			TTL:         c.ttl,
			Jitter:      c.Jitter,
			MaxWait:     c.MaxWait,
			Timeout:     c.LookupTimeout,
			MaxInFlight: c.Concurrency,
			Ledger:      ledger,
			Opened:      w.wake.send,
			Trouble:     s.ledgerFailed,
		})
		w.sources = append(w.sources, s)
	}
	slices.SortFunc(w.sources, func(a, b *source) int { return strings.Compare(a.Name(), b.Name()) })
	for _, s := range w.sources {
		w.names = append(w.names, s.Name())
		if !s.Local() {
			w.remote = append(w.remote, s.Name())
		}
	}
	w.answers, _ = store.As[store.Answers](c.Store)
	w.pruner, _ = store.As[store.Pruner](c.Store)
	w.events = announce.New(w.announcements())
	return w, nil
}

// announcements returns how the worker's events are published.
func (w *Worker) announcements() announce.Config {
	c := announce.Config{Bus: w.config.Bus, MaxAge: w.config.OutboxMaxAge, Log: w.log}
	c.Outbox, _ = store.As[store.Outbox](w.config.Store)
	if published := w.config.Hooks.Published; published != nil {
		c.Attempted = func(id string, err error) { published(PublishedInfo{ID: id, Err: err}) }
	}
	return c
}

// Wake makes a running worker look at the store now. It never blocks. Several
// calls may cause only one look, which starts after the last of them.
func (w *Worker) Wake() { w.wake.send() }

// Run enriches attackers as they become due until ctx is done or an event on
// the control topic stops it. Before its first claim it waits until bulk data is
// loaded, for half a minute at most. When it ends, it lets running lookups finish for
// the grace period, saves what they found and releases its leases. Interrupted lookups
// leave no trace; the next worker makes them.
//
// Run returns nil if ctx ended it, [ErrStopped] if the control topic did, and
// another error only if the worker is running already. A store or a bus that is
// down is tried again for as long as ctx lives.
func (w *Worker) Run(ctx context.Context) error {
	r, err := w.start(ctx, false)
	if err != nil {
		return err
	}
	defer r.finish()
	r.load()
	r.background.Go(func() { w.followLists(r.claiming, r.changed) })
	r.lookAfter(0)
	for {
		wake := w.wake
		if r.failures > 0 {
			wake = nil // only the timer makes it try a failing store again
		}
		select {
		case <-r.claiming.Done():
			return r.reason()
		// Receive first, then claim: a wake during the claims stays in the channel
		// and causes another round.
		case <-wake:
		case <-r.timer.C:
		case report := <-r.writer.reports:
			r.hear(report)
			r.reportExhausted()
			if r.failures == 0 && !report.due.IsZero() && report.due.Before(r.nextLook) {
				r.lookAfter(time.Until(report.due))
			}
			continue
		}
		claimed, next, err := r.claimAll()
		if r.claiming.Err() != nil {
			return r.reason()
		}
		r.reportExhausted()
		r.lookAfter(r.pause(claimed, next, err))
	}
}

// Drain is Run until nothing more is due: it does not listen for events, does
// not wait for what becomes due later, and returns the error of a store that
// fails.
func (w *Worker) Drain(ctx context.Context) error {
	r, err := w.start(ctx, true)
	if err != nil {
		return err
	}
	defer r.finish()
	r.load()
	w.follow(r.claiming)
	for {
		claimed, next, err := r.claimAll()
		switch now := time.Now(); {
		case r.claiming.Err() != nil:
			return nil
		case err != nil:
			return err
		case claimed > 0 && !next.IsZero() && !next.After(now): // more are due already
		case !r.settle() || len(w.sources.offer(r.claiming, now, w.batch, w.config.Spending.Fair).grants) == 0:
			r.reportExhausted()
			if w.config.KeepRaw == 0 || r.claiming.Err() != nil {
				return nil
			}
			return w.prune(r.claiming)
		}
	}
}

// run is one call of Run or Drain, and all state that lives as long as it. The
// loop, which is the goroutine of the call itself, claims attackers and queues
// them. Concurrency goroutines work on them, the writer saves what they learn,
// and the announcer publishes it.
type run struct {
	w *Worker

	// Each context is named after what its end cancels. At the end of the run they
	// end in this order.
	claiming context.Context // claims, and what runs in the background
	lookups  context.Context // lookups, ShutdownGrace later
	saving   context.Context // saves and publishing, flushGrace later

	stop       context.CancelCauseFunc // ends claiming
	finished   chan struct{}           // closed when lookups and saves are done
	queue      chan store.Record       // claimed attackers; the loop sends and closes
	workers    errgroup.Group          // the goroutines that work on the queue
	stragglers sync.WaitGroup          // the passes that wait for slow providers
	pool       *pool                   // makes the lookups
	writer     *writer
	saves      sync.WaitGroup // the goroutine of the writer
	background sync.WaitGroup // everything else

	changed signal // one of them has changed

	// Only the loop uses the fields below.
	loading  []chan struct{} // each closed when a provider has tried to load its bulk data
	timer    *time.Timer
	nextLook time.Time // when the timer makes it look at the store
	assumed  time.Time // when it last assumed that attackers wait for each provider
	failures int       // rounds in a row that ended in an error of the store
	open     int       // attackers claimed and not yet saved or released
	saveErr  error     // of the last save, if nothing could be saved
}

// flushGrace is how long, after ShutdownGrace, the store may take to save what
// lookups have found.
const flushGrace = 5 * time.Second

// errControl is the cause of claiming's end if the control topic ends it.
var errControl = errors.New("stopped by the control topic")

// start begins a run, which must be finished. Claims are up to the caller.
func (w *Worker) start(ctx context.Context, drain bool) (*run, error) {
	if !w.running.CompareAndSwap(false, true) {
		return nil, errors.New("intel: the worker is running already")
	}
	r := &run{w: w, finished: make(chan struct{}), timer: time.NewTimer(w.config.PollInterval)}
	var cutOff, giveUp context.CancelFunc
	r.claiming, r.stop = context.WithCancelCause(ctx)
	r.lookups, cutOff = context.WithCancel(context.WithoutCancel(ctx))
	r.saving, giveUp = context.WithCancel(context.WithoutCancel(ctx))
	r.background.Go(func() {
		defer giveUp()
		defer cutOff()
		<-r.claiming.Done()
		if r.grace(w.config.ShutdownGrace) {
			cutOff()
			r.grace(flushGrace)
		}
	})
	r.changed = make(signal, 1)
	for _, s := range w.sources {
		s.reset()
		if s.Refreshes() {
			first := make(chan struct{})
			r.loading = append(r.loading, first)
			r.background.Go(func() { s.keepLoaded(r.claiming, w.config.PollInterval, first, r.changed) })
		}
	}
	if w.config.Bus != nil && !drain {
		r.background.Go(func() { w.listen(r.claiming, func() { r.stop(errControl) }) })
		r.background.Go(func() { w.heartbeat(r.claiming) })
	}

	if !drain {
		r.background.Go(func() { w.watchLists(r.claiming) })
	}
	if w.pruner != nil && !drain {
		r.background.Go(func() { w.pruneDaily(r.claiming) })
	}

	w.events.Start(r.saving, drain)
	r.writer = newWriter(w)
	r.saves.Go(func() { r.writer.run(r.saving) })
	r.pool = newPool(r.lookups, &w.config)
	r.queue = make(chan store.Record, w.queue) // lasts while a claim waits for a save
	for range w.config.Concurrency {
		r.workers.Go(func() error {
			r.work()
			return nil // one attacker's failure must not end the others
		})
	}
	return r, nil
}

// grace waits, and reports whether the run was not finished in that time.
func (r *run) grace(d time.Duration) bool {
	select {
	case <-time.After(d):
		return true
	case <-r.finished:
		return false
	}
}

// finish ends the parts of a run one after the other, each once it has done what
// the one before has left to it.
func (r *run) finish() {
	r.timer.Stop()
	close(r.queue)
	_ = r.workers.Wait() // none returns an error
	r.stragglers.Wait()
	r.pool.close()
	r.writer.close()
	r.saves.Wait()
	r.w.events.Stop()
	close(r.finished)
	r.stop(nil) // only now: without an end of ctx the rest is in no hurry
	r.background.Wait()
	r.w.running.Store(false)
}

// reason returns what Run returns.
func (r *run) reason() error {
	if context.Cause(r.claiming) == errControl {
		return ErrStopped
	}
	return nil
}

// work works on queued attackers, one after the other, until the queue is
// closed. Once claiming has ended it gives them back instead.
func (r *run) work() {
	for record := range r.queue {
		if r.claiming.Err() != nil {
			r.writer.release(store.Lease{ID: record.ID, Fence: record.Fence})
			continue
		}
		r.pass(record)
	}
}

// lookAfter makes the loop look at the store after a pause. No pause is not left
// to the timer: a timer that has expired before anybody waits for it is run by
// whoever does, and the race detector crashes where two do so at once in a
// bubble of synctest (golang/go#78156).
func (r *run) lookAfter(pause time.Duration) {
	if r.nextLook = time.Now().Add(pause); pause > 0 {
		r.timer.Reset(pause)
	} else {
		r.w.wake.send()
	}
}

// The delays after the store has failed.
const (
	storeRetryMin = 500 * time.Millisecond
	storeRetryMax = 30 * time.Second // or PollInterval, if that is shorter
)

// pause returns how long the loop waits after a round that claimed a number of
// attackers, after which the next is due at a time, zero for never.
func (r *run) pause(claimed int, next time.Time, err error) time.Duration {
	if err != nil {
		r.failures++
		pause := backoff.Delay(storeRetryMin, max(min(storeRetryMax, r.w.config.PollInterval), storeRetryMin), r.failures)
		r.w.log.Error("the store fails; trying again", "error", err, "in", pause)
		return pause
	}
	r.failures = 0
	now, pause := time.Now(), r.w.config.PollInterval
	for _, at := range []time.Time{next, r.w.sources.nextGrant(r.claiming, now)} {
		if !at.IsZero() {
			pause = min(pause, at.Sub(now))
		}
	}
	if claimed == 0 { // what is due cannot be had: do not spin
		pause = max(pause, min(time.Second, r.w.config.PollInterval))
	}
	return pause
}

// hear takes note of what the writer has done.
func (r *run) hear(report report) {
	r.open -= report.done
	r.saveErr = report.err
}

// settle waits until all claimed attackers are saved or released. It returns
// false if claiming ends meanwhile.
func (r *run) settle() bool {
	for r.open > 0 {
		select {
		case report := <-r.writer.reports:
			r.hear(report)
		case <-r.claiming.Done():
			return false
		}
	}
	return true
}

// claimAll queues all attackers that are due. It returns how many those were, and
// when the next one is due; zero if none is. While saves fail it claims one
// batch, as a probe, and returns their error.
func (r *run) claimAll() (claimed int, next time.Time, err error) {
	w := r.w
	if len(w.sources) == 0 {
		return 0, time.Time{}, nil
	}
	if now := time.Now(); now.Sub(r.assumed) >= w.config.PollInterval { // other workers let attackers wait, too
		r.assumed = now
		for _, s := range w.sources {
			s.mayWait()
		}
	}
	if w.config.Hooks.Pass != nil {
		defer func() { w.config.Hooks.Pass(PassInfo{Claimed: claimed, NextDue: next, Err: err}) }()
	}
	w.counts.passes.Add(1)
	w.rate.begin(time.Now(), w.counts.done())
	for {
		n, next, more, err := r.claim()
		if claimed += n; err != nil || !more {
			return claimed, next, err
		}
		select {
		case report := <-r.writer.reports:
			r.hear(report)
		default:
		}
		if r.saveErr != nil {
			return claimed, time.Time{}, r.saveErr
		}
	}
}

// claim queues one batch of attackers that are due. It returns how many those
// were, when the next one is due, and whether more may be due now.
func (r *run) claim() (claimed int, next time.Time, more bool, err error) {
	r.w.releaseOwed(r.claiming)
	w, now := r.w, time.Now()
	batch, fair := w.batch, w.config.Spending.Fair
	offer := w.sources.offer(r.claiming, now, batch, fair)
	c, err := w.config.Store.Claim(r.claiming, store.ClaimRequest{
		Now: now, Owner: w.config.Owner, Lease: w.config.Lease, Limit: batch,
		Grants: offer.grants, Providers: w.remote, Horizon: w.config.horizon(),
	})
	if w.config.Hooks.Claim != nil {
		w.config.Hooks.Claim(ClaimInfo{Claimed: len(c.Records), Took: time.Since(now), Err: err})
	}
	if err != nil {
		return 0, time.Time{}, false, fmt.Errorf("claim: %w", err)
	}
	w.rate.measure(now, w.counts.done())
	claimed = len(c.Records)
	more = w.sources.taken(offer, c.Records, batch, fair)
	more = claimed > 0 && (more || !c.NextDue.IsZero() && !c.NextDue.After(now))
	r.open += claimed
	r.writer.claimed.Add(int64(claimed))
	w.recall(r.claiming, c.Records, now)
	for i, record := range c.Records {
		select {
		case r.queue <- record:
		case <-r.claiming.Done():
			for _, left := range c.Records[i:] {
				r.writer.release(store.Lease{ID: left.ID, Fence: left.Fence})
			}
			return claimed, time.Time{}, false, r.claiming.Err()
		}
	}
	return claimed, c.NextDue, more, nil
}
