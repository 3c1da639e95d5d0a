package unixbus

import (
	"sync"
	"sync/atomic"

	"github.com/decnet/enrich/bus"
)

// subscription is what Subscribe returns.
type subscription struct {
	link    *link
	pattern string
	dropped *atomic.Uint64
	events  chan bus.Event

	mu  sync.Mutex // held by who sends on or closes events
	err error      // set before events is closed
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
			s.dropped.Add(1)
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

// Close implements [bus.Subscription]. It does not wait for the server to hear
// of it.
func (s *subscription) Close() error {
	if s.end(bus.ErrClosed) {
		s.link.forget(s)
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
