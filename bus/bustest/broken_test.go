package bustest_test

import (
	"context"
	"sync"
	"testing"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/membus"
)

// broken is a bus that a seeded bug can be put into: each call goes to the
// function of that name if there is one, and to a good bus otherwise.
type broken struct {
	*membus.Bus
	mu      sync.Mutex
	subs    []bus.Subscription // in order of their making
	pattern []string           // of each of subs
	done    chan struct{}      // closed by Close, so that nobody waits any longer

	publish   func(context.Context, bus.Event) error
	subscribe func(context.Context, string) (bus.Subscription, error)
	wrap      func(string, bus.Subscription) bus.Subscription // changes what Subscribe returns
	close     func() error
	lose      func()
	restore   func()
}

func newBroken(breakIt func(b *broken)) *broken {
	b := &broken{Bus: membus.New(membus.Options{Buffer: buffer}), done: make(chan struct{})}
	b.publish, b.subscribe, b.close = b.Bus.Publish, b.Bus.Subscribe, b.Bus.Close
	b.lose, b.restore = b.Bus.Lose, b.Bus.Restore
	breakIt(b)
	return b
}

const buffer = 64

// brokenHarness makes buses with the bug.
func brokenHarness(breakIt func(b *broken)) bustest.Harness {
	return bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			b := newBroken(breakIt)
			tb.Cleanup(func() {
				close(b.done)
				_ = b.Bus.Close()
			})
			return b
		},
		Lose: func(_ testing.TB, b bus.Bus) func() {
			b.(*broken).lose()
			return b.(*broken).restore
		},
		Buffer: buffer,
	}
}

func (b *broken) Publish(ctx context.Context, ev bus.Event) error { return b.publish(ctx, ev) }

func (b *broken) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	sub, err := b.subscribe(ctx, pattern)
	if err != nil {
		return nil, err
	}
	if b.wrap != nil {
		sub = b.wrap(pattern, sub)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.subs, b.pattern = append(b.subs, sub), append(b.pattern, pattern)
	return sub, nil
}

func (b *broken) Close() error { return b.close() }

// subscription is one that a seeded bug can be put into.
type subscription struct {
	bus.Subscription
	events func() <-chan bus.Event
	err    func() error
	close  func() error
}

func newSubscription(s bus.Subscription) *subscription {
	return &subscription{Subscription: s, events: s.Events, err: s.Err, close: s.Close}
}

func (s *subscription) Events() <-chan bus.Event { return s.events() }
func (s *subscription) Err() error               { return s.err() }
func (s *subscription) Close() error             { return s.close() }
