package announce

import (
	"context"
	"errors"
	"time"

	"github.com/decnet/enrich/bus"
)

const (
	// sweepInterval is the time between two looks at the outbox for events whose
	// worker did not publish them. What is younger other workers may have on their
	// way. In its first sweepInterval a worker also publishes what is older than
	// youngest, as the worker before it may have just died.
	sweepInterval = 10 * time.Second
	youngest      = 2 * time.Second
	// expireInterval is the time between two looks for events that are too old.
	expireInterval = time.Hour

	// What is in the outbox is published at catchUpRate events a second, in
	// batches, as a subscriber's queue is short and what it cannot hold is lost. The
	// rate doubles with every catchUpDoubling of a turn, so catching up ends however
	// much is saved meanwhile. Events saved up to catchUpLive before the turn, or
	// later, are published twice as fast as they were saved if that is faster:
	// without the delay they would have come as fast.
	catchUpBatch    = 128
	catchUpRate     = 500
	catchUpDoubling = time.Minute
	catchUpLive     = 5 * time.Second

	// turnLasting is how long a worker has the outbox to itself before it has to
	// extend its turn, and turnRetry the time between two attempts to get a turn
	// that another worker has.
	turnLasting = 30 * time.Second
	turnRetry   = time.Second
)

// errTaken says that another worker publishes what is in the outbox.
var errTaken = errors.New("it is another worker's turn to publish")

// goOn looks at the outbox and plans the next look.
func (l *loop) goOn() {
	age := sweepInterval
	switch {
	case !l.direct:
		age = 0
	case time.Since(l.started) < sweepInterval:
		age = youngest
	}
	l.looking = l.look(age)
	switch now := time.Now(); {
	case l.looking:
	case l.Outbox == nil:
		l.lookAt = time.Time{}
	case now.Sub(l.started) < youngest:
		l.lookAt = l.started.Add(youngest)
	default:
		l.lookAt = now.Add(sweepInterval)
	}
}

// look publishes the oldest events in the outbox that have the given age. With
// zero it publishes all, and then events are published directly again. It returns
// true if another look has to follow, at lookAt. It returns false if nothing is
// left, or if it cannot read the outbox and is not catching up.
//
// One worker at a time does this, so that after an outage no event comes once from
// each worker. What other workers save while they catch up goes behind it.
func (l *loop) look(age time.Duration) (more bool) {
	if l.Outbox == nil {
		l.publishDirectly()
		return false
	}
	all := age <= 0
	if all {
		for range len(l.queue) { // the outbox has these, too
			<-l.queue
		}
	}
	l.expire()
	began := time.Now()
	events, err := l.oldest(age)
	switch {
	case errors.Is(err, errTaken):
		l.lookAt = time.Now().Add(turnRetry)
		return true
	case err != nil && l.direct:
		l.yield(l.ctx)
		return false
	case err != nil:
		l.fail()
		return true
	}
	more = len(events) == catchUpBatch
	for i := range events {
		if !l.drain && l.stopping() {
			_ = l.acknowledge(l.ctx) // finish tries again
			l.lookAt = time.Now()
			return true
		}
		if time.Since(began) > turnLasting/2 { // the turn has to be extended
			events, more = events[:i], true
			break
		}
		if l.send(&events[i]) != nil {
			_ = l.acknowledge(l.ctx) // tried again with the next look
			l.fail()
			return true
		}
		l.sent(events[i].ID)
	}
	if l.acknowledge(l.ctx) != nil {
		l.fail()
		return true
	}
	l.failures = 0
	if !more {
		l.yield(l.ctx)
		if all {
			l.publishDirectly()
		}
		return false
	}
	l.lookAt = began.Add(l.pace(events))
	return true
}

// pace returns how long it has to take to publish these events.
func (l *loop) pace(events []bus.Event) (takes time.Duration) {
	doublings := min(time.Since(l.since)/catchUpDoubling, 10)
	each := time.Second / catchUpRate >> doublings
	for i := range events {
		at := events[i].Time
		if live := l.since.Add(-catchUpLive); at.After(live) && l.last.After(live) {
			takes += min(each, max(at.Sub(l.last), 0)/2)
		} else {
			takes += each
		}
		l.last = at
	}
	return takes
}

// oldest takes or extends the turn and returns the oldest events in the outbox that
// have the given age. It returns errTaken if it is another worker's turn; other
// errors are logged.
func (l *loop) oldest(age time.Duration) ([]bus.Event, error) {
	if err := l.acknowledge(l.ctx); err != nil {
		return nil, err
	}
	if !l.holding { // most often there is nothing, and no turn is needed to see that
		if events, err := l.read(age, 1); err != nil || len(events) == 0 {
			return nil, err
		}
	}
	if !l.holding {
		l.holding, l.since, l.last = true, time.Now(), time.Time{}
	}
	mine, err := l.Outbox.Turn(l.ctx, l.name, turnLasting)
	switch {
	case err != nil:
		l.Log.Warn("cannot find out whose turn it is to publish; trying again", "error", err)
		return nil, err
	case !mine:
		l.holding = false
		return nil, errTaken
	}
	return l.read(age, catchUpBatch)
}

func (l *loop) read(age time.Duration, limit int) ([]bus.Event, error) {
	events, err := l.Outbox.Unpublished(l.ctx, age, limit)
	if err != nil {
		l.Log.Warn("cannot read the outbox; trying again", "error", err)
	}
	return events, err
}

// yield ends the turn. If that fails the turn ends by itself.
func (l *loop) yield(ctx context.Context) {
	if !l.holding {
		return
	}
	if _, err := l.Outbox.Turn(ctx, l.name, 0); err != nil {
		l.Log.Warn("cannot end the turn to publish; it ends by itself", "error", err)
		return
	}
	l.holding = false
}

// expire drops what has been in the outbox for too long, if it is time to look.
func (l *loop) expire() {
	if time.Since(l.expired) < min(expireInterval, l.MaxAge/10) {
		return
	}
	l.expired = time.Now()
	n, err := l.Outbox.Expire(l.ctx, l.MaxAge)
	switch {
	case err != nil:
		l.Log.Warn("cannot expire old events", "error", err)
	case n > 0:
		l.unpublished.Add(uint64(n))
		l.Log.Error("dropped events that could not be published for too long", "events", n, "age", l.MaxAge)
	}
}
