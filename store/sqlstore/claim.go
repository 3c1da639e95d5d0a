package sqlstore

import (
	"context"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

const (
	// promotion is the least number of rows that one claim wakes. Among more
	// that become due between two claims, those due longest come first.
	promotion = 1000
	// expiry is how many expired leases one claim ends.
	expiry = 1000
	// rounds is how many batches of new attackers one claim reads at most.
	rounds = 8
)

// Claim implements [store.Store]. Its cost depends on what it returns and on
// what changed in attackers since the last claim, not on the number of
// attackers. Of attackers that became due since the last claim, more than a
// thousand of them or many times the limit, the ones that have been due longest
// come first.
func (s *Store) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	if err := req.Validate(); err != nil {
		return store.Claimed{}, err
	}
	var claimed store.Claimed
	err := s.write(ctx, func(t *tx) (err error) {
		c := claim{tx: t, s: s, req: &req, now: req.Now.UnixMicro()}
		claimed, err = c.run()
		return err
	})
	if err != nil {
		return store.Claimed{}, err
	}
	return claimed, nil
}

// claim is one call of Claim in its transaction.
type claim struct {
	*tx
	s    *Store
	req  *store.ClaimRequest
	now  int64
	next int64 // NextDue, or never
}

func (c *claim) run() (store.Claimed, error) {
	c.next = never
	if err := c.endLeases(); err != nil {
		return store.Claimed{}, err
	}
	if err := c.nextAfter("SELECT min(wake_at) FROM enrich_ledger WHERE state = 2"); err != nil {
		return store.Claimed{}, err
	}
	rows, err := c.choose()
	if err != nil {
		return store.Claimed{}, err
	}
	if err := c.s.importForeign(c.tx, rows); err != nil {
		return store.Claimed{}, err
	}
	if err := c.lease(rows); err != nil {
		return store.Claimed{}, err
	}
	if err := c.nextAfter("SELECT min(wake_at) FROM enrich_ledger WHERE state = 0"); err != nil {
		return store.Claimed{}, err
	}
	var claimed store.Claimed
	if c.next != never {
		claimed.NextDue = fromMicros(max(c.next, 1))
	}
	for _, r := range rows {
		rec, _, err := r.record()
		if err != nil {
			return store.Claimed{}, err
		}
		rec.Fence, rec.Granted = uint64(r.fence), r.granted
		claimed.Records = append(claimed.Records, rec)
	}
	return claimed, nil
}

// nextAfter brings c.next forward to a time that a query finds.
func (c *claim) nextAfter(query string) error {
	var at *int64
	_, err := c.one("find who is due next", query, nil, &at)
	if at != nil {
		c.next = min(c.next, *at)
	}
	return err
}

// endLeases puts attackers whose lease has expired back to where they were.
func (c *claim) endLeases() error {
	var rows []*row
	err := c.query("find expired leases", `SELECT attacker_uuid, last_seen, state, due_at, ahead_at, fence, queues
		FROM enrich_ledger WHERE state = 2 AND wake_at <= ? ORDER BY wake_at LIMIT ?`, []any{c.clock, expiry},
		func(scan func(...any) error) error {
			r := new(row)
			rows = append(rows, r)
			return scan(&r.uuid, &r.seen, &r.state, &r.due, &r.ahead, &r.fence, &r.queues)
		})
	if err != nil {
		return err
	}
	for _, r := range rows {
		if err := c.enter(r, r.due, r.ahead, r.fence); err != nil { // the fence lives until the next claim
			return err
		}
	}
	return nil
}

// choose returns the rows to lease, newest first. It sets c.next to now at the
// latest if it left any that are due or has more of attackers to read.
func (c *claim) choose() ([]*row, error) {
	if c.req.Only != nil {
		return c.chosen()
	}
	enough := min(4*c.req.Limit, rounds*syncBatch) // for the newest to be among what was read
	for read := syncBatch; read <= rounds*syncBatch; read += syncBatch {
		more, err := c.s.sync(c.tx)
		if err != nil {
			return nil, err
		}
		if more && read < enough {
			continue
		}
		if err := c.promote(); err != nil {
			return nil, err
		}
		rows, err := c.claimable()
		if err != nil || len(rows) > 0 || !more {
			if more {
				c.next = min(c.next, c.now)
			}
			return rows, err
		}
	}
	c.next = min(c.next, c.now)
	return nil, nil
}

