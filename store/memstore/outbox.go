package memstore

import (
	"container/list"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
)

// turn is whose turn it is to publish.
type turn struct {
	owner string
	until time.Time
}

// letter is an event in the outbox.
type letter struct {
	attacker uuid.UUID
	event    bus.Event
	saved    time.Time
}

// post puts an event into the outbox, unless it is there already.
func (s *Store) post(attacker uuid.UUID, ev bus.Event, saved time.Time) {
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	if s.byID[ev.ID] == nil {
		s.byID[ev.ID] = s.outbox.PushBack(&letter{attacker, ev, saved})
		s.posted[attacker] = append(s.posted[attacker], ev.ID)
	}
}

// remove takes an event out of the outbox.
func (s *Store) remove(e *list.Element) {
	l := s.outbox.Remove(e).(*letter)
	delete(s.byID, l.event.ID)
	left := slices.DeleteFunc(s.posted[l.attacker], func(id string) bool { return id == l.event.ID })
	if s.posted[l.attacker] = left; len(left) == 0 {
		delete(s.posted, l.attacker)
	}
}

// lastPosted returns the ID of the attacker's latest event in the outbox, or "".
func (s *Store) lastPosted(attacker uuid.UUID) string {
	if ids := s.posted[attacker]; len(ids) > 0 {
		return ids[len(ids)-1]
	}
	return ""
}

// Turn implements [store.Outbox].
func (s *Store) Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error) {
	if owner == "" {
		return false, fmt.Errorf("%w: a turn needs an owner", store.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	if s.turn.owner != owner && now.Before(s.turn.until) {
		return false, nil
	}
	if lasting <= 0 {
		if s.turn.owner == owner {
			s.turn = turn{}
		}
		return false, nil
	}
	s.turn = turn{owner, now.Add(lasting)}
	return true, nil
}

// Unpublished implements [store.Outbox].
func (s *Store) Unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	by := time.Now().Add(-max(age, 0))
	var events []bus.Event
	for e := s.outbox.Front(); e != nil && len(events) < limit; e = e.Next() {
		l := e.Value.(*letter)
		if l.saved.After(by) {
			break
		}
		ev := l.event
		events = append(events, ev)
	}
	return events, nil
}

// Published implements [store.Outbox].
func (s *Store) Published(ctx context.Context, ids ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range ids {
		if e := s.byID[id]; e != nil {
			s.remove(e)
		}
	}
	return nil
}

// Expire implements [store.Outbox].
func (s *Store) Expire(ctx context.Context, age time.Duration) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	by := time.Now().Add(-age)
	dropped := 0
	for e := s.outbox.Front(); e != nil; e = s.outbox.Front() {
		if e.Value.(*letter).saved.After(by) {
			break
		}
		s.remove(e)
		dropped++
	}
	return dropped, nil
}
