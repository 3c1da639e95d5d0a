package store

import (
	"net/netip"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

// Attacker is somebody a honeypot saw. The ID is the key; the address is a
// value that may change and that several attackers may share.
type Attacker struct {
	// ID is the attacker's UUID.
	ID uuid.UUID
	// IP is the address as it was written by whatever registered the attacker. In
	// a table that others write to it may be any text.
	IP string
	// FirstSeen and LastSeen are in UTC with microsecond precision.
	FirstSeen, LastSeen time.Time
}

// Addr returns the attacker's address in the form of [provider.Canonical], and
// the zero Addr if IP is not an address.
func (a *Attacker) Addr() netip.Addr {
	addr, err := provider.ParseAddr(a.IP)
	if err != nil {
		return netip.Addr{}
	}
	return addr
}

// Record is everything known about one attacker: the ledger of what each
// provider said, and the verdict on it.
type Record struct {
	Attacker
	// Entries is the ledger, at most one entry per provider, in order of
	// provider name.
	Entries []Entry
	// Decision is the verdict on the ledger. It is the zero Decision before the
	// first finding was stored.
	Decision aggregate.Decision
	// Revision counts the saves that stored a finding. Zero means that nothing
	// was ever learnt about this attacker.
	Revision uint64
	// CachedAt is when a finding was last stored, in UTC; zero if none was.
	CachedAt time.Time
	// Row is the record's row in the table attacker_intel, as far as it does not
	// follow from the rest of the record. A store without that table leaves it
	// zero, and so does a claim.
	Row Row
	// Fence is the fence of the claim that returned the record, and zero in a
	// record that was not claimed.
	Fence uint64
	// Granted are the providers whose grant the claim used to hand the attacker
	// out, in order of name; nil if it was handed out because it was due.
	Granted []string
	// Unpublished is the ID of the attacker's latest event that was in the
	// [Outbox] when the claim had leased the attacker; empty if none was, and in
	// a record that was not claimed.
	Unpublished string
}

// Row is what a row of attacker_intel says about itself. DECNET may have made
// it, under a UUID of its own, and also when no provider had answered.
type Row struct {
	// UUID is the row's primary key, as it is spelled there; empty without a row.
	UUID string
	// CachedAt and ExpiresAt are in UTC; zero without a row.
	CachedAt, ExpiresAt time.Time
}

// Entry returns the entry of the named provider, and nil if the record has
// none. It points into r.Entries.
func (r *Record) Entry(name string) *Entry {
	for i := range r.Entries {
		if r.Entries[i].Provider == name {
			return &r.Entries[i]
		}
	}
	return nil
}

// Entry is one provider's part of a record: its last finding and its schedule.
// The two are independent: a failed lookup moves the schedule and leaves the
// finding as it is.
type Entry struct {
	// Provider is the provider's name.
	Provider string
	// State says what happens next. The zero value is Due.
	State State
	// Due is when the provider may be asked, in State Due; zero means at once.
	Due time.Time
	// Addr is the address that State, Due, Failures and Error are about, in an
	// entry without a Finding. The zero Addr means that it is not known, or the
	// address of the Finding.
	Addr netip.Addr
	// Finding is the last good answer; nil if there was none.
	Finding *provider.Finding
	// Expires is when Finding stops being fresh, in UTC; zero without one.
	Expires time.Time
	// Failures counts the failed attempts since the last success.
	Failures int
	// Reason says why the provider is never asked about this address, in State
	// NotApplicable: one of the texts of package provider, such as
	// [provider.Private]. It is empty in other states, and in entries that were
	// saved before reasons were.
	Reason string
	// Error is the kind of the last failure (the text of a sentinel of package
	// provider), and empty after a success.
	Error string
	// Rank is the entry's place among those that wait for the provider, in
	// State Waiting: greater ranks go first.
	Rank int
	// Since is since when the entry has been waiting, in State Waiting, in UTC.
	Since time.Time
}

// State is what an entry's schedule is at.
type State uint8

// The states of an entry.
const (
	// Due: to be asked at the time in the entry's Due.
	Due State = iota
	// Fresh: the finding is reused until it expires.
	Fresh
	// Waiting: to be asked when the provider can be, because its quota is spent
	// or it is being left alone. It has no time of its own; claims hand waiting
	// attackers out as they are granted.
	Waiting
	// NotApplicable: this provider is never asked about this address.
	NotApplicable
)

var stateNames = [...]string{"due", "fresh", "waiting", "not applicable"}

// String returns the state in words.
func (s State) String() string {
	if int(s) < len(stateNames) {
		return stateNames[s]
	}
	return "invalid"
}
