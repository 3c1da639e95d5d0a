package unixbus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/decnet/enrich/bus"
)

// peer is a client, as the server sees it.
type peer struct {
	server   *Server
	conn     net.Conn
	patterns atomic.Pointer[[]string] // replaced, never modified
	wake     chan struct{}            // of capacity 1: there is something to write

	mu      sync.Mutex
	name    string // what it calls itself
	queue   queue
	dropped uint64
	mute    bool // nothing can be written any more
	leaving bool // nothing more will be queued
}

func newPeer(s *Server, conn net.Conn) *peer {
	p := &peer{
		server: s,
		conn:   conn,
		wake:   make(chan struct{}, 1),
		queue:  queue{maxFrames: s.options.Queue, maxBytes: s.options.QueueBytes},
	}
	p.patterns.Store(new([]string))
	return p
}

// read does what the client says until it has gone.
func (p *peer) read() {
	err := p.obey()
	if errors.Is(err, errMalformed) {
		p.server.refused.Add(1)
		p.server.badNotes.warn(p.server.log, "ended a connection", "client", p.label(), "error", err)
	} else {
		p.server.log.Debug("a client has gone", "client", p.label(), "error", err)
	}
	if n := p.droppedEvents(); n > 0 {
		p.server.goneNotes.warn(p.server.log, "a client that did not keep up has gone", "client", p.label(), "dropped", n)
	}
	p.hangUp()
}

// obey does what the client says, and returns nil if it says goodbye.
func (p *peer) obey() error {
	var (
		woken []*peer
		topic string // the last one: most events are on few
	)
	wakeAll := func() {
		for _, other := range woken {
			other.wakeUp()
		}
		woken = woken[:0]
	}
	defer wakeAll()
	// Those who get something are woken when all that has arrived is queued for
	// them, or much of it, so that they write it at once.
	r := reader{src: p.conn, waiting: wakeAll}
	for {
		f, err := r.next()
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		switch f.verb {
		case verbPub:
			if topic == "" || string(f.arg) != topic {
				if !validTopic(f.arg) {
					return fmt.Errorf("%w: not a topic: %.300q", errMalformed, f.arg)
				}
				topic = string(f.arg)
			}
			e, err := envelope(f.body)
			if err == nil && (e.Type != nil && e.Type[0] != '"' || e.Payload != nil && e.Payload[0] != '{') {
				err = errors.New("the type is not a string, or the payload is not an object")
			}
			if err != nil {
				return fmt.Errorf("%w: on %.300q: %w", errMalformed, topic, err)
			}
			woken = p.server.publish(p, topic, e, woken)
		case verbSub:
			if !validPattern(f.arg) {
				return fmt.Errorf("%w: not a pattern: %.300q", errMalformed, f.arg)
			}
			if err := p.subscribe(string(f.arg)); err != nil {
				return err
			}
		case verbUnsub:
			if !validPattern(f.arg) {
				return fmt.Errorf("%w: not a pattern: %.300q", errMalformed, f.arg)
			}
			p.unsubscribe(string(f.arg))
		case verbHello:
			p.greet(string(f.arg))
		case verbBye:
			return nil
		default:
			return fmt.Errorf("%w: %s from a client", errMalformed, f.verb)
		}
	}
}

func (p *peer) greet(name string) {
	const maxName = 64
	p.mu.Lock()
	p.name = name[:min(len(name), maxName)]
	p.mu.Unlock()
	p.server.log.Debug("a client has come", "client", p.label())
}

// label returns what the client is called in the log.
func (p *peer) label() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.name == "" {
		return "unnamed"
	}
	return p.name
}

func (p *peer) subscribe(pattern string) error {
	patterns := *p.patterns.Load()
	if slices.Contains(patterns, pattern) {
		return nil
	}
	if len(patterns) >= maxPatterns {
		return fmt.Errorf("%w: more than %d subscriptions", errMalformed, maxPatterns)
	}
	p.setPatterns(append(slices.Clone(patterns), pattern))
	return nil
}

func (p *peer) unsubscribe(pattern string) {
	patterns := slices.Clone(*p.patterns.Load())
	p.setPatterns(slices.DeleteFunc(patterns, func(other string) bool { return other == pattern }))
}

func (p *peer) setPatterns(patterns []string) {
	p.patterns.Store(&patterns)
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.server.setReader(p, len(patterns) > 0)
}

// wants reports whether the client has subscribed to topic.
func (p *peer) wants(topic string) bool {
	for _, pattern := range *p.patterns.Load() {
		if bus.Match(pattern, topic) {
			return true
		}
	}
	return false
}

// wakeEvery is how many frames at most are queued for a writer that is idle
// before it is woken.
const wakeEvery = 128

// push queues a frame and reports whether the writer has to be woken for it
// when there is no more to come.
func (p *peer) push(f []byte) (wake bool) {
	p.mu.Lock()
	if p.mute || p.leaving {
		p.mu.Unlock()
		return false
	}
	wake = p.queue.len() == 0
	dropped := p.queue.push(f)
	p.dropped += uint64(dropped)
	total, long := p.dropped, p.queue.len()%wakeEvery == 0
	p.mu.Unlock()
	if long {
		p.wakeUp()
	}
	if dropped > 0 {
		p.server.dropped.Add(uint64(dropped))
		p.server.dropNotes.warn(p.server.log, "a client does not keep up; dropped its oldest events", "client", p.label(), "dropped", total)
	}
	return wake
}

func (p *peer) droppedEvents() uint64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.dropped
}

func (p *peer) wakeUp() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write writes what is queued until that fails, or the client leaves.
func (p *peer) write() {
	var (
		frames [][]byte
		batch  []byte
		err    error
	)
	for err == nil {
		p.mu.Lock()
		frames = p.queue.batch(frames[:0])
		leaving := p.leaving
		p.mu.Unlock()
		switch len(frames) {
		case 0:
			if leaving {
				p.hangUp()
				return
			}
			<-p.wake
			continue
		case 1:
			_, err = p.conn.Write(frames[0])
		default:
			batch = batch[:0]
			for _, f := range frames {
				batch = append(batch, f...)
			}
			_, err = p.conn.Write(batch)
		}
		clear(frames)
	}
	// It reads no more, but what it has said before it left is still to be
	// heard: the connection stays open until read has come to its end.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
	p.queue.clear()
}

// dismiss ends the connection after what is in the queue.
func (p *peer) dismiss() {
	p.mu.Lock()
	if !p.leaving {
		p.leaving = true
		if p.mute {
			_ = p.conn.Close()
		}
		p.server.dropped.Add(uint64(p.queue.push(appendFrame(nil, verbBye, ""))))
	}
	p.mu.Unlock()
	p.wakeUp()
}

// hangUp ends the connection at once.
func (p *peer) hangUp() {
	p.mu.Lock()
	p.leaving = true
	p.queue.clear()
	p.mu.Unlock()
	_ = p.conn.Close()
	p.wakeUp()
}
