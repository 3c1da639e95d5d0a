package unixbus

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
)

var (
	errBye  = errors.New("the server said goodbye")
	errHung = fmt.Errorf("the server has not read for %v", hung)
)

// link is one connection to a server, with the subscriptions made on it.
//
// What is to be written is first put down under mu: events in the queue, and
// in interests who wants which pattern. Whoever holds the token then writes all
// there is, so that callers who are many write for each other. If the server
// does not read, the link is stalled: callers leave the writing to flush, which
// has more time.
type link struct {
	bus  *Bus
	conn net.Conn
	subs atomic.Pointer[[]subscription] // replaced, never modified

	token   chan struct{} // of capacity 1: full while somebody writes
	batch   []byte        // what is being written; the holder's of the token, as what follows
	rest    []byte        // what of batch is still to be written
	frames  [][]byte      // room for what comes from the queue
	waiting []chan struct{}

	overdue chan struct{} // of capacity 1: flush has something to write
	done    chan struct{} // closed when the connection is over

	mu        sync.Mutex
	queue     queue
	inBatch   int // events in batch
	interests map[string]*interest
	changed   bool          // interests differ from what the server was told
	stalled   chan struct{} // closed while the link is stalled
	bye       bool          // the server is to be told that this is the end
	err       error         // why calls fail
	over      bool          // done is closed, or about to be
}

// subscription receives the events whose topics match a pattern.
type subscription struct {
	pattern string
	*bus.Mailbox
}

// interest is what the server was and has to be told about a pattern.
type interest struct {
	subs int           // how many subscriptions want it
	told bool          // the server was, or is in a moment
	sent chan struct{} // closed when that was written
}

func newLink(b *Bus, conn net.Conn) *link {
	l := &link{
		bus:       b,
		conn:      conn,
		token:     make(chan struct{}, 1),
		rest:      b.hello,
		overdue:   make(chan struct{}, 1),
		done:      make(chan struct{}),
		queue:     b.queue,
		interests: make(map[string]*interest),
		stalled:   make(chan struct{}),
	}
	l.subs.Store(new([]subscription))
	return l
}

// Serve implements [reconnect.Link]. It introduces the client and handles what the
// server sends until the connection is lost, and returns why.
func (l *link) Serve(ctx context.Context) error {
	defer context.AfterFunc(ctx, func() { l.End(bus.ErrClosed) })()
	var flushing sync.WaitGroup
	flushing.Go(l.flush)
	l.mu.Lock()
	stalled := l.stalled
	l.mu.Unlock()
	l.write(stalled) // hello, unless somebody else has done so
	err := lost(l.bus.path, l.read())
	l.End(err)
	flushing.Wait()
	return err
}

// read delivers events until there are no more.
func (l *link) read() error {
	r := reader{src: l.conn}
	var topic string // the last one: most events are on few
	for {
		f, err := r.next()
		switch {
		case err != nil:
			return err
		case f.verb == verbBye:
			return errBye
		case f.verb != verbEvt: // nothing that a server says
			continue
		}
		if string(f.arg) != topic {
			topic = string(f.arg)
		}
		ev, err := open(topic, f.body)
		if err != nil {
			l.bus.dropped.Add(1)
			continue
		}
		l.deliver(ev)
	}
}

// deliver hands ev to the subscriptions that want it.
func (l *link) deliver(ev bus.Event) {
	for _, s := range *l.subs.Load() {
		if bus.Match(s.pattern, ev.Topic) && s.Deliver(ev) {
			l.bus.dropped.Add(1)
		}
	}
}

// publish writes a frame, or puts it into the queue of a link that is stalled.
func (l *link) publish(f []byte) error {
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return l.err
	}
	dropped := l.queue.push(f)
	stalled := l.stalled
	l.mu.Unlock()
	l.bus.dropped.Add(uint64(dropped))
	l.write(stalled)
	return l.reason()
}

// reason returns why calls fail, or nil if they do not.
func (l *link) reason() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *link) subscribe(ctx context.Context, pattern string) (bus.Subscription, error) {
	s := subscription{pattern: pattern}
	s.Mailbox = bus.NewMailbox(l.bus.buffer, func() { l.forget(s) })
	l.mu.Lock()
	if l.err != nil {
		defer l.mu.Unlock()
		return nil, l.err
	}
	want := l.interests[pattern]
	if want == nil {
		want = &interest{sent: make(chan struct{})}
		l.interests[pattern] = want
	}
	want.subs++
	l.changed = l.changed || !want.told
	subs := append(slices.Clone(*l.subs.Load()), s)
	l.subs.Store(&subs)
	stalled := l.stalled
	l.mu.Unlock()
	l.write(stalled)
	select {
	case <-want.sent:
		return s.Mailbox, nil
	case <-l.done:
		return nil, l.reason()
	case <-ctx.Done():
		_ = s.Close()
		return nil, ctx.Err()
	}
}

// forget removes a subscription that has ended. It does not wait for the server
// to be told.
func (l *link) forget(s subscription) {
	l.mu.Lock()
	if l.err != nil {
		l.mu.Unlock()
		return
	}
	subs := slices.Clone(*l.subs.Load())
	subs = slices.DeleteFunc(subs, func(other subscription) bool { return other == s })
	l.subs.Store(&subs)
	want := l.interests[s.pattern]
	want.subs--
	l.changed = l.changed || want.subs == 0
	stalled := l.stalled
	l.mu.Unlock()
	l.write(stalled)
}

