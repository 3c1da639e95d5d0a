package memstore

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Claimable works out which attackers a claim has to return by looking at
// every one of them.
func (s *Store) Claimable(req store.ClaimRequest) []uuid.UUID {
	s.mu.Lock()
	defer s.mu.Unlock()
	grants := maps.Clone(req.Grants)
	var ids []uuid.UUID
	for _, r := range slices.SortedFunc(maps.Values(s.rows), byNewest) {
		var granted []string
		waits := false
		for _, e := range r.entries {
			if e.State == store.Waiting {
				waits = true
				if grants[e.Provider] > 0 {
					granted = append(granted, e.Provider)
				}
			}
		}
		lacks := slices.ContainsFunc(req.Providers, func(name string) bool { return r.entry(name) == nil })
		due := r.due <= req.Now.UnixMicro()
		wanted := due || len(granted) > 0 || r.due == never && !waits && lacks
		if len(req.Only) > 0 {
			wanted, due = slices.Contains(req.Only, r.ID), true
		}
		if !wanted || r.leased && r.until > time.Now().UnixMicro() || len(ids) == req.Limit {
			continue
		}
		ids = append(ids, r.ID)
		if !due {
			for _, name := range granted {
				grants[name]--
			}
		}
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
	if s.outbox.Len() != len(s.byID) {
		return fmt.Errorf("the outbox has %d events, and its index %d", s.outbox.Len(), len(s.byID))
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
			also = append(also, s.waiting[e.Provider])
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
	return slices.AppendSeq(all, maps.Values(s.lacking))
}
