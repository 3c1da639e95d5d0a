package intel

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/gate"
)

const (
	// maxAnnounced is how many events may wait for the bus before further ones
	// are left to the outbox.
	maxAnnounced = 1024
	// maxStall is how long a bus that hangs can hold up the saving, once.
	maxStall = 100 * time.Millisecond
	// ackDelay is how long an event that was published may stay in the outbox.
	ackDelay = 100 * time.Millisecond
	// maxAcks is the number of published events removed from the outbox in one
	// call, and of events read from it.
	maxAcks = 256
	// sweepInterval is the time between two looks at the outbox for events
	// whose worker did not publish them. What is younger is left to its worker.
	sweepInterval = 10 * time.Second
	// turnLasting is how long a worker that publishes from the outbox has to
	// itself before it says that it is still at it.
	turnLasting = 15 * time.Second
	// turnRetry is the time between two looks whether another worker is done.
	turnRetry = time.Second

	publishTimeout  = 10 * time.Second
	publishRetryMin = 500 * time.Millisecond
	publishRetryMax = 30 * time.Second
)

// publisher announces what was saved, in order. Events pass from the writer
// directly to the bus. If that fails, or the bus is too slow, they are found
// again in the outbox; without an outbox they are lost. Of all workers one at a
// time publishes what is in the outbox, so that after an outage each event is
// published once and in order.
type publisher struct {
	w        *Worker
	events   chan *bus.Event
	overflow chan struct{} // cap 1: an event had no place in events
	direct   atomic.Bool   // events are taken from the channel, not from the outbox

	name      string // of this publisher, for its turn at the outbox
	deadlines *gate.Deadlines
	acks      []string // IDs of events to be removed from the outbox
	failures  int      // of the bus in a row; while not zero, only the outbox is read
	lost      int      // events that were neither published nor kept
}

func newPublisher(w *Worker) *publisher {
	p := &publisher{w: w, name: uuid.NewString(), events: make(chan *bus.Event, maxAnnounced), overflow: make(chan struct{}, 1)}
	p.direct.Store(true)
	return p
}

// announce hands over an event that was saved. It waits for a bus that works
// and is only slower than the store, but not for one that hangs.
func (p *publisher) announce(ev *bus.Event) {
	select {
	case p.events <- ev:
		return
	default:
	}
	if p.direct.Load() {
		timer := time.NewTimer(maxStall)
		defer timer.Stop()
		select {
		case p.events <- ev:
			return
		case <-timer.C:
			p.direct.Store(false)
		}
	}
	select {
	case p.overflow <- struct{}{}:
	default:
	}
}

// close ends run once everything that was announced is published or left to
// the outbox.
func (p *publisher) close() { close(p.events) }

// run publishes until close is called; once ctx is done it gives up on what is
// left.
func (p *publisher) run(ctx context.Context) {
	p.deadlines = gate.NewDeadlines(ctx, publishTimeout)
	ack := time.NewTimer(ackDelay)
	ack.Stop()
	sweep := time.NewTimer(0)
	if p.w.outbox == nil { // there is nothing to sweep
		sweep.Stop()
	}
	retry := time.NewTimer(0)
	retry.Stop()
	defer ack.Stop()
	defer sweep.Stop()
	defer retry.Stop()
	first := true
	for {
		select {
		case ev, open := <-p.events:
			if !open {
				_ = p.acknowledge(ctx)
				return
			}
			if p.failures > 0 { // it is in the outbox, behind older ones
				p.drop(1)
				continue
			}
			if p.send(ev) != nil {
				p.failed()
				p.drop(1)
				retry.Reset(backoff(publishRetryMin, publishRetryMax, p.failures))
				continue
			}
			if p.acks = append(p.acks, ev.ID); len(p.acks) == 1 {
				ack.Reset(ackDelay)
			} else if len(p.acks) >= maxAcks {
				_ = p.acknowledge(ctx)
			}
		case <-ack.C:
			_ = p.acknowledge(ctx)
		case <-p.overflow:
			p.drop(1)
			if p.failures == 0 {
				p.failed()
				retry.Reset(0)
			}
		case <-p.w.busBack: // what waits for it need not wait out its delay
			if p.failures > 0 {
				retry.Reset(0)
			}
		case <-retry.C:
			switch err := p.drain(ctx, time.Now()); err {
			case nil:
				p.recover()
			case errTaken: // what is new has to go behind what the other one publishes
				retry.Reset(turnRetry)
			default:
				p.failed()
				retry.Reset(backoff(publishRetryMin, publishRetryMax, p.failures))
			}
		case <-sweep.C:
			sweep.Reset(sweepInterval)
			p.expire(ctx)
			if p.failures > 0 {
				continue
			}
			_ = p.acknowledge(ctx)
			before := time.Now()
			if !first { // what the predecessor of this process left behind is not waited for
				before = before.Add(-sweepInterval)
			}
			first = false
			if err := p.drain(ctx, before); err != nil && err != errTaken {
				p.failed()
				retry.Reset(backoff(publishRetryMin, publishRetryMax, p.failures))
			}
		}
	}
}

// failed leaves events to the outbox until recover.
func (p *publisher) failed() {
	p.failures++
	p.direct.Store(false)
}

