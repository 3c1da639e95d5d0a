package store

import (
	"context"
	"fmt"
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
	// known by their ID: the earliest FirstSeen and the latest LastSeen (see
	// [SeenAgain]) are kept, and a different IP replaces the old one and makes the
	// attacker due. A zero LastSeen means now, a zero FirstSeen the same as LastSeen.
	// Spaces around an address, and its zone, are removed.
	//
	// An attacker with the zero UUID, or whose IP is not the text of an address,
	// is rejected: Observe adds the others and returns an [*ObserveError] that
	// names those it rejected. It may also reject attackers whose rows another client
	// of the database keeps locked; the reason then wraps [ErrLocked]. After any other
	// error some may have been added.
	Observe(ctx context.Context, attackers ...Attacker) error

	// Forget removes attackers with everything known about them. Unknown ones
	// are skipped. After an error, which wraps [ErrLocked] if another client of the
	// database keeps rows locked, it may have removed some.
	Forget(ctx context.Context, ids ...uuid.UUID) error
}

// SeenAgain reports whether an attacker that was last seen at one time was seen again at
// another. A last time from the future comes from a clock that was wrong: any later
// sighting by the right clock replaces it.
func SeenAgain(last, seen, now time.Time) bool {
	latest := now.Add(clockSlack)
	return seen.After(last) || last.After(latest) && !seen.After(latest)
}

// SameIP reports whether two texts mean one address: they are equal, or both parse to
// the same. A [Store] tells by it whether an attacker has moved.
func SameIP(a, b string) bool {
	if a == b {
		return true
	}
	x, err := provider.ParseAddr(a)
	if err != nil {
		return false
	}
	y, err := provider.ParseAddr(b)
	return err == nil && x == y
}

// Positions is implemented by a store that keeps how far inputs were read,
// together with the attackers found in them. To the store a position is a document
// that it does not read.
type Positions interface {
	// Position returns the document stored under a name, and nil if there is none.
	Position(ctx context.Context, name string) (doc []byte, err error)

	// ObserveAt adds attackers as [Registrar.Observe] does and stores doc under
	// name in the same transaction as the last of them, so a crash cannot keep doc
	// without the attackers. A nil doc removes the one there is. Without attackers
	// only doc is stored. An [*ObserveError] names the attackers that were
	// rejected; the others are stored all the same, and so is doc unless a reason
	// wraps [ErrLocked]. After any other error doc is the one from before, and some
	// attackers may have been added.
	//
	// An empty name, or one of more than 255 bytes, is refused with an error that
	// wraps [ErrInvalid].
	ObserveAt(ctx context.Context, name string, doc []byte, attackers ...Attacker) error
}

// CheckPositionName returns an error that wraps [ErrInvalid] for a name that
// [Positions] does not accept.
func CheckPositionName(name string) error {
	if name == "" || len(name) > 255 {
		return fmt.Errorf("%w: the name of a position has %d bytes; it must have 1 to 255", ErrInvalid, len(name))
	}
	return nil
}

// Forgetter is implemented by a store that can forget attackers by age.
type Forgetter interface {
	// ForgetUnseen removes up to limit attackers that were last seen before the given
	// time, with everything known about them, and returns how many it removed. An
	// attacker that is seen again meanwhile stays, and so does one under a lease. After
	// an error, which wraps [ErrLocked] if another client of the database keeps rows
	// locked, it may have removed some, which it counts.
	ForgetUnseen(ctx context.Context, before time.Time, limit int) (forgotten int, err error)
}

// Answers is implemented by a store that can find what a provider said about
// an address on behalf of any attacker.
type Answers interface {
	// Answers returns the findings about addrs, with Raw, that are still fresh
	// at now; per address and provider at most one, the one that expires last. It
	// leaves out those that are not [Reusable].
	Answers(ctx context.Context, now time.Time, addrs ...netip.Addr) ([]Answer, error)
}

// Answer is a finding that can be reused for another attacker.
type Answer struct {
	// Finding is the answer; its Addr and Provider say to what.
	Finding *provider.Finding
	// Expires is when it stops being fresh.
	Expires time.Time
}

// Reusable reports whether a finding that is fresh until expires can be reused at now.
// One from the future cannot: it was obtained by a clock that was wrong, and must not
// hide those of other attackers.
func Reusable(f *provider.Finding, expires, now time.Time) bool {
	return expires.After(now) && !f.ObservedAt.After(now.Add(clockSlack))
}

// clockSlack is how far apart the clocks of workers may be without being wrong.
const clockSlack = time.Minute

// MaxTurn is the longest turn to publish.
const MaxTurn = time.Hour

// Outbox is implemented by a store whose Save writes an update's event together
// with the record, to be published later whatever happens to the process.
type Outbox interface {
	// Turn makes it the owner's turn to publish what is in the outbox, for the
	// given time by the store's own clock, and reports whether it is: it is not
	// while another owner has it. Who has it prolongs it by another call, and
	// ends it by one with a time that is not positive, which reports false. A turn lasts
	// at most [MaxTurn]: one that ends later was begun by a clock that was wrong, and
	// is over.
	// Workers that publish only in their turn do not publish the same events at
	// the same time, each ahead of the other. The other methods do not ask whose
	// turn it is. An empty owner is refused with an error that wraps
	// [ErrInvalid].
	Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error)

	// Unpublished returns up to limit events that were not yet published, in the
	// order in which they were saved: those that were saved at least the given age
	// ago, by the store's own clock; all of them if it is not positive. It may stop
	// at the first one that is younger. An event that was saved in the future, by a
	// clock that was wrong, has any age.
	Unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error)

	// Published removes events, by ID, once the bus has taken them. Unknown IDs
	// are skipped.
	Published(ctx context.Context, ids ...string) error

	// Expire removes events that were saved at least the given age ago, by the
	// store's own clock, although nobody published them, and returns how many
	// those were. It may stop at the first one that is younger. An event that was
	// saved in the future counts as saved now.
	Expire(ctx context.Context, age time.Duration) (int, error)
}

