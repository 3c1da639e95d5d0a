package memstore

import (
	"time"

	"github.com/decnet/enrich/store"
)

// enter puts a row that stands in no queue into those it belongs to.
func (s *Store) enter(r *row) {
	r.place.row = r
	switch {
	case r.leased:
		s.leases.push(&r.place)
		return
	case r.due == atOnce:
		s.ready.push(&r.place)
	case r.due != never:
		s.sleeping.push(&r.place)
	}
	waits := false
	for i := range r.entries {
		if e := &r.entries[i]; e.State == store.Waiting {
			waits = true
			r.join(named(s.waiting, e.Provider, byRank(e.Provider)))
			r.join(named(s.longest, e.Provider, bySince(e.Provider)))
			s.joinSharing(r, awaits(e))
		}
	}
	if r.due != never || waits {
		return
	}
	s.parked.push(&r.place)
	for name, q := range s.lacking {
		if r.entry(name) == nil {
			r.join(q)
		}
	}
}

// leave takes a row out of every queue.
func (r *row) leave() {
	r.place.leave()
	for _, slot := range r.also {
		slot.leave()
	}
	r.also = nil
}

// join puts the row into one more queue.
func (r *row) join(q *queue) {
	slot := &slot{row: r}
	q.push(slot)
	r.also = append(r.also, slot)
}

// move changes a row by calling change, and its place accordingly.
func (s *Store) move(r *row, change func()) {
	r.leave()
	change()
	s.enter(r)
}

// free ends the row's lease, uses up its fence and makes it due at the given
// time. The row must stand in no queue.
func (r *row) free(due int64) {
	r.leased, r.valid, r.due, r.ahead = false, false, due, never
}

// micros returns a time in microseconds, and never for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return never
	}
	return t.UnixMicro()
}

// advance moves rows whose lease has expired or whose time has come.
func (s *Store) advance(now int64) {
	clock := s.clock().UnixMicro()
	for r := s.leases.first(); r != nil && r.until <= clock; r = s.leases.first() {
		s.move(r, func() { r.leased = false })
	}
	for r := s.sleeping.first(); r != nil && r.due <= now; r = s.sleeping.first() {
		r.place.leave()
		s.ready.push(&r.place)
	}
}

// firstReady returns the newest row that is due at now, or nil. Rows that are
// ready only to a clock ahead of now go back to sleep.
func (s *Store) firstReady(now int64) *row {
	for {
		r := s.ready.first()
		if r == nil || r.due <= now {
			return r
		}
		r.place.leave()
		s.sleeping.push(&r.place)
	}
}

// lackingQueue returns the parked rows without an entry of the named provider.
// The first call for a name looks at all parked rows.
func (s *Store) lackingQueue(name string) *queue {
	q := s.lacking[name]
	if q == nil {
		q = named(s.lacking, name, newest)
		for _, n := range s.parked.heap {
			if r := n.slot.row; r.entry(name) == nil {
				r.join(q)
			}
		}
	}
	return q
}

// named returns the queue of that name, and makes it, with that key, if needed.
func named(queues map[string]*queue, name string, by func(*row) key) *queue {
	q := queues[name]
	if q == nil {
		q = &queue{key: by}
		queues[name] = q
	}
	return q
}

// byRank is the key of a queue of rows that wait for a provider: greatest rank
// first, then newest.
func byRank(provider string) func(*row) key {
	return func(r *row) key { return key{-int64(r.entry(provider).Rank), -r.seen} }
}

// bySince is the key of a queue of rows that wait for a provider: those that
// have been waiting longest first.
func bySince(provider string) func(*row) key {
	return func(r *row) key { return key{r.entry(provider).Since.UnixMicro(), 0} }
}
