package unixbus

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
)

// ErrInUse is wrapped by the error of [Server.Listen] when another server
// listens on the socket.
var ErrInUse = errors.New("another server listens on this socket")

// ErrPathLost is wrapped by the error of [Server.Serve] when the socket's path was
// removed, or belongs to another process: new clients can no longer connect.
var ErrPathLost = errors.New("the path of the socket is lost")

// DefaultGroup is the group that may connect if [ServerOptions] does not say.
const DefaultGroup = "decnet"

// DefaultMaxConns is how many connections a server has at once if
// [ServerOptions] does not say. One that is idle costs about 9 KiB.
const DefaultMaxConns = 16 << 10

// maxPatterns is how many patterns one connection may subscribe to.
const maxPatterns = 4096

// ServerOptions configures a [Server]. The zero value is usable.
type ServerOptions struct {
	// Path is where the socket is made. Empty means [SocketPath], at the time of
	// NewServer. A directory that does not exist is made, for the owner and the
	// group, but not the one it is in.
	Path string
	// Group is the group that may connect besides the owner. If there is no
	// such group, or the process may not give it the socket, it stays with the
	// group of the process. Empty means [DefaultGroup].
	Group string
	// Queue is how many events, and QueueBytes how many bytes of them, are held
	// for a client that does not read, before the oldest is dropped. Zero or
	// less means [DefaultQueue] and [DefaultQueueBytes]. One event is held
	// however long it is.
	Queue      int
	QueueBytes int
	// MaxConns is how many connections there may be at once; further ones are
	// closed. Zero or less means [DefaultMaxConns].
	MaxConns int
	// Log says what the server does: clients that come and go at level Debug,
	// what it drops and whom it refuses, no more than once in ten seconds each,
	// at Warn. Nil means [slog.Default].
	Log *slog.Logger
}

// Server is a bus on a UNIX socket. Make one with [NewServer]. Its methods are
// safe for concurrent use.
//
// What a client sends costs no more memory than one frame, and what it does not
// read no more than the limits in [ServerOptions]; it delays nobody else.
type Server struct {
	options ServerOptions
	path    string
	log     *slog.Logger

	events, dropped, refused       atomic.Uint64
	dropNotes, goneNotes, badNotes notes
	oddNotes                       notes
	readers                        atomic.Pointer[[]*peer] // that subscribe; replaced, never modified

	closing context.Context // done when Close is called
	close   context.CancelFunc

	mu       sync.Mutex
	listener *socket
	peers    map[*peer]struct{}
	closed   bool
	running  sync.WaitGroup // what serves the peers
}

// Stats are numbers about a [Server] since it was made.
type Stats struct {
	Conns   int    // connections at this time
	Events  uint64 // that were published
	Dropped uint64 // deliveries that were dropped because a client did not read
	Refused uint64 // connections that were ended for a malformed frame, or for being too many
}

// NewServer returns a server that does nothing yet.
func NewServer(o ServerOptions) *Server {
	o.Queue = orDefault(o.Queue, DefaultQueue)
	o.QueueBytes = orDefault(o.QueueBytes, DefaultQueueBytes)
	o.MaxConns = orDefault(o.MaxConns, DefaultMaxConns)
	o.Group = cmp.Or(o.Group, DefaultGroup)
	s := &Server{options: o, path: cmp.Or(o.Path, SocketPath()), log: o.Log, peers: make(map[*peer]struct{})}
	if s.log == nil {
		s.log = slog.Default()
	}
	s.readers.Store(new([]*peer))
	s.closing, s.close = context.WithCancel(context.Background())
	return s
}

// Path returns where the socket is.
func (s *Server) Path() string { return s.path }

// Stats returns what the server has done.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Stats{
		Conns: len(s.peers), Events: s.events.Load(), Dropped: s.dropped.Load(), Refused: s.refused.Load(),
	}
}

// Listen makes the socket, so that clients can connect; they are served as soon
// as [Server.Serve] is called. The file of a server that is gone is replaced.
// Listen fails with [ErrInUse] if another server listens, with [bus.ErrClosed]
// after Close, or with what the system says. It waits for at most 5 s for a lock
// that another process holds on the directory. Further calls return nil.
func (s *Server) Listen() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return bus.ErrClosed
	case s.listener != nil:
		return nil
	}
	l, err := listen(s.closing, s.path, s.options.Group, s.log)
	switch {
	case err != nil && s.closing.Err() != nil:
		return bus.ErrClosed
	case err != nil:
		return err
	}
	s.listener = l
	s.log.Info("the bus listens", "socket", s.path)
	return nil
}

