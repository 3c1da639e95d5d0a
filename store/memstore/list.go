package memstore

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// List implements [store.Lister]. It looks at every attacker. An attacker that
// is seen again between two pages may be missing from the later one or be in
// both.
func (s *Store) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	if err := ctx.Err(); err != nil {
		return store.Page{}, err
	}
	if req.Limit <= 0 {
		return store.Page{}, fmt.Errorf("%w: list with a limit of %d", store.ErrInvalid, req.Limit)
	}
	var last *row
	if req.Cursor != "" {
		var err error
		if last, err = parseCursor(req.Cursor); err != nil {
			return store.Page{}, err
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	n := min(req.Limit, len(s.rows)) + 1 // one more, to know whether there is a next page
	var (
		rows  []*row
		worst *row // rows are full without those after this one
	)
	for _, r := range s.rows {
		if last != nil && !newer(last, r) || worst != nil && !newer(r, worst) {
			continue
		}
		if !req.Matches(&store.Record{
			Attacker: r.Attacker, Decision: r.decision, Revision: r.revision, CachedAt: r.cachedAt, Entries: r.entries,
		}) {
			continue
		}
		if rows = append(rows, r); len(rows) == 2*n {
			slices.SortFunc(rows, byNewest)
			rows = rows[:n]
			worst = rows[n-1]
		}
	}
	slices.SortFunc(rows, byNewest)
	var page store.Page
	if len(rows) > req.Limit {
		rows = rows[:req.Limit]
		page.Next = cursor(rows[req.Limit-1])
	}
	for _, r := range rows {
		page.Records = append(page.Records, r.record())
	}
	return page, nil
}

// cursor names the place after the given row.
func cursor(r *row) string {
	return strconv.FormatInt(r.seen, 10) + "." + r.ID.String()
}

func parseCursor(s string) (*row, error) {
	seen, id, _ := strings.Cut(s, ".")
	micros, err := strconv.ParseInt(seen, 10, 64)
	if err != nil {
		return nil, fmt.Errorf("%w: cursor %q is not one that List returned", store.ErrInvalid, s)
	}
	last := &row{seen: micros}
	if last.ID, err = uuid.Parse(id); err != nil {
		return nil, fmt.Errorf("%w: cursor %q is not one that List returned", store.ErrInvalid, s)
	}
	return last, nil
}

// Stats implements [store.Statistician]. Due counts those whose time has come.
func (s *Store) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	if err := ctx.Err(); err != nil {
		return store.Stats{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	at, clock := now.UnixMicro(), time.Now().UnixMicro()
	stats := store.Stats{
		Attackers: len(s.rows),
		Waiting:   make(map[string]int),
		Outbox:    s.outbox.events.Len(),
	}
	for name, o := range s.readers {
		if n := o.events.Len(); n > 0 {
			if stats.Readers == nil {
				stats.Readers = make(map[string]int)
			}
			stats.Readers[name] = n
		}
	}
	for _, r := range s.rows {
		if r.revision > 0 {
			stats.Enriched++
		}
		switch {
		case r.leased && r.until > clock:
			stats.Leased++
		case r.due <= at:
			stats.Due++
		}
		for i := range r.entries {
			if r.entries[i].State == store.Waiting {
				stats.Waiting[r.entries[i].Provider]++
			}
		}
	}
	return stats, nil
}
