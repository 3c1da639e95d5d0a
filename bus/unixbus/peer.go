package unixbus

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/bus"
)

// peer is a client, as the server sees it.
type peer struct {
	server   *Server
	conn     net.Conn
	patterns atomic.Pointer[[]pattern] // replaced, never modified
	wake     chan struct{}             // of capacity 1: there is something to write

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
	p.patterns.Store(new([]pattern))
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
			if string(f.arg) != topic {
				topic = string(f.arg)
			}
			e, err := envelope(f.body)
			switch {
			case topic == "":
				return fmt.Errorf("%w: %s without a topic", errMalformed, f.verb)
			case err != nil:
				return fmt.Errorf("%w: on %.300q: %w", errMalformed, topic, err)
			case falsy(e.Payload):
				e.Payload = nil
			}
			woken = p.server.publish(p, topic, e, woken)
		case verbSub:
			if len(f.arg) == 0 {
				return fmt.Errorf("%w: %s without a pattern", errMalformed, f.verb)
			}
			if err := p.subscribe(string(f.arg)); err != nil {
				return err
			}
		case verbUnsub:
			if len(f.arg) == 0 {
				return fmt.Errorf("%w: %s without a pattern", errMalformed, f.verb)
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

func (p *peer) subscribe(text string) error {
	patterns := *p.patterns.Load()
	if slices.ContainsFunc(patterns, func(other pattern) bool { return other.text == text }) {
		return nil
	}
	if len(patterns) >= maxPatterns {
		return fmt.Errorf("%w: more than %d subscriptions", errMalformed, maxPatterns)
	}
	added := parsePattern(text)
	if added.match == "" {
		p.server.oddNotes.warn(p.server.log, "a client subscribed to a malformed pattern, which matches nothing",
			"client", p.label(), "pattern", text[:min(len(text), bus.MaxTopic)])
	}
	p.setPatterns(append(slices.Clone(patterns), added))
	return nil
}

func (p *peer) unsubscribe(text string) {
	patterns := slices.Clone(*p.patterns.Load())
	p.setPatterns(slices.DeleteFunc(patterns, func(other pattern) bool { return other.text == text }))
}

func (p *peer) setPatterns(patterns []pattern) {
	p.patterns.Store(&patterns)
	p.server.mu.Lock()
	defer p.server.mu.Unlock()
	p.server.setReader(p, len(patterns) > 0)
}

// wants reports whether the client has subscribed to topic.
func (p *peer) wants(topic string) bool {
	for _, pattern := range *p.patterns.Load() {
		if pattern.match != "" && bus.Match(pattern.match, topic) {
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
			err = p.writeOut(frames[0])
		default:
			batch = batch[:0]
			for _, f := range frames {
				batch = append(batch, f...)
			}
			err = p.writeOut(batch)
		}
		clear(frames)
	}
	p.mu.Lock()
	leaving := p.leaving
	p.mu.Unlock()
	if leaving { // and does not read, or has gone
		p.hangUp()
		return
	}
	// It reads no more, but what it has said before it left is still to be
	// heard: the connection stays open until read has come to its end.
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mute = true
	p.queue.clear()
}

// slice is how long a write to a client that is leaving may make no progress
// before it is looked at again. Two of them in a row end the connection.
const slice = grace / 2

// writeOut writes b. While the client is leaving, it fails when the client reads
// nothing for a second.
func (p *peer) writeOut(b []byte) error {
	for idle := 0; ; {
		n, err := p.conn.Write(b)
		b = b[n:]
		if !errors.Is(err, os.ErrDeadlineExceeded) {
			return err
		}
		if idle++; n > 0 {
			idle = 0
		}
		if idle == 2 {
			return err
		}
		if err := p.conn.SetWriteDeadline(time.Now().Add(slice)); err != nil {
			return err
		}
	}
}

// dismiss ends the connection after what is in the queue.
func (p *peer) dismiss() {
	p.mu.Lock()
	if !p.leaving {
		p.leaving = true
		if p.mute {
			_ = p.conn.Close()
		}
		p.queue.add(appendFrame(nil, verbBye, "")) // and drops nothing for it
		_ = p.conn.SetWriteDeadline(time.Now().Add(slice))
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
