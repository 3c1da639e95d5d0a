package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// Stats implements [store.Statistician]. Indexes suffice for it, in time that
// grows with the attackers, those enriched and those due, the entries that wait
// and the events in the outbox; and it looks at each attacker that is leased,
// that is new since the last claim, or that was there before the first one and
// is not imported yet. One that no claim has come across counts as due, unless
// attacker_intel has a row about it. One that was deleted from attackers counts
// in all numbers but the first until a claim comes across it.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	var stats store.Stats
	err := s.read(ctx, func(t *tx) error {
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
		return t.countWaiting(stats.Waiting)
	})
	if err != nil {
		return store.Stats{}, err
	}
	return stats, nil
}

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
	count := func(where string, args ...any) error {
		var found, adoptable int
		_, err := t.one("count new attackers", `SELECT count(*), count(i.attacker_uuid) FROM attackers a
			LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid
			LEFT JOIN attacker_intel i ON i.attacker_uuid = a.uuid
			WHERE l.attacker_uuid IS NULL AND length(a.uuid) IN (32, 36) AND `+where, args, &found, &adoptable)
		stats.Enriched += adoptable
		stats.Due += found - adoptable
		return err
	}
	lead, past := cursors["lead"], cursors["past"]
	if lead.at == "" { // no claim was made yet
		return count("1 = 1")
	}
	if err := count("a.updated_at >= ?", lead.at); err != nil || past.at == ended {
		return err
	}
	if past.uuid == "" { // it begins where lead does
		return count("a.updated_at < ?", past.at)
	}
	return count("a.updated_at <= ?", past.at)
}

// countWaiting counts the entries that wait for each provider's quota, also
// those of attackers under a lease.
func (t *tx) countWaiting(waiting map[string]int) error {
	err := t.query("count who waits", `SELECT queue, count(*) FROM enrich_queue
		WHERE queue >= 'waiting:' AND queue < 'waiting;' GROUP BY queue`, nil,
		func(scan func(...any) error) error {
			var (
				queue string
				n     int
			)
			err := scan(&queue, &n)
			waiting[strings.TrimPrefix(queue, waitingFor)] += n
			return err
		})
	if err != nil {
		return err
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
