package unixbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/backoff"
)

// The values that [Options] and [ServerOptions] leave open.
const (
	// DefaultName is what a client calls itself.
	DefaultName = "enrich"
	// DefaultQueue is the number of events that are held for a server that does
	// not read, for a subscriber, and for a client that does not read.
	DefaultQueue = 1024
	// DefaultQueueBytes is the number of bytes that are held for a server or a
	// client that does not read.
	DefaultQueueBytes = 8 << 20
)

const (
	dialTimeout = time.Second
	// The delays between two attempts to connect. That to a socket on the same
	// machine costs next to nothing.
	retryMin = 50 * time.Millisecond
	retryMax = 500 * time.Millisecond
	// patience is how long Publish waits for a server that does not read, once;
	// what follows goes to the queue at once until the server reads again.
	patience = 100 * time.Millisecond
	// hung is how long a server may read nothing while something is to be
	// written. After that the connection counts as lost.
	hung = 10 * time.Second
	// grace is how long Close, of a client or of the server, waits until what
	// is queued has been written.
	grace = time.Second
	// spare is how many bytes longer the server may make an envelope, with an
	// id and a time of its own.
	spare = 64
)

// Options configures a [Bus]. The zero value is usable.
type Options struct {
	// Path is the server's socket. Empty means [SocketPath], at the time of New.
	Path string
	// Name is how the client introduces itself, for the server's log: printable
	// ASCII, at most 255 bytes. Empty means [DefaultName].
	Name string
	// Buffer is how many events a subscription holds for its reader before the
	// oldest is dropped. Zero or less means [DefaultQueue].
	Buffer int
	// Queue is how many events, and QueueBytes how many bytes of them, are held
	// while the server does not read, before the oldest is dropped. Zero or less
	// means [DefaultQueue] and [DefaultQueueBytes]. One event is held however
	// long it is.
	Queue      int
	QueueBytes int
}

// Bus is a client of a [Server], or of DECNET's own. Make one with [New]. It
// has one connection, which it opens at the first call of Publish or Subscribe
// and opens again, until Close, whenever it is lost: after 50 ms, and from then
// on with growing delays of up to half a second.
//
// The server does not send a client what it published itself. A Bus delivers
// that to its own subscriptions without the detour, with the ID and the time
// that it was published with; others see those that the server gives.
type Bus struct {
	path    string
	hello   []byte
	buffer  int
	queue   queue // an empty one with the limits
	dropped atomic.Uint64

	stop func() // ends run
	ctx  context.Context
	done chan struct{} // closed when run has ended

	mu      sync.Mutex
	running bool
	tried   chan struct{} // closed after the first attempt to connect
	link    *link         // nil without a connection
	err     error         // why there is none
}

var _ bus.Bus = (*Bus)(nil)

// New returns a bus that connects when it is used. It returns an error if o is
// wrong, and does not notice whether there is a server.
func New(o Options) (*Bus, error) {
	name := cmp.Or(o.Name, DefaultName)
	for _, c := range []byte(name) {
		if c < ' ' || c > '~' || len(name) > bus.MaxTopic {
			return nil, fmt.Errorf("unixbus: Options.Name: %.300q is not printable ASCII of at most %d bytes", name, bus.MaxTopic)
		}
	}
	b := &Bus{
		path:   cmp.Or(o.Path, SocketPath()),
		hello:  appendFrame(nil, verbHello, name),
		buffer: orDefault(o.Buffer, DefaultQueue),
		queue: queue{
			maxFrames: orDefault(o.Queue, DefaultQueue),
			maxBytes:  orDefault(o.QueueBytes, DefaultQueueBytes),
		},
		done:  make(chan struct{}),
		tried: make(chan struct{}),
	}
	b.ctx, b.stop = context.WithCancel(context.Background())
	return b, nil
}

func orDefault(n, value int) int {
	if n <= 0 {
		return value
	}
	return n
}

// Publish implements [bus.Bus]. It returns nil once the event was written to
// the socket, from where the server gets it even if this process dies, but not
// if the server dies first. A server that does not read is waited for, for a
// tenth of a second and once; after that nil means that the event is in a
// queue of this process, and if that gets too long, the oldest are dropped, see
// [Bus.Dropped]. A server that has not read for ten seconds counts as lost, and
// so does what is in the queue then.
//
// Beyond what [bus.Event.Validate] refuses, it refuses topics that are not
// ASCII, and events that are longer than 1 MiB in all.
func (b *Bus) Publish(ctx context.Context, ev bus.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ev.Complete()
	sealed, err := pack(&ev)
	if err != nil {
		return err
	}
	l, err := b.connected(ctx)
	if err != nil {
		return err
	}
	if err := l.publish(sealed); err != nil {
		return err
	}
	l.deliver(ev)
	return nil
}

