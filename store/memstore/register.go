package memstore

import (
	"bytes"
	"cmp"
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
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.observeAll(attackers)
}

// Position implements [store.Positions].
func (s *Store) Position(ctx context.Context, name string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return bytes.Clone(s.positions[name]), nil
}

// ObserveAt implements [store.Positions].
func (s *Store) ObserveAt(ctx context.Context, name string, doc []byte, attackers ...store.Attacker) error {
	if err := cmp.Or(ctx.Err(), store.CheckPositionName(name)); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if doc == nil {
		delete(s.positions, name)
	} else {
		s.positions[name] = append([]byte{}, doc...)
	}
	return s.observeAll(attackers)
}

func (s *Store) observeAll(attackers []store.Attacker) error {
	accepted, rejected := store.Acceptable(attackers)
	now := s.clock()
	for _, a := range accepted {
		if a.LastSeen.IsZero() {
			a.LastSeen = now
		}
		if a.FirstSeen.IsZero() {
			a.FirstSeen = a.LastSeen
		}
		a.FirstSeen, a.LastSeen = precise(a.FirstSeen), precise(a.LastSeen)
		if r := s.rows[a.ID]; r != nil {
			s.move(r, func() { r.observe(a, now) })
			continue
		}
		r := &row{Attacker: a, seen: a.LastSeen.UnixMicro(), due: atOnce, ahead: never}
		s.rows[a.ID] = r
		s.enter(r)
	}
	return rejected
}

// observe takes over what is new about an attacker that is known.
func (r *row) observe(a store.Attacker, now time.Time) {
	if a.FirstSeen.Before(r.FirstSeen) {
		r.FirstSeen = a.FirstSeen
	}
	if store.SeenAgain(r.LastSeen, a.LastSeen, now) {
		r.LastSeen, r.seen = a.LastSeen, a.LastSeen.UnixMicro()
		r.due, r.ahead = min(r.due, max(r.ahead, r.seen)), never
	}
	if !store.SameIP(a.IP, r.IP) {
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
			s.forget(r)
		}
	}
	return nil
}

// ForgetUnseen implements [store.Forgetter]. It looks at every attacker.
func (s *Store) ForgetUnseen(ctx context.Context, before time.Time, limit int) (forgotten int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	clock := time.Now().UnixMicro()
	for _, r := range s.rows {
		if forgotten >= limit {
			break
		}
		if r.LastSeen.Before(before) && !(r.leased && r.until > clock) {
			s.forget(r)
			forgotten++
		}
	}
	return forgotten, nil
}

func (s *Store) forget(r *row) {
	r.leave()
	s.index(r, nil)
	delete(s.rows, r.ID)
}