// write sees to it that everything is written that was put down before, unless
// the link is stalled, by then or in the meantime.
func (l *link) write(stalled chan struct{}) {
	if isClosed(stalled) {
		return
	}
	select {
	case l.token <- struct{}{}:
	default:
		select {
		case l.token <- struct{}{}:
		case <-stalled:
			return
		case <-l.done:
			return
		}
	}
	if isClosed(stalled) {
		<-l.token
		return
	}
	err := l.writeAll(patience)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		l.mu.Lock()
		close(l.stalled) // it is the one above: it is closed, and made anew, with the token only
		l.mu.Unlock()
		l.wakeFlush()
	}
	<-l.token
	if err != nil && !late {
		l.End(lost(l.bus.path, err))
	}
}

func (l *link) wakeFlush() {
	select {
	case l.overdue <- struct{}{}:
	default:
	}
}

// flush writes what a server that did not read has left in the queue, until
// the connection is over.
func (l *link) flush() {
	for {
		select {
		case <-l.overdue:
		case <-l.done:
			return
		}
		select {
		case l.token <- struct{}{}:
		case <-l.done:
			return
		}
		var err error
		for caughtUp := false; !caughtUp && err == nil; {
			if err = l.writeAll(hung); err == nil {
				caughtUp = l.catchUp()
			}
		}
		<-l.token
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = errHung
		}
		if err != nil {
			l.End(lost(l.bus.path, err))
		}
	}
}

// catchUp ends a stall if there is nothing left to write, and reports whether
// that is so.
func (l *link) catchUp() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.queue.len() > 0 || l.changed {
		return false
	}
	if isClosed(l.stalled) {
		l.stalled = make(chan struct{})
	}
	return true
}

func isClosed(c chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// writeAll writes until there is nothing left. It fails with
// [os.ErrDeadlineExceeded] if the server leaves no room for that long, and can
// be called again then. The caller holds the token.
func (l *link) writeAll(patience time.Duration) error {
	for {
		if len(l.rest) == 0 && !l.compose() {
			return nil
		}
		if err := l.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := l.conn.Write(l.rest)
		l.rest = l.rest[n:]
		if err != nil {
			return err
		}
	}
}

// compose, called when a batch has been written, makes the next one. It returns
// false if there is nothing to write.
func (l *link) compose() bool {
	for _, sent := range l.waiting {
		close(sent)
	}
	l.waiting = l.waiting[:0]
	if l.batch = l.batch[:0]; cap(l.batch) > 2*maxBatch {
		l.batch = nil
	}
	l.mu.Lock()
	if l.changed {
		l.changed = false
		l.tell()
	}
	l.frames = l.queue.batch(l.frames[:0])
	l.inBatch = len(l.frames)
	bye := l.bye && l.queue.len() == 0
	l.bye = l.bye && !bye
	l.mu.Unlock()
	for i, f := range l.frames {
		l.batch = append(l.batch, f...)
		l.frames[i] = nil
	}
	if bye {
		l.batch = appendFrame(l.batch, verbBye, "")
	}
	l.rest = l.batch
	return len(l.rest) > 0
}

// tell puts into the batch what the server does not know of the interests. The
// caller holds mu.
func (l *link) tell() {
	for pattern, want := range l.interests {
		switch {
		case want.subs > 0 && !want.told:
			l.batch = appendFrame(l.batch, verbSub, pattern)
			l.waiting = append(l.waiting, want.sent)
			want.told = true
		case want.subs == 0:
			if want.told {
				l.batch = appendFrame(l.batch, verbUnsub, pattern)
			}
			delete(l.interests, pattern)
		}
	}
}

// close says goodbye after what is in the queue, and ends everything.
func (l *link) close() {
	l.mu.Lock()
	if l.err == nil {
		l.err = bus.ErrClosed
		l.bye = true
	}
	l.mu.Unlock()
	l.endAll()
	timer := time.AfterFunc(grace, func() { l.End(bus.ErrClosed) })
	defer timer.Stop()
	select {
	case l.token <- struct{}{}:
		_ = l.writeAll(grace)
		<-l.token
	case <-l.done:
	}
	l.End(bus.ErrClosed)
}

// End implements [reconnect.Link]. It ends the connection, the subscriptions, and all
// calls that wait for it.
func (l *link) End(reason error) {
	l.mu.Lock()
	if l.over {
		l.mu.Unlock()
		return
	}
	l.over = true
	if l.err == nil {
		l.err = reason
	}
	if isClosed(l.stalled) { // otherwise those who published them get an error
		l.bus.dropped.Add(uint64(l.inBatch + l.queue.clear()))
	}
	l.mu.Unlock()
	_ = l.conn.Close()
	close(l.done)
	l.endAll()
}

// endAll ends the subscriptions. Nobody can subscribe any more.
func (l *link) endAll() {
	reason := l.reason()
	for _, s := range *l.subs.Load() {
		s.End(reason)
	}
}
