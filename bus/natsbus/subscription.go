package natsbus

import (
	"sync"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus"
)

// subscription is what Subscribe returns.
type subscription struct {
	link   *link
	nats   *nats.Subscription
	events chan bus.Event
	missed int // messages that the NATS client dropped, so far; for receive alone

	mu  sync.Mutex // held by who sends on or closes events
	err error      // set before events is closed
}

// receive takes a message from the NATS client, which calls it for one after
// the other and drops new ones, because there have to be limits, if that takes
// too long.
func (s *subscription) receive(m *nats.Msg) {
	b := s.link.bus
	if n, err := m.Sub.Dropped(); err == nil && n > s.missed {
		b.dropped.Add(uint64(n - s.missed))
		s.missed = n
	}
	if reserved(m.Subject) {
		return
	}
	ev, ok := open(b.topic(m.Subject), m)
	if !ok {
		b.dropped.Add(1)
		return
	}
	s.deliver(ev)
}

// deliver puts ev into the buffer, in place of the oldest event if it is full.
func (s *subscription) deliver(ev bus.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	for {
		select {
		case s.events <- ev:
			return
		default:
		}
		select {
		case <-s.events:
			s.link.bus.dropped.Add(1)
		default: // the reader was faster
		}
	}
}

func (s *subscription) Events() <-chan bus.Event { return s.events }

func (s *subscription) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

func (s *subscription) Close() error {
	if s.end(bus.ErrClosed) {
		s.link.forget(s)
	}
	if s.nats != nil {
		_ = s.nats.Unsubscribe() // fails without a connection, which does it as well
	}
	return nil
}

// end ends the subscription and reports whether it had not ended before.
func (s *subscription) end(reason error) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return false
	}
	s.err = reason
	close(s.events)
	return true
}
