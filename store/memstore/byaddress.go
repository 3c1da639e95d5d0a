package memstore

import (
	"context"
	"net/netip"
	"slices"

	"github.com/google/uuid"

	"github.com/decnet/enrich/internal/netset"
)

// ByAddress implements [store.ByAddress]. It looks at every attacker.
func (s *Store) ByAddress(ctx context.Context, networks []netip.Prefix) ([]uuid.UUID, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	set := netset.Of(networks)
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows []*row
	for _, r := range s.rows {
		if set.Contains(r.Addr()) {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, byNewest)
	ids := make([]uuid.UUID, len(rows))
	for i, r := range rows {
		ids[i] = r.ID
	}
	return ids, nil
}
