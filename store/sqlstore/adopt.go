package sqlstore

import (
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
)

// adopt adds those attackers to the ledger that attacker_intel has a row about,
// and returns which. They are due when the row expires.
func (t *tx) adopt(fresh []string, byUUID map[string]*sighting) (adopted map[string]bool, err error) {
	if len(fresh) == 0 {
		return nil, nil
	}
	intel, err := t.intelRows(fresh)
	if err != nil {
		return nil, err
	}
	adopted = make(map[string]bool, len(intel))
	var rows [][]any
	for _, uuid := range fresh {
		g, ir := byUUID[uuid], intel[uuid]
		if ir == nil {
			continue
		}
		entries, decision := ir.record()
		if len(entries) == 0 {
			continue
		}
		due := int64(atOnce)
		if store.SameIP(asText(ir.ip), g.ip) && !ir.expires.IsZero() {
			due = dueOf(ir.expires.Time)
		}
		r := &row{schedule: schedule{uuid: uuid, ip: g.ip, seen: g.seen, due: due, ahead: never, fence: t.clock}}
		r.state, r.wake = stateAt(due)
		r.revision, r.cachedAt = 1, micros(ir.cachedAt.Time)
		if r.entries, err = encode(entries, rawPresent); err != nil {
			return nil, err
		}
		if r.decision, err = encodeDecision(&decision); err != nil {
			return nil, err
		}
		r.describe(entries, &decision)
		rows = append(rows, t.values(r))
		adopted[uuid] = true
	}
	return adopted, t.insert("adopt rows of attacker_intel", "INSERT INTO enrich_ledger ("+ledgerColumns+")", params(ledgerWidth),
		t.s.d.upsert("attacker_uuid", nil), rows)
}

// importForeign takes over findings of attacker_intel that are newer than those
// in the ledger, because somebody else wrote them. The rows must have been met with
// t.foreign set.
func (t *tx) importForeign(rows []*row) error {
	var newer []string
	for _, r := range rows {
		l, err := r.ledger()
		if err != nil {
			return err
		}
		for i, at := range r.queried {
			if t.s.isNewer(at.Time, l.entry(columnProviders[i])) {
				newer = append(newer, r.uuid)
				break
			}
		}
	}
	if len(newer) == 0 {
		return nil
	}
	foreign, err := t.intelRows(newer)
	if err != nil {
		return err
	}
	for _, r := range rows {
		if ir := foreign[r.uuid]; ir != nil {
			if err := t.takeOver(r, ir); err != nil {
				return err
			}
		}
	}
	return nil
}

// queriedAt returns when each of columnProviders answered about the attackers,
// according to attacker_intel, by attacker, and locks their rows there.
func (t *tx) queriedAt(rows []*row) (map[string][]time.Time, error) {
	all := make(map[string][]time.Time, len(rows))
	uuids := make([]string, len(rows))
	for i, r := range rows {
		uuids[i] = r.uuid
	}
	slices.Sort(uuids)
	err := t.queryAmong("look for foreign findings in attacker_intel", "SELECT attacker_uuid, "+t.s.d.timeColumns()+
		" FROM attacker_intel WHERE attacker_uuid", uuids, ordered(t.s.d.lock), func(scan func(...any) error) error {
		var uuid string
		at := make([]timestamp, len(columnProviders))
		dest := []any{&uuid}
		for i := range at {
			dest = append(dest, &at[i])
		}
		err := scan(dest...)
		times := make([]time.Time, len(at))
		for i := range at {
			times[i] = at[i].Time
		}
		all[uuid] = times
		return err
	})
	return all, err
}

// isNewer reports whether an answer obtained at the given time, according to
// attacker_intel, is newer than the entry's, which may be nil.
func (s *Store) isNewer(at time.Time, e *store.Entry) bool {
	if at.IsZero() || e == nil || e.Finding == nil {
		return !at.IsZero()
	}
	return at.After(s.d.stored(e.Finding.ObservedAt))
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
		if !t.s.isNewer(e.Finding.ObservedAt, old) {
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
	if err := t.moreAddresses(&r.schedule, was, l.entries); err != nil {
		return err
	}
	r.entries, err = encode(l.entries, func(e *store.Entry) bool { return rawPresent(e) || slices.Contains(l.raws, e.Provider) })
	if err != nil {
		return err
	}
	decision, err := decodeDecision(r.decision)
	if err != nil {
		return err
	}
	if r.revision == 0 {
		_, decision = ir.record()
		if r.decision, err = encodeDecision(&decision); err != nil {
			return err
		}
		r.revision, r.decided = 1, &decision
	}
	r.cachedAt = max(r.cachedAt, micros(ir.cachedAt.Time))
	r.describe(l.entries, &decision)
	return t.exec("take over foreign findings", `UPDATE enrich_ledger
		SET addr = ?, verdict = ?, revision = ?, cached_at = ?, ledger = ?, decision = ? WHERE attacker_uuid = ?`,
		r.addr, r.verdict, r.revision, r.cachedAt, pack(r.entries), pack(r.decision), r.uuid)
}

// rawPresent reports whether the finding at hand carries a Raw.
func rawPresent(e *store.Entry) bool { return len(e.Finding.Raw) > 0 }

func sortEntries(entries []store.Entry) {
	slices.SortFunc(entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
}
