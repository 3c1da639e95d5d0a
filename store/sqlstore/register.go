package sqlstore

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// observeBatch is how many attackers are added in one transaction, so that a
// long list does not keep everybody else from writing.
const observeBatch = 4000

// Observe implements [store.Registrar]. It adds attackers in transactions of
// some thousand each: after an error those of earlier transactions are there.
// Another spelling of the same address changes nothing. An attacker is not added if
// another client has locked what Observe writes for more than a second: the
// [*store.ObserveError] has an error for it that wraps [store.ErrLocked].
//
// It writes the columns uuid, ip, first_seen, last_seen and updated_at of
// attackers. Where that table is DECNET's own, it has further columns that must
// not be null, and DECNET adds attackers.
func (s *Store) Observe(ctx context.Context, attackers ...store.Attacker) error {
	return s.observe(ctx, nil, attackers)
}

// observe adds attackers in batches. Last, if it is not nil, runs at the end of the
// last transaction, unless attackers are left out because their rows are locked.
func (s *Store) observe(ctx context.Context, last func(*tx) error, attackers []store.Attacker) error {
	accepted, rejected := store.Acceptable(attackers)
	if err := ctx.Err(); err != nil {
		return err
	}
	locked := make(map[uuid.UUID]error)
	for len(accepted) > 0 {
		batch := accepted[:min(len(accepted), observeBatch)]
		accepted = accepted[len(batch):]
		work := isolation[store.Attacker]{
			s: s,
			try: func(part []store.Attacker, m mode) error {
				ends := last != nil && len(part) == len(batch) && len(accepted) == 0 && len(locked) == 0
				err := s.writeUnlessLocked(ctx, m, func(t *tx) error {
					err := t.readClock()
					if err == nil {
						err = t.observe(part)
					}
					if err == nil && ends {
						err = last(t)
					}
					return err
				})
				if err == nil && ends {
					last = nil
				}
				return err
			},
			fail: func(a store.Attacker, err error) { locked[a.ID] = err },
			id:   func(a *store.Attacker) uuid.UUID { return a.ID },
		}
		if work.run(ctx, batch, writing); work.stopped {
			return work.err
		}
	}
	if last != nil && len(locked) == 0 {
		if err := s.write(ctx, last); err != nil {
			return err
		}
	}
	return rejectLocked(attackers, locked, rejected)
}

// rejectLocked adds to an error of Observe why attackers were left out.
func rejectLocked(attackers []store.Attacker, locked map[uuid.UUID]error, rejected error) error {
	if len(locked) == 0 {
		return rejected
	}
	e, ok := errors.AsType[*store.ObserveError](rejected)
	if !ok {
		e = &store.ObserveError{Rejected: make(map[int]error)}
	}
	for i := range attackers {
		if err := locked[attackers[i].ID]; err != nil && e.Rejected[i] == nil {
			e.Rejected[i] = err
		}
	}
	return e
}

// observed is a row of attackers, to be written.
type observed struct {
	store.Attacker
	sighting
	was   *store.Attacker // as the table has it; nil if it does not
	dirty bool            // differs from was
}

