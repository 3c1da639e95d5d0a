package bustest

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/decnet/enrich/bus"
)

// badTokens make both a topic and a pattern invalid.
var badTokens = []string{
	"", ".", ".a", "a.", "a..b", "a b", "a.\tb", "a.b\n", "a.\r\nPUB b", "a.\x00", "a.\u00a0b", "a.\u2028",
	"a.b*", "a.*b", "a.>b", "a.**", "\xff\xfe", strings.Repeat("a", bus.MaxTopic+1),
}

func invalidTopic(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe(">")
	for _, topic := range append([]string{"*", ">", "a.*", "a.>", "a.*.b"}, badTokens...) {
		f.refuses("topic", bus.Event{Topic: topic})
	}
	f.publish(strings.Repeat("a", bus.MaxTopic)) // and nothing came before it
	f.receiveNumbered(sub, 0)
}

func invalidPayload(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe(">")
	for _, payload := range []string{
		"x", "null", "true", "1", `"text"`, "[]", "[{}]", "{", "{}}", `{"a":}`, `{"a":1}{"b":2}`, "{'a':1}", "\xff", " ", `{"a":1E400}`,
		`{"text":"` + strings.Repeat("x", 1<<20) + `"}`, // a transport may carry more than bus.MaxPayload,
	} {
		f.refuses("payload", bus.Event{Topic: "a", Payload: json.RawMessage(payload)})
	}
	f.publish("a") // and nothing came before it
	f.receiveNumbered(sub, 0)
}

// refuses fails the test unless ev, whose given part is invalid, is refused.
func (f *fixture) refuses(part string, ev bus.Event) {
	f.Helper()
	err := f.within("Publish", func() error { return f.peer.Publish(f.Context(), ev) })
	bad := ev.Topic
	if part == "payload" {
		bad = string(ev.Payload)
	}
	if !errors.Is(err, bus.ErrInvalid) {
		f.Errorf("Publish with the %s %q: error is %v, want %v", part, excerpt(bad), err, bus.ErrInvalid)
	}
}

func invalidPattern(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	for _, pattern := range append([]string{">.a", "a.>.b", "a.>.>", ">.>"}, badTokens...) {
		f.refusesPattern(pattern)
	}
}

// refusesPattern fails the test unless pattern is refused.
func (f *fixture) refusesPattern(pattern string) {
	f.Helper()
	err := f.within("Subscribe", func() error {
		sub, err := f.bus.Subscribe(f.Context(), pattern)
		if err == nil {
			_ = sub.Close()
		}
		return err
	})
	if !errors.Is(err, bus.ErrInvalid) {
		f.Errorf("Subscribe to %q: error is %v, want %v", excerpt(pattern), err, bus.ErrInvalid)
	}
}

func cancelledContext(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	ctx, cancel := context.WithCancel(f.Context())
	cancel()
	err := f.within("Publish", func() error { return f.peer.Publish(ctx, numbered("a", 0)) })
	f.wants("Publish with a cancelled context", err, context.Canceled)
	err = f.within("Subscribe", func() error {
		sub, err := f.bus.Subscribe(ctx, "a")
		if err == nil {
			_ = sub.Close()
		}
		return err
	})
	f.wants("Subscribe with a cancelled context", err, context.Canceled)
}

// contextOfSubscribe: the context limits the call, not the subscription.
func contextOfSubscribe(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	ctx, cancel := context.WithCancel(f.Context())
	var sub bus.Subscription
	err := f.within("Subscribe", func() (err error) {
		sub, err = f.bus.Subscribe(ctx, "a")
		return err
	})
	if err != nil {
		f.Fatalf("Subscribe: %v", err)
	}
	if h.Unacknowledged {
		f.settle()
	}
	cancel()
	f.publish("a")
	f.receiveNumbered(sub, 0)
	f.alive(sub)
}
