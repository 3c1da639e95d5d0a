package natsbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus"
)

// link is one connection, from when it was opened until it is lost.
type link struct {
	bus       *Bus
	nc        *nats.Conn
	closed    chan nats.Status // receives when the connection is closed
	published atomic.Uint64
	refusals  refusals

	subscribing sync.Mutex // held by one call of subscribe at a time

	mu    sync.Mutex
	subs  map[*bus.Mailbox]*subscription
	ended bool
	why   error // the first failure of a call
}

// subscription is what the server knows about a mailbox.
type subscription struct {
	subject string
	sub     *nats.Subscription // nil until the NATS client has returned it
}

func newLink(b *Bus) *link {
	return &link{bus: b, subs: make(map[*bus.Mailbox]*subscription)}
}

// options returns the options of the link's NATS client, which connects until ctx is
// done.
func (l *link) options(ctx context.Context) nats.Options {
	o := l.bus.options
	if o.Dialer == nil && o.CustomDialer == nil {
		o.CustomDialer = dialer{ctx, net.Dialer{Timeout: o.Timeout}}
	}
	o.AsyncErrorCB = func(nc *nats.Conn, sub *nats.Subscription, err error) {
		l.refused(err)
		l.bus.options.AsyncErrorCB(nc, sub, err)
	}
	return o
}

// connected is called with the connection, before the link is used.
func (l *link) connected(nc *nats.Conn) {
	l.nc, l.closed = nc, nc.StatusChanged(nats.CLOSED)
}

// Serve implements [reconnect.Link].
func (l *link) Serve(ctx context.Context) error {
	if !l.nc.IsClosed() { // which it may have been before it could be listened for
		select {
		case <-l.closed:
		case <-ctx.Done():
			l.nc.Close()
		}
	}
	return l.bus.lost(l.fail(nats.ErrConnectionClosed))
}

// fail closes the connection, if it still is there, because of err, and returns
// why it was lost.
func (l *link) fail(err error) error {
	l.mu.Lock()
	if l.why == nil {
		l.why = err
		if last := l.nc.LastError(); last != nil && errors.Is(err, nats.ErrConnectionClosed) {
			l.why = last
		}
	}
	why := l.why
	l.mu.Unlock()
	l.nc.Close()
	return why
}

// confirm returns nil once the server has read everything that was written
// before. An answer that is late may be behind events, and as long as these
// arrive there is hope for it.
func (l *link) confirm(ctx context.Context) error {
	for {
		before := l.nc.Stats().InMsgs
		timed, cancel := context.WithTimeout(ctx, l.nc.Opts.FlusherTimeout)
		err := l.nc.FlushWithContext(timed)
		cancel()
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !errors.Is(err, context.DeadlineExceeded):
			return err
		case l.nc.Stats().InMsgs == before:
			return nats.ErrTimeout
		}
	}
}

// do calls write and waits for the confirmation. The server confirms also what
// it refused, and says before that it did: about subject, in an error that begins
// with one of the kinds.
func (l *link) do(ctx context.Context, subject string, write func() error, kinds ...string) error {
	before, errBefore := l.refusals.count(), l.nc.LastError()
	if err := write(); err != nil {
		return err
	}
	if err := l.confirm(ctx); err != nil {
		return err
	}
	return l.refusals.since(before, errBefore, l.nc.LastError, subject, kinds)
}

func (l *link) publish(ctx context.Context, m *nats.Msg) error {
	write := func() error { return l.nc.PublishMsg(m) }
	var err error
	if l.bus.unconfirmed && l.published.Add(1)%window != 0 {
		err = write()
	} else {
		err = l.do(ctx, m.Subject, write, refusedPublish)
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w event on %s: longer in all than the server's max_payload, %d bytes",
			bus.ErrInvalid, l.bus.topic(m.Subject), l.nc.MaxPayload())
	}
	return l.explain("publish on", m.Subject, err)
}

func (l *link) subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	s := &subscription{subject: l.bus.prefix + pattern}
	var m *bus.Mailbox
	m = bus.NewMailbox(l.bus.buffer, func() { l.forget(m, s) })
	l.subscribing.Lock()
	defer l.subscribing.Unlock()
	l.mu.Lock()
	if !l.ended {
		l.subs[m] = s
	}
	l.mu.Unlock()
	err := l.do(ctx, s.subject, func() error {
		sub, err := l.nc.Subscribe(s.subject, l.bus.receiver(m))
		l.mu.Lock()
		defer l.mu.Unlock()
		s.sub = sub
		return err
	}, refusedSubscribe, refusedTooMany)
	if err != nil {
		l.forget(m, s)
		_ = m.Close()
		return nil, l.explain("subscribe to", s.subject, err)
	}
	return m, nil
}

// refused is called with what the server says that it refuses. A subscription that
// it permits no longer would stay open and receive nothing, so it ends.
func (l *link) refused(err error) {
	l.refusals.add(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	for m, s := range l.subs {
		if isAbout(err, refusedSubscribe, s.subject) && m.End(l.bus.lost(err)) {
			delete(l.subs, m)
			if s.sub != nil {
				_ = s.sub.Unsubscribe() // the server has done so
			}
		}
	}
}

// receiver returns what delivers messages to m. The NATS client calls it for one
// message after the other, and drops new ones, because there have to be limits,
// if that takes too long.
func (b *Bus) receiver(m *bus.Mailbox) nats.MsgHandler {
	missed := 0 // messages that the client has dropped so far
	return func(msg *nats.Msg) {
		if n, err := msg.Sub.Dropped(); err == nil && n > missed {
			b.dropped.Add(uint64(n - missed))
			missed = n
		}
		if reserved(msg.Subject) {
			return
		}
		ev, err := open(b.topic(msg.Subject), msg)
		if err != nil || m.Deliver(ev) {
			b.dropped.Add(1)
		}
	}
}

// explain returns the error that the caller is to see.
func (l *link) explain(what, subject string, err error) error {
	refused := errors.Is(err, nats.ErrPermissionViolation) || errors.Is(err, nats.ErrMaxSubscriptionsExceeded)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case refused:
		return fmt.Errorf("natsbus: the server refuses to let this client %s %q: %w", what, subject, err)
	case l.bus.keeper.Closed():
		return bus.ErrClosed
	}
	return l.bus.lost(l.fail(err))
}

// forget removes a subscription that has ended.
func (l *link) forget(m *bus.Mailbox, s *subscription) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subs, m)
	if s.sub != nil {
		_ = s.sub.Unsubscribe() // fails without a connection, which does it as well
	}
}

// End ends every subscription.
func (l *link) End(reason error) {
	l.mu.Lock()
	subs := l.subs
	l.subs, l.ended = nil, true
	l.mu.Unlock()
	for m := range subs {
		m.End(reason)
	}
}

// drain waits until the server has read everything and what it sent before is
// delivered, and closes the connection.
func (l *link) drain() {
	if l.nc.FlushTimeout(grace) == nil {
		delivered := make(chan struct{})
		if l.nc.Barrier(func() { close(delivered) }) == nil {
			select {
			case <-delivered:
			case <-time.After(grace):
			}
		}
	}
	l.nc.Close()
}