func (t *tx) observe(attackers []store.Attacker) error {
	if len(attackers) == 0 {
		return nil
	}
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
		} else if o.merge(a, time.UnixMicro(t.clock)) && o.was != nil && !o.dirty {
			o.dirty, dirty = true, append(dirty, o)
		}
	}
	byUUID := func(a, b *observed) int { return strings.Compare(a.sighting.uuid, b.sighting.uuid) }
	slices.SortFunc(added, byUUID)
	slices.SortFunc(dirty, byUUID)
	if err := t.insertAttackers(added); err != nil {
		return err
	}
	if err := t.updateAttackers(dirty); err != nil {
		return err
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
func (o *observed) merge(a store.Attacker, now time.Time) bool {
	was := o.Attacker
	if a.FirstSeen.Before(o.FirstSeen) {
		o.FirstSeen = a.FirstSeen
	}
	if store.SeenAgain(o.LastSeen, a.LastSeen, now) {
		o.LastSeen = a.LastSeen
		o.sooner = cmp.Or(o.sooner, micros(a.LastSeen))
	}
	if !store.SameIP(a.IP, o.IP) {
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
	mine, err := t.lockLedger(texts)
	if err != nil {
		return nil, err
	}
	locked := make(map[string]bool, len(mine))
	for _, uuid := range mine {
		locked[uuid] = true
	}
	byID := make(map[uuid.UUID]*observed, len(of))
	err = t.queryAmong("read attackers", "SELECT "+t.s.d.sightingSelected()+", "+t.s.d.moment("a.first_seen")+restOfSchedule+sightingFrom+
		" WHERE a.uuid", texts, "", func(scan func(...any) error) error {
		o := new(observed)
		var first timestamp
		if err := o.sighting.scanWhole(scan, &first); err != nil {
			return err
		}
		if !locked[o.sighting.uuid] { // it may change until it is
			o.schedule = nil
		}
		id, _ := parseUUID(o.sighting.uuid) // spelled as we asked for it
		o.was = &store.Attacker{ID: id, IP: o.sighting.ip, FirstSeen: first.Time, LastSeen: fromMicros(o.sighting.seen)}
		o.Attacker = *o.was
		if other := byID[id]; other == nil || len(o.sighting.uuid) > len(other.sighting.uuid) {
			byID[id] = o
		}
		return nil
	})
	return byID, err
}

// locking ends a SELECT whose rows are to be written.
func (t *tx) locking() string {
	if t.passing {
		return t.s.d.skip
	}
	return t.s.d.lock
}

// lockLedger locks the rows of attackers in the ledger, if the database is one
// where that means something, and returns which.
func (t *tx) lockLedger(uuids []string) (mine []string, err error) {
	if t.s.d.lock == "" {
		return uuids, nil
	}
	err = t.queryAmong("lock the ledger", "SELECT attacker_uuid FROM enrich_ledger WHERE attacker_uuid", uuids, ordered(t.locking()), into(&mine))
	return mine, err
}

func (t *tx) insertAttackers(added []*observed) error {
	now := formatTime(time.UnixMicro(t.clock))
	rows := make([][]any, len(added))
	for i, o := range added {
		rows[i] = []any{o.sighting.uuid, o.IP, formatTime(o.FirstSeen), formatTime(o.LastSeen), now}
	}
	return t.insert("add attackers", "INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at)", params(5), "", rows)
}

// updateAttackers writes what is new about attackers.
func (t *tx) updateAttackers(dirty []*observed) error {
	u := updates{purpose: "update attackers", table: "attackers", key: "uuid"}
	now := formatTime(time.UnixMicro(t.clock))
	for _, o := range dirty {
		columns, values := []string{"updated_at"}, []any{now}
		if o.IP != o.was.IP {
			columns, values = append(columns, "ip"), append(values, o.IP)
		}
		if !o.FirstSeen.Equal(o.was.FirstSeen) {
			columns, values = append(columns, "first_seen"), append(values, formatTime(o.FirstSeen))
		}
		if !o.LastSeen.Equal(o.was.LastSeen) {
			columns, values = append(columns, "last_seen"), append(values, formatTime(o.LastSeen))
		}
		u.add(o.sighting.uuid, columns, values)
	}
	return t.update(&u)
}

// Forget implements [store.Registrar]. It removes the attackers from attackers
// and attacker_intel. Events that announce what was known stay in the outbox. It
// forgets the others and returns an error that wraps [store.ErrLocked] if another client
// keeps rows of some locked for more than a second.
func (s *Store) Forget(ctx context.Context, ids ...uuid.UUID) error {
	if len(ids) == 0 {
		return ctx.Err()
	}
	_, err := s.forgetEach(ctx, ids, func(t *tx, texts []string) (int, error) {
		if _, err := t.lockLedger(texts); err != nil {
			return 0, err
		}
		return len(texts), t.forget(texts)
	})
	return err
}

// forgetEach forgets the attackers of which no row is locked, by a function that is
// given the forms of some of their UUIDs, in order, and returns how many it forgot.
func (s *Store) forgetEach(ctx context.Context, ids []uuid.UUID, forget func(*tx, []string) (int, error)) (forgotten int, err error) {
	kept := 0
	work := isolation[uuid.UUID]{
		s: s,
		try: func(part []uuid.UUID, m mode) error {
			texts, n := spellings(part), 0
			slices.Sort(texts)
			err := s.writeUnlessLocked(ctx, m, func(t *tx) (err error) {
				n, err = forget(t, texts)
				return err
			})
			if err == nil {
				forgotten += n
			}
			return err
		},
		fail: func(_ uuid.UUID, why error) { kept, err = kept+1, why },
		id:   func(id *uuid.UUID) uuid.UUID { return *id },
	}
	if work.run(ctx, ids, writing); work.stopped {
		return forgotten, work.err
	}
	if err != nil {
		err = fmt.Errorf("sqlstore: %d of %d attackers are not forgotten: %w", kept, len(ids), err)
	}
	return forgotten, err
}

// ForgetUnseen implements [store.Forgetter]. It goes by when claims and Observe last
// looked at the attackers, so it is for tables that only Observe writes to, and
// passes over attackers that no claim has come across. Where rows are locked it does
// as [Store.Forget].
func (s *Store) ForgetUnseen(ctx context.Context, before time.Time, n int) (forgotten int, err error) {
	unseen := func(t *tx, rest string, args []any, each func(text string)) error {
		if err := t.readClock(); err != nil {
			return err
		}
		return t.query("look for attackers that were not seen",
			"SELECT attacker_uuid FROM enrich_ledger WHERE last_seen < ? AND (state <> 2 OR wake_at <= ?)"+rest,
			append([]any{micros(before), t.clock}, args...), func(scan func(...any) error) error {
				var text string
				err := scan(&text)
				each(text)
				return err
			})
	}
	var ids []uuid.UUID
	err = s.read(ctx, func(t *tx) error {
		ids = nil
		return unseen(t, " ORDER BY last_seen DESC, attacker_uuid"+limit(max(n, 0)), nil, func(text string) {
			if id, ok := parseUUID(text); ok { // the ledger has no others
				ids = append(ids, id)
			}
		})
	})
	if err != nil {
		return 0, err
	}
	return s.forgetEach(ctx, ids, func(t *tx, texts []string) (int, error) {
		var still []string
		for chunk := range slices.Chunk(texts, maxParams) {
			among, args := t.among(chunk)
			err := unseen(t, " AND attacker_uuid "+among+ordered(t.s.d.lock), args, func(text string) { still = append(still, text) })
			if err != nil {
				return 0, err
			}
		}
		return len(still), t.forget(still)
	})
}

// forget removes attackers. Their rows in the ledger must be locked.
func (t *tx) forget(texts []string) error {
	if err := t.purge(texts); err != nil {
		return err
	}
	if err := t.delete("remove rows of attacker_intel", "attacker_intel", "attacker_uuid", texts); err != nil {
		return err
	}
	return t.delete("remove attackers", "attackers", "uuid", texts)
}

// OwnsAttackers reports whether the table attackers is one that Migrate created, to
// which Observe adds attackers and from which they may be forgotten. DECNET's own
// table has further columns. It makes one attempt, as a program does at its start:
// a server that does not answer yet is no reason to wait.
func (s *Store) OwnsAttackers(ctx context.Context) (owns bool, err error) {
	err = s.attempt(ctx, reading, func(t *tx) error {
		rows, err := t.conn.QueryContext(ctx, "SELECT * FROM attackers WHERE 1 = 0")
		if err != nil {
			return s.failed("look at the columns of attackers", err)
		}
		defer func() { _ = rows.Close() }() // Err has its error
		columns, err := rows.Columns()
		if err == nil {
			err = rows.Err()
		}
		if err != nil {
			return s.failed("look at the columns of attackers", err)
		}
		owns = !slices.ContainsFunc(columns, func(name string) bool {
			return !slices.Contains([]string{"uuid", "ip", "first_seen", "last_seen", "updated_at"}, strings.ToLower(name))
		})
		return nil
	})
	return owns, err
}
