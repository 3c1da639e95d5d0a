package intake

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"

	"github.com/decnet/enrich/intel/sighting"
)

const (
	// maxConnections is how many connections a listener reads at once.
	maxConnections = 256
	// flushAfter is how long an attacker from a connection may wait for others to be
	// stored with.
	flushAfter = 200 * time.Millisecond
)

// Listen takes attackers from what is sent over connections to l, such as those of
// Cowrie's output plugin socketlog: any text that a [sighting.Reader] reads, with
// lines or JSON. It closes l and returns nil when ctx is done; what was read by
// then is stored. It returns an error if l fails.
//
// The protocol acknowledges nothing: what was sent and not yet stored when the
// process is killed is lost. A connection beyond the 256th is closed at once, and
// logged. While the store fails, connections are not read, so their senders have to
// wait.
func (in *Intake) Listen(ctx context.Context, l net.Listener) error {
	stop := context.AfterFunc(ctx, func() { _ = l.Close() })
	defer stop()
	defer l.Close()
	var (
		readers sync.WaitGroup
		slots   = make(chan struct{}, maxConnections)
	)
	defer readers.Wait()
	for {
		conn, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				_ = conn.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("intake: accept connections: %w", err)
		case err != nil: // too many open files, for example
			in.log.Warn("cannot accept a connection", "error", err)
			select {
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			in.log.Warn("a connection is refused: there are too many", "from", conn.RemoteAddr().String(), "most", maxConnections)
			_ = conn.Close()
			continue
		}
		readers.Go(func() {
			defer func() { <-slots }()
			in.receive(ctx, conn)
		})
	}
}

// receive reads a connection to its end, or until ctx is done.
func (in *Intake) receive(ctx context.Context, conn net.Conn) {
	from := conn.RemoteAddr().String()
	defer conn.Close()
	src := &connection{conn: conn}
	r := sighting.NewReader(src, in.reader())
	var b batch
	// What was read is stored even if ctx is done, if the store takes it soon.
	flush := func() error {
		src.deadline = time.Time{}
		if len(b.list) == 0 {
			return nil
		}
		ctx := ctx
		if ctx.Err() != nil {
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
			defer cancel()
			ctx = grace
		}
		err := in.persist(ctx, from, func() error { return in.observe(ctx, b.list) })
		b.reset()
		return err
	}
	for {
		s, err := r.Next()
		switch {
		case err == nil:
			b.add(s.Addr, s.Time)
			if src.deadline.IsZero() {
				src.deadline = time.Now().Add(flushAfter)
			}
			if len(b.list) < maxBatch && time.Now().Before(src.deadline) {
				continue
			}
		case errors.Is(err, sighting.ErrWait) && ctx.Err() == nil:
		case errors.Is(err, sighting.ErrWait), errors.Is(err, io.EOF):
			if err := flush(); err != nil {
				in.log.Error("attackers from a connection are lost", "from", from, "error", err)
			}
			in.reportRead(from, r.Report())
			return
		default:
			_ = flush() // logged by persist
			in.log.Warn("a connection ended", "from", from, "error", err)
			return
		}
		if flush() != nil {
			return // ctx is done; the next read says so
		}
	}
}

// connection is a source that has no more for now when its deadline is over.
type connection struct {
	conn     net.Conn
	deadline time.Time // by which what was read has to be stored; zero: nothing was
}

func (c *connection) Read(p []byte) (int, error) {
	deadline := c.deadline
	if deadline.IsZero() {
		deadline = time.Now().Add(time.Second) // to see whether to stop
	}
	_ = c.conn.SetReadDeadline(deadline) // if it fails, so does Read
	n, err := c.conn.Read(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		err = sighting.ErrWait
	}
	return n, err
}
