package intel

import (
	"context"
	"errors"
	"time"

	"github.com/decnet/enrich/bus"
)

const (
	// sweepInterval is the time between two looks at the outbox for events whose
	// worker did not publish them. What is younger it may have on its way. A worker
	// that starts is less patient, as the one before it may have just died.
	sweepInterval = 10 * time.Second
	patience      = 2 * time.Second
	// expireInterval is the time between two looks for events that are too old.
	expireInterval = time.Hour

	// What has piled up is published at catchUpRate events a second, in batches,
	// since a subscriber's queue is short and what it cannot hold is lost. The rate
	// doubles with every catchUpDoubling that it takes, so that it gets done however
	// much comes after. What was saved since shortly before is published twice as
	// fast as it was saved, if that is faster: so it would have come in any case.
	catchUpBatch    = 128
	catchUpRate     = 500
	catchUpDoubling = time.Minute
	catchUpLive     = 5 * time.Second

	// turnLasting is how long a worker has the outbox to itself before it has to
	// say that it is still at it, and turnRetry the time between two looks
	// whether another one is done.
	turnLasting = 30 * time.Second
	turnRetry   = time.Second
)

// errTaken says that another worker publishes what is in the outbox.
var errTaken = errors.New("it is another worker's turn to publish")

// catchUp publishes the oldest events in the outbox that have the given age; without
// one all, and then events are published directly again. It returns when to go on,
// and false if nothing is left, or if that cannot be told and is not urgent. Of all workers one at a time does it, so that after
// an outage no event comes once from each of them; what others that are behind save
// meanwhile goes behind it.
func (p *publisher) catchUp(ctx context.Context, age time.Duration) (pause time.Duration, more bool) {
	if p.w.outbox == nil {
		p.recover()
		return 0, false
	}
	all := age <= 0
	if all {
		for range len(p.events) { // they are in the outbox as well
			p.leave(<-p.events)
		}
	}
	p.expire(ctx)
	began := time.Now()
	events, err := p.waiting(ctx, age)
	switch {
	case errors.Is(err, errTaken):
		return turnRetry, true
	case err != nil && !p.w.behind.Load(): // the next sweep looks again
		p.yield(ctx)
		return 0, false
	case err != nil:
		return p.fail(ctx), true
	}
	more = len(events) == catchUpBatch
	for i := range events {
		if !p.once && p.stopping() {
			_ = p.acknowledge(ctx)
			return 0, true
		}
		if time.Since(began) > turnLasting/2 { // it has to be prolonged
			events, more = events[:i], true
			break
		}
		if p.send(&events[i]) != nil {
			_ = p.acknowledge(ctx)
			return p.fail(ctx), true
		}
		p.acks = append(p.acks, events[i].ID)
	}
	if p.acknowledge(ctx) != nil {
		return p.fail(ctx), true
	}
	p.failures = 0
	if !more {
		p.yield(ctx)
		if all {
			p.recover()
		}
		return 0, false
	}
	return max(p.pace(events)-time.Since(began), 0), true
}

// pace returns how long publishing events has to take.
func (p *publisher) pace(events []bus.Event) (takes time.Duration) {
	doublings := min(time.Since(p.since)/catchUpDoubling, 10)
	each := time.Second / catchUpRate >> doublings
	for i := range events {
		at := events[i].Time
		if live := p.since.Add(-catchUpLive); at.After(live) && p.last.After(live) {
			takes += min(each, max(at.Sub(p.last), 0)/2)
		} else {
			takes += each
		}
		p.last = at
	}
	return takes
}

func (p *publisher) stopping() bool {
	select {
	case <-p.closing:
		return true
	default:
		return false
	}
}

// waiting takes or prolongs the turn and returns the oldest events in the outbox
// that have the given age. It returns errTaken if it is another worker's turn; other
// errors are logged.
func (p *publisher) waiting(ctx context.Context, age time.Duration) ([]bus.Event, error) {
	if err := p.acknowledge(ctx); err != nil {
		return nil, err
	}
	if !p.holding { // most often there is nothing, and no turn is needed to see that
		if events, err := p.unpublished(ctx, age, 1); err != nil || len(events) == 0 {
			return nil, err
		}
	}
	mine, err := p.w.outbox.Turn(ctx, p.name, turnLasting)
	switch {
	case err != nil:
		p.w.log.Warn("cannot find out whose turn it is to publish; trying again", "error", err)
		return nil, err
	case !mine:
		p.holding = false
		return nil, errTaken
	case !p.holding:
		p.holding, p.since, p.last = true, time.Now(), time.Time{}
	}
	return p.unpublished(ctx, age, catchUpBatch)
}

func (p *publisher) unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error) {
	events, err := p.w.outbox.Unpublished(ctx, age, limit)
	if err != nil {
		p.w.log.Warn("cannot read the outbox; trying again", "error", err)
	}
	return events, err
}

// yield ends the turn. If that fails it ends by itself.
func (p *publisher) yield(ctx context.Context) {
	if !p.holding {
		return
	}
	p.holding = false
	if _, err := p.w.outbox.Turn(ctx, p.name, 0); err != nil {
		p.w.log.Warn("cannot end the turn to publish; it ends by itself", "error", err)
	}
}

// expire drops what has been in the outbox for too long, if it is time to look.
func (p *publisher) expire(ctx context.Context) {
	if time.Since(p.expired) < min(expireInterval, p.w.config.OutboxMaxAge/10) {
		return
	}
	p.expired = time.Now()
	n, err := p.w.outbox.Expire(ctx, p.w.config.OutboxMaxAge)
	switch {
	case err != nil:
		p.w.log.Warn("cannot expire old events", "error", err)
	case n > 0:
		p.w.counts.unpublished.Add(uint64(n))
		p.w.log.Error("dropped events that could not be published for too long", "events", n, "age", p.w.config.OutboxMaxAge)
	}
}
