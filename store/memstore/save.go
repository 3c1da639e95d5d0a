package memstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Save implements [store.Store]. An update under a lease that has expired is
// stored as long as nobody has claimed the attacker since.
func (s *Store) Save(ctx context.Context, updates ...store.Update) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var failed map[uuid.UUID]error
	saved := make([]*store.Update, 0, len(updates))
	for i := range updates {
		stored, err := s.save(&updates[i])
		if err != nil {
			if failed == nil {
				failed = make(map[uuid.UUID]error)
			}
			failed[updates[i].ID] = err
		}
		if stored {
			saved = append(saved, &updates[i])
		}
	}
	if len(s.sharing) > 0 {
		for _, u := range saved {
			s.share(learnt(u))
		}
	}
	if failed != nil {
		return &store.SaveError{Failed: failed}
	}
	return nil
}

// Release implements [store.Store].
func (s *Store) Release(ctx context.Context, due time.Time, leases ...store.Lease) error {
	if due.IsZero() {
		return fmt.Errorf("%w: release without a due time", store.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range leases {
		r := s.rows[l.ID]
		if r == nil || !r.valid || r.fence != l.Fence {
			continue
		}
		at := due.UnixMicro()
		if r.moved {
			at = atOnce
		}
		s.move(r, func() { r.free(at) })
	}
	return nil
}

// save stores an update, and reports whether it did.
func (s *Store) save(u *store.Update) (stored bool, err error) {
	r := s.rows[u.ID]
	if r == nil {
		return false, nil
	}
	if !r.valid || r.fence != u.Fence {
		return false, fmt.Errorf("%w: fence %d is no longer valid", store.ErrConflict, u.Fence)
	}
	if !store.SameIP(r.IP, u.IP) {
		s.move(r, func() { r.free(atOnce) })
		return false, nil
	}
	entries, err := r.merge(u)
	if err != nil {
		return false, err
	}
	due := micros(u.Due)
	switch {
	case r.moved: // away and back
		due = atOnce
	case u.KeepDue:
		due = r.due
	}
	s.index(r, entries)
	s.move(r, func() {
		r.entries, r.revision = entries, u.Revision
		if d := u.Decision; d != nil {
			r.decision = *d
			r.decision.Reasons = slices.Clone(d.Reasons)
		}
		if !u.SavedAt.IsZero() {
			r.cachedAt = precise(u.SavedAt)
		}
		if u.Hold {
			r.due = due
		} else {
			r.free(due)
		}
		r.ahead = micros(u.Ahead)
	})
	if u.Event != nil {
		s.announce(u, s.clock())
	}
	return true, nil
}

// merge returns the ledger that results from the update.
func (r *row) merge(u *store.Update) ([]store.Entry, error) {
	if err := u.Validate(); err != nil {
		return nil, err
	}
	entries := slices.Clone(u.Entries)
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
	for i := range entries {
		e := &entries[i]
		e.Due, e.Expires, e.Since = precise(e.Due), precise(e.Expires), precise(e.Since)
		if slices.Contains(u.Changed, e.Provider) {
			continue
		}
		e.Finding = nil
		if old := r.entry(e.Provider); old != nil {
			e.Finding = old.Finding
		}
	}
	return entries, nil
}
