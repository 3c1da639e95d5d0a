package bustest_test

import (
	"bytes"
	"context"
	"encoding/json"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/internal/suitecheck"
)

// odd is a connection to a transport that takes every liberty a [Harness] can
// tell of: what is published on a connection does not arrive on it, events get
// a new ID and time, payloads are written anew, a subscription misses what is
// published right after it was made, and topics have to be ASCII.
type odd struct {
	*membus.Bus
	hub  *hub
	deaf int // events that will be missed; guarded by hub.mu

	anyTopic, anyPattern bool // bugs: what is not ASCII is taken
}

type hub struct {
	mu    sync.Mutex
	conns []*odd
}

func (h *hub) connect(tb testing.TB) *odd {
	o := &odd{Bus: membus.New(membus.Options{Buffer: buffer}), hub: h}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.conns = append(h.conns, o)
	tb.Cleanup(func() { _ = o.Bus.Close() })
	return o
}

func (o *odd) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	if !o.anyPattern && !isASCII(pattern) {
		return nil, bus.ErrInvalid
	}
	o.hub.mu.Lock()
	o.deaf = 3
	o.hub.mu.Unlock()
	return o.Bus.Subscribe(ctx, pattern)
}

func (o *odd) Publish(ctx context.Context, ev bus.Event) error {
	// A topic nobody subscribes to: only to see whether the connection works.
	if err := o.Bus.Publish(ctx, bus.Event{Topic: "nobody", Payload: ev.Payload}); err != nil {
		return err
	}
	if err := ev.Validate(); err != nil {
		return err
	}
	if !o.anyTopic && !isASCII(ev.Topic) {
		return bus.ErrInvalid
	}
	ev.ID, ev.Time = uuid.NewString(), time.Now()
	if len(ev.Payload) == 0 {
		ev.Payload = json.RawMessage("{}")
	}
	if len(ev.Payload) < 1000 {
		var indented bytes.Buffer
		if err := json.Indent(&indented, ev.Payload, "", " "); err != nil {
			return err
		}
		ev.Payload = indented.Bytes()
	}
	o.hub.mu.Lock()
	defer o.hub.mu.Unlock()
	for _, other := range o.hub.conns {
		switch {
		case other == o:
		case other.deaf > 0:
			other.deaf--
		default:
			_ = other.Bus.Publish(ctx, ev) // its loss
		}
	}
	return nil
}

var oddHarness = bustest.Harness{
	New:  func(tb testing.TB) bus.Bus { return new(hub).connect(tb) },
	Peer: func(tb testing.TB, b bus.Bus) bus.Bus { return b.(*odd).hub.connect(tb) },
	Lose: func(_ testing.TB, b bus.Bus) func() {
		b.(*odd).Lose()
		return b.(*odd).Restore
	},
	Restamps: true, Reencodes: true, Unacknowledged: true, ASCII: true, Buffer: buffer,
}

func TestOddTransport(t *testing.T) {
	bustest.Run(t, oddHarness)
}

// oddBug puts a bug into the buses that a harness makes.
func oddBug(breakIt func(o *odd)) func(h *bustest.Harness) {
	return func(h *bustest.Harness) {
		connect := h.New
		h.New = func(tb testing.TB) bus.Bus {
			b := connect(tb)
			breakIt(b.(*odd))
			return b
		}
		peer := h.Peer
		h.Peer = func(tb testing.TB, b bus.Bus) bus.Bus {
			p := peer(tb, b)
			breakIt(p.(*odd))
			return p
		}
	}
}

// TestLiberties shows that each liberty is forbidden to transports that do not
// claim it, and that what a liberty promises instead is required of those that
// do.
func TestLiberties(t *testing.T) {
	for _, c := range []struct {
		name     string
		withhold func(h *bustest.Harness)
		check    string
	}{
		{"Restamps", func(h *bustest.Harness) { h.Restamps = false }, "Envelope"},
		{"Reencodes", func(h *bustest.Harness) { h.Reencodes = false }, "Payload"},
		{"Unacknowledged", func(h *bustest.Harness) { h.Unacknowledged = false }, "LiveOnReturn"},
		{"ASCII", func(h *bustest.Harness) { h.ASCII = false }, "Characters"},
		{"ASCII of topics", oddBug(func(o *odd) { o.anyTopic = true }), "Characters"},
		{"ASCII of patterns", oddBug(func(o *odd) { o.anyPattern = true }), "Characters"},
		{"Peer", func(h *bustest.Harness) { h.Peer, h.Unacknowledged = nil, false }, "Order"},
		{"New", func(h *bustest.Harness) { h.New = nil }, "Order"},
		{"Buffer", func(h *bustest.Harness) { h.Buffer = 63 }, "Order"},
		{"large Buffer", func(h *bustest.Harness) { h.Buffer = 1000 }, "OldestDropped"},
	} {
		t.Run(c.name, func(t *testing.T) {
			h := oddHarness
			c.withhold(&h)
			for _, check := range bustest.Checks() {
				if check.Name != c.check {
					continue
				}
				synctest.Test(t, func(t *testing.T) {
					failure := suitecheck.Failure(t, func(tb testing.TB) { check.Run(tb, h) })
					require.NotEmpty(t, failure)
					t.Log(failure)
				})
				return
			}
			t.Fatalf("there is no check %q", c.check)
		})
	}
}
