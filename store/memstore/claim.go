package memstore

import (
	"context"
	"maps"
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
	s.beyond(&req)
	next := int64(never)
	if r := s.leases.first(); r != nil { // on the clock of the claim
		next = now + r.until - s.clock().UnixMicro()
	}

	var picks []pick
	if len(req.Only) > 0 {
		picks = s.chosen(req.Only, req.Limit)
	} else {
		picks = s.claimable(&req, now)
	}
	var claimed store.Claimed
	if len(picks) > 0 {
		until := s.clock().Add(req.Lease)
		claimed.Records = make([]store.Record, len(picks))
		for i, p := range picks {
			claimed.Records[i] = s.lease(p.row, until, req.Lease)
			claimed.Records[i].Granted = p.granted
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
func (s *Store) lease(r *row, until time.Time, lasts time.Duration) store.Record {
	s.fence++
	r.fence, r.valid, r.moved = s.fence, true, false
	r.leased, r.until, r.lasts, r.ahead = true, until.UnixMicro(), lasts.Microseconds(), never
	s.enter(r)
	rec := r.record()
	rec.Fence, rec.Unpublished = r.fence, s.outbox.lastPosted(r.ID)
	return rec
}

// pick is a row to be claimed, and the providers whose grants pay for it.
type pick struct {
	row     *row
	granted []string
}

// source is a queue that a claim may take from.
type source struct {
	queue *queue
	left  int    // how many rows it may still take
	name  string // the provider that its rows wait for; empty if they wait for none
}

// claimable takes up to req.Limit rows that may be claimed out of their queues
// and returns them newest first.
func (s *Store) claimable(req *store.ClaimRequest, now int64) []pick {
	sources := make([]source, 0, len(req.Grants)+len(req.Providers))
	for _, name := range slices.Sorted(maps.Keys(req.Grants)) {
		if q := s.waiting[name]; q != nil {
			sources = append(sources, source{q, req.Grants[name].Calls, name})
		}
	}
	granted := sources
	for _, name := range req.Providers {
		sources = append(sources, source{s.lackingQueue(name), math.MaxInt, ""})
	}

	var picks []pick
	for i := range granted {
		for range min(req.Grants[granted[i].name].Oldest, req.Limit-len(picks)) {
			r := s.longest[granted[i].name].first()
			if r == nil || granted[i].left <= 0 {
				break
			}
			picks = append(picks, take(r, sources))
		}
	}
	for len(picks) < req.Limit {
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
		if due {
			picks = append(picks, take(newest, nil))
		} else {
			picks = append(picks, take(newest, sources))
		}
	}
	slices.SortFunc(picks, func(a, b pick) int { return byNewest(a.row, b.row) })
	return picks
}

// take takes the row out of its queues. Those sources that it stands in pay for
// it.
func take(r *row, sources []source) pick {
	p := pick{row: r}
	for i := range sources {
		if src := &sources[i]; src.left > 0 && r.stands(src.queue) {
			src.left--
			if src.name != "" {
				p.granted = append(p.granted, src.name)
			}
		}
	}
	r.leave()
	return p
}

// stands reports whether the row is in a queue it has joined.
func (r *row) stands(q *queue) bool {
	return slices.ContainsFunc(r.also, func(slot *slot) bool { return slot.in == q })
}

// chosen takes the rows with the given IDs out of their queues, newest first,
// and without those under a lease.
func (s *Store) chosen(ids []uuid.UUID, limit int) []pick {
	var rows []*row
	for _, id := range ids {
		if r := s.rows[id]; r != nil && !r.leased {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, byNewest)
	rows = slices.Compact(rows)
	picks := make([]pick, min(limit, len(rows)))
	for i := range picks {
		picks[i] = take(rows[i], nil)
	}
	return picks
}
