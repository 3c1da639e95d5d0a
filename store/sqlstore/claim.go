package sqlstore

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

const (
	// promotion is how many rows that are due are kept awake, if there are so
	// many. Among more of them, those due longest come first.
	promotion = 1000
	// expiry is how many expired leases one claim ends.
	expiry = 1000
	// rounds is how many batches of new attackers one claim reads at most.
	rounds = 8
)

// Claim implements [store.Store]. Its cost depends on what it returns and on
// what changed in attackers since the last claim, not on the number of
// attackers; a claim that finds nothing to do goes on with looking over all
// attackers, see the file sync.go, as far as it is time for it. Of more than a
// thousand attackers that became due since the last claim, or many times the
// limit, the ones that have been due longest come first. Claims that run at the
// same time pass over each other's attackers.
func (s *Store) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	if err := req.Validate(); err != nil {
		return store.Claimed{}, err
	}
	req.Limit = min(req.Limit, maxLimit)
	if len(req.Only) > 0 {
		return s.claimOnly(ctx, &req)
	}
	enough := min(4*req.Limit, rounds*syncBatch) // for the newest to be among what was read
	waits, caughtUp := false, false
	for read := syncBatch; ; read += syncBatch {
		u, claimed, err := s.upkeepAndTake(ctx, &req, waits, read < enough)
		if err != nil {
			return store.Claimed{}, err
		}
		if u.more && read < enough {
			continue
		}
		switch {
		case len(claimed.Records) > 0:
		case u.skipped && waits:
			return store.Claimed{}, fmt.Errorf("%w: the rows of enrich_cursor cannot be locked; call Validate", store.ErrSchema)
		case u.skipped: // what another claim is looking for is waited for
			waits = true
			continue
		case u.more && read < rounds*syncBatch:
			continue
		case u.behind && !caughtUp:
			for u.behind && err == nil {
				u, err = s.upkeep(ctx, true)
			}
			if err != nil {
				return store.Claimed{}, err
			}
			caughtUp = true
			continue
		}
		if u.more {
			claimed.NextDue = req.Now.UTC()
		}
		return claimed, nil
	}
}

// upkeepAndTake does the upkeep and then, unless there is more to read and that
// is to be read first, leases what may be claimed. Where a transaction locks
// rows these are two transactions, for others not to wait for what this one
// claims; a local database has one writer at a time in any case.
func (s *Store) upkeepAndTake(ctx context.Context, req *store.ClaimRequest, wait, readFirst bool) (u upkept, claimed store.Claimed, err error) {
	take := func(t *tx) (err error) {
		if claimed = (store.Claimed{}); !u.more || !readFirst {
			claimed, err = t.take(req)
		}
		return err
	}
	if s.d.local {
		err = s.write(ctx, func(t *tx) (err error) {
			if u, err = t.upkeep(wait); err != nil {
				return err
			}
			return take(t)
		})
		return u, claimed, err
	}
	if u, err = s.upkeep(ctx, wait); err == nil && (!u.more || !readFirst) {
		err = s.writeUntimed(ctx, take)
	}
	return u, claimed, err
}

// take leases what may be claimed by what is known.
func (t *tx) take(req *store.ClaimRequest) (claimed store.Claimed, err error) {
	c, err := t.claim(req)
	if err != nil {
		return claimed, err
	}
	rows, err := c.claimable()
	if err != nil {
		return claimed, err
	}
	return c.finish(rows)
}

// claimOnly leases the attackers that the request names.
func (s *Store) claimOnly(ctx context.Context, req *store.ClaimRequest) (claimed store.Claimed, err error) {
	err = s.write(ctx, func(t *tx) error {
		if err := t.endLeases(never); err != nil {
			return err
		}
		return t.syncOnly(req.Only)
	})
	if err != nil {
		return store.Claimed{}, err
	}
	err = s.writeUntimed(ctx, func(t *tx) error {
		c, err := t.claim(req)
		if err != nil {
			return err
		}
		rows, err := c.chosen()
		if err == nil {
			claimed, err = c.finish(rows)
		}
		return err
	})
	return claimed, err
}

