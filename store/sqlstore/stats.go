package sqlstore

import (
	"context"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// Stats implements [store.Statistician]. It reads indexes only, which for a
// million attackers takes about a second. An attacker that no claim has come
// across yet counts as due, unless attacker_intel has a row about it; one that
// somebody else deleted counts until a claim has noticed.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	var stats store.Stats
	err := s.read(ctx, func(t *tx) error {
		if err := t.readClock(); err != nil {
			return err
		}
		stats = store.Stats{Waiting: make(map[string]int)}
		var awake, asleepDue, expired int
		for _, count := range []struct {
			to   *int
			text string
			args []any
		}{
			{&stats.Attackers, "SELECT count(*) FROM attackers", nil},
			{&awake, "SELECT count(*) FROM enrich_ledger WHERE state = 1 AND due_at <= ?", []any{now.UnixMicro()}},
			{&asleepDue, "SELECT count(*) FROM enrich_ledger WHERE state = 0 AND wake_at <= ?", []any{now.UnixMicro()}},
			{&expired, "SELECT count(*) FROM enrich_ledger WHERE state = 2 AND wake_at <= ? AND due_at <= ?", []any{t.clock, now.UnixMicro()}},
			{&stats.Leased, "SELECT count(*) FROM enrich_ledger WHERE state = 2 AND wake_at > ?", []any{t.clock}},
			{&stats.Outbox, "SELECT count(*) FROM enrich_outbox", nil},
		} {
			if _, err := t.one("count", count.text, count.args, count.to); err != nil {
				return err
			}
		}
		stats.Due = awake + asleepDue + expired
		err := t.query("count verdicts", "SELECT verdict, count(*) FROM enrich_ledger GROUP BY verdict", nil,
			func(scan func(...any) error) error {
				var verdict, n int
				err := scan(&verdict, &n)
				if verdict >= 0 {
					stats.Enriched += n
				}
				return err
			})
		if err != nil {
			return err
		}
		if err := t.countWaiting(stats.Waiting); err != nil {
			return err
		}
		return t.countNew(&stats)
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
	where, args := []string{}, []any{}
	for name, op := range map[string]string{"lead": ">", "past": "<"} {
		c := cursors[name]
		if c == nil || c.at == ended {
			continue
		}
		if c.at == "" { // no claim was made yet
			where, args = []string{"1 = 1"}, nil
			break
		}
		beyond, times := t.s.d.beyond(op, "a.updated_at", "a.uuid")
		where = append(where, beyond)
		for range times {
			args = append(args, c.at)
		}
		args = append(args, c.uuid)
	}
	if len(where) == 0 {
		return nil
	}
	var found, adoptable int
	_, err = t.one("count new attackers", `SELECT count(*), count(i.attacker_uuid) FROM attackers a
		LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid
		LEFT JOIN attacker_intel i ON i.attacker_uuid = a.uuid
		WHERE (`+strings.Join(where, " OR ")+") AND l.attacker_uuid IS NULL AND length(a.uuid) IN (32, 36)", args, &found, &adoptable)
	stats.Enriched += adoptable
	stats.Due += found - adoptable
	return err
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
