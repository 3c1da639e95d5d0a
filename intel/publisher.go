package intel

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/store"
)

const (
	// maxAnnounced is how many events may wait for the bus before further ones
	// are left to the outbox.
	maxAnnounced = 1024
	// maxStall is how long a bus that hangs can hold up the saving, once.
	maxStall = 100 * time.Millisecond
	// ackDelay is how long an event that was published may stay in the outbox,
	// and ackRetry the time to the next attempt to remove it.
	ackDelay = 100 * time.Millisecond
	ackRetry = time.Second
	// maxAcks is the number of published events removed from the outbox in one
	// call.
	maxAcks = 256

	publishTimeout  = 10 * time.Second
	publishRetryMin = 500 * time.Millisecond
	publishRetryMax = 30 * time.Second
)

// publisher announces what was saved. Events pass from the writer directly to
// the bus. If that fails, or the bus is too slow, the worker is behind: events
// are found again in the outbox, in order, until it has caught up. Without an
// outbox they are lost. At its start, and now and then, it also catches up with
// what others have left.
type publisher struct {
	w       *Worker
	name    string // for its turn at the outbox
	once    bool   // it has to have caught up before it ends
	started time.Time
	events  chan *bus.Event
	lost    atomic.Int64  // events that were neither published nor kept
	closing chan struct{} // closed by close

	deadlines *gate.Deadlines
	now       chan struct{} // cap 1: it is time to catch up
	next      *time.Timer   // the same, later
	catching  bool          // either of them is set, or it is at it
	acks      []string      // IDs of events to be removed from the outbox
	failures  int           // in a row, of the bus or of the store
	holding   bool          // it is its turn to publish what is in the outbox
	since     time.Time     // when it last began to
	last      time.Time     // when the last event was saved that it published then
	expired   time.Time     // when old events were last dropped
}

func newPublisher(w *Worker, once bool) *publisher {
	w.behind.Store(once && w.outbox != nil) // Drain leaves nothing in it, however young
	w.flying.clear()
	return &publisher{
		w: w, name: uuid.NewString(), once: once, started: time.Now(),
		events: make(chan *bus.Event, maxAnnounced), closing: make(chan struct{}),
		now: make(chan struct{}, 1), next: time.NewTimer(time.Hour),
	}
}

// announce hands over an event that was saved. It waits for a bus that works
// and is only slower than the store, but not for one that hangs.
func (p *publisher) announce(ev *bus.Event) {
	p.w.flying.add(ev.ID)
	select {
	case p.events <- ev:
		return
	default:
	}
	if !p.w.behind.Load() {
		timer := time.NewTimer(maxStall)
		defer timer.Stop()
		select {
		case p.events <- ev:
			return
		case <-timer.C:
			p.w.behind.Store(true)
		}
	}
	p.leave(ev)
	p.w.leaveToOutbox() // also if it is at it already: it may be about to end
}

// close ends run once everything that was announced is published or left to
// the outbox.
func (p *publisher) close() {
	close(p.closing)
	close(p.events)
}

// run publishes until close is called; once ctx is done it gives up on what is
// left.
func (p *publisher) run(ctx context.Context) {
	p.deadlines = gate.NewDeadlines(ctx, publishTimeout)
	p.schedule(0)
	ack, sweep := time.NewTimer(ackDelay), time.NewTimer(patience)
	ack.Stop()
	if p.w.outbox == nil { // there is nothing to sweep
		sweep.Stop()
	}
	defer ack.Stop()
	defer p.next.Stop()
	defer sweep.Stop()
	for {
		select {
		case ev, open := <-p.events:
			p.notice()
			switch {
			case !open:
				p.finish(ctx)
				return
			case p.w.behind.Load(): // it is in the outbox, behind older ones
				p.leave(ev)
			case !p.w.flying.has(ev.ID): // it was published from there
			case p.send(ev) != nil:
				p.leave(ev)
				p.schedule(p.fail(ctx))
			default:
				if p.acks = append(p.acks, ev.ID); len(p.acks) == 1 {
					ack.Reset(ackDelay)
				} else if len(p.acks)%maxAcks == 0 && p.acknowledge(ctx) != nil {
					ack.Reset(ackRetry)
				}
			}
		case <-ack.C:
			if p.acknowledge(ctx) != nil {
				ack.Reset(ackRetry)
			}
		case <-p.w.late:
			p.fallBehind()
		case <-p.w.busBack: // what waits for it need not wait out its delay
			if p.failures > 0 {
				p.schedule(0)
			}
		case <-p.now:
			p.goOn(ctx)
		case <-p.next.C:
			p.goOn(ctx)
		case <-sweep.C:
			sweep.Reset(sweepInterval)
			if !p.catching {
				p.schedule(0)
			}
		}
	}
}

// notice falls behind if it was told to.
func (p *publisher) notice() {
	select {
	case <-p.w.late:
		p.fallBehind()
	default:
	}
}

// fallBehind leaves events to the outbox and catches up, if it is not at it
// already.
func (p *publisher) fallBehind() {
	p.w.behind.Store(true)
	if !p.catching {
		p.schedule(0)
	}
}

// schedule makes run catch up after a pause. None is not left to a timer: one that
// has expired before anybody waits for it is run by whoever does, and the race
// detector crashes where two do so at once in a bubble of synctest
// (golang/go#78156).
func (p *publisher) schedule(pause time.Duration) {
	p.catching = true
	p.next.Stop()
	if pause > 0 {
		p.next.Reset(pause)
		return
	}
	select {
	case p.now <- struct{}{}:
	default:
	}
}