// claim is one call of Claim in its transaction.
type claim struct {
	*tx
	req  *store.ClaimRequest
	now  int64
	next int64 // NextDue, or never; without the rows asleep

	latest  *int64          // when the last row wakes
	asleep  *int64          // when the first row wakes; nil if none is asleep
	woken   bool            // asleep is out of date, as rows were woken
	parked  *string         // the first queue of parked rows; nil if there is none
	waiting map[string]bool // the granted providers that attackers wait for
}

// claim begins a claim: it reads the clock and, by the same query, what decides
// which other queries are needed.
func (t *tx) claim(req *store.ClaimRequest) (*claim, error) {
	t.foreign = true
	c := &claim{tx: t, req: req, now: req.Now.UnixMicro(), next: never, waiting: make(map[string]bool)}
	clock, dest := t.clocked()
	var expires *int64
	dest = append([]any{&c.asleep, &c.latest, &expires, &c.parked}, dest...)
	var text strings.Builder
	text.WriteString(`SELECT (SELECT min(wake_at) FROM enrich_ledger WHERE state = 0), (SELECT max(wake_at) FROM enrich_ledger WHERE state = 0),
		(SELECT min(wake_at) FROM enrich_ledger WHERE state = 2),
		(SELECT min(queue) FROM enrich_queue WHERE queue > ? AND queue < ?)` + clock)
	args := []any{parkedWith[:len(parkedWith)-1], parkedWith + "~"}
	granted := granted(req)
	waiting := make([]bool, len(granted))
	for i, name := range granted {
		text.WriteString(", EXISTS (SELECT 1 FROM enrich_queue WHERE queue = ?)")
		args, dest = append(args, waitingFor+name), append(dest, &waiting[i])
	}
	if _, err := t.one("find what there is to claim", text.String(), args, dest...); err != nil {
		return nil, err
	}
	for i, name := range granted {
		c.waiting[name] = waiting[i]
	}
	if expires != nil { // the claim's clock may be another than the database's
		c.next = c.now + *expires - t.clock
	}
	return c, nil
}

