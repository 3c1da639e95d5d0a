package memstore

import (
	"context"
	"math"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// Claim implements [store.Store]. Its records have Raw. It takes time in
// proportion to the records it returns and to the logarithm of the store,
// except for the first claim that names a provider, which looks at every
// attacker that no provider applied to.
//
// An attacker that waits for several providers counts against the grant of
// each of them.
func (s *Store) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	if err := req.Validate(); err != nil {
		return store.Claimed{}, err
	}
	if err := ctx.Err(); err != nil {
		return store.Claimed{}, err
	}
	now := req.Now.UnixMicro()

	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance(now)
	next := int64(never)
	if r := s.leases.first(); r != nil {
		next = r.until
	}

	var rows []*row
	if len(req.Only) > 0 {
		rows = s.chosen(req.Only, req.Limit)
	} else {
		rows = s.claimable(&req, now)
	}
	var claimed store.Claimed
	if len(rows) > 0 {
		until := time.Now().Add(req.Lease).UnixMicro()
		claimed.Records = make([]store.Record, len(rows))
		for i, r := range rows {
			claimed.Records[i] = s.lease(r, until)
		}
	}

	if s.firstReady(now) != nil {
		next = now
	} else if r := s.sleeping.first(); r != nil {
		next = min(next, r.due)
	}
	if next != never {
		claimed.NextDue = time.UnixMicro(next).UTC()
	}
	return claimed, nil
}

// lease gives the row, which stands in no queue, to whoever is claiming.
func (s *Store) lease(r *row, until int64) store.Record {
	s.fence++
	r.fence, r.valid, r.moved = s.fence, true, false
	r.leased, r.until = true, until
	s.enter(r)
	rec := r.record()
	rec.Fence = r.fence
	return rec
}

// source is a queue that a claim may take from.
type source struct {
	queue *queue
	left  int // how many rows it may still take
}

// claimable takes up to req.Limit rows that may be claimed out of their queues,
// newest first.
func (s *Store) claimable(req *store.ClaimRequest, now int64) []*row {
	sources := make([]source, 0, len(req.Grants)+len(req.Providers))
	for name, n := range req.Grants {
		if q := s.waiting[name]; q != nil && n > 0 {
			sources = append(sources, source{q, n})
		}
	}
	for _, name := range req.Providers {
		sources = append(sources, source{s.lackingQueue(name), math.MaxInt})
	}

	var rows []*row
	for len(rows) < req.Limit {
		newest := s.firstReady(now)
		due := newest != nil
		for i := range sources {
			if src := &sources[i]; src.left > 0 {
				if r := src.queue.first(); r != nil && (newest == nil || newer(r, newest)) {
					newest, due = r, false
				}
			}
		}
		if newest == nil {
			break
		}
		if !due {
			for i := range sources {
				if newest.stands(sources[i].queue) {
					sources[i].left--
				}
			}
		}
		newest.leave()
		rows = append(rows, newest)
	}
	return rows
}

// stands reports whether the row is in a queue it has joined.
func (r *row) stands(q *queue) bool {
	return slices.ContainsFunc(r.also, func(slot *slot) bool { return slot.in == q })
}

// chosen takes the rows with the given IDs out of their queues, newest first,
// and without those under a lease.
func (s *Store) chosen(ids []uuid.UUID, limit int) []*row {
	var rows []*row
	for _, id := range ids {
		if r := s.rows[id]; r != nil && !r.leased {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, byNewest)
	rows = slices.Compact(rows)
	rows = rows[:min(limit, len(rows))]
	for _, r := range rows {
		r.leave()
	}
	return rows
}
