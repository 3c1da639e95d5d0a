// Package natsbus carries events over NATS, between any number of machines.
//
// # Wire
//
// A topic is a NATS subject, and a pattern is one with wildcards, which mean
// the same there. With a prefix, see [Options], both have it in front. Every
// subscriber gets every event: there are no queue groups. The body of a message
// is the envelope of DECNET's UNIX-socket bus, the JSON object
//
//	{"v":1,"id":"5f0c...","topic":"attacker.observed","type":"","ts":1767225600.25,"payload":{}}
//
// in which "topic" is for the reader's convenience: the subject counts. The
// header Nats-Msg-Id holds the id, so that a JetStream stream over the subjects
// keeps an event that is published again only once.
//
// # What arrives
//
// NATS itself remembers nothing: an event reaches those who are subscribed. It
// is handed over once the server has confirmed that it read it, which Publish
// waits for. A server that dies right then, before it has passed the event on
// or a stream has written it down, takes it along.
package natsbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/reconnect"
)

const (
	// The delays between two attempts to connect.
	retryMin = 50 * time.Millisecond
	retryMax = 2 * time.Second
	// hung is how long the server may take to read and to answer, if the options
	// of the client do not say.
	hung = 10 * time.Second
	// window is how many events are published without a confirmation before one
	// has to be waited for, so that what is on its way does not pile up.
	window = 256
	// grace is how long Close waits for the server.
	grace = time.Second
)

// Options configures a [Bus]. The zero value is usable.
type Options struct {
	// URL is the server's address, for example "nats://127.0.0.1:4222", or the
	// addresses of several servers of a cluster, separated by commas. Others that
	// these tell about are not used: name all that are to be tried. With the
	// scheme "tls" the connection must be encrypted. Empty means
	// [nats.DefaultURL].
	URL string
	// Prefix and a dot are put before topics and patterns to make subjects, so
	// that several installations can share an account. It has the form of a
	// topic. Empty means that topics are subjects as they are.
	Prefix string
	// Buffer is how many events a subscription holds for its reader before the
	// oldest is dropped. Zero or less means [bus.DefaultBuffer]. What has arrived
	// and is not decoded yet, at most 64 MiB, comes on top.
	Buffer int
	// Unconfirmed makes Publish wait for a confirmation only once in 256 events
	// and return otherwise when the event is in this process's buffer, from which
	// it is sent at once. That is much faster for a single publisher, and loses
	// what is on its way when the connection breaks. A store's outbox then no
	// longer makes sure that events are published at least once.
	Unconfirmed bool
	// Nats are options of the NATS client: TLS, credentials, NKeys, names, time
	// limits, callbacks. Those about connecting again have no effect. Defaults
	// other than the client's own: the name is "enrich"; PingInterval is 20 s, so
	// that a server that vanished is noticed within a minute; FlusherTimeout, for
	// which the server may neither read nor answer before the connection counts
	// as lost, is 10 s.
	Nats []nats.Option
}

// Bus is a [bus.Bus] on NATS. Make one with [New]. It has one connection, which
// it opens at the first call of Publish or Subscribe and opens again, until
// Close, whenever it is lost: after 50 ms, and from then on with growing delays
// of up to 2 s.
type Bus struct {
	options     nats.Options
	servers     string // for people: without credentials
	prefix      string // empty, or with the dot at its end
	buffer      int
	unconfirmed bool
	dropped     atomic.Uint64

	keeper *reconnect.Keeper[*link]
}

var _ bus.Bus = (*Bus)(nil)

// New returns a bus that connects when it is used. It returns an error if o is
// wrong, and does not notice whether there is a server.
func New(o Options) (*Bus, error) {
	servers, names, err := splitURL(cmp.Or(o.URL, nats.DefaultURL))
	if err != nil {
		return nil, err
	}
	b := &Bus{
		servers:     names,
		buffer:      o.Buffer,
		unconfirmed: o.Unconfirmed,
	}
	if o.Prefix != "" {
		if err := bus.ValidateTopic(o.Prefix); err != nil {
			return nil, fmt.Errorf("natsbus: Options.Prefix: %w", err)
		}
		if reserved(o.Prefix) {
			return nil, fmt.Errorf("natsbus: Options.Prefix: NATS keeps %q for itself", o.Prefix)
		}
		b.prefix = o.Prefix + "."
	}
	if b.options, err = clientOptions(servers, o.Nats); err != nil {
		return nil, err
	}
	b.keeper = reconnect.New(b.dial, retryMin, retryMax)
	return b, nil
}

