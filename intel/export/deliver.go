package export

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
)

const (
	// maxInFlight is the number of deliveries to one receiver at once.
	maxInFlight = 8
	// deliverBatch is how many events are delivered before those delivered are
	// removed from the outbox, and window how many are looked at to find them.
	deliverBatch = 64
	window       = 1024
	// pollInterval is the time between two looks at an empty outbox.
	pollInterval = 5 * time.Second
	// turnLasting is how long a worker has the outbox to itself before it has to
	// extend its turn. A batch takes no longer than half of it.
	turnLasting = 4 * time.Minute
	// turnRetry is the time between two attempts to get a turn that another has.
	turnRetry = 5 * time.Second

	retryMin = time.Second
	retryMax = 5 * time.Minute
	// maxRefusals is how often an event is refused before it is dropped.
	maxRefusals = 5
	// expireInterval is the time between two looks for events that are too old.
	expireInterval = time.Hour
	// finishTimeout limits the last calls of the outbox.
	finishTimeout = 2 * time.Second
)

// attempt is what is remembered of an event that could not be delivered.
type attempt struct {
	n     int       // failures
	first time.Time // the first of them
	next  time.Time // when it may be tried again
}

// delivery is the state of a run of a webhook. Only its goroutine uses it, but for
// what deliver returns.
type delivery struct {
	*Webhook
	name     string // owner of the turn
	holding  bool   // it has the turn, or it may have it: Turn failed
	attempts map[string]*attempt
	failures int       // of the receiver or the outbox, in a row
	until    time.Time // no attempt before that
	success  time.Time // when an event was last delivered
	expired  time.Time
}

func (w *Webhook) newDelivery() *delivery {
	return &delivery{Webhook: w, name: uuid.NewString(), attempts: make(map[string]*attempt)}
}

// Run delivers events until ctx is done, and then returns nil. What is not delivered
// by then stays in the outbox.
func (w *Webhook) Run(ctx context.Context) error {
	d := w.newDelivery()
	defer d.finish(ctx)
	for ctx.Err() == nil {
		wait := d.round(ctx)
		if wait <= 0 {
			continue
		}
		wake := w.wake
		if time.Now().Before(d.until) { // a wake does not end the pause of a receiver that is down
			wake = nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-wake:
		case <-timer.C:
		}
		timer.Stop()
	}
	return nil
}

// Drain delivers what is in the outbox and returns when it is empty. It returns an
// error if the receiver or the outbox fails, or if another worker delivers.
func (w *Webhook) Drain(ctx context.Context) error {
	d := w.newDelivery()
	defer d.finish(ctx)
	for {
		wait := d.round(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case wait <= 0:
			continue
		}
		left, err := w.options.Outbox.Unpublished(ctx, 0, 1)
		switch {
		case err != nil:
			return err
		case len(left) == 0:
			return nil
		}
		return errors.New("export: not all events could be delivered to the webhook at " + w.host + "; they stay in the outbox")
	}
}

// finish gives up the turn.
func (d *delivery) finish(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishTimeout)
	defer cancel()
	d.yield(ctx)
	d.client.CloseIdleConnections()
}

func (d *delivery) yield(ctx context.Context) {
	if !d.holding {
		return
	}
	if _, err := d.options.Outbox.Turn(ctx, d.name, 0); err != nil {
		if ctx.Err() == nil { // otherwise finish tries again
			d.log.Warn("cannot end the turn to deliver; it ends by itself", "error", err)
		}
		return
	}
	d.holding = false
}

// round delivers one batch and returns how long to wait before the next one.
func (d *delivery) round(ctx context.Context) (wait time.Duration) {
	if wait := time.Until(d.until); wait > 0 {
		return wait
	}
	d.expire(ctx)
	if !d.holding { // most often there is nothing, and no turn is needed to see that
		events, err := d.options.Outbox.Unpublished(ctx, 0, 1)
		if err != nil {
			return d.outboxFails(ctx, err)
		}
		if len(events) == 0 {
			return pollInterval
		}
	}
	d.holding = true
	mine, err := d.options.Outbox.Turn(ctx, d.name, turnLasting)
	if err != nil {
		return d.outboxFails(ctx, err)
	}
	if d.holding = mine; !mine {
		return turnRetry
	}
	events, err := d.options.Outbox.Unpublished(ctx, 0, window)
	if err != nil {
		return d.outboxFails(ctx, err)
	}
	if len(events) == 0 {
		clear(d.attempts)
		d.yield(ctx)
		return pollInterval
	}
	queues, next := d.ready(events)
	if len(queues) == 0 {
		return max(time.Until(next), 10*time.Millisecond)
	}
	return d.settle(ctx, d.deliver(ctx, queues))
}

// outboxFails takes note of a failure of the store.
func (d *delivery) outboxFails(ctx context.Context, err error) time.Duration {
	if ctx.Err() == nil {
		d.log.Warn("cannot read the outbox of a webhook; trying again", "error", err)
	}
	d.failures++
	return backoff.Delay(retryMin, retryMax, d.failures)
}

