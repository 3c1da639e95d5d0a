package memstore

import (
	"cmp"
	"context"
	"slices"
	"time"

	"github.com/decnet/enrich/store"
)

// Count implements [store.Counter]. It looks at every attacker.
func (s *Store) Count(ctx context.Context, req store.CountRequest) ([]store.Count, error) {
	if err := cmp.Or(ctx.Err(), req.Validate()); err != nil {
		return nil, err
	}
	from, to, every := req.From.UnixMicro(), req.To.UnixMicro(), req.Every.Microseconds()
	found := make(map[store.Count]int)
	s.mu.Lock()
	for _, r := range s.rows {
		if r.revision == 0 || r.seen < from || r.seen >= to {
			continue
		}
		period := from + (r.seen-from)/every*every
		found[store.Count{From: time.UnixMicro(period).UTC(), Verdict: r.decision.Verdict}]++
	}
	s.mu.Unlock()
	var counts []store.Count
	for c, n := range found {
		c.Attackers = n
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b store.Count) int {
		return cmp.Or(a.From.Compare(b.From), cmp.Compare(a.Verdict, b.Verdict))
	})
	return counts, nil
}
