// Package provider defines what a threat-intelligence source is: something
// that, asked about one IP address, returns one [Finding] or one error.
//
// The package is a leaf: it imports only the standard library, so a provider
// can be written, tested and shipped without the rest of the module. Package
// providertest holds the conformance suite every implementation should run.
//
// # Absence is not innocence
//
// Three outcomes look alike and must be kept apart. A provider that has the
// address says Known = true. A provider that was asked and does not have it
// says Known = false, with a nil error. A provider that could not be asked
// returns an error. None of the three means benign.
package provider

import (
	"context"
	"net/netip"
	"time"
)

// Provider is one source of intelligence about IP addresses.
//
// Both methods are safe for concurrent use. An implementation neither retries,
// nor sleeps out a limit, nor logs: whoever calls it (in this module the
// worker's gate) does that, once and for all providers.
type Provider interface {
	// Name identifies the provider. It is constant over the life of the value,
	// unique among the providers of one worker and valid according to
	// [ValidateName]: it prefixes the provider's columns and payload keys.
	Name() string

	// Lookup asks about addr, which is [Canonical] and which the caller has passed
	// through a [Guard].
	//
	// It returns a Finding whenever the source answered, also when the answer
	// is that it does not know the address. Everything else is an error, best
	// an [*Error] around one of this package's sentinels; an error that wraps
	// none is treated like [ErrUnavailable]. An address outside the source's
	// coverage is [ErrUnsupported] and costs no call.
	//
	// Lookup returns soon after ctx is done, with an error that wraps the
	// context's. The Finding returned on success is not modified afterwards,
	// neither by the provider nor by anyone it is handed to.
	Lookup(ctx context.Context, addr netip.Addr) (Finding, error)
}

// Limited is implemented by a provider that restricts what it may be asked or
// how often. Find it with [As].
type Limited interface {
	// Limits returns the same value at every call. It must not be modified.
	Limits() Limits
}

// Limits are the restrictions a provider declares about itself. The zero value
// means: any public address, as often and as concurrently as the caller likes.
type Limits struct {
	// MaxInFlight is the greatest number of lookups running at once in one process.
	// Zero leaves the number to the caller. If a quota is below 100 calls, one lookup
	// at a time is made by all processes together; of a larger quota, a twentieth may
	// run at once in a process.
	MaxInFlight int
	// MinInterval is the least time between the starts of two lookups. Each process
	// keeps it on its own: n processes on one store may start n lookups in that time.
	// A limit that all processes have to share is one of Quotas. Zero means no such
	// restriction.
	MinInterval time.Duration
	// Quotas are the allowances of the plan, all of which apply at once. None
	// means no such restriction. They are a ceiling: a limit that the source
	// reports counts only if it is lower.
	Quotas []Quota
	// Assumed says that nobody configured Quotas: they are what the provider
	// assumes of the plan. A higher limit that the source reports then counts,
	// too.
	Assumed bool
	// IPv4Only says that the source knows no IPv6 address: it is never asked
	// about one.
	IPv4Only bool
	// Private says that lookups do not leave the operator's own machines (an
	// allow list in memory, an internal service), so that private and other
	// special-purpose addresses may be asked too. Leave it false for every
	// source reached over the internet.
	Private bool
}

// Refresher is implemented by a provider that answers from bulk data loaded
// ahead of its lookups. Find it with [As].
type Refresher interface {
	// Refresh loads the data if its time has come and otherwise returns nil at
	// once, so that it may be called as often as one likes; concurrent calls
	// share one load. After a failed load the previous data stays in use, and
	// Refresh keeps returning that failure, without trying again, until the
	// provider's own backoff has passed.
	Refresh(ctx context.Context) error
}

// Batcher is implemented by a provider whose source answers about many addresses in
// one call of its quota. The worker lets lookups gather while a call is under way, or
// until the quota allows the next one, and makes one call for all of them. It spreads
// such calls evenly over the windows of the quota, so that no address waits for longer
// than a window divided by its calls. The provider itself has to implement it: [As] is
// not used, as a decorator would be bypassed.
type Batcher interface {
	// Batch returns how many addresses LookupBatch takes at present. If that is less
	// than two, only Lookup is called. It is cheap to call.
	Batch() int
	// LookupBatch asks about addrs, which are all different, in one call. Its findings
	// and its error are as those of [Provider.Lookup]; the findings are in any order.
	// An address without a finding beside others that have one is a bad response. No
	// finding at all and no error mean that nothing was looked up: the addresses are
	// asked about again.
	LookupBatch(ctx context.Context, addrs []netip.Addr) ([]Finding, error)
}

// Accounted is implemented by a provider whose quota belongs to an account that
// can change while it runs. Find it with [As].
type Accounted interface {
	// Account returns a short text that stands for the present account, such as
	// a hash of provider name and API key, and "" if there is none. The key
	// cannot be found out from it. It is cheap to call.
	Account() string
}

// Func adapts a function to the [Provider] interface.
type Func struct {
	// ID is what Name returns.
	ID string
	// Ask is called by Lookup. It must not be nil.
	Ask func(ctx context.Context, addr netip.Addr) (Finding, error)
}

// Name returns f.ID.
func (f Func) Name() string { return f.ID }

// Lookup calls f.Ask.
func (f Func) Lookup(ctx context.Context, addr netip.Addr) (Finding, error) {
	return f.Ask(ctx, addr)
}

// As finds the first provider in p's chain of wrappers that implements T,
// usually [Limited] or [Refresher]. The chain consists of p itself followed by
// what repeated calls of a method Unwrap() Provider return, so that a
// decorator does not hide what it decorates. It returns the zero T and false
// if there is none.
func As[T any](p Provider) (T, bool) {
	for p != nil {
		if t, ok := p.(T); ok {
			return t, true
		}
		w, ok := p.(interface{ Unwrap() Provider })
		if !ok {
			break
		}
		p = w.Unwrap()
	}
	var none T
	return none, false
}
