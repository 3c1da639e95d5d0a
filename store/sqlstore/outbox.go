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

// OutboxOf implements [store.Readers].
func (s *Store) OutboxOf(reader string) store.Outbox {
	return &outbox{
		s: s, turn: "outbox:" + reader, table: "enrich_delivery", key: "delivery",
		where: " WHERE reader = ?", args: []any{reader}, prefix: reader + " ",
	}
}

// outbox is the outbox of one reader.
type outbox struct {
	s          *Store
	turn       string // its name in enrich_turn
	table, key string
	where      string // selects the reader's rows
	args       []any
	prefix     string // of event IDs in the column key
}

// Turn implements [store.Outbox].
func (o *outbox) Turn(ctx context.Context, owner string, lasting time.Duration) (mine bool, err error) {
	if owner == "" {
		return false, fmt.Errorf("%w: a turn needs an owner", store.ErrInvalid)
	}
	owner = ownerText(owner)
	err = o.s.write(ctx, func(t *tx) error {
		var (
			holder string
			until  int64
		)
		known, err := t.one("see whose turn it is to publish",
			"SELECT owner, until_at FROM enrich_turn WHERE name = ?"+t.s.d.lock, []any{o.turn}, &holder, &until)
		if err != nil {
			return err
		}
		if mine = holder == owner || until <= t.clock || until > t.clock+store.MaxTurn.Microseconds(); !mine {
			return nil
		}
		mine = lasting > 0
		end := t.clock + min(max(lasting, 0), store.MaxTurn).Microseconds()
		if !known { // if another process comes first, this fails and is tried again
			return t.exec("take the turn to publish", "INSERT INTO enrich_turn (name, owner, until_at) VALUES (?, ?, ?)", o.turn, owner, end)
		}
		return t.exec("take the turn to publish", "UPDATE enrich_turn SET owner = ?, until_at = ? WHERE name = ?", owner, end, o.turn)
	})
	return mine && err == nil, err
}

// Unpublished implements [store.Outbox].
func (o *outbox) Unpublished(ctx context.Context, age time.Duration, n int) ([]bus.Event, error) {
	var events []bus.Event
	err := o.s.read(ctx, func(t *tx) error {
		events = nil
		if age > 0 {
			if err := t.readClock(); err != nil {
				return err
			}
		}
		late := false
		return t.query("read the outbox",
			"SELECT event_id, topic, type, at, saved_at, payload FROM "+o.table+o.where+" ORDER BY seq"+limit(max(n, 0)),
			o.args, func(scan func(...any) error) error {
				var (
					ev        bus.Event
					at, saved int64
					payload   string
				)
				err := scan(&ev.ID, &ev.Topic, &ev.Type, &at, &saved, &payload)
				young := age > 0 && saved > t.clock-age.Microseconds() && saved <= t.clock
				if late = late || young; late || err != nil {
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
func (o *outbox) Published(ctx context.Context, ids ...string) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	ids = slices.Sorted(slices.Values(ids))
	for i := range ids {
		ids[i] = o.prefix + ids[i]
	}
	return o.s.write(ctx, func(t *tx) error {
		return t.delete("remove published events from the outbox", o.table, o.key, ids)
	})
}

// Expire implements [store.Outbox]. It looks at the oldest events only, in
// batches.
func (o *outbox) Expire(ctx context.Context, age time.Duration) (int, error) {
	const batch = 500
	all := 0
	for {
		var old []string
		err := o.s.write(ctx, func(t *tx) error {
			old = nil
			young := false
			and := " WHERE "
			if o.where != "" {
				and = o.where + " AND "
			}
			err := t.exec("correct when events were saved", "UPDATE "+o.table+" SET saved_at = ?"+and+"saved_at > ?",
				slices.Concat([]any{t.clock}, o.args, []any{t.clock})...)
			if err != nil {
				return err
			}
			err = t.query("look for old events in the outbox", "SELECT "+o.key+", saved_at FROM "+o.table+o.where+" ORDER BY seq"+limit(batch),
				o.args, func(scan func(...any) error) error {
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
			return t.delete("drop old events from the outbox", o.table, o.key, old)
		})
		if err != nil {
			return all, err
		}
		if all += len(old); len(old) < batch {
			return all, nil
		}
	}
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
	err := t.queryAmong("look for unpublished events", `SELECT o.attacker_uuid, o.event_id FROM enrich_outbox o
		JOIN (SELECT max(seq) AS seq FROM enrich_outbox WHERE attacker_uuid`, uuids, ` GROUP BY attacker_uuid) latest
		ON latest.seq = o.seq`, func(scan func(...any) error) error {
		var uuid, id string
		err := scan(&uuid, &id)
		latest[uuid] = id
		return err
	})
	return latest, err
}
