package intel

import (
	"context"
	"time"

	"github.com/decnet/enrich/provider"
)

// frozenAfter is how long a list may stay as it is before the log says so: lists of
// attackers change every day.
const frozenAfter = 30 * 24 * time.Hour

// watchLists logs when a list becomes, and is no longer, one that an operator should
// look at, until ctx is done.
func (w *Worker) watchLists(ctx context.Context) {
	watches := make(map[*source]*listWatch)
	for _, s := range w.sources {
		if s.Listing() {
			watches[s] = new(listWatch)
		}
	}
	if len(watches) == 0 {
		return
	}
	ticker := time.NewTicker(min(w.config.PollInterval, time.Minute))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		for _, s := range w.sources {
			if l := watches[s]; l != nil {
				l.note(w, s.Name(), s.List(), time.Now())
			}
		}
	}
}

// listWatch is what the log was told about a list.
type listWatch struct {
	empty, frozen, old, shrunk, unkept bool
}

// note logs what is new about a list.
func (l *listWatch) note(w *Worker, name string, list provider.ListStatus, now time.Time) {
	if !list.Loaded {
		return
	}
	for _, state := range []struct {
		told *bool
		is   bool
		text string
	}{
		{&l.empty, list.Rows == 0, "a list is empty; its publisher may have abandoned it"},
		{&l.frozen, !list.ChangedAt.IsZero() && now.Sub(list.ChangedAt) > frozenAfter, "a list has not changed for a month; its publisher may have abandoned it"},
		{&l.old, list.Stale, "a list is old; it silences no other opinion"},
		{&l.shrunk, list.Shrunk, "a new version of a list was refused because it is much shorter; the one before stays in use"},
		{&l.unkept, list.Unkept != "", "a list cannot be kept across restarts: each one downloads it again"},
	} {
		if state.is == *state.told {
			continue
		}
		*state.told = state.is
		attrs := []any{"provider", name, "rows", list.Rows, "loaded_at", list.LoadedAt, "changed_at", list.ChangedAt}
		if state.told == &l.unkept {
			attrs = append(attrs, "error", list.Unkept)
		}
		if state.is {
			w.log.Warn(state.text, attrs...)
		} else {
			w.log.Info("no longer: "+state.text, attrs...)
		}
	}
}
