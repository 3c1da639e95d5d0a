package bustest

import (
	"testing"

	"github.com/decnet/enrich/bus"
)

// lose cuts the connection and skips the test if there is none to be cut.
func (f *fixture) lose() (restore func()) {
	f.Helper()
	if f.h.Lose == nil {
		f.Skip("the harness has no Lose")
	}
	return f.h.Lose(f.TB, f.bus)
}

func lost(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	subs := []bus.Subscription{f.subscribe("a"), f.subscribe("b.>")}
	restore := f.lose()
	for _, sub := range subs {
		f.ended(sub, bus.ErrLost)
	}
	err := f.within("Publish", func() error { return f.bus.Publish(f.Context(), numbered("a", 0)) })
	f.wants("Publish without a connection", err, bus.ErrLost)
	err = f.within("Subscribe", func() error {
		_, err := f.bus.Subscribe(f.Context(), "a")
		return err
	})
	f.wants("Subscribe without a connection", err, bus.ErrLost)
	for _, sub := range subs {
		f.succeeds("Close of a lost subscription", sub.Close())
		f.wants("Err of a lost subscription after its Close", sub.Err(), bus.ErrLost)
	}
	restore()
}

func lostThenClosed(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("a")
	f.lose()
	f.ended(sub, bus.ErrLost)
	f.succeeds("Close of a bus without a connection", f.within("Close", f.bus.Close))
	f.isClosed()
	f.wants("Err of a lost subscription after the bus was closed", sub.Err(), bus.ErrLost)
}

// subscribeAgain: a bus connects again by itself, its subscriptions are made
// again by who needs them.
func subscribeAgain(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	before := f.subscribe("a")
	restore := f.lose()
	f.ended(before, bus.ErrLost)
	restore()
	var after bus.Subscription
	f.eventually("Subscribe works again", func() bool {
		sub, err := f.bus.Subscribe(f.Context(), "a")
		after = sub
		return err == nil
	})
	f.eventually("an event arrives again", func() bool {
		if f.peer.Publish(f.Context(), numbered("a", 0)) != nil {
			return false
		}
		select {
		case ev, open := <-after.Events():
			if !open {
				f.Fatalf("the new subscription ended: %v", after.Err())
			}
			return number(f, ev) == 0
		default:
			return false
		}
	})
	f.alive(after)
	if _, open := f.next(before); open {
		f.Error("the lost subscription came back")
	}
	f.wants("Err of the lost subscription", before.Err(), bus.ErrLost)
}
