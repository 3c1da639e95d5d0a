package sqlstore

import (
	"database/sql"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"
)

// Whatever writes to attackers sets updated_at to its present time, so that a
// cursor moving over (updated_at, uuid) meets every change, without a trigger
// and without a scan. There are three of them:
//
//   - lead stays at the newest row and finds changes at once;
//   - trail follows a minute later and finds what was committed behind lead, by
//     a transaction that took its time or on a machine with another clock;
//   - sweep goes round all attackers by UUID, slowly, and finds what has no
//     usable updated_at.
//
// A fourth, ledger, goes round the ledger as slowly and finds attackers gone.
const (
	syncBatch  = 256
	trailBy    = time.Minute
	sweepEvery = 10 * time.Second
)

// cursor is a row of enrich_cursor.
type cursor struct {
	name, at, uuid string
	movedAt        int64
}

// sighting is a row of attackers beside what the ledger knows of it.
type sighting struct {
	uuid  string
	ip    string
	seen  int64
	moved bool // the address has changed, though it may have changed back
	known bool // there is a row in the ledger, and what follows is from it
	row   row
}

// What sighting.scan reads, and where from.
const (
	sightingSelected = `a.uuid, a.ip, a.last_seen, l.attacker_uuid, l.ip, l.last_seen, l.state, l.due_at, l.ahead_at,
		l.fence, l.queues`
	sightingFrom = ` FROM attackers a LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid`
)

// scan reads a row, whose last columns go to more.
func (g *sighting) scan(scan func(...any) error, more ...any) error {
	var (
		ip                                sql.NullString
		seen                              timestamp
		uuid, ledgerIP, queues            sql.NullString
		ledgerSeen, st, due, ahead, fence sql.NullInt64
	)
	dest := append([]any{&g.uuid, &ip, &seen, &uuid, &ledgerIP, &ledgerSeen, &st, &due, &ahead, &fence, &queues}, more...)
	if err := scan(dest...); err != nil {
		return err
	}
	g.ip, g.seen, g.known = ip.String, micros(seen.Time), uuid.Valid
	g.row = row{
		uuid: g.uuid, ip: ledgerIP.String, seen: ledgerSeen.Int64,
		state: int(st.Int64), due: due.Int64, ahead: ahead.Int64, fence: fence.Int64, queues: queues.String,
	}
	return nil
}

// sync brings the ledger up to date with what happened in attackers, and
// reports whether there may be more of it.
func (s *Store) sync(t *tx) (more bool, err error) {
	cursors := map[string]*cursor{"lead": {}, "trail": {}, "sweep": {}, "ledger": {}}
	err = t.query("read the cursors", "SELECT name, at, uuid, moved_at FROM enrich_cursor", nil,
		func(scan func(...any) error) error {
			var c cursor
			if err := scan(&c.name, &c.at, &c.uuid, &c.movedAt); err != nil {
				return err
			}
			cursors[c.name] = &c
			return nil
		})
	if err != nil {
		return false, err
	}
	for name, c := range cursors {
		c.name = name
	}
	clock := time.UnixMicro(t.clock)
	if more, err = s.advance(t, cursors["lead"], clock); err != nil {
		return false, err
	}
	if _, err = s.advance(t, cursors["trail"], clock.Add(-trailBy)); err != nil {
		return false, err
	}
	if err := s.sweep(t, cursors["sweep"]); err != nil {
		return false, err
	}
	return more, s.sweepLedger(t, cursors["ledger"])
}

// advance moves a cursor over rows updated up to the given time, and reports
// whether it stopped before that.
func (s *Store) advance(t *tx, c *cursor, until time.Time) (more bool, err error) {
	var found []sighting
	updated := s.d.text("a.updated_at")
	err = t.query("read new attackers", `SELECT `+sightingSelected+`, `+updated+` FROM (
			SELECT uuid, ip, last_seen, updated_at FROM attackers
			WHERE (updated_at, uuid) > (?, ?) AND updated_at <= ?
			ORDER BY updated_at, uuid LIMIT ?) a
		LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid ORDER BY a.updated_at, a.uuid`,
		[]any{c.at, c.uuid, s.d.time(until), syncBatch},
		func(scan func(...any) error) error {
			var g sighting
			err := g.scan(scan, &c.at)
			c.uuid = g.uuid
			found = append(found, g)
			return err
		})
	if err != nil || len(found) == 0 {
		return false, err
	}
	if err := s.reconcile(t, found); err != nil {
		return false, err
	}
	return len(found) == syncBatch, t.moveCursor(c)
}

// moveCursor stores where the cursor is.
func (t *tx) moveCursor(c *cursor) error {
	n, err := t.changed("move a cursor", "UPDATE enrich_cursor SET at = ?, uuid = ?, moved_at = ? WHERE name = ?",
		c.at, c.uuid, t.clock, c.name)
	if err != nil || n > 0 {
		return err
	}
	return t.exec("create a cursor", "INSERT INTO enrich_cursor (name, at, uuid, moved_at) VALUES (?, ?, ?, ?)",
		c.name, c.at, c.uuid, t.clock)
}

// rests reports whether it is not yet time to move a cursor that goes round. A
// clock that was set back does not stop it.
func (t *tx) rests(c *cursor) bool {
	since := t.clock - c.movedAt
	return since >= 0 && since < sweepEvery.Microseconds()
}

