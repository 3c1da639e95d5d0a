package bustest

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/decnet/enrich/bus"
)

// fixture is a bus under test, with what the checks do to it all the time.
type fixture struct {
	testing.TB
	h      Harness
	bus    bus.Bus // subscribes
	peer   bus.Bus // publishes
	probes int
}

func setUp(tb testing.TB, h Harness) *fixture {
	tb.Helper()
	h.Buffer = cmp.Or(h.Buffer, 1024)
	h.Wait = cmp.Or(h.Wait, 10*time.Second)
	switch {
	case h.New == nil:
		tb.Fatal("Harness.New is nil; the suite has no bus to test")
	case h.Buffer < 64:
		tb.Fatalf("Harness.Buffer is %d; the suite needs subscriptions that hold at least 64 events", h.Buffer)
	}
	f := &fixture{TB: tb, h: h, bus: h.New(tb)}
	f.peer = f.bus
	if h.Peer != nil {
		f.peer = h.Peer(tb, f.bus)
	}
	return f
}

// within returns what do returns, and fails the test if it takes too long.
func (f *fixture) within(what string, do func() error) error {
	f.Helper()
	done := make(chan error, 1)
	go func() { done <- do() }()
	select {
	case err := <-done:
		return err
	case <-time.After(f.h.Wait):
		f.Fatalf("%s did not return within %v", what, f.h.Wait)
		return nil
	}
}

// eventually fails the test unless cond becomes true in time.
func (f *fixture) eventually(what string, cond func() bool) {
	f.Helper()
	timeout := time.After(f.h.Wait)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-tick.C:
		case <-timeout:
			f.Fatalf("not within %v: %s", f.h.Wait, what)
		}
	}
}

// publish publishes events whose payloads are {"n":0}, {"n":1} and so on, one
// on each of the topics.
func (f *fixture) publish(topics ...string) {
	f.Helper()
	f.publishAll(len(topics), func(n int) bus.Event { return numbered(topics[n], n) })
}

func numbered(topic string, n int) bus.Event {
	return bus.Event{Topic: topic, Type: "test", Payload: fmt.Appendf(nil, `{"n":%d}`, n)}
}

// publishAll publishes count events on the peer, one after the other.
func (f *fixture) publishAll(count int, event func(n int) bus.Event) {
	f.Helper()
	err := f.within("Publish", func() error {
		for n := range count {
			if err := f.peer.Publish(f.Context(), event(n)); err != nil {
				return fmt.Errorf("event number %d: %w", n, err)
			}
		}
		return nil
	})
	if err != nil {
		f.Fatalf("Publish: %v", err)
	}
}

// subscribe returns a subscription that is registered.
func (f *fixture) subscribe(pattern string) bus.Subscription {
	f.Helper()
	sub := f.subscribeOnly(pattern)
	if f.h.Unacknowledged {
		f.settle()
	}
	return sub
}

// subscribeOnly returns a subscription that the transport may still have to
// register.
func (f *fixture) subscribeOnly(pattern string) (sub bus.Subscription) {
	f.Helper()
	err := f.within("Subscribe", func() (err error) {
		sub, err = f.bus.Subscribe(f.Context(), pattern)
		return err
	})
	switch {
	case err != nil:
		f.Fatalf("Subscribe to %q: %v", pattern, err)
	case sub == nil:
		f.Fatalf("Subscribe to %q returned neither a subscription nor an error", pattern)
	}
	return sub
}

// probeTopic is the first part of topics on which events are published to see
// whether they arrive.
const probeTopic = "bustest.probe."

// settle waits until every subscription there is has been registered: those
// made later on the same connection are not registered earlier.
func (f *fixture) settle() {
	f.Helper()
	f.probes++
	topic := fmt.Sprintf("%s%d", probeTopic, f.probes)
	probe := f.subscribeOnly(topic)
	defer probe.Close()
	f.eventually("a subscription is registered", func() bool {
		if err := f.peer.Publish(f.Context(), bus.Event{Topic: topic}); err != nil {
			f.Fatalf("Publish: %v", err)
		}
		select {
		case _, open := <-probe.Events():
			return open
		case <-time.After(5 * time.Millisecond):
			return false
		}
	})
}

// next returns the next event, and false when there will be no more.
func (f *fixture) next(sub bus.Subscription) (bus.Event, bool) {
	f.Helper()
	timeout := time.After(f.h.Wait)
	for {
		select {
		case ev, open := <-sub.Events():
			if open && strings.HasPrefix(ev.Topic, probeTopic) {
				continue
			}
			return ev, open
		case <-timeout:
			f.Fatalf("no event within %v, and no end of the subscription", f.h.Wait)
		}
	}
}

// receive returns the next event.
func (f *fixture) receive(sub bus.Subscription) bus.Event {
	f.Helper()
	ev, open := f.next(sub)
	if !open {
		f.Fatalf("the subscription ended: %v", sub.Err())
	}
	return ev
}

// receiveNumbered fails the test unless the next event is number n.
func (f *fixture) receiveNumbered(sub bus.Subscription, n int) {
	f.Helper()
	if ev := f.receive(sub); number(f, ev) != n {
		f.Fatalf("received %s on %s, want number %d", ev.Payload, ev.Topic, n)
	}
}

// ended fails the test unless the subscription ends for the given reason.
// Events that arrive first are ignored.
func (f *fixture) ended(sub bus.Subscription, reason error) {
	f.Helper()
	for {
		if _, open := f.next(sub); !open {
			break
		}
	}
	if err := sub.Err(); !errors.Is(err, reason) {
		f.Errorf("Err of a subscription that ended is %v, want %v", err, reason)
	}
}

// alive fails the test if the subscription has ended.
func (f *fixture) alive(sub bus.Subscription) {
	f.Helper()
	if err := sub.Err(); err != nil {
		f.Fatalf("Err of a living subscription is %v, want nil", err)
	}
}

// wants fails the test unless err wraps want.
func (f *fixture) wants(what string, err, want error) {
	f.Helper()
	if !errors.Is(err, want) {
		f.Errorf("%s: error is %v, want %v", what, err, want)
	}
}

func (f *fixture) succeeds(what string, err error) {
	f.Helper()
	if err != nil {
		f.Errorf("%s: %v", what, err)
	}
}

// number returns the number in the payload of a [numbered] event.
func number(tb testing.TB, ev bus.Event) int {
	tb.Helper()
	var payload struct{ N *int }
	if err := json.Unmarshal(ev.Payload, &payload); err != nil || payload.N == nil {
		tb.Fatalf("received the payload %s on %s; it was not published", excerpt(string(ev.Payload)), ev.Topic)
	}
	return *payload.N
}