// goOn catches up, and again as long as it takes.
func (p *publisher) goOn(ctx context.Context) {
	age := sweepInterval
	switch {
	case p.w.behind.Load():
		age = 0
	case time.Since(p.started) < sweepInterval:
		age = patience
	}
	pause, more := p.catchUp(ctx, age)
	if p.catching = more; more {
		p.schedule(pause)
	}
}

// finish catches up if it has to, with what there is now, and leaves everything as
// others need it.
func (p *publisher) finish(ctx context.Context) {
	began := time.Now()
	for more := p.once && p.w.outbox != nil; more && p.failures < maxFailures && ctx.Err() == nil; {
		age := time.Since(began)
		if !p.w.behind.Load() { // others may have theirs on the way
			age += patience
		}
		var pause time.Duration
		pause, more = p.catchUp(ctx, age)
		if more && !p.holding && time.Since(began) > turnLasting { // another one is alive and at it
			break
		}
		if pause > 0 {
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	_ = p.acknowledge(ctx)
	p.yield(ctx)
	p.w.behind.Store(false) // nobody is left to catch up, so Enrich does not leave it events
}

const (
	// maxFailures is how often in a row the bus may fail before finish gives up.
	maxFailures = 3
	// finishTimeout is how long the last words to the store may take.
	finishTimeout = 2 * time.Second
)

// fail leaves events to the outbox and returns when to try again.
func (p *publisher) fail(ctx context.Context) time.Duration {
	p.w.behind.Store(true)
	p.yield(ctx) // the bus of another worker may work
	p.failures++
	return backoff.Delay(publishRetryMin, publishRetryMax, p.failures)
}

// recover returns to direct publishing.
func (p *publisher) recover() {
	p.failures = 0
	p.w.behind.Store(false)
	if lost := p.lost.Swap(0); lost > 0 {
		p.w.log.Warn("the bus works again; events were lost because the store has no outbox", "lost", lost)
	}
}

// leave leaves an event to the outbox. Without one it is lost.
func (p *publisher) leave(ev *bus.Event) {
	p.w.flying.remove(ev.ID)
	if p.w.outbox == nil {
		p.lost.Add(1)
		p.w.counts.unpublished.Add(1)
	}
}

// acknowledge removes what was published from the outbox.
func (p *publisher) acknowledge(ctx context.Context) error {
	if len(p.acks) > 0 && p.w.outbox != nil {
		if err := p.w.outbox.Published(ctx, p.acks...); err != nil {
			p.w.log.Warn("cannot clear the outbox; trying again", "events", len(p.acks), "error", err)
			return err
		}
	}
	p.w.flying.remove(p.acks...)
	p.acks = p.acks[:0]
	return nil
}

// send makes one attempt to publish an event, in bounded time.
func (p *publisher) send(ev *bus.Event) error {
	return p.w.send(p.deadlines.Next(time.Now()), ev)
}

// inFlight are the IDs of events that were handed to the publisher and are not
// known to be out of the outbox. Those that it leaves to the outbox are none.
type inFlight struct {
	mu  sync.Mutex
	ids map[string]struct{}
}

func (f *inFlight) add(id string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.ids == nil {
		f.ids = make(map[string]struct{}, maxAnnounced)
	}
	f.ids[id] = struct{}{}
}

func (f *inFlight) remove(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		delete(f.ids, id)
	}
}

func (f *inFlight) clear() {
	f.mu.Lock()
	defer f.mu.Unlock()
	clear(f.ids)
}

func (f *inFlight) has(id string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	_, ok := f.ids[id]
	return ok
}

// leaveToOutbox makes a worker that runs publish by way of the outbox until it
// has caught up.
func (w *Worker) leaveToOutbox() {
	select {
	case w.late <- struct{}{}:
	default:
	}
}

// mustQueue reports whether events about the attackers, as they were claimed, are
// left to the outbox because older events about them are there: events about one
// attacker are published in order. Events that the publisher has are ignored
// unless own is set, for an event that would bypass it.
func (w *Worker) mustQueue(records []store.Record, own bool) bool {
	return w.outbox != nil && slices.ContainsFunc(records, func(r store.Record) bool {
		return r.Unpublished != "" && (own || !w.flying.has(r.Unpublished))
	})
}

// send makes one attempt to publish an event about an attacker. An event that
// the bus will never take counts as sent.
func (w *Worker) send(ctx context.Context, ev *bus.Event) error {
	invalid := false
	err := safely(func() error { // the bus may return an error whose methods panic
		err := w.config.Bus.Publish(ctx, *ev)
		invalid = errors.Is(err, bus.ErrInvalid)
		return err
	})
	if w.config.Hooks.Published != nil {
		w.config.Hooks.Published(PublishedInfo{ID: ev.ID, Err: err})
	}
	switch {
	case err == nil:
		w.counts.published.Add(1)
		if w.busDown.Swap(false) {
			w.log.Info("the bus works again")
		}
	case invalid:
		w.counts.unpublished.Add(1)
		w.log.Error("the bus refuses an event; dropping it", "topic", ev.Topic, "event", ev.ID, "error", err)
		return nil
	case !w.busDown.Swap(true):
		w.log.Warn("cannot publish; enrichment goes on and events follow later", "topic", ev.Topic, "error", err)
	}
	return err
}

// publish announces one saved event and removes it from the outbox. If that
// fails, or the worker that runs is behind, it stays there for a worker that runs.
func (w *Worker) publish(ctx context.Context, ev *bus.Event) {
	if w.outbox != nil && w.behind.Load() {
		w.leaveToOutbox()
		return
	}
	timed, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if w.send(timed, ev) != nil || w.outbox == nil {
		return
	}
	if err := w.outbox.Published(context.WithoutCancel(ctx), ev.ID); err != nil {
		w.log.Warn("cannot clear the outbox; an event will be published again", "error", err)
	}
}
