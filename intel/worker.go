package intel

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/internal/announce"
	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/intel/internal/quota"
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
	gates   []*lane  // in order of provider name
	names   []string // of the providers, in the same order
	retry   retrySchedule
	answers store.Answers // nil if the store is none
	wake    chan struct{}
	running atomic.Bool
	counts  counts
	rate    rate
	trouble trouble
	events  *announce.Announcer

	profiles map[string]provider.Profile // of the providers, by name; constant
	policy   string                      // identifies the policy and the profiles; constant
}

// NewWorker returns a worker for c. It does no I/O. It returns one error that
// names everything that is wrong with c.
func NewWorker(c Config) (*Worker, error) {
	c = c.withDefaults()
	providers, err := c.validate()
	if err != nil {
		return nil, err
	}
	c.Hooks = c.Hooks.guarded(c.Logger)
	w := &Worker{
		config: c,
		log:    c.Logger.With("worker", c.Owner),
		retry:  retrySchedule{c.RetryMin, c.RetryMax},
		wake:   make(chan struct{}, 1),
	}
	w.profiles = c.profiles(providers)
	w.policy = aggregate.Fingerprint(c.Policy, w.profiles)
	var ledger quota.Ledger // nil if the store is none
	if l, ok := store.As[store.QuotaLedger](c.Store); ok {
		ledger = l
	}
	for _, id := range providers {
		w.gates = append(w.gates, &lane{Gate: gate.New(id, gate.Config{
			Guard:       c.Guard,
			TTL:         c.ttl,
			Jitter:      c.Jitter,
			MaxWait:     c.MaxWait,
			Timeout:     c.LookupTimeout,
			MaxInFlight: c.Concurrency,
			Ledger:      ledger,
			Opened:      w.Wake,
			Trouble:     func(err error) { w.ledgerTrouble(id.Name, err) },
		})})
	}
	slices.SortFunc(w.gates, func(a, b *lane) int { return strings.Compare(a.Name(), b.Name()) })
	for _, g := range w.gates {
		w.names = append(w.names, g.Name())
	}
	w.answers, _ = store.As[store.Answers](c.Store)
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

// Wake makes a running worker look at the store now. It never blocks, and
// several calls may cause only one look, which starts after the last of them.
func (w *Worker) Wake() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// Run enriches attackers as they become due until ctx is done or the control
// topic says stop. It then lets running lookups finish for the grace period,
// saves what they found, releases its leases and returns nil. What was cut off
// leaves no trace and is done by the next worker.
//
// A store or a bus that is down is tried again for as long as ctx lives. Run
// returns an error only if the worker is running already.
func (w *Worker) Run(ctx context.Context) error { return w.run(ctx, false) }

// Drain is Run until nothing more is due: it does not listen for events, does
// not wait for what becomes due later, and returns the error of a store that
// fails.
func (w *Worker) Drain(ctx context.Context) error { return w.run(ctx, true) }

func (w *Worker) run(parent context.Context, once bool) error {
	if !w.running.CompareAndSwap(false, true) {
		return errors.New("intel: the worker is running already")
	}
	defer w.running.Store(false)
	for _, g := range w.gates {
		g.granted.Store(0) // what an earlier run was granted and did not come to
	}

	// ctx ends the claiming, work the lookups, and flush the saving.
	ctx, stop := context.WithCancel(parent)
	defer stop()
	work, cutOff := context.WithCancel(context.WithoutCancel(parent))
	defer cutOff()
	flush, giveUp := context.WithCancel(context.WithoutCancel(parent))
	defer giveUp()
	finished := make(chan struct{})
	var background sync.WaitGroup
	background.Go(func() {
		<-ctx.Done()
		for _, end := range []struct {
			after time.Duration
			of    context.CancelFunc
		}{{w.config.ShutdownGrace, cutOff}, {flushGrace, giveUp}} {
			select {
			case <-time.After(end.after):
				end.of()
			case <-finished:
				return
			}
		}
	})
	if w.config.Bus != nil && !once {
		background.Go(func() { w.listen(ctx, stop) })
		background.Go(func() { w.heartbeat(ctx) })
	}
	for _, g := range w.gates {
		if g.Refreshes() {
			background.Go(func() { w.refresh(ctx, g) })
		}
	}
	w.events.Start(flush, once)
	wr := newWriter(w)
	var writing sync.WaitGroup
	writing.Go(func() { wr.run(flush) })

	queue := make(chan store.Record, 2*w.config.Batch) // for them to last while a claim waits for a save
	var dispatching sync.WaitGroup
	dispatching.Go(func() { w.dispatch(work, ctx, queue, wr) })

	err := w.loop(ctx, queue, wr, once)

	close(queue)
	dispatching.Wait()
	wr.close()
	writing.Wait()
	w.events.Stop()
	stop() // only now: what is left to do is in no hurry unless ctx is done
	close(finished)
	background.Wait()
	return err
}

// flushGrace is how long, after the lookups' grace, a store may take to save
// what they found.
const flushGrace = 5 * time.Second

// dispatch works on the records in queue, Concurrency of them at once, until
// queue is closed and all of them are done. Once ctx is done, records are
// given back instead.
func (w *Worker) dispatch(work, ctx context.Context, queue <-chan store.Record, wr *writer) {
	var passes errgroup.Group
	var stragglers sync.WaitGroup
	s := w.newShift(work)
	defer s.crew.dismiss()
	for range w.config.Concurrency {
		passes.Go(func() error {
			for r := range queue {
				if ctx.Err() != nil {
					wr.release(store.Lease{ID: r.ID, Fence: r.Fence})
					continue
				}
				w.pass(work, s, r, wr, &stragglers)
			}
			return nil
		})
	}
	passes.Wait() // the passes return no error
	stragglers.Wait()
}

// loop claims what is due and queues it, then sleeps until there is reason to
// look again. With once, it returns when nothing more is due.
func (w *Worker) loop(ctx context.Context, queue chan<- store.Record, wr *writer, once bool) error {
	tick := time.NewTimer(w.config.PollInterval)
	defer tick.Stop()
	var planned time.Time // when it looks again
	plan := func(after time.Duration) {
		if planned = time.Now().Add(after); after > 0 {
			tick.Reset(after)
		} else { // not by the timer: golang/go#78156
			w.Wake()
		}
	}
	plan(0)
	var asked time.Time // when it was last assumed that attackers wait for every provider
	failures := 0
	for {
		// Receive first, then query: a wake during the claiming stays in the
		// channel and causes another round.
		wake := w.wake
		if failures > 0 {
			wake = nil
		}
		select {
		case <-ctx.Done():
			return nil
		case <-wake:
		case <-tick.C:
		case due := <-wr.due:
			if failures == 0 && due.Before(planned) {
				plan(time.Until(due))
			}
			continue
		}
		if now := time.Now(); now.Sub(asked) >= w.config.PollInterval { // other workers let them wait, too
			asked = now
			for _, g := range w.gates {
				g.backlog.Store(true)
			}
		}
		claimed, next, err := w.claim(ctx, queue, wr)
		sleep := w.config.PollInterval
		switch now := time.Now(); {
		case ctx.Err() != nil:
			return nil
		case err == nil && once && (claimed == 0 || next.IsZero() || next.After(now)):
			if !w.settle(ctx, wr) {
				return nil
			}
			sleep = 0
		case err != nil && once:
			return err
		case err != nil:
			failures++
			sleep = backoff.Delay(storeRetryMin, storeRetryMax, failures)
			w.log.Error("the store fails; trying again", "error", err, "in", sleep)
		case once:
			sleep = 0
		default:
			failures = 0
			for _, at := range []time.Time{next, w.nextGrant(ctx, now)} {
				if !at.IsZero() {
					sleep = min(sleep, at.Sub(now))
				}
			}
			if claimed == 0 { // due, but not to be had: do not spin
				sleep = max(sleep, min(time.Second, w.config.PollInterval))
			}
		}
		plan(sleep)
	}
}

// settle waits until what was claimed is saved, and reports whether there are
// attackers then that wait for a provider and can be asked about.
func (w *Worker) settle(ctx context.Context, wr *writer) bool {
	for wr.open.Load() > 0 {
		select {
		case <-wr.idle:
		case <-ctx.Done():
			return false
		}
	}
	return len(w.grants(ctx, time.Now())) > 0
}

// The delays after a store has failed.
const (
	storeRetryMin = 500 * time.Millisecond
	storeRetryMax = 30 * time.Second
)

// claim queues all attackers that are due and returns how many those were and
// when the next one will be. While saves fail it claims one batch, as a probe,
// and returns their error.
func (w *Worker) claim(ctx context.Context, queue chan<- store.Record, wr *writer) (claimed int, next time.Time, err error) {
	if len(w.gates) == 0 {
		return 0, time.Time{}, nil
	}
	defer func() {
		if w.config.Hooks.Pass != nil {
			w.config.Hooks.Pass(PassInfo{Claimed: claimed, NextDue: next, Err: err})
		}
	}()
	w.counts.passes.Add(1)
	w.rate.begin(time.Now(), w.counts.done())
	for {
		now := time.Now()
		grants := w.grants(ctx, now)
		c, err := w.config.Store.Claim(ctx, store.ClaimRequest{
			Now: now, Owner: w.config.Owner, Lease: w.config.Lease, Limit: w.config.Batch,
			Grants: grants, Providers: w.names,
		})
		if err != nil {
			return claimed, time.Time{}, fmt.Errorf("claim: %w", err)
		}
		w.rate.measure(now, w.counts.done())
		more := w.count(grants, &c)
		claimed += len(c.Records)
		wr.claimed.Add(int64(len(c.Records)))
		wr.open.Add(int64(len(c.Records)))
		w.recall(ctx, c.Records, now)
		for i, r := range c.Records {
			select {
			case queue <- r:
			case <-ctx.Done():
				for _, r := range c.Records[i:] {
					wr.release(store.Lease{ID: r.ID, Fence: r.Fence})
				}
				return claimed, time.Time{}, ctx.Err()
			}
		}
		if len(c.Records) == 0 || !more && (c.NextDue.IsZero() || c.NextDue.After(now)) {
			return claimed, c.NextDue, nil
		}
		if err := wr.failing(); err != nil {
			return claimed, time.Time{}, err
		}
	}
}

// recall puts at hand what the store knows about the records' addresses on
// behalf of other attackers.
func (w *Worker) recall(ctx context.Context, records []store.Record, now time.Time) {
	if w.answers == nil || len(records) == 0 || len(w.gates) == 0 {
		return
	}
	addrs := make([]netip.Addr, 0, len(records))
	for i := range records {
		if addr := records[i].Addr(); addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	answers, err := w.answers.Answers(ctx, now, addrs...)
	if err != nil {
		if ctx.Err() == nil {
			w.log.Warn("cannot look for answers at hand; asking anew", "error", err)
		}
		return
	}
	for _, a := range answers {
		if g := w.lane(a.Finding.Provider); g != nil {
			g.Learn(a.Finding, a.Expires)
		}
	}
}

// ledgerTrouble logs the first of a row of failures of the quota ledger.
func (w *Worker) ledgerTrouble(name string, err error) {
	if w.lane(name).ledgerFails.Swap(true) {
		return
	}
	w.log.Error("cannot keep the provider's budget in the store; without it no call is made", "provider", name, "error", err)
}

func (w *Worker) lane(name string) *lane {
	for _, g := range w.gates {
		if g.Name() == name {
			return g
		}
	}
	return nil
}

// refresh keeps a provider's bulk data loaded.
func (w *Worker) refresh(ctx context.Context, g *lane) {
	name := g.Name()
	ticker := time.NewTicker(min(w.config.PollInterval, time.Minute))
	defer ticker.Stop()
	failing := false
	for {
		err := g.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			w.log.Error("cannot refresh bulk data; going on with what there is", "provider", name, "error", err)
		case err == nil && failing:
			w.log.Info("bulk data refreshed again", "provider", name)
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}
