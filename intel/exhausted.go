package intel

import (
	"context"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/store"
)

const (
	// exhaustedDelay is how long a busy run waits before it counts the attackers that
	// wait for an exhausted quota.
	exhaustedDelay = time.Minute
	// countTimeout bounds that count.
	countTimeout = 5 * time.Second
)

// exhaustion is what the loop knows of a provider's exhausted quota.
type exhaustion struct {
	since time.Time // zero while there are calls left
	again time.Time // no other line before that, as a rolling window returns its calls one by one
}

// reportExhausted logs each quota that has run out, once in a window.
func (r *run) reportExhausted() {
	now := time.Now()
	for _, s := range r.w.sources {
		if !s.Scarce() {
			continue
		}
		st := s.Status(r.claiming, now)
		switch e := &s.exhausted; {
		case st.State != gate.Exhausted:
			e.since = time.Time{}
			continue
		case now.Before(e.again):
			continue
		case e.since.IsZero():
			e.since = now
		}
		if r.open > 0 && now.Sub(s.exhausted.since) < exhaustedDelay {
			continue
		}
		s.exhausted.again = now.Add(r.w.logExhausted(r.claiming, s, now))
	}
}

// logExhausted logs that a provider's quota has run out. It returns the length of
// the quota's window.
func (w *Worker) logExhausted(ctx context.Context, s *source, now time.Time) (window time.Duration) {
	var reset time.Time
	limit := 0
	for _, q := range s.Windows(now) {
		if q.Left == 0 && (reset.IsZero() || q.Reset.After(reset)) {
			window, limit, reset = q.Window, q.Calls, q.Reset
		}
	}
	attrs := []any{"provider", s.Name(), "limit", limit, "window", window, "reset", reset.UTC()}
	if counter, ok := store.As[store.Statistician](w.config.Store); ok {
		ctx, cancel := context.WithTimeout(ctx, countTimeout)
		defer cancel()
		if stats, err := counter.Stats(ctx, now); err == nil {
			attrs = append(attrs, "waiting", stats.Waiting[s.Name()])
		}
	}
	s.log.Warn("the provider's quota is exhausted; attackers wait for its reset", attrs...)
	return window
}
