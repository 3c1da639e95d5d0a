package sqlstore

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
)

// Turn implements [store.Outbox].
func (s *Store) Turn(ctx context.Context, owner string, lasting time.Duration) (got bool, err error) {
	if owner == "" {
		return false, fmt.Errorf("%w: a turn needs an owner", store.ErrInvalid)
	}
	err = s.write(ctx, func(t *tx) error {
		if lasting <= 0 {
			return t.exec("end the turn to publish",
				"UPDATE enrich_turn SET owner = '', until_at = 0 WHERE name = 'outbox' AND owner = ?", owner)
		}
		n, err := t.changed("take the turn to publish",
			"UPDATE enrich_turn SET owner = ?, until_at = ? WHERE name = 'outbox' AND (owner = ? OR until_at <= ?)",
			owner, t.clock+lasting.Microseconds(), owner, t.clock)
		got = n > 0
		return err
	})
	return got && err == nil, err
}

// Unpublished implements [store.Outbox].
func (s *Store) Unpublished(ctx context.Context, before time.Time, n int) ([]bus.Event, error) {
	var events []bus.Event
	err := s.read(ctx, func(t *tx) error {
		events = nil
		late := false
		return t.query("read the outbox",
			"SELECT event_id, topic, type, at, saved_at, payload FROM enrich_outbox ORDER BY seq"+limit(max(n, 0)),
			nil, func(scan func(...any) error) error {
				var (
					ev        bus.Event
					at, saved int64
					payload   string
				)
				err := scan(&ev.ID, &ev.Topic, &ev.Type, &at, &saved, &payload)
				if late = late || saved >= before.UnixMicro(); late || err != nil {
					return err
				}
				ev.Time = fromMicros(at)
				if payload != "" {
					ev.Payload = json.RawMessage(payload)
				}
				events = append(events, ev)
				return nil
			})
	})
	return events, err
}

// Published implements [store.Outbox].
func (s *Store) Published(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	ids = slices.Sorted(slices.Values(ids))
	return s.write(ctx, func(t *tx) error {
		return t.delete("remove published events from the outbox", "enrich_outbox", "event_id", ids)
	})
}

// Expire implements [store.Outbox].
func (s *Store) Expire(ctx context.Context, before time.Time) (dropped int, err error) {
	err = s.write(ctx, func(t *tx) (err error) {
		dropped, err = t.changed("drop old events from the outbox",
			"DELETE FROM enrich_outbox WHERE saved_at < ?", before.UnixMicro())
		return err
	})
	return dropped, err
}
