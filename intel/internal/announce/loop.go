package announce

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
)

const (
	// ackDelay is how long an event that was published may stay in the outbox,
	// and ackRetry the time to the next attempt to remove it.
	ackDelay = 100 * time.Millisecond
	ackRetry = time.Second
	// maxAcks is the number of published events removed from the outbox in one
	// call.
	maxAcks = 256

	// handover is how long an event is held for the attacker's earlier event, which
	// another worker has. A worker that is well has published and removed it by
	// then.
	handover = 250 * time.Millisecond
	// maxHeld is the number of events that are held, and of events read to find
	// out whether the earlier ones are gone.
	maxHeld = 512

	retryMin = 500 * time.Millisecond
	retryMax = 30 * time.Second

	// maxFailures is how often in a row the bus may fail before a drain gives up.
	maxFailures = 3
	// finishTimeout limits the last calls of the store.
	finishTimeout = 2 * time.Second
)

// loop is the state of the goroutine that publishes. Only that goroutine uses it.
type loop struct {
	*Announcer
	ctx     context.Context
	drain   bool // everything is published before the end
	started time.Time

	direct   bool // events go from the queue to the bus; otherwise they stay in the outbox
	closing  bool // no more events will come
	failures int  // of the bus or the store, in a row
	down     bool // the last attempt to publish failed, and the log says so

	acks   []string  // IDs of published events, to be removed from the outbox
	ackAt  time.Time // when to remove them
	recent recent    // IDs of the events published lately
	held   []message // events whose attacker has an earlier event of another worker
	heldAt time.Time // when to look whether the earlier ones are gone

	lookAt  time.Time // when to look at the outbox
	looking bool      // that look goes on with an earlier one
	name    string    // owner of the turn at the outbox
	holding bool      // it is this worker's turn, or it may be: Turn failed
	since   time.Time // when the turn began
	last    time.Time // when the last event was saved that was published in this turn
	expired time.Time // when old events were last dropped

	timer  *time.Timer
	armed  time.Time // when timer fires
	ready  chan time.Time
	shared context.Context // of the attempts to publish begun at nearly the same time
	end    context.CancelFunc
	fresh  time.Time // until when shared serves for further attempts
}

func newLoop(a *Announcer, ctx context.Context, drain bool) *loop {
	l := &loop{
		Announcer: a, ctx: ctx, drain: drain, started: time.Now(), name: uuid.NewString(),
		timer: time.NewTimer(time.Hour), ready: make(chan time.Time), end: func() {},
	}
	close(l.ready)
	l.armed = l.started.Add(time.Hour)
	if a.Outbox != nil {
		l.lookAt = l.started
	}
	if drain && a.Outbox != nil { // what is in the outbox is published however young it is
		l.fallBehind()
	} else {
		l.publishDirectly()
	}
	return l
}

// run publishes until no more events will come and the queue is empty.
func (l *loop) run() {
	defer l.timer.Stop()
	defer func() { l.end() }()
	for !l.closing || len(l.queue) > 0 {
		next := l.work()
		select {
		case m := <-l.queue:
			l.take(m)
		case why := <-l.wake:
			l.note(why)
		case <-l.until(next):
		}
	}
	l.finish()
}

