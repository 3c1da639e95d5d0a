package intel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/store"
)

const (
	// reaskInterval is the time between two attackers that a remote provider is
	// queried about again.
	reaskInterval = 50 * time.Millisecond
	// reaskLook is the longest time until it is seen whether a provider can be
	// queried again that could not be.
	reaskLook = time.Minute
)

// Reasked is how far [Worker.Reask] came.
type Reasked struct {
	Seen     int // attackers about whom the provider had said something
	Answered int // those about whom it has answered again
	Failed   int // those about whom it has not; they are due again like after any failed lookup
}

// Reask queries one provider again about all attackers about whom it has said
// something, most recently seen first, as after a change of its terms or a mistake
// in its data. Everything else stays. It takes the time it needs: it asks a remote
// provider at most 20 times a second, within all limits, and a provider with quotas
// only while more than half of each is left, so that new attackers do not go short;
// in between it waits. It returns how far it came, and the error of ctx if that
// ends first, of the store if that fails, or of the provider if it rejects the key.
// Another call begins anew.
//
// Reask works whether or not the worker runs, and publishes an event for each
// answer as usual. It returns an error at once if no provider has that name or the
// store is no [store.Lister].
func (w *Worker) Reask(ctx context.Context, provider string) (Reasked, error) {
	var done Reasked
	source := w.sources.byName(provider)
	lister, ok := store.As[store.Lister](w.config.Store)
	switch {
	case source == nil:
		return done, fmt.Errorf("intel: reask: there is no provider %.40q; the providers are %s", provider, strings.Join(w.names, ", "))
	case !ok:
		return done, errors.New("intel: reask: the store cannot list its records; it has to be a store.Lister")
	}
	began := time.Now().UTC().Truncate(time.Microsecond) // as findings are
	req := store.ListRequest{Limit: maxSave, Enriched: true, NoRaw: true}
	for {
		page, err := lister.List(ctx, req)
		if err != nil {
			return done, fmt.Errorf("intel: reask: list records: %w", err)
		}
		for i := range page.Records {
			e := page.Records[i].Entry(provider)
			if e == nil || e.Finding == nil || !e.Finding.ObservedAt.Before(began) {
				continue
			}
			if err := w.reask(ctx, source, page.Records[i].ID, began, &done); err != nil {
				return done, fmt.Errorf("intel: reask %s: %w", provider, err)
			}
		}
		if req.Cursor = page.Next; req.Cursor == "" {
			return done, nil
		}
	}
}

// reask queries a provider again about one attacker, once that is possible. An
// answer about its address that is not older than began does, too.
func (w *Worker) reask(ctx context.Context, s *source, id uuid.UUID, began time.Time, done *Reasked) error {
	for first := true; ; first = false {
		wait, err := w.reaskDelay(ctx, s, first)
		if err != nil {
			return err
		}
		if wait <= 0 {
			break
		}
		if !pause(ctx, wait) {
			return ctx.Err()
		}
	}
	rec, err := w.enrichNow(ctx, id, demand{now: true, again: []string{s.Name()}, only: s.Name(), since: began})
	if errors.Is(err, store.ErrNotFound) { // forgotten meanwhile
		return nil
	}
	if err != nil {
		return err
	}
	done.Seen++
	if e := rec.Entry(s.Name()); e != nil && e.Finding != nil && !e.Finding.ObservedAt.Before(began) {
		done.Answered++
	} else {
		done.Failed++
	}
	return nil
}

// reaskDelay returns how long to wait before a provider is queried again; first
// says that it was not waited for this attacker yet.
func (w *Worker) reaskDelay(ctx context.Context, s *source, first bool) (time.Duration, error) {
	now := time.Now()
	st := s.Status(ctx, now)
	switch {
	case st.State == gate.Banned:
		return 0, errors.New("the provider rejects the API key; fix it first")
	case st.Calls > 0 && (!s.Scarce() || st.State != gate.Working || st.Idle):
		if first && !w.profiles[s.Name()].Local {
			return reaskInterval, nil
		}
		return 0, nil
	}
	wait := reaskLook
	if !st.Until.IsZero() {
		wait = min(wait, st.Until.Sub(now))
	}
	return max(wait, time.Second), nil
}