// ByAddress is implemented by a store that can find attackers by their addresses.
// An address is no identity: several attackers may have it.
type ByAddress interface {
	// ByAddress returns the attackers whose address is in one of the networks, each
	// once, the most recently seen first. Networks, like addresses, may be spelled in
	// any way; see [provider.CanonicalPrefix]. It may take time that grows with the
	// number of networks. Attackers that no claim has come across yet may be
	// missing: they are due anyway.
	ByAddress(ctx context.Context, networks []netip.Prefix) ([]uuid.UUID, error)
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
	// List returns one page of records, most recently seen first, with Raw unless
	// the request says otherwise.
	List(ctx context.Context, req ListRequest) (Page, error)
}

// ListRequest says which records to list.
type ListRequest struct {
	// Limit is the greatest number of records; it must be positive.
	Limit int
	// Cursor is the Next of the page before; empty for the first page.
	Cursor string
	// NoRaw says that the records may lack Raw and Row, which saves time.
	NoRaw bool
	// OnlyTrue says that only those entries are needed whose finding has the
	// attribute of this name and it is true. The records may lack the others, which
	// saves time. Empty means that all entries are needed.
	OnlyTrue string
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
	// ChangedSince leaves out attackers of which no finding was stored at that time
	// or later, by [Record].CachedAt. Zero leaves out none.
	ChangedSince time.Time
	// Source leaves out attackers that the provider of this name does not have: its
	// finding is missing or not Known. Empty leaves out none.
	Source string
}

// Matches reports whether an attacker with this record belongs in the listing.
func (r *ListRequest) Matches(rec *Record) bool {
	switch {
	case (r.Enriched || len(r.Verdicts) > 0) && rec.Revision == 0,
		len(r.Verdicts) > 0 && !slices.Contains(r.Verdicts, rec.Decision.Verdict),
		!r.SeenSince.IsZero() && rec.LastSeen.Before(r.SeenSince),
		!r.SeenBefore.IsZero() && !rec.LastSeen.Before(r.SeenBefore),
		!r.ChangedSince.IsZero() && rec.CachedAt.Before(r.ChangedSince):
		return false
	}
	if r.Source != "" {
		if e := rec.Entry(r.Source); e == nil || e.Finding == nil || !e.Finding.Known {
			return false
		}
	}
	text := strings.ToLower(r.Text)
	return text == "" || strings.Contains(strings.ToLower(rec.IP), text) || strings.Contains(rec.ID.String(), text)
}

// Page is a part of a listing. It may have fewer records than the limit, even none,
// and be followed by another.
type Page struct {
	Records []Record
	// Next is the cursor of the following page, and empty after the last.
	Next string
}

// Counter is implemented by a store that can count attackers by verdict and time.
type Counter interface {
	// Count counts the attackers about whom something was learnt, by verdict and by
	// when they were last seen. It returns the counts in order of time, then verdict,
	// without those that are zero. It may take time that grows with the store, and
	// may include attackers that are gone, until the next Prune.
	Count(ctx context.Context, req CountRequest) ([]Count, error)
}

// CountRequest says what to count.
type CountRequest struct {
	// From and To limit when the attackers were last seen: at From or later, and
	// before To.
	From, To time.Time
	// Every is the length of the periods that the time is divided into, from From
	// on. It must be a positive number of microseconds.
	Every time.Duration
}

// Validate returns an error that wraps [ErrInvalid] if the request makes no sense.
func (r *CountRequest) Validate() error {
	switch {
	case r.From.IsZero() || !r.From.Before(r.To):
		return fmt.Errorf("%w: count from %v to %v", ErrInvalid, r.From, r.To)
	case r.Every <= 0 || r.Every%time.Microsecond != 0:
		return fmt.Errorf("%w: count in periods of %v", ErrInvalid, r.Every)
	}
	return nil
}

// Count is the number of attackers with a verdict that were last seen in one period.
type Count struct {
	From      time.Time // when the period begins, in UTC
	Verdict   provider.Verdict
	Attackers int
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
	Readers   map[string]int // events that readers beside the bus have not read yet, by reader; nil if there are none
}

// Pruner is implemented by a store that can remove what is old.
type Pruner interface {
	// Prune removes the raw answers that were obtained before the given time, and
	// whatever is left of attackers that are gone. Findings stay, without Raw. The
	// zero time keeps all raw answers. Prune may take time that grows with the
	// store; other calls go on meanwhile. After an error, which wraps [ErrLocked] if
	// another client of the database keeps rows locked, it may have removed a part,
	// which it returns.
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

// Readers is implemented by a store whose [Outbox], which is the one for the bus,
// has further readers. What one reader has not read yet delays no other.
type Readers interface {
	// OutboxOf returns the outbox of a reader: the events of all updates that named
	// it in [Update.Readers]. It has its own turn. Events of readers that nobody reads
	// for stay until they are expired by a call for them, or pruned (see [Pruner])
	// after 30 days.
	OutboxOf(reader string) Outbox
}

// MaxReader is the greatest length of a reader's name, in bytes.
const MaxReader = 48
