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

// outbox is the outbox of one reader. The store's mu guards it.
type outbox struct {
	s      *Store
	events list.List // of *letter, oldest first
	byID   map[string]*list.Element
	posted map[uuid.UUID][]string // by attacker: IDs of its events in the outbox, oldest first
	turn   turn
}

func newOutbox(s *Store) *outbox {
	return &outbox{s: s, byID: make(map[string]*list.Element), posted: make(map[uuid.UUID][]string)}
}

// letter is an event in the outbox.
type letter struct {
	attacker uuid.UUID
	event    bus.Event
	saved    time.Time
}

// post puts an event into the outbox, unless it is there already.
func (o *outbox) post(attacker uuid.UUID, ev bus.Event, saved time.Time) {
	if o.byID[ev.ID] == nil {
		o.byID[ev.ID] = o.events.PushBack(&letter{attacker, ev, saved})
		o.posted[attacker] = append(o.posted[attacker], ev.ID)
	}
}

// remove takes an event out of the outbox.
func (o *outbox) remove(e *list.Element) {
	l := o.events.Remove(e).(*letter)
	delete(o.byID, l.event.ID)
	left := slices.DeleteFunc(o.posted[l.attacker], func(id string) bool { return id == l.event.ID })
	if o.posted[l.attacker] = left; len(left) == 0 {
		delete(o.posted, l.attacker)
	}
}

// lastPosted returns the ID of the attacker's latest event in the outbox, or "".
func (o *outbox) lastPosted(attacker uuid.UUID) string {
	if ids := o.posted[attacker]; len(ids) > 0 {
		return ids[len(ids)-1]
	}
	return ""
}

// Turn implements [store.Outbox].
func (o *outbox) Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error) {
	if owner == "" {
		return false, fmt.Errorf("%w: a turn needs an owner", store.ErrInvalid)
	}
	if err := ctx.Err(); err != nil {
		return false, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	now := o.s.clock()
	if o.turn.owner != owner && now.Before(o.turn.until) && !o.turn.until.After(now.Add(store.MaxTurn)) {
		return false, nil
	}
	if lasting <= 0 {
		if o.turn.owner == owner {
			o.turn = turn{}
		}
		return false, nil
	}
	o.turn = turn{owner, now.Add(min(lasting, store.MaxTurn))}
	return true, nil
}

// Unpublished implements [store.Outbox].
func (o *outbox) Unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	now := o.s.clock()
	by := now.Add(-max(age, 0))
	var events []bus.Event
	for e := o.events.Front(); e != nil && len(events) < limit; e = e.Next() {
		l := e.Value.(*letter)
		if l.saved.After(by) && !l.saved.After(now) {
			break
		}
		ev := l.event
		events = append(events, ev)
	}
	return events, nil
}

// Published implements [store.Outbox].
func (o *outbox) Published(ctx context.Context, ids ...string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	for _, id := range ids {
		if e := o.byID[id]; e != nil {
			o.remove(e)
		}
	}
	return nil
}

// Expire implements [store.Outbox].
func (o *outbox) Expire(ctx context.Context, age time.Duration) (int, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	o.s.mu.Lock()
	defer o.s.mu.Unlock()
	now := o.s.clock()
	by := now.Add(-age)
	for e := o.events.Front(); e != nil; e = e.Next() {
		if l := e.Value.(*letter); l.saved.After(now) {
			l.saved = now
		}
	}
	dropped := 0
	for e := o.events.Front(); e != nil; e = o.events.Front() {
		if e.Value.(*letter).saved.After(by) {
			break
		}
		o.remove(e)
		dropped++
	}
	return dropped, nil
}

// OutboxOf implements [store.Readers].
func (s *Store) OutboxOf(reader string) store.Outbox {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.outboxOf(reader)
}

func (s *Store) outboxOf(reader string) *outbox {
	o := s.readers[reader]
	if o == nil {
		o = newOutbox(s)
		s.readers[reader] = o
	}
	return o
}

// announce puts an update's event into the outboxes of its readers.
func (s *Store) announce(u *store.Update, saved time.Time) {
	ev := *u.Event
	if ev.ID == "" {
		ev.ID = uuid.NewString()
	}
	if !u.NoBus {
		s.outbox.post(u.ID, ev, saved)
	}
	for _, reader := range u.Readers {
		s.outboxOf(reader).post(u.ID, ev, saved)
	}
}