// promote wakes rows that are due.
func (c *claim) promote() error {
	return c.exec("wake attackers that are due", `UPDATE enrich_ledger SET state = 1 WHERE attacker_uuid IN (
		SELECT attacker_uuid FROM enrich_ledger WHERE state = 0 AND wake_at <= ? ORDER BY wake_at LIMIT ?)`,
		c.now, max(promotion, 4*c.req.Limit))
}

// claimable returns the rows that may be claimed because of what they are.
func (c *claim) claimable() ([]*row, error) {
	for {
		granted, err := c.pick()
		if err != nil || len(granted) == 0 {
			return nil, err
		}
		rows, err := c.load("read attackers that are due", slices.Collect(maps.Keys(granted)))
		if err != nil {
			return nil, err
		}
		gone := goneOf(rows)
		if len(gone) == 0 {
			for _, r := range rows {
				r.granted = granted[r.uuid]
			}
			slices.SortFunc(rows, newestRow)
			return rows, nil
		}
		if err := c.purge(gone); err != nil {
			return nil, err
		}
	}
}

// chosen returns the rows that the request names, without those under a lease.
func (c *claim) chosen() ([]*row, error) {
	if err := c.s.syncOnly(c.tx, c.req.Only); err != nil {
		return nil, err
	}
	var rows []*row
	for chunk := range slices.Chunk(c.req.Only, maxParams) {
		byID, err := c.loadByID("read chosen attackers", chunk)
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
		"SELECT attacker_uuid, due_at FROM enrich_ledger WHERE state = 1 ORDER BY last_seen DESC, attacker_uuid LIMIT ?",
		[]any{len(chosen) + 1}, func(scan func(...any) error) error {
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
	return uuids
}

func newestRow(a, b *row) int {
	return newest(key{a.uuid, a.seen}, key{b.uuid, b.seen})
}

// lease gives the rows new fences and takes them out of their queues.
func (c *claim) lease(rows []*row) error {
	until := c.clock + c.req.Lease.Microseconds()
	for chunk := range slices.Chunk(rows, maxParams-3) {
		args := []any{until, int64(never), c.req.Owner}
		for _, r := range chunk {
			args = append(args, r.uuid)
			r.fence++
		}
		err := c.exec("lease attackers", `UPDATE enrich_ledger
			SET state = 2, wake_at = ?, ahead_at = ?, owner = ?, fence = fence + 1 WHERE attacker_uuid IN `+params(len(chunk)), args...)
		if err != nil {
			return err
		}
	}
	for _, r := range rows {
		if r.queues == "" {
			continue
		}
		if err := c.leave(r.uuid); err != nil {
			return err
		}
	}
	return nil
}

// Release implements [store.Store]. An attacker whose address has changed under
// the lease is due at once, whatever the lease says.
func (s *Store) Release(ctx context.Context, leases ...store.Lease) error {
	if len(leases) == 0 {
		return ctx.Err()
	}
	return s.write(ctx, func(t *tx) error {
		ids := make([]uuid.UUID, len(leases))
		for i, l := range leases {
			ids[i] = l.ID
		}
		byID, err := t.loadByID("read leases", ids)
		if err != nil {
			return err
		}
		for _, l := range leases {
			r := byID[l.ID]
			if r == nil || r.fence != int64(l.Fence) {
				continue
			}
			due := int64(atOnce)
			if !l.Due.IsZero() && r.due != moved && !r.gone && sameIP(r.ip, r.attacker.IP) {
				due = dueOf(l.Due)
			}
			if err := t.enter(r, due, never, r.fence+1); err != nil {
				return err
			}
		}
		return nil
	})
}

// lacks reports whether the queue of parked rows is one of rows that have no
// entry of one of the named providers.
func lacks(queue string, providers []string) bool {
	have := strings.Split(strings.TrimPrefix(queue, parkedWith), ",")
	return slices.ContainsFunc(providers, func(name string) bool { return !slices.Contains(have, name) })
}
