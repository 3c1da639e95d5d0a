package sqlstore

import (
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// List implements [store.Lister]. It does not list an attacker that no claim
// has come across yet, nor does the next page one that was seen again since the
// page before.
func (s *Store) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	if req.Limit <= 0 {
		return store.Page{}, fmt.Errorf("%w: list with a limit of %d", store.ErrInvalid, req.Limit)
	}
	after := key{seen: math.MaxInt64}
	if req.Cursor != "" {
		var err error
		if after, err = parseCursor(req.Cursor); err != nil {
			return store.Page{}, err
		}
	}
	var page store.Page
	err := s.read(ctx, func(t *tx) error {
		page = store.Page{}
		rows, err := t.list(after, req.Limit+1, req.Enriched)
		if err != nil {
			return err
		}
		if len(rows) > req.Limit {
			rows = rows[:req.Limit]
			last := rows[req.Limit-1]
			page.Next = strconv.FormatInt(last.seen, 10) + "." + last.uuid
		}
		page.Records, err = t.records(rows)
		return err
	})
	if err != nil {
		return store.Page{}, err
	}
	return page, nil
}

// list returns up to n rows that come after the given place.
func (t *tx) list(after key, n int, enriched bool) ([]*row, error) {
	var rows []*row
	only := ""
	if enriched {
		only = " AND l.revision > 0"
	}
	err := t.query("list records", `SELECT `+rowColumns+` FROM enrich_ledger l
		JOIN attackers a ON a.uuid = l.attacker_uuid
		WHERE l.last_seen <= ? AND (l.last_seen < ? OR l.attacker_uuid > ?)`+only+`
		ORDER BY l.last_seen DESC, l.attacker_uuid LIMIT ?`, []any{after.seen, after.seen, after.uuid, n},
		func(scan func(...any) error) error {
			r := new(row)
			rows = append(rows, r)
			return r.scan(scan)
		})
	return rows, err
}

func parseCursor(text string) (key, error) {
	seen, uuid, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(seen, 10, 64)
	if _, ok := parseUUID(uuid); err != nil || !ok {
		return key{}, fmt.Errorf("%w: cursor %q is not one that List returned", store.ErrInvalid, text)
	}
	return key{uuid, n}, nil
}

// Stats implements [store.Statistician]. It reads indexes only, in time that
// grows with the attackers, those enriched and those due, the entries that wait
// and the events in the outbox; and it looks at each attacker that is leased or
// that is new since the last claim. One that no claim has come across yet counts
// as due, unless attacker_intel has a row about it. One that was deleted from
// attackers counts in all numbers but the first until a claim comes across it.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	var stats store.Stats
	err := s.read(ctx, func(t *tx) error {
		stats = store.Stats{Waiting: make(map[string]int)}
		at := now.UnixMicro()
		for _, count := range []struct {
			to   *int
			text string
			args []any
		}{
			{&stats.Attackers, "SELECT count(*) FROM attackers", nil},
			{&stats.Enriched, "SELECT count(*) FROM enrich_ledger WHERE revision > 0", nil},
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

// countNew adds the attackers that are not in the ledger. Nearly all of them
// are ahead of the cursor that sync moves, or will be found behind it soon.
func (t *tx) countNew(stats *store.Stats) error {
	var lead cursor
	if _, err := t.one("read a cursor", "SELECT at, uuid FROM enrich_cursor WHERE name = 'lead'", nil, &lead.at, &lead.uuid); err != nil {
		return err
	}
	var found, adoptable int
	_, err := t.one("count new attackers", `SELECT count(*), count(i.attacker_uuid) FROM attackers a
		LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid
		LEFT JOIN attacker_intel i ON i.attacker_uuid = a.uuid
		WHERE (a.updated_at, a.uuid) > (?, ?) AND l.attacker_uuid IS NULL`, []any{lead.at, lead.uuid}, &found, &adoptable)
	stats.Enriched += adoptable
	stats.Due += found - adoptable
	return err
}

// countWaiting adds the entries that wait, by provider.
func (t *tx) countWaiting(waiting map[string]int) error {
	err := t.query("count who waits",
		"SELECT queue, count(*) FROM enrich_queue WHERE queue > ? AND queue < ? GROUP BY queue",
		[]any{waitingFor, waitingFor + "~"}, func(scan func(...any) error) error {
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
			var queues string
			err := scan(&queues)
			for place := range strings.FieldsSeq(queues) {
				if name, ok := strings.CutPrefix(place, waitingFor); ok {
					name, _, _ = strings.Cut(name, "/")
					waiting[name]++
				}
			}
			return err
		})
}
