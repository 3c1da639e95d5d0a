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
func (s *Store) Turn(ctx context.Context, owner string, lasting time.Duration) (mine bool, err error) {
	if owner == "" {
		return false, fmt.Errorf("%w: a turn needs an owner", store.ErrInvalid)
	}
	err = s.write(ctx, func(t *tx) error {
		var (
			holder string
			until  int64
		)
		known, err := t.one("see whose turn it is to publish",
			"SELECT owner, until_at FROM enrich_turn WHERE name = 'outbox'"+t.s.d.lock, nil, &holder, &until)
		if err != nil {
			return err
		}
		if mine = holder == owner || until <= t.clock; !mine {
			return nil
		}
		mine = lasting > 0
		end := t.clock + max(lasting, 0).Microseconds()
		if !known { // if another process comes first, this fails and is tried again
			return t.exec("take the turn to publish", "INSERT INTO enrich_turn (name, owner, until_at) VALUES ('outbox', ?, ?)", owner, end)
		}
		return t.exec("take the turn to publish", "UPDATE enrich_turn SET owner = ?, until_at = ? WHERE name = 'outbox'", owner, end)
	})
	return mine && err == nil, err
}

// Unpublished implements [store.Outbox].
func (s *Store) Unpublished(ctx context.Context, age time.Duration, n int) ([]bus.Event, error) {
	var events []bus.Event
	err := s.read(ctx, func(t *tx) error {
		events = nil
		if age > 0 {
			if err := t.readClock(); err != nil {
				return err
			}
		}
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
				if late = late || age > 0 && saved > t.clock-age.Microseconds(); late || err != nil {
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

// unpublished returns the IDs of the latest events in the outbox, by attacker.
// The rows must be locked, or an event could come between.
func (t *tx) unpublished(rows []*row) (map[string]string, error) {
	latest := make(map[string]string)
	uuids := make([]string, len(rows))
	for i, r := range rows {
		uuids[i] = r.uuid
	}
	slices.Sort(uuids)
	for chunk := range slices.Chunk(uuids, maxParams) {
		among, args := t.among(chunk)
		err := t.query("look for unpublished events", `SELECT o.attacker_uuid, o.event_id FROM enrich_outbox o
			JOIN (SELECT max(seq) AS seq FROM enrich_outbox WHERE attacker_uuid `+among+` GROUP BY attacker_uuid) latest
			ON latest.seq = o.seq`, args, func(scan func(...any) error) error {
			var uuid, id string
			err := scan(&uuid, &id)
			latest[uuid] = id
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return latest, nil
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

// Expire implements [store.Outbox]. It looks at the oldest events only, in
// batches.
func (s *Store) Expire(ctx context.Context, age time.Duration) (int, error) {
	const batch = 500
	all := 0
	for {
		var old []string
		err := s.write(ctx, func(t *tx) error {
			old = nil
			young := false
			err := t.query("look for old events in the outbox", "SELECT event_id, saved_at FROM enrich_outbox ORDER BY seq"+limit(batch),
				nil, func(scan func(...any) error) error {
					var (
						id    string
						saved int64
					)
					err := scan(&id, &saved)
					if young = young || saved > t.clock-age.Microseconds(); !young {
						old = append(old, id)
					}
					return err
				})
			if err != nil || len(old) == 0 {
				return err
			}
			slices.Sort(old)
			return t.delete("drop old events from the outbox", "enrich_outbox", "event_id", old)
		})
		if err != nil {
			return all, err
		}
		if all += len(old); len(old) < batch {
			return all, nil
		}
	}
}
