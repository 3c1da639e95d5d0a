package memstore

import (
	"context"
	"fmt"
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
	event bus.Event
	saved time.Time
}

// post puts an event into the outbox, unless it is there already.
func (s *Store) post(ev bus.Event, saved time.Time) {
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	if s.byID[ev.ID] == nil {
		s.byID[ev.ID] = s.outbox.PushBack(&letter{ev, saved})
	}
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

// Waiting implements [store.Outbox].
func (s *Store) Waiting(ctx context.Context, ids ...string) ([]string, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var waiting []string
	for _, id := range ids {
		if s.byID[id] != nil {
			waiting = append(waiting, id)
		}
	}
	return waiting, nil
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
			s.outbox.Remove(e)
			delete(s.byID, id)
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
		l := e.Value.(*letter)
		if l.saved.After(by) {
			break
		}
		s.outbox.Remove(e)
		delete(s.byID, l.event.ID)
		dropped++
	}
	return dropped, nil
}
