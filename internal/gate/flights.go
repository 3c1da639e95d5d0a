package gate

import (
	"net/netip"
	"sync"
	"time"
)

// recentAnswers is how many answers a gate keeps at hand. They bridge the time
// until an answer can be found in the store, so that attackers behind one
// address cost one call.
const recentAnswers = 4096

// flights are the lookups under way and the answers of recent ones, by
// address. The zero value is ready to use.
type flights struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*flight
	landed []netip.Addr // ring of the addresses with an answer, oldest at next
	next   int
}

// flight is a lookup that others can wait for. out may be read once done is
// closed.
type flight struct {
	done chan struct{}
	out  Outcome
}

func (f *flight) answered() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}

// recent returns the answer about addr if there is one that is fresh at now.
func (fs *flights) recent(addr netip.Addr, now time.Time) (Outcome, bool) {
	fs.mu.Lock()
	f := fs.byAddr[addr]
	fs.mu.Unlock()
	if f == nil || !f.answered() || !now.Before(f.out.Expires) {
		return Outcome{}, false
	}
	out := f.out
	out.Reused = true
	return out, true
}

// join returns the flight for addr, and whether the caller has to make it.
func (fs *flights) join(addr netip.Addr, now time.Time) (f *flight, leader bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byAddr[addr]; f != nil && (!f.answered() || now.Before(f.out.Expires)) {
		return f, false
	}
	f = &flight{done: make(chan struct{})}
	if fs.byAddr == nil {
		fs.byAddr = make(map[netip.Addr]*flight)
	}
	fs.byAddr[addr] = f
	return f, true
}

// land ends a flight. Its outcome is kept only if it is an answer.
func (fs *flights) land(addr netip.Addr, f *flight, out Outcome) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.out = out
	close(f.done)
	if out.Finding == nil {
		delete(fs.byAddr, addr)
		return
	}
	fs.keep(addr)
}

// learn adds an answer unless there is one already that lives longer.
func (fs *flights) learn(addr netip.Addr, out Outcome) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byAddr[addr]; f != nil && (!f.answered() || !f.out.Expires.Before(out.Expires)) {
		return
	}
	if fs.byAddr == nil {
		fs.byAddr = make(map[netip.Addr]*flight)
	}
	f := &flight{done: make(chan struct{}), out: out}
	close(f.done)
	fs.byAddr[addr] = f
	fs.keep(addr)
}

// keep remembers that addr has an answer and forgets the oldest one if there
// are too many.
func (fs *flights) keep(addr netip.Addr) {
	if len(fs.landed) < recentAnswers {
		fs.landed = append(fs.landed, addr)
		return
	}
	if oldest := fs.landed[fs.next]; oldest != addr {
		if f := fs.byAddr[oldest]; f != nil && f.answered() {
			delete(fs.byAddr, oldest)
		}
	}
	fs.landed[fs.next] = addr
	fs.next = (fs.next + 1) % recentAnswers
}