// pack returns the frame that publishes ev, which needs an ID and a time.
func pack(ev *bus.Event) ([]byte, error) {
	if err := ev.Validate(); err != nil {
		return nil, err
	}
	if !ascii(ev.Topic) {
		return nil, fmt.Errorf("%w topic %q: the wire is ASCII", bus.ErrInvalid, ev.Topic)
	}
	e := bus.NewEnvelope(ev)
	sealed := seal(verbPub, ev.Topic, &e)
	if n := bodySize(sealed, ev.Topic); n > maxBody-spare {
		return nil, fmt.Errorf("%w event on %s: %d bytes long with its ID and type; at most %d are allowed",
			bus.ErrInvalid, ev.Topic, n, maxBody-spare)
	}
	return sealed, nil
}

// Subscribe implements [bus.Bus]. It returns when the request was written to
// the socket. Frames of one connection are handled in their order; an event of
// another client is missed if the server reads it before this request.
func (b *Bus) Subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	if err := bus.ValidatePattern(pattern); err != nil {
		return nil, err
	}
	if !ascii(pattern) {
		return nil, fmt.Errorf("%w pattern %q: the wire is ASCII", bus.ErrInvalid, pattern)
	}
	l, err := b.connected(ctx)
	if err != nil {
		return nil, err
	}
	return l.subscribe(ctx, pattern)
}

// Dropped returns how many events were dropped: because a subscriber or the
// server did not keep up, because the connection was lost while they were in
// the queue, or because what arrived was none.
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Close implements [bus.Bus]. It waits up to a second until what is in the
// queue has been written.
func (b *Bus) Close() error {
	b.mu.Lock()
	b.err = bus.ErrClosed
	l, running := b.link, b.running
	b.mu.Unlock()
	if l != nil {
		l.close()
	}
	b.stop()
	if running {
		<-b.done
	}
	return nil
}

// connected returns the connection that there is. The first caller starts what
// connects; the result of the first attempt is waited for, later ones are not.
func (b *Bus) connected(ctx context.Context) (*link, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.link == nil && b.err == nil {
		if !b.running {
			b.running = true
			go b.run()
		}
		b.mu.Unlock()
		select {
		case <-b.tried:
		case <-ctx.Done():
		}
		b.mu.Lock()
		if b.link == nil && b.err == nil {
			return nil, ctx.Err()
		}
	}
	if b.err != nil {
		return nil, b.err
	}
	return b.link, nil
}

// run connects, again and again, until Close.
func (b *Bus) run() {
	defer close(b.done)
	tried := sync.OnceFunc(func() { close(b.tried) })
	for failures := 0; b.ctx.Err() == nil; {
		started := time.Now()
		l, err := b.dial()
		if err == nil {
			b.set(l, nil)
			tried()
			err = l.serve()
		}
		b.set(nil, err)
		tried()
		failures = failed(failures, time.Since(started))
		select {
		case <-b.ctx.Done():
		case <-time.After(backoff.Delay(retryMin, retryMax, failures)):
		}
	}
}

// failed returns how many failures in a row there are after one more. A
// connection that lasted longer than the longest delay starts a new row.
func failed(failures int, lasted time.Duration) int {
	if lasted > retryMax {
		return 1
	}
	return failures + 1
}

// set tells what connection there is, or why there is none.
func (b *Bus) set(l *link, err error) {
	b.mu.Lock()
	closed := b.err == bus.ErrClosed
	if !closed {
		b.link, b.err = l, err
	}
	b.mu.Unlock()
	if closed && l != nil {
		l.lose(bus.ErrClosed)
	}
}

// dial opens a connection.
func (b *Bus) dial() (*link, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(b.ctx, "unix", b.path)
	if err != nil {
		return nil, lost(b.path, err)
	}
	return newLink(b, conn), nil
}

// lost returns a [bus.ErrLost] that says why, for which server.
func lost(path string, why error) error {
	if op, ok := errors.AsType[*net.OpError](why); ok {
		why = op.Err // the rest of it is the path again
	}
	return fmt.Errorf("%w: %s: %w", bus.ErrLost, path, why)
}
