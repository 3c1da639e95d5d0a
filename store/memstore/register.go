package memstore

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Observe implements [store.Registrar]. Another spelling of the same address
// changes nothing.
func (s *Store) Observe(ctx context.Context, attackers ...store.Attacker) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	accepted, rejected := store.Acceptable(attackers)
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range accepted {
		if a.LastSeen.IsZero() {
			a.LastSeen = time.Now()
		}
		if a.FirstSeen.IsZero() {
			a.FirstSeen = a.LastSeen
		}
		a.FirstSeen, a.LastSeen = precise(a.FirstSeen), precise(a.LastSeen)
		if r := s.rows[a.ID]; r != nil {
			s.move(r, func() { r.observe(a) })
			continue
		}
		r := &row{Attacker: a, seen: a.LastSeen.UnixMicro(), due: atOnce, ahead: never}
		s.rows[a.ID] = r
		s.enter(r)
	}
	return rejected
}

// observe takes over what is new about an attacker that is known.
func (r *row) observe(a store.Attacker) {
	if a.FirstSeen.Before(r.FirstSeen) {
		r.FirstSeen = a.FirstSeen
	}
	if a.LastSeen.After(r.LastSeen) {
		r.LastSeen, r.seen = a.LastSeen, a.LastSeen.UnixMicro()
		r.due, r.ahead = min(r.due, max(r.ahead, r.seen)), never
	}
	if !sameIP(a.IP, r.IP) {
		r.IP, r.due, r.moved = a.IP, atOnce, true
	}
}

// Forget implements [store.Registrar]. Events that announce what was known stay
// in the outbox.
func (s *Store) Forget(ctx context.Context, ids ...uuid.UUID) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if r := s.rows[id]; r != nil {
			r.leave()
			s.index(r, nil)
			delete(s.rows, id)
		}
	}
	return nil
}
