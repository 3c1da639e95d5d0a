package main

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/decnet/enrich/store/sqlstore"
)

// pruneInterval is the time between two removals of what is old. One looks at
// every row.
const pruneInterval = 24 * time.Hour

// pruner is a store from which what is old can be removed.
type pruner interface {
	Prune(ctx context.Context, before time.Time) (sqlstore.Pruned, error)
}

// prune removes raw answers older than keep, unless that is 0, and logs how many
// those were.
func prune(ctx context.Context, s pruner, keep time.Duration, log *slog.Logger) error {
	if keep == 0 {
		return nil
	}
	before := time.Now().Add(-keep).UTC()
	pruned, err := s.Prune(ctx, before)
	log.Info("removed old raw answers", "before", before, "raws", pruned.Raws, "orphans", pruned.Orphans)
	if err != nil {
		return fmt.Errorf("remove all old raw answers: %w", err)
	}
	return nil
}

// pruneDaily prunes now and once a day until ctx is done.
func pruneDaily(ctx context.Context, s pruner, keep time.Duration, log *slog.Logger) {
	tick := time.NewTicker(pruneInterval)
	defer tick.Stop()
	for {
		if err := prune(ctx, s, keep, log); err != nil && ctx.Err() == nil {
			log.Error("cannot clean up; trying again tomorrow", "error", err)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}
