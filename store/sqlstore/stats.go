package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// Stats implements [store.Statistician]. Indexes suffice for it, in time that
// grows with the attackers, those enriched and those due, the entries that wait
// and the events in the outboxes; and it looks at each attacker that is leased. An
// attacker that no claim has come across, because it is new since the last claim
// or was there before the first one and is not imported yet, counts as due,
// unless attacker_intel has a row about it. Stats looks for these among 10,000
// attackers; while there are more it tells from the sizes of the tables how many
// there are, and counts them as if they were like those found. An attacker that
// was deleted from attackers counts in all numbers but the first until a
// claim comes across it.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	var stats store.Stats
	err := s.read(ctx, func(t *tx) (err error) {
		if err := t.readClock(); err != nil {
			return err
		}
		stats = store.Stats{Waiting: make(map[string]int)}
		at := now.UnixMicro()
		for _, count := range []struct {
			to   *int
			text string
			args []any
		}{
			{&stats.Attackers, "SELECT count(*) FROM attackers", nil},
			{&stats.Enriched, "SELECT count(*) FROM enrich_ledger WHERE verdict >= 0", nil},
			{&stats.Due, "SELECT count(*) FROM enrich_ledger WHERE state = 1 AND due_at <= ?", []any{at}},
			{&stats.Due, "SELECT count(*) FROM enrich_ledger WHERE state = 0 AND wake_at <= ?", []any{at}},
			{&stats.Due, "SELECT count(*) FROM enrich_ledger WHERE state = 2 AND wake_at <= ? AND due_at <= ?", []any{t.clock, at}},
			{&stats.Leased, "SELECT count(*) FROM enrich_ledger WHERE state = 2 AND wake_at > ?", []any{t.clock}},
			{&stats.Outbox, "SELECT count(*) FROM enrich_outbox", nil},
		} {
			var n int
			if _, err := t.one("count", count.text, count.args, &n); err != nil {
				return err
			}
			*count.to += n
		}
		if err := t.countNew(&stats); err != nil {
			return err
		}
		if stats.Readers, err = t.countBy("count what readers have not read", "SELECT reader, count(*) FROM enrich_delivery GROUP BY reader"); err != nil {
			return err
		}
		return t.countWaiting(stats.Waiting)
	})
	if err != nil {
		return store.Stats{}, err
	}
	return stats, nil
}

// lookedAt is how many attackers Stats looks at, at most, on either side of what
// claims have come across.
const lookedAt = 10_000

// countNew adds the attackers that are not in the ledger: nearly all of them are
// ahead of the cursor lead or, while attackers are being imported, behind past.
func (t *tx) countNew(stats *store.Stats) error {
	cursors := make(map[string]*cursor)
	err := t.query("read the cursors", "SELECT name, at, uuid FROM enrich_cursor WHERE name IN ('lead', 'past')", nil,
		func(scan func(...any) error) error {
			var c cursor
			err := scan(&c.name, &c.at, &c.uuid)
			cursors[c.name] = &c
			return err
		})
	if err != nil {
		return err
	}
	var found, adoptable int
	more := false
	look := func(where string, args ...any) error {
		var looked, unknown, withIntel int
		_, err := t.one("look for new attackers", `SELECT count(*),
			count(CASE WHEN l.attacker_uuid IS NULL AND length(a.uuid) IN (32, 36) THEN 1 END),
			count(CASE WHEN l.attacker_uuid IS NULL AND length(a.uuid) IN (32, 36) THEN i.attacker_uuid END)
			FROM (SELECT a.uuid FROM attackers a WHERE `+where+limit(lookedAt)+`) a
			LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid
			LEFT JOIN attacker_intel i ON i.attacker_uuid = a.uuid`, args, &looked, &unknown, &withIntel)
		found, adoptable, more = found+unknown, adoptable+withIntel, more || looked == lookedAt
		return err
	}
	lead, past := cursors["lead"], cursors["past"]
	if lead.at == "" { // no claim was made yet
		err = look("1 = 1")
	} else {
		err = look("a.updated_at >= ?", lead.at)
		if err == nil && past.at != ended {
			op := "<="
			if past.uuid == "" { // it begins where lead does
				op = "<"
			}
			err = look("a.updated_at "+op+" ?", past.at)
		}
	}
	if err != nil {
		return err
	}
	if more {
		var known int
		if _, err := t.one("count", "SELECT count(*) FROM enrich_ledger", nil, &known); err != nil {
			return err
		}
		all := max(found, stats.Attackers-known)
		adoptable, found = all*adoptable/max(found, 1), all
	}
	stats.Enriched += adoptable
	stats.Due += found - adoptable
	return nil
}

// countWaiting counts the entries that wait for each provider's quota, also
// those of attackers under a lease.
func (t *tx) countWaiting(waiting map[string]int) error {
	queued, err := t.countBy("count who waits", `SELECT queue, count(*) FROM enrich_queue
		WHERE queue >= 'waiting:' AND queue < 'waiting;' GROUP BY queue`)
	if err != nil {
		return err
	}
	for queue, n := range queued {
		waiting[strings.TrimPrefix(queue, waitingFor)] += n
	}
	return t.query("count who waits under a lease", "SELECT queues FROM enrich_ledger WHERE state = 2", nil,
		func(scan func(...any) error) error {
			var r schedule
			err := scan(&r.queues)
			for _, p := range r.places() {
				if name, ok := strings.CutPrefix(p.queue, waitingFor); ok {
					waiting[name]++
				}
			}
			return err
		})
}

// countBy runs a query for numbers by name, and returns nil if there are none.
func (t *tx) countBy(purpose, text string) (by map[string]int, err error) {
	err = t.query(purpose, text, nil, func(scan func(...any) error) error {
		var (
			name string
			n    int
		)
		err := scan(&name, &n)
		if by == nil {
			by = make(map[string]int)
		}
		by[name] += n
		return err
	})
	return by, err
}
