package intel

import (
	"context"
	"time"
)

// loadTime is how long Run and Drain wait for bulk data before their first claim.
const loadTime = 30 * time.Second

// keepLoaded keeps a provider's bulk data loaded until ctx is done. It gives the
// provider a chance to refresh its data at each poll interval, and at least each
// minute; each second if it watches a file. It closes first after the first refresh,
// and sends changed after each one that brought a new version of a list.
func (s *source) keepLoaded(ctx context.Context, poll time.Duration, first chan<- struct{}, changed signal) {
	if s.List().Watched {
		poll = min(poll, listTick)
	}
	var version uint64
	ticker := time.NewTicker(min(poll, time.Minute))
	defer ticker.Stop()
	failing := false
	for {
		err := s.Refresh(ctx)
		if first != nil {
			close(first)
			first = nil
		}
		if s.Listing() && s.Local() {
			was := version
			if _, version = s.Changed(version); version != was {
				changed.send()
			}
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			message := "cannot refresh bulk data; using the data loaded earlier"
			if s.Listing() && !s.List().Loaded {
				message = "cannot load bulk data; trying again"
			}
			s.log.Error(message, "provider", s.Name(), "error", err)
		case err == nil && failing:
			s.log.Info("bulk data refreshed again", "provider", s.Name())
		}
		failing = err != nil
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

// load waits until every provider of bulk data has tried to load it, for loadTime
// at most.
func (r *run) load() {
	timer := time.NewTimer(loadTime)
	defer timer.Stop()
	for _, first := range r.loading {
		select {
		case <-first:
		case <-timer.C:
			r.w.log.Warn("bulk data takes long to load; beginning without", "after", loadTime)
			return
		case <-r.claiming.Done():
			return
		}
	}
}

// loadLists loads the lists that were never loaded, unless the worker runs, which
// does it itself. A list that cannot be loaded is unavailable to its lookups.
func (w *Worker) loadLists(ctx context.Context) {
	if w.running.Load() {
		return
	}
	for _, s := range w.sources {
		if s.Listing() && !s.List().Loaded {
			_ = s.Refresh(ctx) // its lookups have the error
		}
	}
}
