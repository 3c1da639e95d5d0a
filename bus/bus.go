// Package bus defines the notification bus: a publish/subscribe transport for
// small JSON events between services.
//
// A bus is a notification, never the truth: events may be lost, repeated and
// late, and everything built on one must come right without it.
//
// An author of a transport implements [Bus]. [Mailbox] is a ready Subscription,
// [Envelope] the form of an event on the wire, and package bustest the
// conformance suite that every transport runs. The package needs nothing but
// the standard library.
package bus

import (
	"context"
	"encoding/json"
	"errors"
	"time"
)

// Event is one notification. It is immutable once published: the same Event,
// with the same Payload bytes, may be delivered to many subscribers.
type Event struct {
	// ID identifies the event: two deliveries with one ID are the same event.
	// A transport gives an event without ID one of its own.
	ID string
	// Topic is where it is published, see [ValidateTopic]. A subscriber sees
	// the topic the transport delivered it on.
	Topic string
	// Type is the kind of event, for subscribers of many topics.
	Type string
	// Time is when it happened. A transport fills in a zero Time.
	Time time.Time
	// Payload is a JSON object, or empty for none.
	Payload json.RawMessage
}

// Bus carries events. Its methods are safe for concurrent use.
type Bus interface {
	// Publish hands ev to the transport and returns nil once that is done,
	// which says nothing about anyone having received it. It never waits for a
	// subscriber. It fails with an error that wraps [ErrInvalid] for an event
	// no transport could carry, [ErrClosed] after Close, [ErrLost] without a
	// connection, or the context's error; after an error the event may or may
	// not have been published.
	Publish(ctx context.Context, ev Event) error

	// Subscribe asks for the events whose topic matches pattern, see [Match].
	// When it returns, the subscription is registered: what is published from
	// then on is delivered, as far as the transport can tell. It fails with an
	// error that wraps [ErrInvalid] for a pattern that [ValidatePattern]
	// refuses, [ErrClosed], [ErrLost] or the context's error. The context
	// limits the call, not the subscription.
	Subscribe(ctx context.Context, pattern string) (Subscription, error)

	// Close ends every subscription with [ErrClosed] and releases what the bus
	// holds. Further calls return nil.
	Close() error
}

// Subscription is a stream of events. Its methods are safe for concurrent use.
type Subscription interface {
	// Events returns the channel that events arrive on, always the same. It is
	// closed when the subscription ends. A subscriber that does not keep up
	// loses the oldest of its undelivered events, and delays nobody.
	Events() <-chan Event

	// Err returns nil while the subscription lives, and after Events is closed
	// the reason: [ErrClosed] if it or the bus was closed, or an error that
	// wraps [ErrLost] if the connection was lost. A lost subscription does not
	// come back: subscribe again.
	Err() error

	// Close ends the subscription. Events that were delivered before can still
	// be received. Further calls return nil.
	Close() error
}

var (
	// ErrClosed is returned by a bus that was closed.
	ErrClosed = errors.New("bus: closed")
	// ErrLost is returned while a bus has no connection, and ends the
	// subscriptions it had when the connection was lost.
	ErrLost = errors.New("bus: connection lost")
	// ErrInvalid is wrapped by errors about a topic, pattern, event or envelope
	// that no transport could carry.
	ErrInvalid = errors.New("bus: invalid")
)
