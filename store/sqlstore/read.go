package sqlstore

import (
	"context"
	"database/sql"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Get implements [store.Store]. An attacker that no claim has come across yet
// has the record its row in attacker_intel makes. A record that cannot be decoded
// is an error until a claim has mended it.
func (s *Store) Get(ctx context.Context, id uuid.UUID) (store.Record, error) {
	var rec store.Record
	err := s.read(ctx, func(t *tx) error {
		byID, err := t.loadByID("read a record", []uuid.UUID{id}, "")
		if err != nil {
			return err
		}
		if r := byID[id]; r != nil && !r.gone {
			recs, err := t.records([]*row{r})
			if err == nil {
				rec = recs[0]
			}
			return err
		}
		rec, err = t.unclaimed(id)
		return err
	})
	if err != nil {
		return store.Record{}, err
	}
	return rec, nil
}

// unclaimed returns the record of an attacker that is not in the ledger.
func (t *tx) unclaimed(id uuid.UUID) (rec store.Record, err error) {
	dashed, plain := forms(id)
	var (
		text, ip    sql.NullString
		first, last timestamp
	)
	found, err := t.one("read an attacker", "SELECT uuid, ip, "+t.s.d.moment("first_seen")+", "+t.s.d.moment("last_seen")+` FROM attackers
		WHERE uuid IN (?, ?) ORDER BY length(uuid)`, []any{dashed, plain}, &text, &ip, &first, &last)
	if err != nil {
		return rec, err
	}
	if !found {
		return rec, fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	rec.Attacker = store.Attacker{ID: id, IP: ip.String, FirstSeen: first.Time, LastSeen: last.Time}
	rows, err := t.intelRows([]string{text.String})
	if err != nil {
		return rec, err
	}
	if ir := rows[text.String]; ir != nil {
		rec.Row = ir.row()
		if rec.Entries, rec.Decision = ir.record(); len(rec.Entries) > 0 {
			rec.Revision, rec.CachedAt = 1, ir.cachedAt.Time
		}
	}
	return rec, nil
}

// records returns the records of rows, with Raw and Row.
func (t *tx) records(rows []*row) ([]store.Record, error) {
	recs, wanted, err := ledgers(rows)
	if err != nil {
		return nil, err
	}
	return recs, t.fill(wanted)
}

// ledgers returns the records of rows, and what they lack by their UUIDs as found.
func ledgers(rows []*row) ([]store.Record, map[string]*wants, error) {
	recs := make([]store.Record, len(rows))
	wanted := make(map[string]*wants, len(rows))
	for i, r := range rows {
		rec, raws, err := r.record()
		if err != nil {
			return nil, nil, err
		}
		recs[i] = rec
		wanted[r.uuid] = &wants{&recs[i], raws}
	}
	return recs, wanted, nil
}

// wants is a record that lacks its Row, and whose findings of the named
// providers lack their Raw.
type wants struct {
	rec   *store.Record
	names []string
}

// give sets the Raw of a finding, if it is wanted and there is one: it may have
// been pruned.
func (w *wants) give(name string, raw any) {
	text := asText(raw)
	if text == "" || text == "{}" || !slices.Contains(w.names, name) {
		return
	}
	w.rec.Entry(name).Finding.Raw = []byte(text)
}

// fill reads what is wanted, by the attackers' UUIDs as found.
func (t *tx) fill(wanted map[string]*wants) error {
	uuids := slices.Collect(maps.Keys(wanted))
	err := t.queryAmong("read raw answers from attacker_intel", "SELECT attacker_uuid, uuid, "+t.s.d.moment("cached_at")+", "+
		t.s.d.moment("expires_at")+", "+rawColumns+" FROM attacker_intel WHERE attacker_uuid", uuids, "", func(scan func(...any) error) error {
		var (
			uuid string
			ir   intelRow
		)
		raws := make([]any, len(columnProviders))
		dest := []any{&uuid, &ir.key, &ir.cachedAt, &ir.expires}
		for i := range raws {
			dest = append(dest, &raws[i])
		}
		if err := scan(dest...); err != nil {
			return err
		}
		w := wanted[uuid]
		if w == nil { // to MySQL, upper and lower case may be the same
			return nil
		}
		w.rec.Row = ir.row()
		for i, name := range columnProviders {
			w.give(name, raws[i])
		}
		return nil
	})
	if err != nil {
		return err
	}
	return t.queryAmong("read raw answers", "SELECT attacker_uuid, provider, raw FROM enrich_raw WHERE attacker_uuid", uuids, "",
		func(scan func(...any) error) error {
			var uuid, name, raw string
			err := scan(&uuid, &name, &raw)
			if err == nil {
				wanted[uuid].give(name, raw)
			}
			return err
		})
}

// Answers implements [store.Answers].
func (s *Store) Answers(ctx context.Context, now time.Time, addrs ...netip.Addr) ([]store.Answer, error) {
	if len(addrs) == 0 {
		return nil, ctx.Err()
	}
	texts := make([]string, len(addrs))
	for i, addr := range addrs {
		texts[i] = provider.Canonical(addr).String()
	}
	slices.Sort(texts)
	texts = slices.Compact(texts)
	var answers []store.Answer
	err := s.read(ctx, func(t *tx) error {
		best := make(map[subject]*offer)
		for chunk := range slices.Chunk(texts, maxParams/2) {
			if err := t.offers(chunk, now, best); err != nil {
				return err
			}
		}
		wanted := make(map[string]*wants)
		for _, o := range best {
			if o.raw {
				w := wanted[o.uuid]
				if w == nil {
					w = &wants{rec: &store.Record{}}
					wanted[o.uuid] = w
				}
				w.names = append(w.names, o.finding.Provider)
				w.rec.Entries = append(w.rec.Entries, store.Entry{Provider: o.finding.Provider, Finding: o.finding})
			}
		}
		if err := t.fill(wanted); err != nil {
			return err
		}
		answers = make([]store.Answer, 0, len(best))
		for _, o := range best {
			answers = append(answers, store.Answer{Finding: o.finding, Expires: o.expires})
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return answers, nil
}

// offer is a finding that could be reused.
type offer struct {
	finding *provider.Finding
	expires time.Time
	uuid    string // whose it is, as found
	raw     bool
}

// offers collects the findings about the given addresses that are fresh and
// last longest.
func (t *tx) offers(texts []string, now time.Time, best map[subject]*offer) error {
	among, args := t.among(texts)
	// MariaDB would run a subquery after IN for every row of the ledger.
	return t.query("look for answers", `SELECT l.attacker_uuid, l.ledger FROM (
		SELECT attacker_uuid FROM enrich_ledger WHERE addr `+among+`
		UNION SELECT attacker_uuid FROM enrich_address WHERE addr `+among+`) found
		JOIN enrich_ledger l ON l.attacker_uuid = found.attacker_uuid
		JOIN attackers a ON a.uuid = l.attacker_uuid`, append(args, args...),
		func(scan func(...any) error) error {
			var uuid, text string
			if err := scan(&uuid, &text); err != nil {
				return err
			}
			l, err := decode(unpack(text))
			if err != nil {
				return nil // no answer; the next claim logs it
			}
			for i := range l.entries {
				e := &l.entries[i]
				if e.Finding == nil || !store.Reusable(e.Finding, e.Expires, now) || !slices.Contains(texts, e.Finding.Addr.String()) {
					continue
				}
				k := subject{e.Finding.Addr.String(), e.Provider}
				if b := best[k]; b == nil || e.Expires.After(b.expires) {
					best[k] = &offer{e.Finding, e.Expires, uuid, slices.Contains(l.raws, e.Provider)}
				}
			}
			return nil
		})
}
