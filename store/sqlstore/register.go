package sqlstore

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// observeBatch is how many attackers are added in one transaction, so that a
// long list does not keep everybody else from writing.
const observeBatch = 2000

// Observe implements [store.Registrar]. It adds attackers in transactions of
// some thousand each: after an error those of earlier transactions are there.
// Another spelling of the same address changes nothing.
//
// It writes the columns uuid, ip, first_seen, last_seen and updated_at of
// attackers. Where that table is DECNET's own, it has further columns that must
// not be null, and DECNET adds attackers.
func (s *Store) Observe(ctx context.Context, attackers ...store.Attacker) error {
	accepted, rejected := store.Acceptable(attackers)
	if err := ctx.Err(); err != nil {
		return err
	}
	for batch := range slices.Chunk(accepted, observeBatch) {
		if err := s.write(ctx, func(t *tx) error { return t.observe(batch) }); err != nil {
			return err
		}
	}
	return rejected
}

// observed is a row of attackers, to be written.
type observed struct {
	store.Attacker
	sighting
	stored bool // it is in the table
	dirty  bool // and differs from it
}

func (t *tx) observe(attackers []store.Attacker) error {
	byID, err := t.attackers(attackers)
	if err != nil {
		return err
	}
	var added, dirty []*observed
	for _, a := range attackers {
		if a.LastSeen.IsZero() {
			a.LastSeen = time.UnixMicro(t.clock)
		}
		if a.FirstSeen.IsZero() {
			a.FirstSeen = a.LastSeen
		}
		a.FirstSeen, a.LastSeen, a.IP = clamp(a.FirstSeen), clamp(a.LastSeen), t.s.d.cut(decnet.CleanText(a.IP))
		o := byID[a.ID]
		if o == nil {
			o = &observed{Attacker: a}
			o.sighting.uuid = a.ID.String()
			byID[a.ID], added = o, append(added, o)
		} else if o.merge(a) && o.stored && !o.dirty {
			o.dirty, dirty = true, append(dirty, o)
		}
	}
	byUUID := func(a, b *observed) int { return strings.Compare(a.sighting.uuid, b.sighting.uuid) }
	slices.SortFunc(added, byUUID)
	slices.SortFunc(dirty, byUUID)
	if err := t.insertAttackers(added); err != nil {
		return err
	}
	for _, o := range dirty {
		err := t.exec("update an attacker",
			"UPDATE attackers SET ip = ?, first_seen = ?, last_seen = ?, updated_at = ? WHERE uuid = ?",
			o.IP, formatTime(o.FirstSeen), formatTime(o.LastSeen), formatTime(time.UnixMicro(t.clock)), o.sighting.uuid)
		if err != nil {
			return err
		}
	}
	found := make([]sighting, 0, len(byID))
	for _, o := range append(added, dirty...) {
		g := o.sighting
		g.ip, g.seen = o.IP, micros(o.LastSeen)
		found = append(found, g)
	}
	return t.reconcile(found)
}

// merge takes over what is new about an attacker that is known, and reports
// whether anything is.
func (o *observed) merge(a store.Attacker) bool {
	was := o.Attacker
	if a.FirstSeen.Before(o.FirstSeen) {
		o.FirstSeen = a.FirstSeen
	}
	if a.LastSeen.After(o.LastSeen) {
		o.LastSeen = a.LastSeen
	}
	if !sameIP(a.IP, o.IP) {
		o.IP, o.moved = a.IP, true
	}
	return o.Attacker != was || o.moved
}

// attackers returns those of the given attackers that are in the table. It locks
// their rows in the ledger, as everybody does before those in attackers.
func (t *tx) attackers(of []store.Attacker) (map[uuid.UUID]*observed, error) {
	ids := make([]uuid.UUID, len(of))
	for i := range of {
		ids[i] = of[i].ID
	}
	texts := spellings(ids)
	slices.Sort(texts)
	if err := t.lockLedger(texts); err != nil {
		return nil, err
	}
	byID := make(map[uuid.UUID]*observed, len(of))
	for chunk := range slices.Chunk(texts, maxParams) {
		among, args := t.among(chunk)
		err := t.query("read attackers", `SELECT `+sightingSelected+`, a.first_seen`+sightingFrom+`
			WHERE a.uuid `+among, args, func(scan func(...any) error) error {
			o := &observed{stored: true}
			var first timestamp
			if err := o.sighting.scan(scan, &first); err != nil {
				return err
			}
			id, _ := parseUUID(o.sighting.uuid) // spelled as we asked for it
			o.Attacker = store.Attacker{ID: id, IP: o.sighting.ip, FirstSeen: first.Time, LastSeen: fromMicros(o.sighting.seen)}
			if other := byID[id]; other == nil || len(o.sighting.uuid) > len(other.sighting.uuid) {
				byID[id] = o
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return byID, nil
}

// lockLedger locks the rows of attackers in the ledger, if the database is one
// where that means something.
func (t *tx) lockLedger(uuids []string) error {
	if t.s.d.lock == "" {
		return nil
	}
	for chunk := range slices.Chunk(uuids, maxParams) {
		among, args := t.among(chunk)
		err := t.query("lock the ledger", "SELECT attacker_uuid FROM enrich_ledger WHERE attacker_uuid "+among+ordered(t.s.d.lock), args,
			func(scan func(...any) error) error { return scan(new(string)) })
		if err != nil {
			return err
		}
	}
	return nil
}

func (t *tx) insertAttackers(added []*observed) error {
	now := formatTime(time.UnixMicro(t.clock))
	rows := make([][]any, len(added))
	for i, o := range added {
		rows[i] = []any{o.sighting.uuid, o.IP, formatTime(o.FirstSeen), formatTime(o.LastSeen), now}
	}
	return t.insert("add attackers", "INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at)", params(5), "", rows)
}

// Forget implements [store.Registrar]. It removes the attackers from attackers
// and attacker_intel. Events that announce what was known stay in the outbox.
func (s *Store) Forget(ctx context.Context, ids ...uuid.UUID) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	texts := spellings(ids)
	slices.Sort(texts)
	return s.write(ctx, func(t *tx) error {
		if err := t.lockLedger(texts); err != nil {
			return err
		}
		if err := t.purge(texts); err != nil {
			return err
		}
		if err := t.delete("remove rows of attacker_intel", "attacker_intel", "attacker_uuid", texts); err != nil {
			return err
		}
		return t.delete("remove attackers", "attackers", "uuid", texts)
	})
}
