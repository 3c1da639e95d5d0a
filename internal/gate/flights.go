package gate

import (
	"net/netip"
	"sync"
	"time"
)

// recentAnswers is how many answers a gate keeps at hand. They bridge the time
// until an answer can be found in the store, so that attackers behind one
// address cost one call.
const recentAnswers = 1024

// flights are the lookups under way and the answers of recent ones, by
// address. The zero value is ready to use.
type flights struct {
	mu     sync.Mutex
	byAddr map[netip.Addr]*flight
	ring   []landing // of the answers, oldest at next
	next   int
}

type landing struct {
	addr   netip.Addr
	flight *flight
}

// flight is a lookup that others can wait for.
type flight struct {
	landed bool
	out    Outcome       // written by who makes the lookup, read by others once landed
	done   chan struct{} // closed on landing; made by the first who waits
}

// recent returns the answer about addr if there is one that is fresh at now.
func (fs *flights) recent(addr netip.Addr, now time.Time) (Outcome, bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f := fs.byAddr[addr]
	if f == nil || !f.fresh(now) {
		return Outcome{}, false
	}
	out := f.out
	out.Reused, out.Called = true, false
	return out, true
}

func (f *flight) fresh(now time.Time) bool { return f.landed && now.Before(f.out.Expires) }

// join returns the flight for addr, and whether the caller has to make it. If
// not, the caller waits for done, which is nil if the flight has landed.
func (fs *flights) join(addr netip.Addr, now time.Time) (f *flight, done <-chan struct{}, leader bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f = fs.byAddr[addr]
	switch {
	case f == nil || f.landed && !f.fresh(now):
		f = &flight{}
		if fs.byAddr == nil {
			fs.byAddr = make(map[netip.Addr]*flight)
		}
		fs.byAddr[addr] = f
		return f, nil, true
	case f.landed:
		return f, nil, false
	case f.done == nil:
		f.done = make(chan struct{})
	}
	return f, f.done, false
}

// land ends a flight. Its outcome is kept only if it is an answer.
func (fs *flights) land(addr netip.Addr, f *flight) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f.landed = true
	if f.done != nil {
		close(f.done)
	}
	if f.out.Finding == nil {
		delete(fs.byAddr, addr)
		return
	}
	fs.keep(landing{addr, f})
}

// learn adds an answer unless a lookup is under way or there is one already
// that lives longer.
func (fs *flights) learn(addr netip.Addr, out Outcome) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byAddr[addr]; f != nil && (!f.landed || !f.out.Expires.Before(out.Expires)) {
		return
	}
	if fs.byAddr == nil {
		fs.byAddr = make(map[netip.Addr]*flight)
	}
	f := &flight{landed: true, out: out}
	fs.byAddr[addr] = f
	fs.keep(landing{addr, f})
}

// forget drops the answer about addr if it was obtained by the given time.
func (fs *flights) forget(addr netip.Addr, by time.Time) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.byAddr[addr]; f != nil && f.landed && !f.out.Finding.ObservedAt.After(by) {
		delete(fs.byAddr, addr)
	}
}

// keep notes an answer and forgets the oldest one if there are too many, unless
// a newer one about the same address has replaced it.
func (fs *flights) keep(l landing) {
	if len(fs.ring) < recentAnswers {
		fs.ring = append(fs.ring, l)
		return
	}
	if oldest := fs.ring[fs.next]; fs.byAddr[oldest.addr] == oldest.flight {
		delete(fs.byAddr, oldest.addr)
	}
	fs.ring[fs.next] = l
	fs.next = (fs.next + 1) % recentAnswers
}