// recover returns to direct publishing.
func (p *publisher) recover() {
	p.failures = 0
	p.direct.Store(true)
	if p.lost > 0 {
		p.w.log.Warn("the bus works again; events were lost because the store has no outbox", "lost", p.lost)
		p.lost = 0
	}
}

// drop counts events that are lost, which they are not if there is an outbox.
func (p *publisher) drop(n int) {
	if p.w.outbox == nil {
		p.lost += n
		p.w.counts.unpublished.Add(uint64(n))
	}
}

// errTaken says that another worker publishes what is in the outbox.
var errTaken = errors.New("it is another worker's turn to publish")

// drain publishes everything in the outbox from before the given time. It
// returns errTaken if another worker is at it, and another error, which is
// logged already, if the bus or the store failed.
func (p *publisher) drain(ctx context.Context, before time.Time) error {
	if p.w.outbox == nil {
		return nil
	}
	// Most often there is nothing, and no turn is needed to see that.
	if events, err := p.unpublished(ctx, before, 1); err != nil || len(events) == 0 {
		return err
	}
	if err := p.turn(ctx); err != nil {
		return err
	}
	defer p.yield(ctx)
	for held := time.Now(); ; {
		events, err := p.unpublished(ctx, before, maxAcks)
		if err != nil {
			return err
		}
		for i := range events {
			if time.Since(held) > turnLasting/2 {
				err = p.turn(ctx)
				held = time.Now()
			}
			if err == nil {
				err = p.send(&events[i])
			}
			if err != nil {
				_ = p.acknowledge(ctx)
				return err
			}
			p.acks = append(p.acks, events[i].ID)
		}
		if err := p.acknowledge(ctx); err != nil || len(events) < maxAcks {
			return err
		}
	}
}

// turn takes or prolongs the turn to publish what is in the outbox.
func (p *publisher) turn(ctx context.Context) error {
	mine, err := p.w.outbox.Turn(ctx, p.name, turnLasting)
	switch {
	case err != nil:
		p.w.log.Warn("cannot find out whose turn it is to publish; trying again", "error", err)
	case !mine:
		err = errTaken
	}
	return err
}

// yield ends the turn. If that fails it ends by itself.
func (p *publisher) yield(ctx context.Context) {
	if _, err := p.w.outbox.Turn(ctx, p.name, 0); err != nil && ctx.Err() == nil {
		p.w.log.Warn("cannot end the turn to publish; it ends by itself", "error", err)
	}
}

func (p *publisher) unpublished(ctx context.Context, before time.Time, limit int) ([]bus.Event, error) {
	events, err := p.w.outbox.Unpublished(ctx, before, limit)
	if err != nil {
		p.w.log.Warn("cannot read the outbox; trying again", "error", err)
	}
	return events, err
}

// acknowledge removes what was published from the outbox.
func (p *publisher) acknowledge(ctx context.Context) (err error) {
	if len(p.acks) > 0 && p.w.outbox != nil {
		if err = p.w.outbox.Published(ctx, p.acks...); err != nil {
			p.w.log.Warn("cannot clear the outbox; events will be published again", "events", len(p.acks), "error", err)
		}
	}
	p.acks = p.acks[:0]
	return err
}

// expire drops what has been in the outbox for too long.
func (p *publisher) expire(ctx context.Context) {
	n, err := p.w.outbox.Expire(ctx, time.Now().Add(-p.w.config.OutboxMaxAge))
	switch {
	case err != nil:
		p.w.log.Warn("cannot expire old events", "error", err)
	case n > 0:
		p.w.counts.unpublished.Add(uint64(n))
		p.w.log.Error("dropped events that could not be published for too long", "events", n, "age", p.w.config.OutboxMaxAge)
	}
}

// send makes one attempt to publish an event, in bounded time.
func (p *publisher) send(ev *bus.Event) error {
	return p.w.send(p.deadlines.Next(time.Now()), ev)
}

// send makes one attempt to publish an event about an attacker. An event that
// the bus will never take counts as sent.
func (w *Worker) send(ctx context.Context, ev *bus.Event) error {
	err := safely(func() error { return w.config.Bus.Publish(ctx, *ev) })
	if w.config.Hooks.Published != nil {
		w.config.Hooks.Published(PublishedInfo{ID: ev.ID, Err: err})
	}
	switch {
	case err == nil:
		w.counts.published.Add(1)
		if w.busDown.Swap(false) {
			w.log.Info("the bus works again")
		}
	case errors.Is(err, bus.ErrInvalid):
		w.counts.unpublished.Add(1)
		w.log.Error("the bus refuses an event; dropping it", "topic", ev.Topic, "event", ev.ID, "error", err)
		return nil
	case !w.busDown.Swap(true):
		w.log.Warn("cannot publish; enrichment goes on and events follow later", "topic", ev.Topic, "error", err)
	}
	return err
}

// publish announces one saved event and removes it from the outbox. If that
// fails it stays there for the worker that runs.
func (w *Worker) publish(ctx context.Context, ev *bus.Event) {
	timed, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if w.send(timed, ev) != nil || w.outbox == nil {
		return
	}
	if err := w.outbox.Published(context.WithoutCancel(ctx), ev.ID); err != nil {
		w.log.Warn("cannot clear the outbox; an event will be published again", "error", err)
	}
}
