package intel

import (
	"context"
	"fmt"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Status is what a worker is doing, and has done since it was made.
type Status struct {
	// Owner names the worker.
	Owner string `json:"owner"`
	// Running tells whether Run or Drain is.
	Running bool `json:"running"`
	// Passes counts the looks at the store for attackers that are due.
	Passes uint64 `json:"passes"`
	// Enriched counts the updates that stored a finding.
	Enriched uint64 `json:"enriched"`
	// Scheduled counts the updates that only moved a schedule.
	Scheduled uint64 `json:"scheduled"`
	// Conflicts counts the updates that were refused because the lease was lost.
	Conflicts uint64 `json:"conflicts"`
	// Unsaved counts the updates that the store could not take.
	Unsaved uint64 `json:"unsaved"`
	// Published counts the events that the bus took.
	Published uint64 `json:"published"`
	// Unpublished counts the events that were lost, refused or too old.
	Unpublished uint64 `json:"unpublished"`
	// Invalid counts the attackers that this worker has met whose address is not an
	// IP address. No provider is queried about them.
	Invalid uint64 `json:"invalid"`
	// Providers are in order of name.
	Providers []ProviderStatus `json:"providers"`
	// Relisting is the number of attackers that are still to be decided on after a
	// change in a list.
	Relisting int `json:"relisting,omitempty"`
	// Backlog is what is left to do, for all workers of the store; nil if the
	// store is no [store.Statistician] or failed.
	Backlog *Backlog `json:"backlog,omitempty"`
}

// ProviderStatus is how one provider is doing.
type ProviderStatus struct {
	Name string `json:"name"`
	// State is "unproven" (not asked yet, or not since it was left alone),
	// "probing" (asked for the first time), "working", "gathering" (it works, and
	// addresses gather for its next call), or why it is being left alone: "failing",
	// "unauthorized", "rate limited" or "quota exhausted".
	State string `json:"state"`
	// Until is for how long it is left alone; zero if it is not.
	Until time.Time `json:"until,omitzero"`
	// Mend says what an operator has to do before it works again; empty if
	// nothing.
	Mend string `json:"mend,omitempty"`
	// Quotas are its allowances, as declared or as the source said.
	Quotas []QuotaStatus `json:"quotas,omitempty"`
	// List is how the provider's list is; nil if it has none.
	List *provider.ListStatus `json:"list,omitempty"`
	// Calls counts the calls that were made. A lookup in memory is one.
	Calls uint64 `json:"calls"`
	// Answered counts the calls that brought a finding.
	Answered uint64 `json:"answered"`
	// Reused counts the lookups for which an answer was at hand.
	Reused uint64 `json:"reused"`
	// Deferred counts the lookups that were put off without a call.
	Deferred uint64 `json:"deferred"`
	// Errors counts the calls that failed, by kind.
	Errors map[string]uint64 `json:"errors,omitempty"`
	// LastError is the text of the last error, and LastErrorAt when it came. It stays
	// after the provider has answered again.
	LastError   string    `json:"last_error,omitempty"`
	LastErrorAt time.Time `json:"last_error_at,omitzero"`
}

// QuotaStatus is what is left of a quota, as far as this worker knows.
type QuotaStatus struct {
	// Limit is the number of calls allowed in the window.
	Limit int `json:"limit"`
	// Seconds is the length of the window.
	Seconds int64 `json:"seconds"`
	// Remaining is the number of calls left.
	Remaining int `json:"remaining"`
	// Reset is when Remaining may next grow; zero if nothing is spent.
	Reset time.Time `json:"reset,omitzero"`
}

// Backlog is what is left to do.
type Backlog struct {
	// Due is the number of attackers that are due now.
	Due int `json:"due"`
	// Leased is the number of attackers that are being worked on.
	Leased int `json:"leased"`
	// Waiting is the number of attackers that wait for each provider.
	Waiting map[string]int `json:"waiting,omitempty"`
	// Outbox is the number of events to be published.
	Outbox int `json:"outbox"`
	// Readers is the number of events that readers of the outbox beside the bus, such
	// as webhooks, have not read yet, by the reader's name. It has all of
	// [Config].Readers.
	Readers map[string]int `json:"readers,omitempty"`
	// DrainSeconds estimates how long it takes until nothing is due and nobody
	// waits, if nothing is added: by the rate that this worker has reached, and
	// by the quotas. It is -1 if there is nothing to tell it by.
	DrainSeconds float64 `json:"drain_seconds"`
}

// Status returns what the worker is doing. If the store cannot be counted the
// status lacks the backlog and the error says why; it is complete otherwise.
func (w *Worker) Status(ctx context.Context) (Status, error) {
	now := time.Now()
	c := &w.counts
	s := Status{
		Owner: w.config.Owner, Running: w.running.Load(),
		Passes: c.passes.Load(), Enriched: c.enriched.Load(), Scheduled: c.scheduled.Load(),
		Conflicts: c.conflicts.Load(), Unsaved: c.unsaved.Load(), Invalid: w.invalid.count(),
		Providers: make([]ProviderStatus, len(w.sources)),
	}
	s.Relisting = int(w.relisting.Load())
	s.Published, s.Unpublished = w.events.Counts()
	for i, source := range w.sources {
		s.Providers[i] = source.status(ctx, now)
	}
	counter, ok := store.As[store.Statistician](w.config.Store)
	if !ok {
		return s, nil
	}
	stats, err := counter.Stats(ctx, now)
	if err != nil {
		return s, fmt.Errorf("intel: count the backlog: %w", err)
	}
	s.Backlog = &Backlog{Due: stats.Due, Leased: stats.Leased, Waiting: stats.Waiting, Outbox: stats.Outbox}
	for _, name := range w.config.Readers {
		if s.Backlog.Readers == nil {
			s.Backlog.Readers = make(map[string]int, len(w.config.Readers))
		}
		s.Backlog.Readers[name] = stats.Readers[name]
	}
	s.Backlog.DrainSeconds = w.drainTime(s.Providers, s.Backlog, now)
	return s, nil
}

func (s *source) status(ctx context.Context, now time.Time) ProviderStatus {
	_ = s.ReadBudget(ctx, now) // then what is known has to do
	st := s.Status(ctx, now)
	s.mu.Lock()
	counts := s.counts
	s.mu.Unlock()
	ps := ProviderStatus{
		Name: s.Name(), State: string(st.State), Until: st.Until.UTC(),
		Calls: counts.calls, Answered: counts.answered, Reused: counts.reused, Deferred: counts.deferred,
		LastError: counts.lastError, LastErrorAt: counts.lastErrorAt,
	}
	switch st.State {
	case gate.Unproven, gate.Probing, gate.Working: // it is not left alone, though one call at a time may be made
		ps.Until = time.Time{}
	}
	if st.State == gate.Banned {
		ps.Mend = "the provider refuses the key or the configuration: correct the API key of " + s.Name() + " and restart"
	}
	if s.Listing() {
		list := s.List()
		ps.List = &list
	}
	for _, q := range s.Windows(now) {
		ps.Quotas = append(ps.Quotas, QuotaStatus{
			Limit: q.Calls, Seconds: int64(q.Window / time.Second), Remaining: q.Left, Reset: q.Reset.UTC(),
		})
	}
	for i, kind := range kinds {
		if n := counts.errors[i]; n > 0 {
			if ps.Errors == nil {
				ps.Errors = make(map[string]uint64)
			}
			ps.Errors[kind.Error()] = n
		}
	}
	return ps
}

// drainTime estimates how long the backlog takes, in seconds.
func (w *Worker) drainTime(providers []ProviderStatus, b *Backlog, now time.Time) float64 {
	longest := 0.
	if b.Due+b.Leased > 0 {
		rate := w.rate.get()
		if rate <= 0 {
			return -1
		}
		longest = float64(b.Due+b.Leased) / rate
	}
	for _, p := range providers {
		waiting := b.Waiting[p.Name]
		if waiting == 0 {
			continue
		}
		if p.State == string(gate.Banned) {
			return -1
		}
		if s := w.sources.byName(p.Name); s.Gathers() {
			waiting = (waiting + s.Together() - 1) / s.Together()
		}
		for _, q := range p.Quotas {
			seconds := max(0, float64(waiting-q.Remaining)) / float64(q.Limit) * float64(q.Seconds)
			longest = max(longest, seconds)
		}
		longest = max(longest, p.Until.Sub(now).Seconds())
	}
	return longest
}

// sum adds up a number of all providers.
func (s *Status) sum(number func(*ProviderStatus) uint64) (total uint64) {
	for i := range s.Providers {
		total += number(&s.Providers[i])
	}
	return total
}

// failed returns the number of calls that failed.
func (p *ProviderStatus) failed() (n uint64) {
	for kind, count := range p.Errors {
		if kind != provider.ErrUnsupported.Error() {
			n += count
		}
	}
	return n
}
