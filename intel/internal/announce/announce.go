// Package announce publishes the events that a worker has saved.
//
// One goroutine publishes. It owns all state: whether it publishes directly or
// catches up with the outbox, its turn at the outbox, the events to acknowledge,
// the pace. The worker calls the methods of [Announcer], which put an event into
// the queue of that goroutine or wake it.
//
// An event that was saved goes from the queue to the bus. If the bus fails or is
// too slow, events stay in the outbox and the goroutine catches up: it publishes
// what is in the outbox, in order, until nothing is left. Without an outbox these
// events are lost.
package announce

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
)

const (
	// maxQueue is the number of events that the queue holds. Further ones stay in
	// the outbox.
	maxQueue = 1024
	// maxStall is how long Announce waits for room in the queue of a bus that
	// hangs, once.
	maxStall = 100 * time.Millisecond
	// publishTimeout limits one attempt to publish.
	publishTimeout = 10 * time.Second
)

// Config configures an [Announcer].
type Config struct {
	// Bus takes the events. Nil: nothing is published.
	Bus bus.Bus
	// Outbox has the events that were saved and not yet published. Nil: an event
	// that the bus does not take is lost.
	Outbox store.Outbox
	// MaxAge is the age at which an event in the outbox is dropped. It must be
	// greater than zero.
	MaxAge time.Duration
	// Log receives what an operator should see.
	Log *slog.Logger
	// Attempted is called after each attempt to publish an event; nil: no call.
	// It may be called from several goroutines at once.
	Attempted func(id string, err error)
}

// Announcer publishes the events of one worker. Make one with [New]. Its methods
// are safe for concurrent use, except that calls of Start and Stop alternate.
type Announcer struct {
	Config
	queue    chan message
	wake     chan reason   // cap 1: all reasons since the goroutine last looked
	patience chan struct{} // cap 1: the permission to wait for room in queue
	ended    chan struct{} // closed when the goroutine has ended

	mu      sync.Mutex
	running bool           // guarded by mu: the goroutine takes events
	senders sync.WaitGroup // calls of enqueue under way

	published   atomic.Uint64 // counters for Counts; nothing depends on them
	unpublished atomic.Uint64
	lost        atomic.Uint64 // the unpublished ones that no log line has reported
}

// message is an event on its way to the goroutine.
type message struct {
	event *bus.Event
	// after is the ID of the attacker's latest event that was in the outbox when
	// the attacker was claimed, or "".
	after string
}

// reason is a set of reasons to wake the goroutine.
type reason uint8

const (
	left        reason = 1 << iota // an event was left to the outbox
	reconnected                    // the bus can be reached again
	closing                        // no more events will come
)

// New returns an announcer. It does no I/O.
func New(c Config) *Announcer {
	return &Announcer{
		Config: c, queue: make(chan message, maxQueue), wake: make(chan reason, 1), patience: make(chan struct{}, 1),
	}
}

// Start starts the goroutine that publishes, until Stop is called. Once ctx is
// done it gives up on what is left. With drain it starts by catching up, and Stop
// waits until everything saved before is published. Without a bus Start does
// nothing.
func (a *Announcer) Start(ctx context.Context, drain bool) {
	if a.Bus == nil {
		return
	}
	a.mu.Lock()
	a.running = true
	a.mu.Unlock()
	a.ended = make(chan struct{})
	l := newLoop(a, ctx, drain)
	go func() {
		defer close(a.ended)
		l.run()
	}()
}

// Stop ends the goroutine once every announced event is published or left to the
// outbox, and waits for its end.
func (a *Announcer) Stop() {
	if a.Bus == nil {
		return
	}
	a.mu.Lock()
	a.running = false
	a.mu.Unlock()
	a.senders.Wait()
	a.signal(closing)
	<-a.ended
}

// stopping reports whether Stop was called.
func (a *Announcer) stopping() bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return !a.running
}

// Announce hands over an event that was saved under a claim of its attacker, whose
// Record.Unpublished is given. Events about one attacker are announced in the
// order of their saves. Announce waits for a bus that works and is only slower
// than the store, but not for one that hangs. It is called between Start and Stop.
func (a *Announcer) Announce(ev *bus.Event, unpublished string) {
	if !a.enqueue(message{ev, unpublished}) {
		a.abandon()
	}
}