// granted returns the providers that the request grants calls of, sorted.
func granted(req *store.ClaimRequest) (names []string) {
	for name, g := range req.Grants {
		if g.Calls > 0 && len(req.Only) == 0 && provider.ValidateName(name) == nil { // no entry has another
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// finish leases rows and returns their records.
func (c *claim) finish(rows []*row) (claimed store.Claimed, err error) {
	if err := c.mend(rows); err != nil {
		return claimed, err
	}
	if err := c.importForeign(rows); err != nil {
		return claimed, err
	}
	if err := c.lease(rows); err != nil {
		return claimed, err
	}
	if err := c.findAsleep(rows); err != nil {
		return claimed, err
	}
	unpublished, err := c.unpublished(rows)
	if err != nil {
		return claimed, err
	}
	if c.next != never {
		claimed.NextDue = fromMicros(max(c.next, 1))
	}
	for _, r := range rows {
		rec, _, err := r.record()
		if err != nil {
			return store.Claimed{}, err
		}
		rec.Fence, rec.Granted, rec.Unpublished = uint64(r.fence), r.granted, unpublished[r.uuid]
		claimed.Records = append(claimed.Records, rec)
	}
	return claimed, nil
}

// mend makes rows usable that are damaged: one must not keep the others from being
// claimed.
func (c *claim) mend(rows []*row) error {
	for _, r := range rows {
		damage := r.mend()
		if damage == nil {
			continue
		}
		c.s.log.Error("stored ledger cannot be read and is begun anew", "attacker_uuid", r.id, "error", damage)
		err := c.exec("begin a ledger anew", "UPDATE enrich_ledger SET ledger = ?, decision = ? WHERE attacker_uuid = ?",
			pack(r.entries), pack(r.decision), r.uuid)
		if err != nil {
			return err
		}
		for _, table := range []string{"enrich_address", "enrich_raw"} {
			if err := c.delete("begin a ledger anew", table, "attacker_uuid", []string{r.uuid}); err != nil {
				return err
			}
		}
	}
	return nil
}

// findAsleep brings c.next forward to when the first row wakes, after the given
// rows were leased.
func (c *claim) findAsleep(rows []*row) error {
	taken := slices.ContainsFunc(rows, func(r *row) bool { return r.state == asleep && c.asleep != nil && r.wake == *c.asleep })
	if c.woken || taken {
		c.asleep = nil
		if _, err := c.one("find who is due next", "SELECT min(wake_at) FROM enrich_ledger WHERE state = 0", nil, &c.asleep); err != nil {
			return err
		}
	}
	if c.asleep != nil {
		c.next = min(c.next, *c.asleep)
	}
	return nil
}

// endLeases puts attackers back to where they were whose lease has expired, or ends
// after the given time.
func (t *tx) endLeases(after int64) error {
	var rows []*schedule
	err := t.query("find expired leases", "SELECT "+scheduleColumns+` FROM enrich_ledger
		WHERE state = 2 AND (wake_at <= ? OR wake_at > ?) ORDER BY wake_at`+limit(expiry)+t.s.d.skip,
		[]any{t.clock, after},
		func(scan func(...any) error) error {
			r := new(schedule)
			rows = append(rows, r)
			return scan(r.dest()...)
		})
	if err != nil {
		return err
	}
	changes := make([]change, len(rows))
	for i, r := range rows {
		was := *r
		r.free(r.due) // the fence lives until the next claim
		changes[i] = change{&was, r}
	}
	if err := t.reschedule(changes); err != nil {
		return err
	}
	if len(rows) == expiry && after != never {
		return t.endLeases(after)
	}
	return nil
}

// claimable returns the rows that may be claimed because of what they are,
// newest first. It sets c.next to now if it left any that are due.
func (c *claim) claimable() ([]*row, error) {
	for {
		sources, err := c.sources()
		if err != nil {
			return nil, err
		}
		if len(sources) > 0 && !c.s.d.local { // one claim at a time takes from the queues
			found, err := c.one("lock the queues", "SELECT at FROM enrich_cursor WHERE name = 'queues'"+c.s.d.lock, nil, new(string))
			if err == nil && !found {
				_, err = c.repairCursors()
			}
			if err != nil {
				return nil, err
			}
		}
		if sources, err = c.fill(sources); err != nil {
			return nil, err
		}
		if err := c.promote(); err != nil {
			return nil, err
		}
		due, err := c.due()
		if err != nil {
			return nil, err
		}
		rows, err := c.choose(due, sources)
		if err != nil {
			return nil, err
		}
		gone := goneOf(rows)
		if len(gone) == 0 {
			slices.SortFunc(rows, newestRow)
			return rows, nil
		}
		if err := c.purge(gone); err != nil {
			return nil, err
		}
	}
}

// promote wakes rows that are due, unless many are awake.
func (c *claim) promote() error {
	if err := c.recall(); err != nil {
		return err
	}
	if c.asleep == nil || *c.asleep > c.now {
		return nil
	}
	n := max(promotion, 4*c.req.Limit)
	// The count is a bound and not a condition of its own: SQLite would look at every row
	// that is due for a condition that holds for none.
	return c.rouse("wake attackers that are due", "state = 1", "wake_at <= ?"+fmt.Sprintf(" AND wake_at >= (SELECT CASE WHEN count(*) < %d THEN 0 END", n)+
		" FROM (SELECT 1 FROM enrich_ledger WHERE state = 1"+limit(n)+") AS awake) ORDER BY wake_at"+limit(n), c.now)
}

// rouse changes the rows asleep that a condition holds for, except those that another
// transaction has locked.
func (c *claim) rouse(purpose, set, who string, args ...any) error {
	who = "SELECT attacker_uuid FROM enrich_ledger WHERE state = 0 AND " + who + c.s.d.skip
	if c.s.d.only {
		woken, err := c.changed(purpose, "UPDATE enrich_ledger SET "+set+" WHERE attacker_uuid IN ("+who+")", args...)
		c.woken = c.woken || woken > 0
		return err
	}
	var uuids []string
	if err := c.query(purpose, who, args, into(&uuids)); err != nil {
		return err
	}
	return c.update(purpose, set, uuids)
}

// update sets columns of rows of the ledger, whose c.asleep is then out of date.
func (c *claim) update(purpose, set string, uuids []string) error {
	c.woken = c.woken || len(uuids) > 0
	for chunk := range slices.Chunk(uuids, maxParams) {
		among, args := c.among(chunk)
		if err := c.exec(purpose, "UPDATE enrich_ledger SET "+set+" WHERE attacker_uuid "+among, args...); err != nil {
			return err
		}
	}
	return nil
}

// recall makes rows due now that are due later than anything can be.
func (c *claim) recall() error {
	if c.latest == nil || c.req.Horizon <= 0 || *c.latest <= c.now+c.req.Horizon.Microseconds() {
		return nil
	}
	return c.rouse("make attackers due that a wrong clock has put off", "state = 1, due_at = 0, wake_at = 0",
		"wake_at > ? ORDER BY wake_at DESC"+limit(promotion), c.now+c.req.Horizon.Microseconds())
}

// due returns the newest rows that are due, one more than the limit. Rows that
// are due only to a clock ahead of c.now go back to sleep.
func (c *claim) due() (rows []*row, err error) {
	for {
		var (
			early  []string
			asleep string // the same for every row
			dest   []any
		)
		if c.woken {
			asleep, dest = ", (SELECT min(wake_at) FROM enrich_ledger WHERE state = 0)", []any{&c.asleep}
		}
		rows = rows[:0]
		err := c.query("find attackers that are due", "SELECT "+rowColumns+asleep+` FROM enrich_ledger
			WHERE state = 1 ORDER BY last_seen DESC, attacker_uuid`+c.limitFor(c.req.Limit+1)+c.s.d.skip, nil,
			func(scan func(...any) error) error {
				c.woken = false
				r := new(row)
				err := r.scan(scan, dest...)
				if r.due > c.now {
					early = append(early, r.uuid)
				} else {
					rows = append(rows, r)
				}
				return err
			})
		if err != nil || len(early) == 0 {
			return rows, err
		}
		if err := c.update("put attackers back to sleep", "state = 0, wake_at = due_at", early); err != nil {
			return nil, err
		}
	}
}

// choose returns those of the rows that are due and of those in the sources that
// are to be claimed.
func (c *claim) choose(due []*row, sources []*source) (rows []*row, err error) {
	candidates := make([]candidate, len(due))
	for i, r := range due {
		candidates[i] = candidate{key: key{r.uuid, r.seen}, queues: r.queues}
	}
	p := picker{sources: sources, limit: c.req.Limit, picked: make(map[string][]string)}
	if p.pick(candidates) {
		c.next = min(c.next, c.now)
	}
	var others []string
	for uuid := range p.picked {
		i := slices.IndexFunc(due, func(r *row) bool { return r.uuid == uuid })
		if i < 0 {
			others = append(others, uuid)
			continue
		}
		rows = append(rows, due[i])
	}
	if err := c.meet(rows); err != nil {
		return nil, err
	}
	if len(others) > 0 {
		slices.Sort(others)
		waiting, err := c.load("read attackers that wait", others, c.s.d.skip)
		if err != nil {
			return nil, err
		}
		for _, r := range waiting {
			k := candidate{queues: r.queues}
			if r.state != leased && slices.ContainsFunc(sources, func(src *source) bool { return k.stands(src.queue) }) {
				rows = append(rows, r)
			}
		}
	}
	for _, r := range rows {
		r.granted = p.picked[r.uuid]
	}
	return rows, nil
}

// chosen returns the rows that the request names, without those under a lease.
func (c *claim) chosen() ([]*row, error) {
	var rows []*row
	for chunk := range slices.Chunk(c.req.Only, maxParams) {
		byID, err := c.loadByID("read chosen attackers", chunk, c.s.d.lock)
		if err != nil {
			return nil, err
		}
		for _, r := range byID {
			again := slices.ContainsFunc(rows, func(other *row) bool { return other.id == r.id })
			if r.state != leased && !r.gone && !again {
				rows = append(rows, r)
			}
		}
	}
	slices.SortFunc(rows, newestRow)
	rows = rows[:min(c.req.Limit, len(rows))]
	return rows, c.othersReady(rows)
}

// othersReady brings c.next forward if rows are ready that are not among those
// chosen.
func (c *claim) othersReady(chosen []*row) error {
	return c.query("find attackers that are due",
		"SELECT attacker_uuid, due_at FROM enrich_ledger WHERE state = 1 ORDER BY last_seen DESC, attacker_uuid"+c.limitFor(len(chosen)+1),
		nil, func(scan func(...any) error) error {
			var (
				uuid string
				due  int64
			)
			if err := scan(&uuid, &due); err != nil {
				return err
			}
			if !slices.ContainsFunc(chosen, func(r *row) bool { return r.uuid == uuid }) {
				c.next = min(c.next, max(due, 1))
			}
			return nil
		})
}

func goneOf(rows []*row) (uuids []string) {
	for _, r := range rows {
		if r.gone {
			uuids = append(uuids, r.uuid)
		}
	}
	slices.Sort(uuids)
	return uuids
}

// lease gives the rows new fences and takes them out of their queues.
func (c *claim) lease(rows []*row) error {
	until := c.clock + c.req.Lease.Microseconds()
	var uuids, queued []string
	for _, r := range rows {
		uuids = append(uuids, r.uuid)
		if r.queues != "" {
			queued = append(queued, r.uuid)
		}
		r.fence++
	}
	slices.Sort(uuids)
	for chunk := range slices.Chunk(uuids, maxParams) {
		among, args := c.among(chunk)
		args = append([]any{until, int64(never), ownerText(c.req.Owner)}, args...)
		err := c.exec("lease attackers", `UPDATE enrich_ledger SET state = 2, wake_at = ?, ahead_at = ?, owner = ?, fence = fence + 1
			WHERE attacker_uuid `+among, args...)
		if err != nil {
			return err
		}
	}
	return c.leave(queued...)
}

// Release implements [store.Store]. It does not wait for rows that another transaction
// has locked: it releases the others and returns an error that wraps [store.ErrLocked].
func (s *Store) Release(ctx context.Context, due time.Time, leases ...store.Lease) error {
	if due.IsZero() {
		return fmt.Errorf("%w: release without a due time", store.ErrInvalid)
	}
	if len(leases) == 0 {
		return ctx.Err()
	}
	locked := 0
	err := s.write(ctx, func(t *tx) error {
		ids := make([]uuid.UUID, len(leases))
		for i, l := range leases {
			ids[i] = l.ID
		}
		byID, err := t.loadByID("read leases", ids, s.d.skip)
		if err != nil {
			return err
		}
		if locked, err = t.countOthers(ids, byID); err != nil {
			return err
		}
		var released []change
		for _, l := range leases {
			r := byID[l.ID]
			if r == nil || r.fence != int64(l.Fence) {
				continue
			}
			at := dueOf(due)
			if r.due == moved || r.gone || !store.SameIP(r.ip, r.attacker.IP) {
				at = atOnce
			}
			released = append(released, r.release(at))
		}
		return t.reschedule(released)
	})
	if err == nil && locked > 0 {
		err = fmt.Errorf("sqlstore: %d of %d leases are kept: %w", locked, len(leases), store.ErrLocked)
	}
	return err
}

// countOthers counts the attackers in the ledger that are not among those loaded.
func (t *tx) countOthers(ids []uuid.UUID, loaded map[uuid.UUID]*row) (n int, err error) {
	ids = slices.DeleteFunc(ids, func(id uuid.UUID) bool { return loaded[id] != nil })
	err = t.queryAmong("look for locked leases", "SELECT count(*) FROM enrich_ledger WHERE attacker_uuid", spellings(ids), "",
		func(scan func(...any) error) error {
			var found int
			err := scan(&found)
			n += found
			return err
		})
	return n, err
}

// release ends the lease of a row, uses up its fence and makes it due at the
// given time.
func (r *row) release(due int64) change {
	was := r.schedule
	r.free(due)
	r.ahead = never
	r.fence++
	return change{&was, &r.schedule}
}