// sweep moves on over attackers by UUID.
func (s *Store) sweep(t *tx, c *cursor) error {
	if t.rests(c) {
		return nil
	}
	var found []sighting
	err := t.query("sweep over attackers", `SELECT `+sightingSelected+sightingFrom+` WHERE a.uuid > ? ORDER BY a.uuid LIMIT ?`,
		[]any{c.uuid, syncBatch}, func(scan func(...any) error) error {
			var g sighting
			err := g.scan(scan)
			found = append(found, g)
			return err
		})
	if err != nil {
		return err
	}
	if err := s.reconcile(t, found); err != nil {
		return err
	}
	c.uuid = ""
	if len(found) == syncBatch {
		c.uuid = found[len(found)-1].uuid
	}
	return t.moveCursor(c)
}

// sweepLedger moves on over the ledger by UUID.
func (s *Store) sweepLedger(t *tx, c *cursor) error {
	if t.rests(c) {
		return nil
	}
	n := 0
	var gone []string
	start := c.uuid
	c.uuid = ""
	err := t.query("sweep over the ledger", `SELECT l.attacker_uuid, a.uuid FROM enrich_ledger l
		LEFT JOIN attackers a ON a.uuid = l.attacker_uuid
		WHERE l.attacker_uuid > ? ORDER BY l.attacker_uuid LIMIT ?`, []any{start, syncBatch},
		func(scan func(...any) error) error {
			var (
				uuid  string
				found sql.NullString
			)
			err := scan(&uuid, &found)
			if !found.Valid {
				gone = append(gone, uuid)
			}
			if n++; n == syncBatch {
				c.uuid = uuid
			}
			return err
		})
	if err != nil {
		return err
	}
	if err := t.purge(gone); err != nil {
		return err
	}
	return t.moveCursor(c)
}

// syncOnly is sync for chosen attackers.
func (s *Store) syncOnly(t *tx, ids []uuid.UUID) error {
	for chunk := range slices.Chunk(spellings(ids), maxParams) {
		var found []sighting
		err := t.query("read chosen attackers", `SELECT `+sightingSelected+sightingFrom+` WHERE a.uuid IN `+params(len(chunk)),
			anys(chunk), func(scan func(...any) error) error {
				var g sighting
				err := g.scan(scan)
				found = append(found, g)
				return err
			})
		if err != nil {
			return err
		}
		if err := s.reconcile(t, found); err != nil {
			return err
		}
	}
	return nil
}

// reconcile takes over into the ledger what was found in attackers. Rows whose
// key is no UUID are passed over.
func (s *Store) reconcile(t *tx, found []sighting) error {
	var fresh []sighting
	for i := range found {
		g := &found[i]
		var err error
		switch _, isUUID := parseUUID(g.uuid); {
		case !isUUID:
		case !g.known:
			fresh = append(fresh, *g)
		case g.moved || !sameIP(g.ip, g.row.ip):
			err = t.relocate(g)
		case g.seen != g.row.seen:
			err = t.seenAgain(g)
		}
		if err != nil {
			return err
		}
	}
	return s.enroll(t, fresh)
}

// relocate makes an attacker with a new address due at once.
func (t *tx) relocate(g *sighting) error {
	if err := t.exec("note a new address", "UPDATE enrich_ledger SET ip = ?, last_seen = ? WHERE attacker_uuid = ?",
		g.ip, g.seen, g.uuid); err != nil {
		return err
	}
	r := &g.row
	r.ip, r.seen = g.ip, g.seen
	if r.state == leased {
		return t.exec("note a new address under a lease",
			"UPDATE enrich_ledger SET due_at = ? WHERE attacker_uuid = ?", int64(moved), g.uuid)
	}
	return t.enter(r, atOnce, never, r.fence)
}

// seenAgain notes when an attacker was last seen, which may make it due earlier.
func (t *tx) seenAgain(g *sighting) error {
	r := &g.row
	due, ahead := r.due, r.ahead
	if g.seen > r.seen {
		due, ahead = min(due, max(ahead, g.seen)), never
	}
	r.seen = g.seen
	err := t.exec("note that an attacker was seen",
		"UPDATE enrich_ledger SET last_seen = ?, due_at = ?, ahead_at = ? WHERE attacker_uuid = ?", g.seen, due, ahead, g.uuid)
	if err != nil {
		return err
	}
	if due != r.due && r.state != leased {
		return t.enter(r, due, ahead, r.fence)
	}
	if r.queues == "" {
		return nil
	}
	return t.exec("note in queues that an attacker was seen",
		"UPDATE enrich_queue SET last_seen = ? WHERE attacker_uuid = ?", g.seen, g.uuid)
}

// enrollBatch is how many attackers one statement adds to the ledger.
const enrollBatch = 64

// enroll adds attackers to the ledger: due at once, unless attacker_intel has a
// row about them already.
func (s *Store) enroll(t *tx, fresh []sighting) error {
	adopted, err := s.adopt(t, fresh)
	if err != nil {
		return err
	}
	if len(adopted) > 0 {
		fresh = slices.DeleteFunc(fresh, func(g sighting) bool { return adopted[g.uuid] })
	}
	for chunk := range slices.Chunk(fresh, enrollBatch) {
		args := make([]any, 0, 4*len(chunk))
		for _, g := range chunk {
			args = append(args, g.uuid, g.ip, g.seen, t.clock)
		}
		// A fence that grows with time does not come again for an attacker who
		// was forgotten and came back.
		err := t.exec("add attackers to the ledger",
			`INSERT INTO enrich_ledger (attacker_uuid, ip, last_seen, fence, state, wake_at, due_at) VALUES `+
				strings.TrimSuffix(strings.Repeat("(?, ?, ?, ?, 1, 0, 0), ", len(chunk)), ", "), args...)
		if err != nil {
			return err
		}
	}
	return nil
}