// ready returns at most a batch of the events that may be delivered now, by attacker and
// in order. The least failed come first. If there are none, next is when the first one
// may be delivered.
func (d *delivery) ready(events []bus.Event) (queues [][]bus.Event, next time.Time) {
	byAttacker := make(map[string]int)
	for _, ev := range events {
		attacker := attackerOf(&ev)
		i, ok := byAttacker[attacker]
		if !ok {
			i = len(queues)
			byAttacker[attacker] = i
			queues = append(queues, nil)
		}
		queues[i] = append(queues[i], ev)
	}
	now := time.Now()
	queues = slices.DeleteFunc(queues, func(q []bus.Event) bool {
		a := d.attempts[q[0].ID]
		if a == nil || !now.Before(a.next) {
			return false
		}
		if next.IsZero() || a.next.Before(next) {
			next = a.next
		}
		return true
	})
	slices.SortStableFunc(queues, func(a, b []bus.Event) int { return cmp.Compare(d.failuresOf(a[0].ID), d.failuresOf(b[0].ID)) })
	if d.failures > 0 && len(queues) > 0 { // one event shows whether the receiver works again
		return [][]bus.Event{queues[0][:1]}, next
	}
	room := deliverBatch
	for i := range queues {
		if room == 0 {
			return queues[:i], next
		}
		queues[i] = queues[i][:min(room, len(queues[i]))]
		room -= len(queues[i])
	}
	return queues, next
}

func (d *delivery) failuresOf(id string) int {
	if a := d.attempts[id]; a != nil {
		return a.n
	}
	return 0
}

// attackerOf returns the attacker that an event is about, or the event's ID.
func attackerOf(ev *bus.Event) string {
	var payload struct {
		UUID string `json:"attacker_uuid"`
	}
	if json.Unmarshal(ev.Payload, &payload) != nil || payload.UUID == "" {
		return ev.ID
	}
	return payload.UUID
}

// outcome is what became of an event.
type outcome struct {
	event *bus.Event
	result
}

// deliver posts queues of events, each in order and up to its first failure. It
// stops when the receiver fails, or when it takes too long.
func (d *delivery) deliver(ctx context.Context, queues [][]bus.Event) (outcomes []outcome) {
	var (
		mu      sync.Mutex
		stopped bool
		running sync.WaitGroup
	)
	latest := time.Now().Add(turnLasting / 2)
	slots := make(chan struct{}, maxInFlight)
	for _, q := range queues {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			for i := range q {
				mu.Lock()
				stop := stopped
				mu.Unlock()
				if stop || ctx.Err() != nil || time.Now().After(latest) {
					return
				}
				res := d.post(ctx, &q[i])
				if res.err != nil && ctx.Err() != nil {
					return // interrupted work leaves no trace
				}
				mu.Lock()
				outcomes = append(outcomes, outcome{&q[i], res})
				stopped = stopped || res.err != nil && !res.refused
				mu.Unlock()
				if res.err != nil {
					return
				}
			}
		})
	}
	running.Wait()
	return outcomes
}

// settle takes note of what was delivered and what was not, and returns how long to
// wait before the next batch.
func (d *delivery) settle(ctx context.Context, outcomes []outcome) time.Duration {
	var done []string
	var failure error
	var after time.Duration
	now := time.Now()
	for _, o := range outcomes {
		if o.err == nil {
			done, d.success = append(done, o.event.ID), now
			delete(d.attempts, o.event.ID)
			d.delivered.Add(1)
			continue
		}
		d.failed.Add(1)
		a := d.attempts[o.event.ID]
		if a == nil {
			a = &attempt{first: now}
			d.attempts[o.event.ID] = a
		}
		a.n++
		a.next = now.Add(backoff.Delay(retryMin, retryMax, a.n))
		switch {
		case o.refused && a.n >= maxRefusals && d.success.After(a.first):
			d.log.Error("dropping an event that the receiver of a webhook refuses", "event", o.event.ID, "error", o.err)
			done = append(done, o.event.ID)
			delete(d.attempts, o.event.ID)
			d.dropped.Add(1)
		case o.refused:
			d.log.Warn("the receiver of a webhook refuses an event; trying again later", "event", o.event.ID, "error", o.err)
		default:
			failure, after = o.err, max(after, o.after)
		}
	}
	if len(done) > 0 {
		if err := d.options.Outbox.Published(context.WithoutCancel(ctx), done...); err != nil {
			d.log.Warn("cannot clear the outbox of a webhook; events will be delivered again", "events", len(done), "error", err)
			return d.outboxFails(ctx, err)
		}
	}
	switch {
	case failure != nil:
		if d.failures == 0 {
			d.log.Warn("cannot deliver to a webhook; events wait", "error", failure)
		}
		d.failures++
		pause := max(backoff.Delay(retryMin, retryMax, d.failures), after)
		d.until = now.Add(pause)
		return pause
	case len(outcomes) > 0 && d.failures > 0:
		d.log.Info("the webhook works again")
		d.failures = 0
	}
	return 0
}

// expire drops what has been in the outbox for too long, if it is time to look.
func (d *delivery) expire(ctx context.Context) {
	if time.Since(d.expired) < min(expireInterval, d.options.MaxAge/10) {
		return
	}
	d.expired = time.Now()
	n, err := d.options.Outbox.Expire(ctx, d.options.MaxAge)
	switch {
	case err != nil && ctx.Err() == nil:
		d.log.Warn("cannot expire old events of a webhook", "error", err)
	case n > 0:
		d.dropped.Add(uint64(n))
		d.log.Error("dropped events that could not be delivered to a webhook for too long", "events", n, "age", d.options.MaxAge)
	}
}
