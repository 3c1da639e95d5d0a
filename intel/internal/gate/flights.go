package gate

import (
	"net/netip"
	"sync"
	"time"
)

// recentAnswers is the number of latest lookups whose answers a gate keeps at
// hand at least; it keeps those of twice as many at most. They bridge the time
// until an answer can be found in the store, so that attackers behind one
// address cost one call.
const recentAnswers = 1024

// flights are the lookups under way and the answers of recent ones, by
// address. The zero value is ready to use.
type flights struct {
	mu    sync.Mutex
	young map[netip.Addr]*flight
	old   map[netip.Addr]*flight // from before young was begun
	room  int                    // for how many more in young
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
	f := fs.find(addr)
	if f == nil || !f.fresh(now) {
		return Outcome{}, false
	}
	out := f.out
	out.Started = time.Time{}
	return out, true
}

// fresh reports whether the flight has an answer that is fresh at now. An answer
// from the future was obtained by a clock that was wrong.
func (f *flight) fresh(now time.Time) bool {
	return f.landed && now.Before(f.out.Expires) && !f.out.Finding.ObservedAt.After(now.Add(clockSlack))
}

// clockSlack is how far apart the clocks of workers may be without being wrong.
const clockSlack = time.Minute

// join returns the flight for addr, and whether the caller has to make it. If
// not, the caller waits for done, which is nil if the flight has landed.
func (fs *flights) join(addr netip.Addr, now time.Time) (f *flight, done <-chan struct{}, leader bool) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	f = fs.find(addr)
	switch {
	case f == nil || f.landed && !f.fresh(now):
		f = &flight{}
		fs.enter(addr, f)
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
		fs.remove(addr)
	}
}

// learn adds an answer unless a lookup is under way or there is a fresh one already
// that lives longer or is newer.
func (fs *flights) learn(addr netip.Addr, out Outcome) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.find(addr); f != nil {
		if !f.landed {
			return
		}
		better := f.out.Finding.ObservedAt.After(out.Finding.ObservedAt) || !f.out.Expires.Before(out.Expires)
		if better && f.fresh(time.Now()) {
			return
		}
	}
	fs.enter(addr, &flight{landed: true, out: out})
}

// forget drops the answer about addr if it was obtained by the given time.
func (fs *flights) forget(addr netip.Addr, by time.Time) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if f := fs.find(addr); f != nil && f.landed && !f.out.Finding.ObservedAt.After(by) {
		fs.remove(addr)
	}
}

func (fs *flights) find(addr netip.Addr) *flight {
	if f := fs.young[addr]; f != nil {
		return f
	}
	return fs.old[addr]
}

func (fs *flights) remove(addr netip.Addr) {
	delete(fs.young, addr)
	delete(fs.old, addr)
}

// enter notes a flight. When there is no more room among the young ones, they
// become old, and the old ones that have landed are forgotten.
func (fs *flights) enter(addr netip.Addr, f *flight) {
	if fs.room == 0 {
		young := make(map[netip.Addr]*flight, recentAnswers)
		for addr, f := range fs.old {
			if !f.landed {
				young[addr] = f
			}
		}
		fs.young, fs.old, fs.room = young, fs.young, recentAnswers
	}
	fs.young[addr] = f
	fs.room--
}
