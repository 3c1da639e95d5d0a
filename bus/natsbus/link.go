package natsbus

import (
	"context"
	"errors"
	"fmt"
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

	mu    sync.Mutex
	subs  map[*bus.Mailbox]struct{}
	ended bool
	why   error // the first failure of a call
}

func newLink(b *Bus, nc *nats.Conn) *link {
	return &link{bus: b, nc: nc, closed: nc.StatusChanged(nats.CLOSED), subs: make(map[*bus.Mailbox]struct{})}
}

// serve waits until the connection is lost, and returns why it was. When ctx is
// done it closes the connection.
func (l *link) serve(ctx context.Context) error {
	if !l.nc.IsClosed() { // which it may have been before it could be listened for
		select {
		case <-l.closed:
		case <-ctx.Done():
			l.nc.Close()
		}
	}
	return l.fail(nats.ErrConnectionClosed)
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
// it refused, and says that it did before.
func (l *link) do(ctx context.Context, write func() error) error {
	before := l.nc.LastError()
	if err := write(); err != nil {
		return err
	}
	if err := l.confirm(ctx); err != nil {
		return err
	}
	after := l.nc.LastError()
	if after != before && (errors.Is(after, nats.ErrPermissionViolation) || errors.Is(after, nats.ErrMaxSubscriptionsExceeded)) {
		return &refusal{after}
	}
	return nil
}

// refusal is an error of the server's. It is about what was written, or about
// what was written at the same time: then the server may have had another to
// tell of before, so that nothing is certain.
type refusal struct{ error }

func (r *refusal) Unwrap() error { return r.error }

func (l *link) publish(ctx context.Context, m *nats.Msg) error {
	write := func() error { return l.nc.PublishMsg(m) }
	var err error
	if l.bus.unconfirmed && l.published.Add(1)%window != 0 {
		err = write()
	} else {
		err = l.do(ctx, write)
	}
	if errors.Is(err, nats.ErrMaxPayload) {
		return fmt.Errorf("%w event on %s: longer in all than the server's max_payload, %d bytes",
			bus.ErrInvalid, l.bus.topic(m.Subject), l.nc.MaxPayload())
	}
	return l.explain("publish on", m.Subject, err)
}

func (l *link) subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	subject := l.bus.prefix + pattern
	var (
		m   *bus.Mailbox
		sub *nats.Subscription
	)
	m = bus.NewMailbox(l.bus.buffer, func() {
		l.forget(m)
		_ = sub.Unsubscribe() // fails without a connection, which does it as well
	})
	l.mu.Lock()
	if !l.ended {
		l.subs[m] = struct{}{}
	}
	l.mu.Unlock()
	err := l.do(ctx, func() (err error) {
		sub, err = l.nc.Subscribe(subject, l.bus.receiver(m))
		return err
	})
	if err != nil {
		_ = m.Close()
		return nil, l.explain("subscribe to", subject, err)
	}
	return m, nil
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
	_, refused := errors.AsType[*refusal](err)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return err
	case refused:
		return fmt.Errorf("natsbus: the server refuses to let this client %s %q, or something else at the same time: %w", what, subject, err)
	case l.bus.closed():
		return bus.ErrClosed
	}
	return l.bus.lost(l.fail(err))
}

// forget removes a subscription that has ended.
func (l *link) forget(m *bus.Mailbox) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.subs, m)
}

// end ends every subscription.
func (l *link) end() {
	l.bus.mu.Lock()
	reason := l.bus.err
	l.bus.mu.Unlock()
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
