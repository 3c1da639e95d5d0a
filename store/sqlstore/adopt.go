package sqlstore

import (
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// adopt adds those attackers to the ledger that attacker_intel has a row about,
// and returns which. They are due when the row expires.
func (s *Store) adopt(t *tx, fresh []sighting) (adopted map[string]bool, err error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	uuids := make([]string, len(fresh))
	for i := range fresh {
		uuids[i] = fresh[i].uuid
	}
	rows, err := t.intelRows(uuids)
	if err != nil {
		return nil, err
	}
	adopted = make(map[string]bool, len(rows))
	for i := range fresh {
		g := &fresh[i]
		ir := rows[g.uuid]
		if ir == nil {
			continue
		}
		entries, decision, revision := ir.record()
		if revision == 0 {
			continue
		}
		due := int64(atOnce)
		if sameIP(asText(ir.ip), g.ip) && !ir.expires.IsZero() {
			due = dueOf(ir.expires.Time)
		}
		doc, err := encode(entries, rawPresent)
		if err != nil {
			return nil, err
		}
		verdict, err := encodeDecision(&decision)
		if err != nil {
			return nil, err
		}
		state, wake := stateAt(due)
		err = t.exec("adopt a row of attacker_intel", `INSERT INTO enrich_ledger (attacker_uuid, ip, addr, last_seen,
			state, wake_at, due_at, fence, revision, cached_at, entries, decision)
			VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`,
			g.uuid, g.ip, addrOf(entries), g.seen, state, wake, due, t.clock, revision, micros(ir.cachedAt.Time),
			doc, verdict)
		if err != nil {
			return nil, err
		}
		adopted[g.uuid] = true
	}
	return adopted, nil
}

// importForeign takes over findings of attacker_intel that are newer than those
// in the ledger, because somebody else wrote them.
func (s *Store) importForeign(t *tx, rows []*row) error {
	byUUID := make(map[string]*row, len(rows))
	var newer []string
	uuids := make([]string, len(rows))
	for i, r := range rows {
		byUUID[r.uuid], uuids[i] = r, r.uuid
	}
	for chunk := range slices.Chunk(uuids, maxParams) {
		err := t.query("look for foreign findings", `SELECT attacker_uuid, `+timeColumns+` FROM attacker_intel
			WHERE attacker_uuid IN `+params(len(chunk)), anys(chunk), func(scan func(...any) error) error {
			var uuid string
			at := make([]timestamp, len(columnProviders))
			dest := []any{&uuid}
			for i := range at {
				dest = append(dest, &at[i])
			}
			if err := scan(dest...); err != nil {
				return err
			}
			l, err := byUUID[uuid].ledger()
			if err != nil {
				return err
			}
			for i, name := range columnProviders {
				if isNewer(at[i].Time, l.entry(name)) {
					newer = append(newer, uuid)
					return nil
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	if len(newer) == 0 {
		return nil
	}
	intel, err := t.intelRows(newer)
	if err != nil {
		return err
	}
	for _, uuid := range newer {
		if err := t.takeOver(byUUID[uuid], intel[uuid]); err != nil {
			return err
		}
	}
	return nil
}

// isNewer reports whether an answer obtained at the given time is newer than
// the entry's, which may be nil.
func isNewer(at time.Time, e *store.Entry) bool {
	return !at.IsZero() && (e == nil || e.Finding == nil || at.After(e.Finding.ObservedAt))
}

// takeOver merges newer findings of attacker_intel into a row of the ledger.
func (t *tx) takeOver(r *row, ir *intelRow) error {
	l, err := r.ledger()
	if err != nil {
		return err
	}
	was := slices.Clone(l.entries)
	for _, e := range ir.entries() {
		old := l.entry(e.Provider)
		if !isNewer(e.Finding.ObservedAt, old) {
			continue
		}
		if old != nil {
			*old = e
		} else {
			l.entries = append(l.entries, e)
		}
		l.raws = slices.DeleteFunc(l.raws, func(name string) bool { return name == e.Provider })
	}
	sortEntries(l.entries)
	if err := t.moreAddresses(r.uuid, was, l.entries); err != nil {
		return err
	}
	r.entries, err = encode(l.entries, func(e *store.Entry) bool { return rawPresent(e) || slices.Contains(l.raws, e.Provider) })
	if err != nil {
		return err
	}
	if r.revision == 0 {
		_, decision, _ := ir.record()
		if r.decision, err = encodeDecision(&decision); err != nil {
			return err
		}
		r.revision = 1
	}
	r.cachedAt = max(r.cachedAt, micros(ir.cachedAt.Time))
	return t.exec("take over foreign findings", `UPDATE enrich_ledger
		SET addr = ?, revision = ?, cached_at = ?, entries = ?, decision = ? WHERE attacker_uuid = ?`,
		addrOf(l.entries), r.revision, r.cachedAt, r.entries, r.decision, r.uuid)
}

// rawPresent reports whether the finding at hand carries a Raw.
func rawPresent(e *store.Entry) bool { return len(e.Finding.Raw) > 0 }

func sortEntries(entries []store.Entry) {
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
}
