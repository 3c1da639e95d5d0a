package unixbus

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/reconnect"
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
	// grace is how long Close of a client waits until what is queued has been
	// written, and Close of the server for a client that reads nothing.
	grace = time.Second
	// drain is how long the server's Close waits in all for clients that read.
	drain = 10 * time.Second
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
	keeper  *reconnect.Keeper[*link]
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
	path := cmp.Or(o.Path, SocketPath())
	if err := checkPath(path); err != nil {
		return nil, fmt.Errorf("unixbus: Options.Path: %w", err)
	}
	b := &Bus{
		path:   path,
		hello:  appendFrame(nil, verbHello, name),
		buffer: orDefault(o.Buffer, DefaultQueue),
		queue: queue{
			maxFrames: orDefault(o.Queue, DefaultQueue),
			maxBytes:  orDefault(o.QueueBytes, DefaultQueueBytes),
		},
	}
	b.keeper = reconnect.New(b.dial, retryMin, retryMax)
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
// A payload may be longer than [bus.MaxPayload]. Beyond what
// [bus.Event.Validate] refuses otherwise, Publish refuses topics that are not ASCII,
// and events that are longer than 1 MiB in all, less 64 bytes that the server may
// add.
func (b *Bus) Publish(ctx context.Context, ev bus.Event) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	ev.Complete()
	sealed, err := pack(&ev)
	if err != nil {
		return err
	}
	l, err := b.keeper.Get(ctx)
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
	if err := ev.ValidateSize(maxBody); err != nil {
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
	l, err := b.keeper.Get(ctx)
	if err != nil {
		return nil, err
	}
	return l.subscribe(ctx, pattern)
}

// Dropped returns how many events were dropped: because a subscriber or the
// server did not keep up, because the connection was lost while they were in
// the queue, or because what arrived was no event, see [bus.Envelope].
func (b *Bus) Dropped() uint64 { return b.dropped.Load() }

// Close implements [bus.Bus]. It waits up to a second until what is in the
// queue has been written.
func (b *Bus) Close() error {
	b.keeper.Close((*link).close)
	return nil
}

// dial opens a connection.
func (b *Bus) dial(ctx context.Context) (*link, error) {
	dialer := net.Dialer{Timeout: dialTimeout}
	conn, err := dialer.DialContext(ctx, "unix", b.path)
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
