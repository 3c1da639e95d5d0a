package intel

import (
	"errors"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/store"
)

// Hooks are functions that a [Worker] calls as it goes, for metrics, tests and
// progress displays. Any may be nil. They are called from several goroutines
// at once, must return quickly and must not modify what they are passed. A panic
// of a hook is logged, the first time, and changes nothing else.
type Hooks struct {
	// Pass is called after each look at the store for attackers that are due.
	Pass func(PassInfo)
	// Claim is called after each claim of a batch of attackers.
	Claim func(ClaimInfo)
	// Lookup is called after each lookup that was made or put off.
	Lookup func(LookupInfo)
	// Saved is called after each update of a record was stored.
	Saved func(SavedInfo)
	// Published is called after each attempt to publish an event about an
	// attacker.
	Published func(PublishedInfo)
}

// guarded returns hooks that do not panic.
func (h Hooks) guarded(log *slog.Logger) Hooks {
	h.Pass = guarded(log, "Pass", h.Pass)
	h.Claim = guarded(log, "Claim", h.Claim)
	h.Lookup = guarded(log, "Lookup", h.Lookup)
	h.Saved = guarded(log, "Saved", h.Saved)
	h.Published = guarded(log, "Published", h.Published)
	return h
}

func guarded[Info any](log *slog.Logger, name string, hook func(Info)) func(Info) {
	if hook == nil {
		return nil
	}
	var once sync.Once
	return func(info Info) {
		err := panics.Catch(func() error {
			hook(info)
			return nil
		})
		if p, ok := errors.AsType[*panics.Error](err); ok {
			once.Do(func() { log.Error("a hook panics", "hook", name, "error", p, "stack", string(p.Stack)) })
		}
	}
}

// PassInfo describes one look at the store: as many claims as it took until
// nothing more was due.
type PassInfo struct {
	Claimed int       // attackers that were claimed
	NextDue time.Time // when the next one becomes due; zero if none will
	Err     error     // of the claim that ended the pass
}

// ClaimInfo describes one claim, of which a pass needs several while there is a
// backlog.
type ClaimInfo struct {
	Claimed int           // attackers
	Took    time.Duration // by the store
	Err     error
}

// LookupInfo describes one lookup.
type LookupInfo struct {
	Provider  string
	Attacker  uuid.UUID
	Addr      netip.Addr
	Started   time.Time     // of the call; zero if none was made
	Took      time.Duration // of the call; zero if none was made
	Reused    bool          // the answer was at hand
	Known     bool          // of the finding
	NotBefore time.Time     // the lookup was put off until then
	Waiting   bool          // the lookup waits until the provider can be asked; Err is why, if a call told
	Err       error
}

// SavedInfo describes one update of a record.
type SavedInfo struct {
	// Record is the record as stored.
	Record store.Record
	// Started is when the work on the attacker began that the update is part of.
	Started time.Time
	// Answered names the providers whose findings the update stored; none if it
	// only moved the schedule.
	Answered []string
	// Pending names the providers that apply and are still to answer.
	Pending []string
	// Changed tells whether the verdict is another than before.
	Changed bool
	// More tells that lookups of this attacker are still under way and another
	// update follows.
	More bool
}

// PublishedInfo describes one attempt to publish an event.
type PublishedInfo struct {
	ID  string
	Err error
}
