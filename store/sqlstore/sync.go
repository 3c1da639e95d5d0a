package sqlstore

import (
	"cmp"
	"context"
	"database/sql"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Whatever writes to attackers sets updated_at to its present time, so that a
// cursor moving along updated_at meets every change, without a trigger and
// without a scan. There are several of them:
//
//   - lead stays at the newest row and finds changes at once; it looks again at
//     the latest changes, for times that are rounded and transactions that
//     overlap;
//   - trail follows a minute later and finds what was committed behind lead, by
//     a transaction that took its time or on a machine with another clock;
//   - past goes back from where lead began, once, and imports the attackers
//     there were before;
//   - sweep goes round all attackers by UUID, slowly, and finds what has no
//     usable updated_at;
//   - ledger goes round our own rows as slowly and finds attackers gone.
const (
	syncBatch = 256
	trailBy   = time.Minute
	leadBy    = time.Minute // how far clocks ahead of ours may be

	// What lead looks at again, and what if that is more than so many rows and times
	// are not rounded to the second.
	overlap      = 2 * time.Second
	shortOverlap = 100 * time.Millisecond
	overlapRows  = 64

	sweepRate  = 600         // rows a second, so that a million take half an hour
	sweepBatch = 1000        // rows looked at in one transaction at most
	sweepStep  = 256         // rows for which it is worth to begin
	sweepLag   = time.Minute // what is later than that is not made up for
)

// ended is where the cursor past is when everything is imported.
const ended = "end"

// cursor is a row of enrich_cursor.
type cursor struct {
	name, at, uuid string
	movedAt        int64
	more           bool // there is more to read
}

// upkept is what a call of upkeep leaves to do.
type upkept struct {
	skipped bool // somebody else was at it
	more    bool // there are more attackers to read
	behind  bool // it is time to sweep further
}

// upkeep is tx.upkeep in a transaction of its own. If another client keeps rows
// locked it does the rest; the cursors come across those rows again.
func (s *Store) upkeep(ctx context.Context, wait bool) (u upkept, err error) {
	passing := false
	f := func(t *tx) (err error) {
		t.passing = passing
		u, err = t.upkeep(wait)
		return err
	}
	if err = s.writeUnlessLocked(ctx, writing, f); errors.Is(err, store.ErrLocked) {
		s.log.Warn("another client of the database keeps rows locked; looking at the others", "error", err)
		passing = true
		err = s.writeUntimed(ctx, f)
	}
	return u, err
}

// upkeep brings the ledger up to date with what happened in attackers and ends
// leases that have expired. One caller at a time does it; a second one waits for
// it, or is told that it was skipped.
func (t *tx) upkeep(wait bool) (u upkept, err error) {
	lock := t.s.d.skip
	if wait {
		lock = t.s.d.lock
	}
	cursors := make(map[string]*cursor)
	var expires *int64 // the first lease
	clock, dest := t.clocked()
	err = t.query("read the cursors", `SELECT name, at, uuid, moved_at, (SELECT min(wake_at) FROM enrich_ledger WHERE state = 2)`+clock+`
		FROM enrich_cursor WHERE name <> 'queues'`+lock, nil, func(scan func(...any) error) error {
		var c cursor
		err := scan(append([]any{&c.name, &c.at, &c.uuid, &c.movedAt, &expires}, dest...)...)
		cursors[c.name] = &c
		return err
	})
	if err != nil {
		return u, err
	}
	if len(cursors) < len(cursorNames)-1 {
		repaired, err := t.repairCursors() // which another transaction has locked otherwise
		return upkept{skipped: !repaired, more: repaired}, err
	}
	lead, past := cursors["lead"], cursors["past"]
	if err := t.turnBack(cursors); err != nil {
		return u, err
	}
	found, err := t.newAttackers(lead, cursors["trail"], past)
	if err != nil {
		return u, err
	}
	swept, err := t.sweep(cursors["sweep"])
	if err != nil {
		return u, err
	}
	// Rows are locked all at once, and in order, lest two transactions wait for
	// each other.
	if err := t.reconcile(append(found, swept...)); err != nil {
		return u, err
	}
	if err := t.sweepLedger(cursors["ledger"]); err != nil {
		return u, err
	}
	u.more = lead.more || past.more
	u.behind = cursors["sweep"].more || cursors["ledger"].more
	if expires != nil && *expires <= t.clock {
		err = t.endLeases(never)
	}
	return u, err
}

const (
	// clockStep is by how much the clock may be set back without being taken for one
	// that was wrong. A transaction that waits for locks goes by the time at which it
	// began, so another one may have moved the cursors later.
	clockStep = 2 * time.Minute
	// reread is from when on attackers are read again after the clock was set back.
	reread = time.Hour
)

// turnBack takes back what the clock has left if it was ahead and was set back. The
// cursors that go round are moved all the time, so they tell what it said at least.
// Leases that end after that were taken by the wrong clock. The cursors that go by
// time are reset if they are ahead.
func (t *tx) turnBack(cursors map[string]*cursor) error {
	latest := max(cursors["sweep"].movedAt, cursors["ledger"].movedAt)
	if latest > t.clock+clockStep.Microseconds() {
		if err := t.endLeases(latest); err != nil {
			return err
		}
		for _, name := range []string{"sweep", "ledger"} {
			c := cursors[name]
			c.movedAt = t.clock
			if err := t.moveCursor(c, c.at, c.uuid); err != nil {
				return err
			}
		}
	}
	clock := time.UnixMicro(t.clock)
	for _, name := range []string{"lead", "trail"} {
		if c := cursors[name]; c.at > formatTime(clock.Add(2*leadBy)) {
			if err := t.moveCursor(c, formatTime(clock.Add(-reread)), ""); err != nil {
				return err
			}
		}
	}
	return nil
}

// sighting is a row of attackers beside what the ledger knows of it.
type sighting struct {
	uuid       string
	ip         string
	seen       int64
	moved      bool   // the address has changed, though it may have changed back
	sooner     int64  // the first of several sightings that were later than the one before; 0 for seen
	updated    string // attackers.updated_at, if page read it
	known      bool   // there is a row in the ledger, and what follows is from it
	ledgerIP   string
	ledgerSeen int64
	schedule   *schedule // the whole of it, if it was read from a row that is locked
}

// sightingSelected is what sighting.scan reads, and sightingFrom where from.
func (d *dialect) sightingSelected() string {
	return "a.uuid, a.ip, " + d.moment("a.last_seen") + ", l.attacker_uuid, l.ip, l.last_seen"
}

const sightingFrom = ` FROM attackers a LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid`

// scan reads a row, whose last columns go to more.
func (g *sighting) scan(scan func(...any) error, more ...any) error {
	var (
		ip             sql.NullString
		seen           timestamp
		uuid, ledgerIP sql.NullString
		ledgerSeen     sql.NullInt64
	)
	dest := append([]any{&g.uuid, &ip, &seen, &uuid, &ledgerIP, &ledgerSeen}, more...)
	if err := scan(dest...); err != nil {
		return err
	}
	g.ip, g.seen, g.known = ip.String, micros(seen.Time), uuid.Valid
	g.ledgerIP, g.ledgerSeen = ledgerIP.String, ledgerSeen.Int64
	return nil
}

// sightingsInto returns what appends a row to a list.
func sightingsInto(list *[]sighting) func(scan func(...any) error) error {
	return func(scan func(...any) error) error {
		var g sighting
		err := g.scan(scan)
		*list = append(*list, g)
		return err
	}
}

// restOfSchedule is what scanWhole reads beside sightingSelected and its own columns.
const restOfSchedule = ", l.state, l.wake_at, l.due_at, l.ahead_at, l.fence, l.queues"

// scanWhole reads a row that is locked in the ledger, whose columns before
// restOfSchedule go to more.
func (g *sighting) scanWhole(scan func(...any) error, more ...any) error {
	var (
		state, wake, due, ahead, fence sql.NullInt64
		queues                         sql.NullString
	)
	err := g.scan(scan, append(more, &state, &wake, &due, &ahead, &fence, &queues)...)
	if g.known {
		g.schedule = &schedule{
			uuid: g.uuid, ip: g.ledgerIP, seen: g.ledgerSeen, state: int(state.Int64),
			wake: wake.Int64, due: due.Int64, ahead: ahead.Int64, fence: fence.Int64, queues: queues.String,
		}
	}
	return err
}

// newAttackers moves the three cursors that go by updated_at, and returns what
// they found.
func (t *tx) newAttackers(lead, trail, past *cursor) (found []sighting, err error) {
	if lead.at == "" {
		if err := t.begin(lead, trail, past); err != nil {
			return nil, err
		}
	}
	clock := time.UnixMicro(t.clock)
	last, found, err := t.page(lead, ">", clock.Add(leadBy))
	if err != nil {
		return nil, err
	}
	if !lead.more {
		if at := settled(last.at, found, clock); last.at > at {
			last.at, last.uuid = at, ""
		}
	}
	if last.at > lead.at || last.at == lead.at && last.uuid != "" && last.uuid != lead.uuid {
		if err := t.moveCursor(lead, last.at, last.uuid); err != nil {
			return nil, err
		}
	}

	last, more, err := t.page(trail, ">", clock.Add(-trailBy))
	if err != nil {
		return nil, err
	}
	found = append(found, more...)
	if last.at != trail.at || last.uuid != trail.uuid {
		if err := t.moveCursor(trail, last.at, last.uuid); err != nil {
			return nil, err
		}
	}

	if past.at == ended {
		return found, nil
	}
	if last, more, err = t.page(past, "<", clock.Add(leadBy)); err != nil {
		return nil, err
	}
	if !past.more {
		last.at, last.uuid = ended, ""
	}
	return append(found, more...), t.moveCursor(past, last.at, last.uuid)
}

// settled returns up to when lead need not look again at the page it found, of
// which the latest is given.
func settled(latest string, page []sighting, clock time.Time) string {
	at := formatTime(clock.Add(-overlap))
	if latest <= at || !strings.Contains(latest, ".") {
		return at
	}
	n := 0
	for i := range page {
		if page[i].updated > at {
			n++
		}
	}
	if n > overlapRows {
		at = formatTime(clock.Add(-shortOverlap))
	}
	return at
}

// begin puts the cursors to where they begin: at the newest attacker there is.
func (t *tx) begin(lead, trail, past *cursor) error {
	clock := time.UnixMicro(t.clock)
	start := formatTime(clock.Add(-overlap))
	_, err := t.one("find the newest attacker", "SELECT "+t.s.d.text("updated_at")+` FROM attackers
		WHERE updated_at <= ? ORDER BY updated_at DESC LIMIT 1`, []any{formatTime(clock.Add(leadBy))}, &start)
	if err != nil {
		return err
	}
	for _, c := range []*cursor{lead, trail, past} {
		at := start
		if c == trail { // what is being written at this moment has an earlier time
			at = min(start, formatTime(clock.Add(-2*trailBy)))
		}
		if err := t.moveCursor(c, at, ""); err != nil {
			return err
		}
	}
	return nil
}

// page reads the rows of attackers that come next after a cursor or, with "<",
// before it, not updated after the given time: a batch, or less than two. It
// returns where the last of them is, and sets c.more if there may be others.
//
// It asks for the rest of the cursor's own time first, and then for other times,
// so that an index on updated_at alone gives either in its order: a single query
// would sort all rows of one time, of which there may be a million, each time. At
// the end of a page that holds all rows of its last time, and few of them, the
// cursor has no UUID: reading these rows again costs less than a further query.
func (t *tx) page(c *cursor, op string, until time.Time) (last cursor, found []sighting, err error) {
	last, c.more = *c, false
	read := func(where string, args ...any) error {
		more, err := t.nextRows(&last, op, where, append(args, formatTime(until)))
		found, c.more = append(found, more...), len(more) == syncBatch
		return err
	}
	others := "updated_at " + op + " ?"
	switch {
	case c.uuid != "":
		if t.s.d.sortTie != "" {
			if err := t.exec("allow for sorting", t.s.d.sortTie); err != nil {
				return last, nil, err
			}
		}
		err = read("updated_at = ? AND "+t.s.d.tie+" "+op+" "+t.s.d.tieOf(op), c.at, c.uuid)
	case op == ">": // before the first row of its time
		others = "updated_at >= ?"
	}
	if err == nil && !c.more {
		err = read(others, c.at)
	}
	if !c.more && (c.uuid == "" || last.at != c.at) { // all rows of the last time were read
		n := 0
		for i := range found {
			if found[i].updated == last.at {
				n++
			}
		}
		if n <= overlapRows {
			last.uuid = ""
		}
	}
	return last, found, err
}

// nextRows reads a batch of the rows of attackers that a condition holds for, in
// order, and moves last to the last of them. The last argument is the latest
// time.
func (t *tx) nextRows(last *cursor, op, where string, args []any) (found []sighting, err error) {
	direction := ""
	if op == "<" {
		direction = " DESC"
	}
	err = t.query("read new attackers", "SELECT "+t.s.d.sightingSelected()+", "+t.s.d.text("a.updated_at")+` FROM (
			SELECT uuid, ip, last_seen, updated_at, `+t.s.d.tie+` AS tie FROM attackers
			WHERE `+where+` AND updated_at <= ?
			ORDER BY updated_at`+direction+", "+t.s.d.tie+direction+limit(syncBatch)+`) a
		LEFT JOIN enrich_ledger l ON l.attacker_uuid = a.uuid ORDER BY a.updated_at`+direction+", a.tie"+direction, args,
		func(scan func(...any) error) error {
			var g sighting
			err := g.scan(scan, &g.updated)
			last.at, last.uuid = g.updated, g.uuid
			found = append(found, g)
			return err
		})
	return found, err
}

// moveCursor stores where the cursor is.
func (t *tx) moveCursor(c *cursor, at, uuid string) error {
	c.at, c.uuid = at, uuid
	return t.exec("move a cursor", "UPDATE enrich_cursor SET at = ?, uuid = ?, moved_at = ? WHERE name = ?",
		c.at, c.uuid, t.clock, c.name)
}

// sweeps returns how many rows a cursor that goes round has to pass now, 0 if it
// is too early.
func (t *tx) sweeps(c *cursor) int {
	if c.movedAt > t.clock { // the clock was set back
		c.movedAt = t.clock
	}
	c.movedAt = max(c.movedAt, t.clock-sweepLag.Microseconds())
	n := int((t.clock - c.movedAt) * sweepRate / 1e6)
	c.more = n > sweepBatch+sweepStep
	if n < sweepStep {
		return 0
	}
	return min(n, sweepBatch)
}

// window returns the condition for a column of UUIDs that holds for the next n
// rows of a table after the cursor, and moves the cursor behind them.
func (t *tx) window(c *cursor, table, column string, n int) (condition string, args []any, err error) {
	start := c.uuid
	found, err := t.one("find how far to sweep",
		"SELECT "+column+" FROM "+table+" WHERE "+column+" > ? ORDER BY "+column+limit(1)+" OFFSET "+strconv.Itoa(n-1),
		[]any{start}, &c.uuid)
	if err != nil {
		return "", nil, err
	}
	condition, args = column+" > ?", []any{start}
	if found {
		condition, args = condition+" AND "+column+" <= ?", append(args, c.uuid)
		c.movedAt += int64(n) * 1e6 / sweepRate
	} else {
		c.uuid, c.movedAt, c.more = "", t.clock, false
	}
	return condition, args, t.exec("move a cursor", "UPDATE enrich_cursor SET uuid = ?, moved_at = ? WHERE name = ?",
		c.uuid, c.movedAt, c.name)
}

// sweep moves on over attackers by UUID and returns those that the ledger does
// not know as they are.
func (t *tx) sweep(c *cursor) (found []sighting, err error) {
	n := t.sweeps(c)
	if n == 0 {
		return nil, nil
	}
	where, args, err := t.window(c, "attackers a", "a.uuid", n)
	if err != nil {
		return nil, err
	}
	err = t.query("sweep over attackers", "SELECT "+t.s.d.sightingSelected()+sightingFrom+" WHERE "+where+
		" AND (l.attacker_uuid IS NULL OR l.ip <> a.ip OR "+t.s.d.seenOtherwise+")", args, sightingsInto(&found))
	return found, err
}

// sweepLedger moves on over the ledger by UUID.
func (t *tx) sweepLedger(c *cursor) error {
	n := t.sweeps(c)
	if n == 0 {
		return nil
	}
	where, args, err := t.window(c, "enrich_ledger l", "l.attacker_uuid", n)
	if err != nil {
		return err
	}
	if err := t.sweepSpellings(where, args); err != nil {
		return err
	}
	var gone []string
	err = t.query("sweep over the ledger", `SELECT l.attacker_uuid FROM enrich_ledger l
		LEFT JOIN attackers a ON a.uuid = l.attacker_uuid WHERE `+where+" AND a.uuid IS NULL ORDER BY l.attacker_uuid", args, into(&gone))
	if err != nil {
		return err
	}
	if len(gone) > 0 && t.passing {
		if gone, err = t.lockLedger(gone); err != nil {
			return err
		}
	}
	return t.purge(gone)
}

// sweepSpellings stores the addresses of attackers whose texts are unusual and that an
// older program has added. Every text of an IPv4 address without a colon is usual.
func (t *tx) sweepSpellings(where string, args []any) error {
	var rows [][]any
	err := t.query("sweep over spellings", "SELECT l.attacker_uuid, l.ip FROM enrich_ledger l WHERE "+where+" AND l.ip LIKE '%:%'", args,
		func(scan func(...any) error) error {
			var uuid, ip string
			err := scan(&uuid, &ip)
			rows = append(rows, unusual(uuid, ip)...)
			return err
		})
	if err != nil {
		return err
	}
	return t.insertAddresses(rows)
}

// syncOnly brings the ledger up to date with chosen attackers.
func (t *tx) syncOnly(ids []uuid.UUID) error {
	var found []sighting
	err := t.queryAmong("read chosen attackers", "SELECT "+t.s.d.sightingSelected()+sightingFrom+" WHERE a.uuid", spellings(ids), "",
		sightingsInto(&found))
	if err != nil {
		return err
	}
	return t.reconcile(found)
}

// reconcile takes over into the ledger what was found in attackers. Rows whose
// key is no UUID are passed over.
func (t *tx) reconcile(found []sighting) error {
	byUUID := make(map[string]*sighting, len(found))
	var (
		fresh, differ []string
		changes       []change
	)
	apply := func(r *schedule) {
		was := *r
		byUUID[r.uuid].apply(r, time.UnixMicro(t.clock))
		changes = append(changes, change{&was, r})
	}
	for i := range found {
		g := &found[i]
		if _, isUUID := parseUUID(g.uuid); !isUUID || byUUID[g.uuid] != nil {
			continue
		}
		byUUID[g.uuid] = g
		switch {
		case !g.known:
			fresh = append(fresh, g.uuid)
		case !g.moved && g.seen == g.ledgerSeen && store.SameIP(g.ip, g.ledgerIP):
		case g.schedule != nil:
			apply(g.schedule)
		default:
			differ = append(differ, g.uuid)
		}
	}
	slices.Sort(differ)
	err := t.queryAmong("read attackers that changed", "SELECT "+scheduleColumns+" FROM enrich_ledger WHERE attacker_uuid",
		differ, ordered(t.locking()), func(scan func(...any) error) error {
			r := new(schedule)
			err := scan(r.dest()...)
			if byUUID[r.uuid] != nil {
				apply(r)
			}
			return err
		})
	if err != nil {
		return err
	}
	if err := t.reschedule(changes); err != nil {
		return err
	}
	slices.Sort(fresh)
	return t.enroll(fresh, byUUID)
}

// apply changes a row as its attacker has changed. Being seen again may make it
// due early, and a new address makes it due at once.
func (g *sighting) apply(r *schedule, now time.Time) {
	due := r.due
	if store.SeenAgain(fromMicros(r.seen), fromMicros(g.seen), now) {
		due, r.ahead = min(due, max(r.ahead, cmp.Or(g.sooner, g.seen), 1)), never
	}
	r.seen = g.seen
	if g.moved || !store.SameIP(g.ip, r.ip) {
		r.ip, due = g.ip, moved
	}
	if r.state == leased {
		r.due = due
	} else if due != r.due {
		r.free(due)
	}
}

// enroll adds attackers to the ledger: due at once, unless attacker_intel has a
// row about them already.
func (t *tx) enroll(fresh []string, byUUID map[string]*sighting) error {
	adopted, err := t.adopt(fresh, byUUID)
	if err != nil {
		return err
	}
	var rows, addrs [][]any
	for _, uuid := range fresh {
		g := byUUID[uuid]
		addrs = append(addrs, unusual(uuid, g.ip)...)
		if !adopted[uuid] {
			rows = append(rows, []any{uuid, g.ip, g.seen, t.clock})
		}
	}
	// A fence that grows with time does not come again for an attacker who was
	// forgotten and came back.
	err = t.insert("add attackers to the ledger", `INSERT INTO enrich_ledger (attacker_uuid, ip, last_seen, fence,
		state, wake_at, due_at, ahead_at, owner, queues, verdict, revision, cached_at, ledger, decision)`,
		"(?, ?, ?, ?, 1, 0, 0, "+strconv.FormatInt(never, 10)+", '', '', -1, 0, 0, '[]', '{}')",
		t.s.d.upsert("attacker_uuid", nil), rows)
	if err != nil {
		return err
	}
	return t.insertAddresses(addrs)
}
