package sqlstore

import (
	"context"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Count implements [store.Counter]. It reads a part of an index.
func (s *Store) Count(ctx context.Context, req store.CountRequest) ([]store.Count, error) {
	if err := req.Validate(); err != nil {
		return nil, err
	}
	from, every := micros(req.From), req.Every.Microseconds()
	var counts []store.Count
	err := s.read(ctx, func(t *tx) error {
		counts = nil
		return t.query("count attackers", `SELECT period, verdict, count(*) FROM (
			SELECT (last_seen - ?) - (last_seen - ?) % ? AS period, verdict FROM enrich_ledger
			WHERE verdict >= 0 AND last_seen >= ? AND last_seen < ?) AS seen
			GROUP BY period, verdict ORDER BY period, verdict`, []any{from, from, every, from, micros(req.To)},
			func(scan func(...any) error) error {
				var (
					period  int64
					verdict provider.Verdict
					c       store.Count
				)
				err := scan(&period, &verdict, &c.Attackers)
				c.From, c.Verdict = time.UnixMicro(from+period).UTC(), verdict
				counts = append(counts, c)
				return err
			})
	})
	if err != nil {
		return nil, err
	}
	return counts, nil
}
