package memstore

import (
	"net/netip"
	"slices"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// about is what a lookup is about.
type about struct {
	addr     netip.Addr
	provider string
}

// learnt returns what an update has new findings about. Who waits in spite of a finding
// does not wait for it.
func learnt(u *store.Update) (all []about) {
	for i := range u.Entries {
		if e := &u.Entries[i]; e.Finding != nil && e.State != store.Waiting && slices.Contains(u.Changed, e.Provider) {
			all = append(all, about{provider.Canonical(e.Finding.Addr), e.Provider})
		}
	}
	return all
}

// awaits returns what an entry waits for.
func awaits(e *store.Entry) about {
	if e.Finding != nil {
		return about{provider.Canonical(e.Finding.Addr), e.Provider}
	}
	return about{provider.Canonical(e.Addr), e.Provider}
}

// share makes the rows due that wait for what others have learnt.
func (s *Store) share(all []about) {
	for _, a := range all {
		q := s.sharing[a]
		if q == nil {
			continue
		}
		rows := make([]*row, len(q.heap))
		for i, n := range q.heap {
			rows[i] = n.slot.row
		}
		for _, r := range rows {
			s.move(r, func() { r.due = atOnce })
		}
	}
}

// joinSharing lets a row be found by what its entry waits for.
func (s *Store) joinSharing(r *row, a about) {
	if !a.addr.IsValid() {
		return
	}
	q := s.sharing[a]
	if q == nil {
		q = &queue{key: newest, emptied: func() { delete(s.sharing, a) }}
		s.sharing[a] = q
	}
	r.join(q)
}
