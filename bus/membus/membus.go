// Package membus is a bus inside one process, for programs that need no other
// and for tests. It keeps nothing: an event reaches those who are subscribed
// when it is published.
package membus

import (
	"context"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/decnet/enrich/bus"
)

// Options configures a [Bus]. The zero value is usable.
type Options struct {
	// Buffer is how many events a subscription holds for its reader before the
	// oldest is dropped. Zero or less means [bus.DefaultBuffer].
	Buffer int
}

// subscription receives the events whose topics match a pattern.
type subscription struct {
	pattern string
	*bus.Mailbox
}

// Bus is a [bus.Bus] in memory. Make one with [New]. It runs no goroutines.
type Bus struct {
	buffer  int
	dropped atomic.Uint64

	mu     sync.RWMutex
	subs   []subscription // replaced, never modified: read without the lock
	reason error          // why nothing can be done: ErrClosed, ErrLost or nil
}

var _ bus.Bus = (*Bus)(nil)

// New returns an open bus.
func New(o Options) *Bus {
	return &Bus{buffer: o.Buffer}
}

// Publish implements [bus.Bus]. Events of one publisher arrive in order.
func (b *Bus) Publish(ctx context.Context, ev bus.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := ev.Validate(); err != nil {
		return err
	}
	b.mu.RLock()
	subs, reason := b.subs, b.reason
	b.mu.RUnlock()
	if reason != nil {
		return reason
	}
	ev.Complete()
	for _, s := range subs {
		if bus.Match(s.pattern, ev.Topic) && s.Deliver(ev) {
			b.dropped.Add(1)
		}
	}
	return nil
}

// Subscribe implements [bus.Bus].
func (b *Bus) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := bus.ValidatePattern(pattern); err != nil {
		return nil, err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reason != nil {
		return nil, b.reason
	}
	var m *bus.Mailbox
	m = bus.NewMailbox(b.buffer, func() { b.remove(m) })
	b.subs = append(slices.Clone(b.subs), subscription{pattern, m})
	return m, nil
}

// Close implements [bus.Bus].
func (b *Bus) Close() error {
	b.end(bus.ErrClosed)
	return nil
}

// Lose makes the bus behave as if its connection were lost, for tests of what
// depends on it: every subscription ends with [bus.ErrLost], and so does every
// call until [Bus.Restore]. On a closed bus it does nothing.
func (b *Bus) Lose() { b.end(bus.ErrLost) }

// Restore undoes [Bus.Lose]. Subscriptions do not come back.
func (b *Bus) Restore() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.reason == bus.ErrLost {
		b.reason = nil
	}
}

// Dropped returns how many events were dropped because a subscriber did not
// keep up.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

func (b *Bus) end(reason error) {
	b.mu.Lock()
	subs := b.subs
	if b.reason != bus.ErrClosed {
		b.reason, b.subs = reason, nil
	}
	b.mu.Unlock()
	for _, s := range subs {
		s.End(reason)
	}
}

func (b *Bus) remove(m *bus.Mailbox) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs = slices.DeleteFunc(slices.Clone(b.subs), func(s subscription) bool { return s.Mailbox == m })
}
