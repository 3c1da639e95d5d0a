package sqlstore

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// List implements [store.Lister]. It does not list an attacker that no claim
// has come across yet, nor does the next page one that was seen again since the
// page before. A record that cannot be decoded is listed without its ledger.
func (s *Store) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	if req.Limit <= 0 {
		return store.Page{}, fmt.Errorf("%w: list with a limit of %d", store.ErrInvalid, req.Limit)
	}
	req.Limit = min(req.Limit, maxLimit)
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
		rows, err := t.list(after, req.Limit+1, &req)
		if err == nil && req.Source != "" {
			rows, page.Next, err = t.listSource(rows, &req)
		}
		if err != nil {
			return err
		}
		if len(rows) > req.Limit {
			rows = rows[:req.Limit]
			page.Next = cursorAfter(rows[req.Limit-1])
		}
		if req.OnlyTrue != "" {
			dropOthers(rows, req.OnlyTrue)
		}
		mendAll(rows)
		if req.NoRaw {
			page.Records, _, err = ledgers(rows)
		} else {
			page.Records, err = t.records(rows)
		}
		return err
	})
	if err != nil {
		return store.Page{}, err
	}
	return page, nil
}

// dropOthers empties the ledgers in which no attribute of the given name is true.
// Decoding them would take most of the time of a listing.
func dropOthers(rows []*row, attr string) {
	text := string(appendString(nil, attr)) + ":true" // no string holds that: its quotes are escaped
	for _, r := range rows {
		if !strings.Contains(r.entries, text) {
			r.entries, r.decoded = "[]", nil
		}
	}
}

// mendAll mends rows, a large number of them by two goroutines: decoding them takes
// half of the time of a listing.
func mendAll(rows []*row) {
	const many = 32
	half := 0
	var other sync.WaitGroup
	if len(rows) >= many {
		half = len(rows) / 2
		other.Go(func() {
			for _, r := range rows[:half] {
				_ = r.mend() // the next claim logs it
			}
		})
	}
	for _, r := range rows[half:] {
		_ = r.mend()
	}
	other.Wait()
}

// maxLooked is how many attackers one page looks at for those that a provider has.
const maxLooked = 100_000

// listSource returns the first of the attackers that req.Source has, up to one
// more than req.Limit, given the first rows of those that something was learnt
// about. If they are too far apart, it returns the cursor to go on from.
func (t *tx) listSource(rows []*row, req *store.ListRequest) (found []*row, next string, err error) {
	for looked, size := 0, req.Limit+1; ; looked += len(rows) {
		for _, r := range rows {
			l, err := r.ledger()
			if err != nil {
				continue // it has no ledger
			}
			if e := l.entry(req.Source); e == nil || e.Finding == nil || !e.Finding.Known {
				continue
			}
			if found = append(found, r); len(found) > req.Limit {
				return found, "", nil
			}
		}
		switch {
		case len(rows) < size:
			return found, "", nil
		case looked >= maxLooked:
			return found, cursorAfter(rows[len(rows)-1]), nil
		}
		last := rows[len(rows)-1]
		size = 1000
		if rows, err = t.list(key{last.uuid, last.seen}, size, req); err != nil {
			return nil, "", err
		}
	}
}

// cursorAfter names the place after a row.
func cursorAfter(r *row) string { return strconv.FormatInt(r.seen, 10) + "." + r.uuid }

// list returns up to n rows that come after the given place, of any source.
func (t *tx) list(after key, n int, req *store.ListRequest) ([]*row, error) {
	where := "l.last_seen <= ? AND (l.last_seen < ? OR l.attacker_uuid > ?)"
	args := []any{after.seen, after.seen, after.uuid}
	add := func(condition string, more ...any) {
		where, args = where+" AND "+condition, append(args, more...)
	}
	if !req.SeenSince.IsZero() {
		add("l.last_seen >= ?", micros(req.SeenSince))
	}
	if !req.SeenBefore.IsZero() {
		add("l.last_seen < ?", micros(req.SeenBefore))
	}
	if !req.ChangedSince.IsZero() {
		add("l.cached_at >= ?", micros(req.ChangedSince))
	}
	if req.Source != "" {
		add("l.revision > 0") // which ones it has, only their ledgers tell
	}
	if req.Text != "" {
		text := strings.NewReplacer("!", "!!", "%", "!%", "_", "!_").Replace(strings.ToLower(decnet.CleanText(req.Text)))
		plain := strings.ReplaceAll(text, "-", "")          // for UUIDs spelled without
		id := "CAST(l.attacker_uuid AS " + t.s.d.char + ")" // whose character set may lack what the text has
		add("(lower(l.ip) LIKE ? ESCAPE '!' OR "+id+" LIKE ? ESCAPE '!' OR length(l.attacker_uuid) = 32 AND "+id+" LIKE ? ESCAPE '!')",
			"%"+text+"%", "%"+text+"%", "%"+plain+"%")
	}
	newest := " ORDER BY last_seen DESC, attacker_uuid" + limit(n)
	text := "SELECT " + rowColumns + " FROM enrich_ledger l WHERE " + where +
		" AND EXISTS (SELECT 1 FROM attackers a WHERE a.uuid = l.attacker_uuid)"
	if verdicts := verdictsOf(req); verdicts == nil {
		text += newest
	} else { // the newest of each verdict, since an index gives those in order
		var parts []string
		var all []any
		for _, v := range verdicts {
			parts = append(parts, "SELECT * FROM ("+text+" AND l.verdict = ?"+newest+") AS of"+strconv.Itoa(int(v)))
			all = append(append(all, args...), int(v))
		}
		text, args = strings.Join(parts, " UNION ALL ")+newest, all
	}
	var rows []*row
	err := t.query("list records", text, args, func(scan func(...any) error) error {
		r := new(row)
		rows = append(rows, r)
		return r.scan(scan)
	})
	if err != nil {
		return nil, err
	}
	return rows, t.meet(rows)
}

// verdictsOf returns the verdicts that are listed, or nil if the verdict does
// not matter.
func verdictsOf(req *store.ListRequest) []provider.Verdict {
	switch {
	case len(req.Verdicts) > 0:
		return slices.Compact(slices.Sorted(slices.Values(req.Verdicts)))
	case req.Enriched:
		var all []provider.Verdict
		for v := provider.None; v <= provider.Malicious; v++ {
			all = append(all, v)
		}
		return all
	}
	return nil
}

func parseCursor(text string) (key, error) {
	seen, uuid, _ := strings.Cut(text, ".")
	n, err := strconv.ParseInt(seen, 10, 64)
	if _, ok := parseUUID(uuid); err != nil || !ok {
		return key{}, fmt.Errorf("%w: cursor %q is not one that List returned", store.ErrInvalid, text)
	}
	return key{uuid, n}, nil
}
