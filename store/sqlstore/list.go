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

// Stats implements [store.Statistician]. An attacker that no claim has come
// across yet counts as due, unless attacker_intel has a row about it.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	var stats store.Stats
	err := s.read(ctx, func(t *tx) error {
		stats = store.Stats{Waiting: make(map[string]int)}
		var unclaimed, adoptable int
		for _, count := range []struct {
			to   *int
			text string
			args []any
		}{
			{&stats.Attackers, "SELECT count(*) FROM attackers", nil},
			{&unclaimed, `SELECT count(*) FROM attackers a
				WHERE NOT EXISTS (SELECT 1 FROM enrich_ledger l WHERE l.attacker_uuid = a.uuid)`, nil},
			{&adoptable, `SELECT count(*) FROM attackers a JOIN attacker_intel i ON i.attacker_uuid = a.uuid
				WHERE NOT EXISTS (SELECT 1 FROM enrich_ledger l WHERE l.attacker_uuid = a.uuid)`, nil},
			{&stats.Enriched, fromKnown + "l.revision > 0", nil},
			{&stats.Leased, fromKnown + "l.state = 2 AND l.wake_at > ?", []any{t.clock}},
			{&stats.Due, fromKnown + "(l.state <> 2 OR l.wake_at <= ?) AND l.due_at <= ?", []any{t.clock, now.UnixMicro()}},
			{&stats.Outbox, "SELECT count(*) FROM enrich_outbox", nil},
		} {
			if _, err := t.one("count", count.text, count.args, count.to); err != nil {
				return err
			}
		}
		stats.Enriched += adoptable
		stats.Due += unclaimed - adoptable
		return t.query("count who waits", `SELECT l.queues, count(*) FROM enrich_ledger l
			JOIN attackers a ON a.uuid = l.attacker_uuid WHERE l.queues LIKE 'waiting:%' GROUP BY l.queues`, nil,
			func(scan func(...any) error) error {
				var (
					queues string
					n      int
				)
				err := scan(&queues, &n)
				for queue := range strings.FieldsSeq(queues) {
					stats.Waiting[strings.TrimPrefix(queue, waitingFor)] += n
				}
				return err
			})
	})
	if err != nil {
		return store.Stats{}, err
	}
	return stats, nil
}

// fromKnown begins a count of rows whose attacker is there.
const fromKnown = "SELECT count(*) FROM enrich_ledger l JOIN attackers a ON a.uuid = l.attacker_uuid WHERE "