// clientOptions returns the options of a client that connects once: what has to be
// done when a connection is lost is not the client's business.
func clientOptions(servers []string, more []nats.Option) (nats.Options, error) {
	o := nats.GetDefaultOptions()
	o.Name = "enrich"
	o.PingInterval = 20 * time.Second
	o.FlusherTimeout = hung
	for _, set := range more {
		if set == nil {
			continue
		}
		if err := set(&o); err != nil {
			return o, fmt.Errorf("natsbus: Options.Nats: %w", err)
		}
	}
	if o.FlusherTimeout <= 0 {
		o.FlusherTimeout = hung
	}
	o.Url, o.Servers = "", servers
	o.IgnoreDiscoveredServers = true
	o.AllowReconnect, o.RetryOnFailedConnect = false, false
	o.ReconnectOnFlusherError = true // that is, close
	if o.AsyncErrorCB == nil {
		o.AsyncErrorCB = func(*nats.Conn, *nats.Subscription, error) {} // the client's own prints
	}
	return o, nil
}

// dialer gives up when its context is done.
type dialer struct {
	ctx context.Context
	net.Dialer
}

func (d dialer) Dial(network, address string) (net.Conn, error) {
	return d.DialContext(d.ctx, network, address)
}

// Publish implements [bus.Bus]. It returns nil once the server has confirmed
// that it read the event, unless [Options] says otherwise; those who publish at
// the same time do not wait for each other. Events of one publisher arrive in
// order.
//
// Beyond what [bus.Event.Validate] refuses, it refuses with [bus.ErrInvalid]
// subjects that NATS keeps for itself, and events that are longer in all than
// the server's max_payload. If the server does not permit the subject, the error
// wraps [nats.ErrPermissionViolation].
func (b *Bus) Publish(ctx context.Context, ev bus.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m, err := b.pack(ev)
	if err != nil {
		return err
	}
	l, err := b.keeper.Get(ctx)
	if err != nil {
		return err
	}
	return l.publish(ctx, m)
}

// Subscribe implements [bus.Bus]. If the server does not permit the pattern,
// the error wraps [nats.ErrPermissionViolation].
//
// Messages that are no events are ignored, see [Bus.Dropped], and so is what
// NATS itself sends on the subjects it keeps for itself. If the server permits the
// pattern no longer, the subscription ends with an error that wraps [bus.ErrLost]
// and [nats.ErrPermissionViolation].
func (b *Bus) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := bus.ValidatePattern(pattern); err != nil {
		return nil, err
	}
	if reserved(b.prefix + pattern) {
		return nil, fmt.Errorf("%w pattern %q: NATS keeps such subjects for itself", bus.ErrInvalid, pattern)
	}
	l, err := b.keeper.Get(ctx)
	if err != nil {
		return nil, err
	}
	return l.subscribe(ctx, pattern)
}

// Dropped returns how many events were dropped because a subscriber did not
// keep up or because what arrived was none.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Close implements [bus.Bus]. Before it closes the connection it waits, for up
// to a second each, until the server has read everything and until what the
// server sent before that is delivered. While an attempt to connect is under
// way it waits for the end of that, at most the time limit of the NATS client,
// by default 2 s for each server.
func (b *Bus) Close() error {
	b.keeper.Close((*link).drain)
	return nil
}

// dial opens a connection. It gives up when ctx is done.
func (b *Bus) dial(ctx context.Context) (*link, error) {
	l := newLink(b)
	nc, err := l.options(ctx).Connect()
	if err != nil {
		return nil, b.lost(err)
	}
	l.connected(nc)
	return l, nil
}

// lost returns a [bus.ErrLost] that says why, for which servers.
func (b *Bus) lost(why error) error {
	if errors.Is(why, nats.ErrNoServers) {
		why = fmt.Errorf("cannot connect: %w", syscall.ECONNREFUSED) // which the client calls so
	}
	return fmt.Errorf("%w: %s: %w", bus.ErrLost, b.servers, why)
}
