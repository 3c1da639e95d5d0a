// Package bustest is the conformance suite for implementations of [bus.Bus].
//
//	func TestBus(t *testing.T) {
//		bustest.Run(t, bustest.Harness{
//			New: func(tb testing.TB) bus.Bus {
//				b := mybus.Connect()
//				tb.Cleanup(func() { b.Close() })
//				return b
//			},
//		})
//	}
//
// It needs the standard library only. [Run] does everything; [Checks] gives the
// single checks to whoever wants to run them one by one; [Benchmark] measures.
package bustest

import (
	"testing"
	"time"

	"github.com/decnet/enrich/bus"
)

// Harness tells the suite how to make the buses it tests, and which liberties
// their transport takes. The zero value of every field but New is usable.
type Harness struct {
	// New returns a bus that is ready for use and that nobody else is on, and
	// has tb clean up after it. Required.
	New func(tb testing.TB) bus.Bus
	// Peer returns another connection to what b, a bus that New returned, is
	// connected to, and has tb clean up after it. The suite then publishes on
	// the peer what it subscribes to on b. It is needed for transports that do
	// not deliver to a connection what was published on it. Nil means to use b
	// for both.
	Peer func(tb testing.TB, b bus.Bus) bus.Bus
	// Lose cuts the connection of b, a bus that New returned, and returns a
	// function that makes connecting possible again. Nil if there is no
	// connection to be lost, which skips the checks of it.
	Lose func(tb testing.TB, b bus.Bus) (restore func())

	// Restamps says that the transport gives events an ID and a time of its
	// own, also those that have them.
	Restamps bool
	// Reencodes says that a payload may arrive written differently, as long as
	// it is the same JSON value.
	Reencodes bool
	// Unacknowledged says that the transport cannot tell when a subscription is
	// registered, so that events published right after Subscribe may be missed.
	Unacknowledged bool
	// ASCII says that the transport cannot carry topics and patterns with other
	// characters, and refuses them with [bus.ErrInvalid].
	ASCII bool

	// Buffer is the greatest number of events that a subscription holds for a
	// reader who does not read. It must be at least 64. Zero means 1024.
	Buffer int
	// Wait is how long the suite waits for what has to happen before it reports
	// that it did not. Zero means 10 s.
	Wait time.Duration
}

// Check is one property of a bus.
type Check struct {
	// Name names the property, in the form of a test name.
	Name string
	// Run reports to tb whether the buses that h makes have the property. It
	// skips the test if h says that their transport cannot.
	Run func(tb testing.TB, h Harness)
}

// Run tests the buses that h makes with every one of [Checks], each as a
// subtest, one after the other.
func Run(t *testing.T, h Harness) {
	for _, c := range Checks() {
		t.Run(c.Name, func(t *testing.T) { c.Run(t, h) })
	}
}

// Checks returns every check of the suite. They are independent of each other.
func Checks() []Check {
	return []Check{
		{"Wildcards", wildcards},
		{"Characters", characters},
		{"OverlappingPatterns", overlappingPatterns},
		{"LiveOnReturn", liveOnReturn},
		{"Order", order},
		{"OrderOfManyPublishers", orderOfManyPublishers},
		{"ManySubscribers", manySubscribers},

		{"Envelope", envelope},
		{"EnvelopeFilledIn", envelopeFilledIn},
		{"Payload", payload},
		{"EmptyPayload", emptyPayload},

		{"InvalidTopic", invalidTopic},
		{"InvalidPattern", invalidPattern},
		{"InvalidPayload", invalidPayload},
		{"CancelledContext", cancelledContext},
		{"ContextOfSubscribe", contextOfSubscribe},

		{"PublishNeverWaits", publishNeverWaits},
		{"OldestDropped", oldestDropped},
		{"SlowDelaysNobody", slowDelaysNobody},

		{"CloseSubscription", closeSubscription},
		{"CloseOneOfTwo", closeOneOfTwo},
		{"CloseBus", closeBus},
		{"CloseWhileReceiving", closeWhileReceiving},
		{"CloseWhilePublishing", closeWhilePublishing},

		{"Lost", lost},
		{"LostThenClosed", lostThenClosed},
		{"SubscribeAgain", subscribeAgain},
	}
}
