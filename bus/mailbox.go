package bus

import (
	"sync"
	"sync/atomic"
)

// DefaultBuffer is how many undelivered events a subscription holds unless its
// transport is told otherwise.
const DefaultBuffer = 1024

// Mailbox is a [Subscription] for authors of transports: a queue of bounded
// length between the goroutine that reads from the network and a subscriber
// that may be slow. Make one with [NewMailbox]; the zero value is not usable.
// Its methods are safe for concurrent use.
type Mailbox struct {
	events  chan Event
	leave   func()
	dropped atomic.Uint64

	mu  sync.Mutex // held while sending on events or closing it
	err error      // set before events is closed
}

var _ Subscription = (*Mailbox)(nil)

// NewMailbox returns an open mailbox that holds buffer undelivered events, or
// [DefaultBuffer] if buffer is zero or less. Its Close calls leave, if that is
// not nil, so that the transport stops delivering: once, and only if the
// mailbox has not ended before.
func NewMailbox(buffer int, leave func()) *Mailbox {
	if buffer <= 0 {
		buffer = DefaultBuffer
	}
	return &Mailbox{events: make(chan Event, buffer), leave: leave}
}

// Deliver adds ev to the events that the subscriber has not received yet. It
// never waits for the subscriber: if the mailbox is full, it drops the oldest
// event and returns true. After the end of the mailbox it does nothing.
func (m *Mailbox) Deliver(ev Event) (dropped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false
	}
	for {
		select {
		case m.events <- ev:
			return dropped
		default:
		}
		select {
		case <-m.events:
			m.dropped.Add(1)
			dropped = true
		default: // the subscriber received it meanwhile
		}
	}
}

// Dropped returns how many events Deliver has dropped.
func (m *Mailbox) Dropped() uint64 { return m.dropped.Load() }

// End ends the mailbox for a reason of the transport's and reports whether it
// had not ended before. The reason is what Err returns from then on: an error
// that wraps [ErrLost], or [ErrClosed], which nil stands for.
func (m *Mailbox) End(reason error) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.err != nil {
		return false
	}
	if m.err = reason; reason == nil {
		m.err = ErrClosed
	}
	close(m.events)
	return true
}

// Events implements [Subscription].
func (m *Mailbox) Events() <-chan Event { return m.events }

// Err implements [Subscription].
func (m *Mailbox) Err() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.err
}

// Close implements [Subscription]. It returns when leave has returned.
func (m *Mailbox) Close() error {
	if m.End(ErrClosed) && m.leave != nil {
		m.leave()
	}
	return nil
}