// Publish is Announce for an event that was saved outside of Run. Without a
// running goroutine it makes one attempt to publish the event itself, until ctx
// ends. If that fails, or unpublished is not empty, the event stays in the outbox
// for a worker that runs.
func (a *Announcer) Publish(ctx context.Context, ev *bus.Event, unpublished string) {
	switch {
	case a.Bus == nil || a.enqueue(message{ev, unpublished}):
		return
	case a.Outbox != nil && unpublished != "":
		a.signal(left) // for the next Start
		return
	}
	timed, cancel := context.WithTimeout(ctx, publishTimeout)
	defer cancel()
	if err := a.attempt(timed, ev); err != nil {
		a.Log.Warn("cannot publish an event", "topic", ev.Topic, "event", ev.ID, "error", err)
		a.abandon()
		return
	}
	if a.Outbox == nil {
		return
	}
	if err := a.Outbox.Published(context.WithoutCancel(ctx), ev.ID); err != nil {
		a.Log.Warn("cannot clear the outbox; an event will be published again", "error", err)
	}
}

// Reconnected reports that the bus can be reached again: the next attempt need not
// wait out its delay.
func (a *Announcer) Reconnected() { a.signal(reconnected) }

// Counts returns the number of events that the bus took, and of those that were
// lost, refused or too old.
func (a *Announcer) Counts() (published, unpublished uint64) {
	return a.published.Load(), a.unpublished.Load()
}

// enqueue puts a message into the queue and returns false if the goroutine does
// not run. A message without room stays in the outbox.
func (a *Announcer) enqueue(m message) bool {
	a.mu.Lock()
	if !a.running {
		a.mu.Unlock()
		return false
	}
	a.senders.Add(1)
	a.mu.Unlock()
	defer a.senders.Done()
	select {
	case a.queue <- m:
		return true
	default:
	}
	select {
	case <-a.patience:
		timer := time.NewTimer(maxStall)
		defer timer.Stop()
		select {
		case a.queue <- m:
			a.allow()
			return true
		case <-timer.C:
		}
	default:
	}
	a.abandon()
	a.signal(left)
	return true
}

// allow lets one call of Announce wait for room.
func (a *Announcer) allow() {
	select {
	case a.patience <- struct{}{}:
	default:
	}
}

// forbid keeps calls of Announce from waiting for room.
func (a *Announcer) forbid() {
	select {
	case <-a.patience:
	default:
	}
}

// signal wakes the goroutine, now or when it next starts.
func (a *Announcer) signal(r reason) {
	for {
		select {
		case a.wake <- r:
			return
		case earlier := <-a.wake:
			r |= earlier
		}
	}
}

// abandon leaves an event to the outbox. Without one it is lost.
func (a *Announcer) abandon() {
	if a.Outbox == nil {
		a.lost.Add(1)
		a.unpublished.Add(1)
	}
}

// attempt makes one attempt to publish an event. An event that the bus refuses
// for ever is dropped, which counts as success.
func (a *Announcer) attempt(ctx context.Context, ev *bus.Event) error {
	invalid, err := publish(ctx, a.Bus, ev)
	if a.Attempted != nil {
		a.Attempted(ev.ID, err)
	}
	if invalid {
		a.unpublished.Add(1)
		a.Log.Error("the bus refuses an event; dropping it", "topic", ev.Topic, "event", ev.ID, "error", err)
		return nil
	}
	if err == nil {
		a.published.Add(1)
	}
	return err
}

// publish reports, besides an error, whether the bus refuses the event for ever. It
// turns a panic of the bus, or of the error's own methods, into an error.
func publish(ctx context.Context, b bus.Bus, ev *bus.Event) (invalid bool, err error) {
	err = panics.Catch(func() error {
		err := b.Publish(ctx, *ev)
		invalid = errors.Is(err, bus.ErrInvalid)
		return err
	})
	return invalid, err
}
