package intel

import (
	"context"
	"fmt"
	"time"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
)

const (
	// pruneInterval is the time between two calls of [store.Pruner], which looks at
	// every row.
	pruneInterval = 24 * time.Hour
	// orphansAfter is the time before the first call if raw answers are kept, since
	// what is left of attackers that are gone is in no hurry.
	orphansAfter = time.Hour
)

// pruneDaily prunes the store once a day until ctx is done.
func (w *Worker) pruneDaily(ctx context.Context) {
	if w.config.KeepRaw == 0 && !pause(ctx, orphansAfter) {
		return
	}
	for {
		if err := w.prune(ctx); err != nil {
			w.log.Error("cannot prune the store; trying again tomorrow", "error", err)
		}
		if !pause(ctx, pruneInterval) {
			return
		}
	}
}

// prune removes what is old from the store.
func (w *Worker) prune(ctx context.Context) error {
	var before time.Time
	if w.config.KeepRaw > 0 {
		before = time.Now().Add(-w.config.KeepRaw).UTC()
	}
	var pruned store.Pruned
	err := panics.Catch(func() (err error) {
		pruned, err = w.pruner.Prune(ctx, before)
		return err
	})
	if w.config.KeepRaw > 0 || pruned.Orphans > 0 {
		w.log.Info("removed old raw answers", "before", before, "raws", pruned.Raws, "orphans", pruned.Orphans)
	}
	if err != nil && ctx.Err() == nil {
		return fmt.Errorf("intel: prune the store: %w", err)
	}
	return nil
}

// pause waits and reports whether ctx is still alive then.
func pause(ctx context.Context, d time.Duration) bool {
	select {
	case <-ctx.Done():
		return false
	case <-time.After(d):
		return true
	}
}
