// Package store defines where enrichment lives: the attackers, what providers
// said about each of them, when each is due again, and who is working on it.
//
// [Store] is what a worker needs; everything else is an optional interface that
// a store implements if it can and that is found with [As]. Package storetest
// holds the conformance suite every store should run, memstore the reference
// implementation and sqlstore the one for databases.
//
// # Leases
//
// Claim hands an attacker to one owner for a limited time. Each claim gives
// the attacker a new, greater fence. Save and Release carry that fence and are
// refused once it is no longer the attacker's: a worker that lost its lease
// cannot overwrite the work of the one that has it now.
package store

import (
	"context"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
)

// Store keeps records and schedules work on them. Its methods are safe for
// concurrent use. No method keeps a slice it was passed or returns one that it
// goes on using; findings are shared and immutable.
//
// An attacker is known to a store because it was registered (see [Registrar])
// or because it is in the table the store lives beside. An attacker that was
// never enriched is due at once.
type Store interface {
	// Claim leases attackers to req.Owner and returns them with their fences:
	// those that are due, and of those of which an entry waits for a provider
	// as many as req.Grants says; most recently seen first, each at most once,
	// at most req.Limit. An attacker under a lease that has not expired is not
	// returned. It returns no error if there is nothing to do.
	//
	// Of the attackers that wait for a provider, those whose entry has the
	// greater Rank go first, and among equals the most recently seen; see
	// [Grant] for the exception.
	//
	// The findings in the records may lack Raw.
	Claim(ctx context.Context, req ClaimRequest) (Claimed, error)

	// Get returns the record of one attacker, with Raw. It returns an error
	// that wraps ErrNotFound if there is no such attacker.
	Get(ctx context.Context, id uuid.UUID) (Record, error)

	// Save stores updates, each wholly or not at all, and ends their leases
	// except where Hold says otherwise. An update that cannot be stored does not
	// keep the others from being stored: Save then returns a [*SaveError] that
	// names its attacker. Any other error means that no update was stored.
	//
	// An update of an attacker that is gone is silently skipped, and so is one
	// whose IP is no longer the attacker's; the latter attacker is then due now
	// and no longer leased. An update whose IP is the attacker's again, after
	// another one since the claim, is stored; its attacker is due now as well.
	//
	// A finding that is stored serves other attackers, too: those with an entry that
	// waits for the same provider because of the same address (that of the entry's
	// finding, or its Addr) are then due now, unless they are leased.
	Save(ctx context.Context, updates ...Update) error

	// Release ends leases without storing anything. Their attackers may be
	// claimed again at due, which may be in the past; those whose address has
	// changed, at once. Lost leases are skipped. A zero due is refused with an
	// error that wraps [ErrInvalid], and then no lease is ended.
	Release(ctx context.Context, due time.Time, leases ...Lease) error
}

// ClaimRequest says what to claim.
type ClaimRequest struct {
	// Now is the time that decides what is due.
	Now time.Time
	// Owner names the claiming worker, for people to read. Required.
	Owner string
	// Lease is how long the claim lasts on the store's own clock. It must be
	// positive. If that clock was ahead and is set back, a lease that it has begun is
	// over.
	Lease time.Duration
	// Limit is the greatest number of records returned. It must be positive.
	Limit int
	// Grants says for each provider how many attackers with an entry that waits
	// for it may be handed out although they are not due.
	Grants map[string]Grant
	// Providers are the names of the providers the worker has. An attacker that
	// is not due because no provider applied to it is handed out again once
	// this list names one that its record has no entry of.
	Providers []string
	// Horizon is the longest time after Now for which an attacker can be put off. One
	// that is due later was put off by a clock that was wrong, and is due now. One that
	// waits for a provider since later than that has been waiting as long as anybody.
	// Zero means that there is no limit. A store may take up to an hour to find such
	// attackers.
	Horizon time.Duration
	// Only restricts the claim to these attackers and claims them whether due
	// or not.
	Only []uuid.UUID
}

// Grant is how many attackers that wait for a provider a claim may hand out. An
// attacker that waits for several providers counts against the grant of each
// of them.
type Grant struct {
	// Calls is the number of attackers; none if it is not positive.
	Calls int
	// Oldest is how many of them, at most Calls, are those that have been
	// waiting longest, by their entry's Since, whatever their rank.
	Oldest int
}

// Claimed is the result of a claim.
type Claimed struct {
	// Records are the attackers now leased.
	Records []Record
	// NextDue is the earliest time at which an attacker that was not returned
	// becomes due or its lease expires; zero if there is none. It is not after
	// req.Now if more attackers are due than the limit allowed.
	NextDue time.Time
}

// Update is the new state of an attacker's record.
type Update struct {
	// Lease identifies the attacker and the claim.
	Lease
	// IP is the attacker's address as the claim returned it.
	IP string
	// Entries is the whole ledger as it is to be. Entries whose provider is not
	// in Changed carry the finding that Claim returned, and the store keeps the
	// one it has.
	Entries []Entry
	// Changed names the providers whose entry holds a finding to be stored now,
	// with Raw, or whose finding is to be dropped because the entry has none.
	Changed []string
	// Decision is the verdict on the new ledger, or nil to keep the old one.
	Decision *aggregate.Decision
	// Revision is the record's new revision.
	Revision uint64
	// SavedAt is the record's new CachedAt; zero keeps the old one.
	SavedAt time.Time
	// ExpiresAt is until when consumers of the table attacker_intel may take the
	// record for fresh, for a store that has that table. Zero means the earliest
	// expiry of a finding in Entries, or the old value if none has one.
	ExpiresAt time.Time
	// Event is announced by the [Outbox], if the store has one; nil for none.
	Event *bus.Event
	// Readers are the outbox's readers beside the bus that get the event, too, see
	// [Readers]. A store without these ignores them.
	Readers []string
	// NoBus keeps the event from the bus.
	NoBus bool
	// Hold keeps the lease, because another update will follow under it.
	Hold bool
	// KeepDue keeps the attacker's due time as it was before the claim, or as a
	// sighting has changed it since. Due is then ignored.
	KeepDue bool
	// Due is when the attacker is due next. Zero means that time alone never
	// makes it due.
	Due time.Time
	// Ahead is the earliest time at which a new sighting makes the attacker due.
	// A sighting before Ahead takes effect at Ahead. Zero means never. The next
	// claim ends its effect.
	Ahead time.Time
}

// Lease is a claim on one attacker.
type Lease struct {
	// ID is the attacker's.
	ID uuid.UUID
	// Fence is the one that the claimed record carries.
	Fence uint64
}