// work does what is due and returns when something is due next; zero if nothing
// will be.
func (l *loop) work() (next time.Time) {
	now := time.Now()
	if due(l.ackAt, now) {
		_ = l.acknowledge(l.ctx) // a failure is logged and tried again
	}
	if due(l.heldAt, now) {
		l.release()
	}
	if due(l.lookAt, now) {
		l.goOn()
	}
	for _, at := range [...]time.Time{l.ackAt, l.heldAt, l.lookAt} {
		if !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func due(at, now time.Time) bool { return !at.IsZero() && !now.Before(at) }

// until returns a channel that can be received from at the given time; nil if
// it is zero. A time that has come is not left to the timer: an expired timer is
// run by whoever waits for it next, and the race detector crashes where two do so
// at once in a bubble of synctest (golang/go#78156).
func (l *loop) until(at time.Time) <-chan time.Time {
	if at.IsZero() {
		return nil
	}
	wait := time.Until(at)
	if wait <= 0 {
		return l.ready
	}
	if at.Equal(l.armed) { // most often: an event came in between
		return l.timer.C
	}
	l.timer.Reset(wait)
	l.armed = at
	return l.timer.C
}

// note takes in why the goroutine was woken.
func (l *loop) note(why reason) {
	switch {
	case why&left == 0:
	case l.Outbox != nil:
		l.fallBehind()
	default: // that event is lost, and the next one may wait for room again
		l.allow()
	}
	if why&reconnected != 0 && l.failures > 0 {
		l.lookAt = time.Now()
	}
	l.closing = l.closing || why&closing != 0
}

// take handles one event from the queue.
func (l *loop) take(m message) {
	select {
	case why := <-l.wake: // an earlier event about the attacker may have been left to the outbox
		l.note(why)
	default:
	}
	switch {
	case l.recent.has(m.event.ID): // it was published from the outbox
	case !l.direct: // it is in the outbox, behind older ones
		l.abandon()
	case l.Outbox != nil && m.after != "" && !l.recent.has(m.after):
		l.hold(m)
	case l.send(m.event) != nil:
		l.abandon()
		l.fail()
	default:
		l.sent(m.event.ID)
	}
}

// hold keeps an event until the attacker's earlier event, which another worker
// has, is out of the outbox.
func (l *loop) hold(m message) {
	if len(l.held) == maxHeld {
		l.fallBehind()
		return
	}
	if l.held = append(l.held, m); len(l.held) == 1 {
		l.heldAt = time.Now().Add(handover)
	}
}

// release publishes the held events whose earlier ones are out of the outbox. If
// one of those is still there its worker cannot publish it, and this one catches
// up.
func (l *loop) release() {
	held := l.held
	l.held, l.heldAt = nil, time.Time{}
	events, err := l.read(0, maxHeld)
	if err != nil || len(events) == maxHeld { // more may follow, so what is missing may be there
		l.fallBehind()
		return
	}
	waiting := make(map[string]bool, len(events))
	for i := range events {
		waiting[events[i].ID] = true
	}
	for _, m := range held {
		switch {
		case !waiting[m.event.ID]: // another worker has published it
		case waiting[m.after] && !l.recent.has(m.after):
			l.fallBehind()
			return
		case l.send(m.event) != nil:
			l.fail()
			return
		default:
			l.sent(m.event.ID)
		}
	}
}

// send makes one attempt to publish an event, in bounded time.
func (l *loop) send(ev *bus.Event) error {
	const slack = publishTimeout / 100
	if now := time.Now(); !now.Before(l.fresh) { // thousands of attempts a second cost a few timers
		l.end()
		l.shared, l.end = context.WithTimeout(l.ctx, publishTimeout+slack)
		l.fresh = now.Add(slack)
	}
	err := l.attempt(l.shared, ev)
	switch {
	case err != nil && !l.down:
		l.Log.Warn("cannot publish; enrichment goes on and events follow later", "topic", ev.Topic, "error", err)
	case err == nil && l.down:
		l.Log.Info("the bus works again")
	}
	l.down = err != nil
	return err
}

// sent takes note of an event that was published.
func (l *loop) sent(id string) {
	l.recent.add(id)
	l.acks = append(l.acks, id)
	switch n := len(l.acks); {
	case n%maxAcks == 0:
		l.ackAt = time.Now()
	case n == 1:
		l.ackAt = time.Now().Add(ackDelay)
	}
}

// acknowledge removes what was published from the outbox.
func (l *loop) acknowledge(ctx context.Context) error {
	if len(l.acks) > 0 && l.Outbox != nil {
		if err := l.Outbox.Published(ctx, l.acks...); err != nil {
			l.Log.Warn("cannot clear the outbox; trying again", "events", len(l.acks), "error", err)
			l.ackAt = time.Now().Add(ackRetry)
			return err
		}
	}
	l.acks, l.ackAt = l.acks[:0], time.Time{}
	return nil
}

// fallBehind leaves events to the outbox and catches up.
func (l *loop) fallBehind() {
	l.direct = false
	l.held, l.heldAt = nil, time.Time{} // they are in the outbox
	l.forbid()
	if !l.looking {
		l.looking, l.lookAt = true, time.Now()
	}
}

// publishDirectly ends catching up.
func (l *loop) publishDirectly() {
	l.direct = true
	l.failures = 0
	l.allow()
	if lost := l.lost.Swap(0); lost > 0 {
		l.Log.Warn("the bus works again; events were lost because the store has no outbox", "lost", lost)
	}
}

// fail leaves events to the outbox and catches up later.
func (l *loop) fail() {
	l.fallBehind()
	l.yield(l.ctx) // the bus of another worker may work
	l.failures++
	l.lookAt = time.Now().Add(backoff.Delay(retryMin, retryMax, l.failures))
}

// finish catches up with what was saved before, if it has to, and leaves
// everything as other workers need it.
func (l *loop) finish() {
	if l.drain && len(l.held) > 0 {
		l.fallBehind()
	}
	began := time.Now()
	for more := l.drain && l.Outbox != nil; more && l.failures < maxFailures && l.ctx.Err() == nil; {
		age := time.Since(began)
		if l.direct { // what is younger other workers may have on their way
			age += youngest
		}
		more = l.look(age)
		if more && !l.holding && time.Since(began) > turnLasting { // another worker is alive and publishes
			break
		}
		if more && l.ctx.Err() == nil {
			select {
			case <-l.until(l.lookAt):
			case <-l.ctx.Done():
			}
		}
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(l.ctx), finishTimeout)
	defer cancel()
	_ = l.acknowledge(ctx) // a failure is logged; these events are published again
	l.yield(ctx)
}

// recent remembers the IDs of the last events that were published: the last
// maxQueue of them, and up to as many before. It is enough to tell whether an
// event in the queue was published from the outbox, and whether the earlier event
// of an attacker that this worker claimed was its own.
type recent struct{ ids, before map[string]struct{} }

func (r *recent) add(id string) {
	if r.ids == nil || len(r.ids) == maxQueue {
		r.ids, r.before = make(map[string]struct{}, maxQueue), r.ids
	}
	r.ids[id] = struct{}{}
}

func (r *recent) has(id string) bool {
	if _, ok := r.ids[id]; ok {
		return true
	}
	_, ok := r.before[id]
	return ok
}
