package store

import (
	"context"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
)

// As finds the first store in s's chain of wrappers that implements T, one of
// the optional interfaces of this package. The chain consists of s itself
// followed by what repeated calls of a method Unwrap() Store return, so that a
// decorator does not hide what it decorates. It returns the zero T and false
// if there is none.
func As[T any](s Store) (T, bool) {
	for s != nil {
		if t, ok := s.(T); ok {
			return t, true
		}
		w, ok := s.(interface{ Unwrap() Store })
		if !ok {
			break
		}
		s = w.Unwrap()
	}
	var none T
	return none, false
}

// Registrar is implemented by a store that attackers can be added to.
type Registrar interface {
	// Observe adds attackers, which are then due, and updates those already
	// known by their ID: the earliest FirstSeen and the latest LastSeen are
	// kept, and a different IP replaces the old one and makes the attacker due.
	// A zero LastSeen means now, a zero FirstSeen the same as LastSeen. Spaces
	// around an address, and its zone, are removed.
	//
	// An attacker with the zero UUID, or whose IP is not the text of an address,
	// is rejected: Observe adds the others and returns an [*ObserveError] that
	// names those it rejected. After any other error some may have been added.
	Observe(ctx context.Context, attackers ...Attacker) error

	// Forget removes attackers with everything known about them. Unknown ones
	// are skipped.
	Forget(ctx context.Context, ids ...uuid.UUID) error
}

// Answers is implemented by a store that can find what a provider said about
// an address on behalf of any attacker.
type Answers interface {
	// Answers returns the findings about addrs, with Raw, that are still fresh
	// at now; per address and provider at most one, the one that expires last.
	Answers(ctx context.Context, now time.Time, addrs ...netip.Addr) ([]Answer, error)
}

// Answer is a finding that can be reused for another attacker.
type Answer struct {
	// Finding is the answer; its Addr and Provider say to what.
	Finding *provider.Finding
	// Expires is when it stops being fresh.
	Expires time.Time
}

// Outbox is implemented by a store whose Save writes an update's event together
// with the record, to be published later whatever happens to the process.
type Outbox interface {
	// Turn makes it the owner's turn to publish what is in the outbox, for the
	// given time by the store's own clock, and reports whether it is: it is not
	// while another owner has it. Who has it prolongs it by another call, and
	// ends it by one with a time that is not positive, which reports false.
	// Workers that publish only in their turn do not publish the same events at
	// the same time, each ahead of the other. The other methods do not ask whose
	// turn it is. An empty owner is refused with an error that wraps
	// [ErrInvalid].
	Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error)

	// Unpublished returns up to limit events that were not yet published,
	// oldest first: those that were saved at least the given age ago, by the
	// store's own clock; all of them if it is not positive.
	Unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error)

	// Published removes events, by ID, once the bus has taken them. Unknown IDs
	// are skipped.
	Published(ctx context.Context, ids ...string) error

	// Expire removes events that were saved at least the given age ago, by the
	// store's own clock, although nobody published them, and returns how many
	// those were.
	Expire(ctx context.Context, age time.Duration) (int, error)
}

// QuotaLedger is implemented by a store that keeps what is left of each
// provider's quotas, so that it survives a restart and all workers share it. To
// the store a budget is a document that it does not read.
type QuotaLedger interface {
	// Budget returns the provider's document and its version. Both are zero if
	// none was stored yet.
	Budget(ctx context.Context, provider string) (doc []byte, version uint64, err error)

	// SwapBudget stores the document as the successor of the given version,
	// with the version that follows it. It reports false, and stores nothing,
	// if that is no longer the version there is.
	SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error)
}

// Lister is implemented by a store that can enumerate its records.
type Lister interface {
	// List returns one page of records, most recently seen first, with Raw.
	List(ctx context.Context, req ListRequest) (Page, error)
}

// ListRequest says which records to list.
type ListRequest struct {
	// Limit is the greatest number of records; it must be positive.
	Limit int
	// Cursor is the Next of the page before; empty for the first page.
	Cursor string
	// Enriched leaves out attackers about whom nothing was ever learnt.
	Enriched bool
	// Verdicts leaves out attackers with another verdict, and those about whom
	// nothing was ever learnt; provider.None stands for the absence of an
	// opinion. Empty leaves out none.
	Verdicts []provider.Verdict
	// SeenSince and SeenBefore leave out attackers last seen before the one, and
	// at the other or later. Zero leaves out none.
	SeenSince, SeenBefore time.Time
	// Text leaves out attackers of whom neither the address nor the UUID with
	// dashes contains it, whatever the case of letters. Empty leaves out none.
	Text string
}

// Matches reports whether an attacker with this record belongs in the listing.
func (r *ListRequest) Matches(rec *Record) bool {
	switch {
	case (r.Enriched || len(r.Verdicts) > 0) && rec.Revision == 0,
		len(r.Verdicts) > 0 && !slices.Contains(r.Verdicts, rec.Decision.Verdict),
		!r.SeenSince.IsZero() && rec.LastSeen.Before(r.SeenSince),
		!r.SeenBefore.IsZero() && !rec.LastSeen.Before(r.SeenBefore):
		return false
	}
	text := strings.ToLower(r.Text)
	return text == "" || strings.Contains(strings.ToLower(rec.IP), text) || strings.Contains(rec.ID.String(), text)
}

// Page is a part of a listing.
type Page struct {
	Records []Record
	// Next is the cursor of the following page, and empty after the last.
	Next string
}

// Statistician is implemented by a store that can count what it holds.
type Statistician interface {
	// Stats counts, as of now. It may take time that grows with the store. Where
	// others add attackers, Enriched and Due may be estimates until claims have
	// come across nearly all of them.
	Stats(ctx context.Context, now time.Time) (Stats, error)
}

// Stats are the numbers of things in a store.
type Stats struct {
	Attackers int            // all that are known
	Enriched  int            // those about whom something was learnt
	Due       int            // those that a claim could return now
	Leased    int            // those under a lease
	Waiting   map[string]int // entries that wait for a quota, by provider
	Outbox    int            // events not yet published
}

// Pruner is implemented by a store that can remove what is old.
type Pruner interface {
	// Prune removes the raw answers that were obtained before the given time, and
	// whatever is left of attackers that are gone. Findings stay, without Raw. The
	// zero time keeps all raw answers. Prune may take time that grows with the
	// store; other calls go on meanwhile. After an error it may have removed a
	// part, which it returns.
	Prune(ctx context.Context, before time.Time) (Pruned, error)
}

// Pruned counts what [Pruner.Prune] removed.
type Pruned struct {
	Raws    int // raw answers
	Orphans int // attackers that are gone and of which something was left
}

// Migrator is implemented by a store whose tables have to be created.
type Migrator interface {
	// Migrate brings the tables up to date. It may be called at every start, by
	// any number of processes at once. It refuses, with an error that wraps
	// [ErrSchema], tables of a newer version than it knows.
	Migrate(ctx context.Context) error
}
