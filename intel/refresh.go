package intel

import (
	"context"
	"time"
)

// keepLoaded keeps a provider's bulk data loaded until ctx is done. Each poll
// interval, and at least each minute, it gives the provider a chance to refresh
// the data.
func (s *source) keepLoaded(ctx context.Context, poll time.Duration) {
	ticker := time.NewTicker(min(poll, time.Minute))
	defer ticker.Stop()
	failing := false
	for {
		err := s.Refresh(ctx)
		switch {
		case ctx.Err() != nil:
			return
		case err != nil && !failing:
			s.log.Error("cannot refresh bulk data; using the data loaded earlier", "provider", s.Name(), "error", err)
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
