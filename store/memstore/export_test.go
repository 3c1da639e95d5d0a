package memstore

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Shift adds a time to all that the clock has stamped.
func (s *Store) Shift(by time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.latest = s.latest.Add(by)
	for _, n := range slices.Clone(s.leases.heap) {
		r := n.slot.row
		s.move(r, func() { r.until += by.Microseconds() })
	}
	s.outbox.turn.until = s.outbox.turn.until.Add(by)
	for e := s.outbox.events.Front(); e != nil; e = e.Next() {
		l := e.Value.(*letter)
		l.saved = l.saved.Round(0).Add(by)
	}
}

// Claimable works out which attackers a claim has to return by looking at
// every one of them.
func (s *Store) Claimable(req store.ClaimRequest) []uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	free := make(map[uuid.UUID]*row) // not leased and not picked
	for _, r := range s.rows {
		if !r.leased || r.until <= time.Now().UnixMicro() {
			free[r.ID] = r
		}
	}
	grants := maps.Clone(req.Grants)
	var picked []*row
	pick := func(r *row, pays bool) {
		delete(free, r.ID)
		picked = append(picked, r)
		for _, e := range r.entries {
			if g := grants[e.Provider]; pays && e.State == store.Waiting {
				g.Calls--
				grants[e.Provider] = g
			}
		}
	}
	// first returns the first of the free rows that are wanted.
	first := func(wanted func(*row) bool, by func(a, b *row) int) (best *row) {
		for _, r := range free {
			if wanted(r) && (best == nil || by(r, best) < 0) {
				best = r
			}
		}
		return best
	}
	waitsFor := func(name string) func(*row) bool {
		return func(r *row) bool {
			e := r.entry(name)
			return e != nil && e.State == store.Waiting
		}
	}
	for _, name := range slices.Sorted(maps.Keys(req.Grants)) {
		for range req.Grants[name].Oldest {
			longest := first(waitsFor(name), func(a, b *row) int {
				return cmp.Or(a.entry(name).Since.Compare(b.entry(name).Since), bytes.Compare(a.ID[:], b.ID[:]))
			})
			if longest != nil && grants[name].Calls > 0 && len(picked) < req.Limit {
				pick(longest, true)
			}
		}
	}
	for len(picked) < req.Limit {
		isDue := func(r *row) bool { return r.due <= req.Now.UnixMicro() }
		if len(req.Only) > 0 {
			isDue = func(r *row) bool { return slices.Contains(req.Only, r.ID) }
		}
		best := first(isDue, byNewest)
		due := best != nil
		consider := func(r *row) {
			if r != nil && len(req.Only) == 0 && (best == nil || newer(r, best)) {
				best, due = r, false
			}
		}
		for name, g := range grants {
			if g.Calls > 0 {
				consider(first(waitsFor(name), func(a, b *row) int {
					return cmp.Or(cmp.Compare(b.entry(name).Rank, a.entry(name).Rank), byNewest(a, b))
				}))
			}
		}
		consider(first(func(r *row) bool {
			waits := slices.ContainsFunc(r.entries, func(e store.Entry) bool { return e.State == store.Waiting })
			return r.due == never && !waits &&
				slices.ContainsFunc(req.Providers, func(name string) bool { return r.entry(name) == nil })
		}, byNewest))
		if best == nil {
			break
		}
		pick(best, !due)
	}
	slices.SortFunc(picked, byNewest)
	ids := make([]uuid.UUID, len(picked))
	for i, r := range picked {
		ids[i] = r.ID
	}
	return ids
}

// Audit returns an error if the queues or the index of addresses do not fit
// the rows.
func (s *Store) Audit() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	slots := 0
	for _, q := range s.queues() {
		slots += len(q.heap)
		for i, n := range q.heap {
			slot := n.slot
			if slot.in != q || slot.index != i || s.rows[slot.row.ID] != slot.row {
				return fmt.Errorf("slot %d of a queue is not where it says, or its attacker is gone", i)
			}
			if n.key != q.key(slot.row) {
				return fmt.Errorf("slot %d of a queue has an outdated key", i)
			}
			if i > 0 && n.before(q.heap[(i-1)/2]) {
				return fmt.Errorf("slot %d of a queue is before the one above it", i)
			}
		}
	}
	addrs := make(map[netip.Addr]int)
	for _, r := range s.rows {
		slots -= len(r.also)
		if r.place.in != nil {
			slots--
		}
		if err := s.auditPlace(r); err != nil {
			return fmt.Errorf("attacker %s: %w", r.ID, err)
		}
		about := make(map[netip.Addr]bool)
		for _, e := range r.entries {
			if e.Finding != nil {
				about[e.Finding.Addr] = true
			}
		}
		for addr := range about {
			addrs[addr]++
			if !slices.Contains(s.byAddr[addr], r) {
				return fmt.Errorf("attacker %s is missing in the index of %v", r.ID, addr)
			}
		}
	}
	if slots != 0 {
		return fmt.Errorf("the queues have %d slots more than the rows", slots)
	}
	for addr, rows := range s.byAddr {
		if len(rows) != addrs[addr] {
			return fmt.Errorf("the index of %v has %d rows; want %d", addr, len(rows), addrs[addr])
		}
	}
	if s.outbox.events.Len() != len(s.outbox.byID) {
		return fmt.Errorf("the outbox has %d events, and its index %d", s.outbox.events.Len(), len(s.outbox.byID))
	}
	posted := make(map[uuid.UUID][]string)
	for e := s.outbox.events.Front(); e != nil; e = e.Next() {
		l := e.Value.(*letter)
		posted[l.attacker] = append(posted[l.attacker], l.event.ID)
	}
	if !maps.EqualFunc(posted, s.outbox.posted, slices.Equal) {
		return fmt.Errorf("the events by attacker are %v; want %v", s.outbox.posted, posted)
	}
	return nil
}

func (s *Store) auditPlace(r *row) error {
	place, also := s.places(r)
	if r.place.in != place && !(place == &s.sleeping && r.place.in == &s.ready) {
		return fmt.Errorf("is in the wrong queue")
	}
	for _, q := range also {
		if !r.stands(q) {
			return fmt.Errorf("is missing in a queue")
		}
	}
	if len(r.also) != len(also) {
		return fmt.Errorf("stands in %d further queues; want %d", len(r.also), len(also))
	}
	return nil
}

// places says where a row belongs.
func (s *Store) places(r *row) (place *queue, also []*queue) {
	if r.leased {
		return &s.leases, nil
	}
	waits := false
	for _, e := range r.entries {
		if e.State == store.Waiting {
			waits = true
			also = append(also, s.waiting[e.Provider], s.longest[e.Provider])
			if a := awaits(&e); a.addr.IsValid() {
				also = append(also, s.sharing[a])
			}
		}
	}
	switch {
	case r.due == atOnce:
		return &s.ready, also
	case r.due != never:
		return &s.sleeping, also // or ready, once a claim has seen that it is due
	case waits:
		return nil, also
	}
	for name, q := range s.lacking {
		if r.entry(name) == nil {
			also = append(also, q)
		}
	}
	return &s.parked, also
}

func (s *Store) queues() []*queue {
	all := []*queue{&s.ready, &s.sleeping, &s.leases, &s.parked}
	all = slices.AppendSeq(all, maps.Values(s.waiting))
	all = slices.AppendSeq(all, maps.Values(s.longest))
	all = slices.AppendSeq(all, maps.Values(s.sharing))
	return slices.AppendSeq(all, maps.Values(s.lacking))
}