// Serve serves clients until ctx is done or Close is called, and returns nil
// when all of them have been dismissed; after Close it does so at once. It
// calls Listen, and fails if that does. It looks at the socket's path every two
// seconds, and fails with [ErrPathLost] if that no longer leads to the socket.
func (s *Server) Serve(ctx context.Context) error {
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		_ = s.Close()
	})
	defer func() {
		if !stop() {
			<-closed
		}
	}()
	switch err := s.Listen(); {
	case errors.Is(err, bus.ErrClosed):
		return s.Close()
	case err != nil:
		return err
	}
	watched := make(chan error, 1)
	go func() { watched <- s.watch() }()
	for {
		conn, err := s.listener.accept(s.log)
		if err != nil {
			return errors.Join(s.Close(), <-watched)
		}
		s.serve(conn)
	}
}

// watchInterval is the time between two looks at the socket's path.
const watchInterval = 2 * time.Second

// watch closes the server when the socket's path is lost, and returns why. It
// returns nil when the server was closed.
func (s *Server) watch() error {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if err := s.listener.errGone(); err != nil && s.closing.Err() == nil {
				s.log.Error("the bus ends", "error", err)
				_ = s.Close()
				return err
			}
		case <-s.closing.Done():
			return nil
		}
	}
}

// serve starts serving a client, or refuses to.
func (s *Server) serve(conn net.Conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || len(s.peers) >= s.options.MaxConns {
		_ = conn.Close()
		if !s.closed {
			s.refused.Add(1)
			s.badNotes.warn(s.log, "too many connections; refusing another", "connections", len(s.peers))
		}
		return
	}
	p := newPeer(s, conn)
	s.peers[p] = struct{}{}
	s.running.Go(p.write)
	s.running.Go(func() {
		p.read()
		s.remove(p)
	})
}

// remove forgets a client that has gone.
func (s *Server) remove(p *peer) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.peers, p)
	s.setReader(p, false)
}

// setReader notes whether p subscribes to anything. The caller holds mu.
func (s *Server) setReader(p *peer, reads bool) {
	readers := *s.readers.Load()
	if slices.Contains(readers, p) == reads {
		return
	}
	if reads {
		readers = append(slices.Clone(readers), p)
	} else {
		readers = slices.DeleteFunc(slices.Clone(readers), func(other *peer) bool { return other == p })
	}
	s.readers.Store(&readers)
}

// publish passes an event on to everyone who wants it and is not from. It
// returns those in woken who have to be woken.
func (s *Server) publish(from *peer, topic string, e bus.Envelope, woken []*peer) []*peer {
	s.events.Add(1)
	var f []byte
	for _, p := range *s.readers.Load() {
		if p == from || !p.wants(topic) {
			continue
		}
		if f == nil {
			e.ID, e.TS = nil, nil // new ones
			if f = seal(verbEvt, topic, &e); bodySize(f, topic) > maxBody {
				s.dropped.Add(1)
				s.dropNotes.warn(s.log, "dropped an event that is too long with its envelope", "topic", topic)
				return woken
			}
		}
		if p.push(f) {
			woken = append(woken, p)
		}
	}
	return woken
}

// Publish passes an event of the server's own on to all clients that want it. It
// fails with an error that wraps [bus.ErrInvalid] for an event that a [Bus] could
// not publish. Clients see an ID and a time that the server gives.
func (s *Server) Publish(ev bus.Event) error {
	ev.Complete()
	if _, err := pack(&ev); err != nil {
		return err
	}
	for _, p := range s.publish(nil, ev.Topic, bus.NewEnvelope(&ev), nil) {
		p.wakeUp()
	}
	return nil
}

// Close dismisses all clients, each after what is in its queue, and removes the
// socket. It waits for a client as long as that reads something every second, and
// for ten seconds in all. It returns when nothing is left running; further calls
// wait for that too and return nil.
func (s *Server) Close() error {
	s.close()
	s.mu.Lock()
	first := !s.closed
	s.closed = true
	if first && s.listener != nil {
		_ = s.listener.Close()
	}
	for p := range s.peers {
		p.dismiss()
	}
	s.mu.Unlock()
	timer := time.AfterFunc(drain, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		for p := range s.peers {
			p.hangUp()
		}
	})
	defer timer.Stop()
	s.running.Wait()
	if first && s.listener != nil {
		s.log.Info("the bus is closed", "socket", s.path)
	}
	return nil
}

// noteInterval is the least time between two lines of one kind in the log.
const noteInterval = 10 * time.Second

// notes writes lines to the log, but not too many.
type notes struct {
	next   atomic.Int64 // when the next line may be written, in Unix nanoseconds
	hushed atomic.Int64 // lines that were not
}

func (n *notes) warn(log *slog.Logger, message string, args ...any) {
	now, next := time.Now().UnixNano(), n.next.Load()
	if now < next || !n.next.CompareAndSwap(next, now+int64(noteInterval)) {
		n.hushed.Add(1)
		return
	}
	if hushed := n.hushed.Swap(0); hushed > 0 {
		args = append(args, "similar", hushed)
	}
	log.Warn(message, args...)
}
