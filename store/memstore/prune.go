package memstore

import (
	"context"
	"slices"
	"time"

	"github.com/decnet/enrich/store"
)

// Prune implements [store.Pruner]. Nothing is ever left of attackers that are
// gone.
func (s *Store) Prune(ctx context.Context, before time.Time) (store.Pruned, error) {
	if err := ctx.Err(); err != nil {
		return store.Pruned{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var pruned store.Pruned
	for _, r := range s.rows {
		entries := slices.Clone(r.entries)
		for i := range entries {
			if f := entries[i].Finding; f != nil && len(f.Raw) > 0 && f.ObservedAt.Before(before) {
				bare := *f
				bare.Raw = nil
				entries[i].Finding = &bare
				pruned.Raws++
			}
		}
		r.entries = entries
	}
	return pruned, nil
}
