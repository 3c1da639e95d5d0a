package intel

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// maxRetryAfter is the longest Retry-After of a provider that is honoured.
const maxRetryAfter = 24 * time.Hour

// ledger is a record being worked on: what is known about one attacker, and
// what this pass has changed about it. It does no I/O.
type ledger struct {
	record   store.Record
	addr     netip.Addr // zero if the attacker's IP is not an address
	changed  []string   // providers whose finding was replaced or dropped
	answered []string   // providers among them that have a new finding
	moved    bool       // a schedule was changed
	gone     bool       // a finding of a local provider was dropped
	retires  retirement
}

// openLedger prepares a claimed record for a worker with a number of providers.
// It drops findings about an address that is no longer the attacker's, and what
// providers were told to wait for because of it.
func openLedger(r store.Record, providers int) *ledger {
	l := &ledger{record: r, addr: r.Addr()}
	l.record.Entries = slices.Grow(l.record.Entries, providers)
	names := make([]string, 2*providers)
	l.changed, l.answered = names[:0:providers], names[providers:providers]
	for i := range l.record.Entries {
		e := &l.record.Entries[i]
		if e.Finding == nil && e.Addr.IsValid() && e.Addr != l.addr {
			*e = store.Entry{Provider: e.Provider}
			l.moved = true
		}
		if e.Finding != nil && e.Finding.Addr != l.addr {
			*e = store.Entry{Provider: e.Provider}
			l.change(e.Provider)
		}
	}
	return l
}

func (l *ledger) change(name string) {
	if !slices.Contains(l.changed, name) {
		l.changed = append(l.changed, name)
	}
}

// entry returns the entry of a provider and inserts an empty one if there is
// none, so that entries stay in order of provider name.
func (l *ledger) entry(name string) *store.Entry {
	i, found := slices.BinarySearchFunc(l.record.Entries, name, func(e store.Entry, name string) int {
		return strings.Compare(e.Provider, name)
	})
	if !found {
		l.record.Entries = slices.Insert(l.record.Entries, i, store.Entry{Provider: name})
	}
	return &l.record.Entries[i]
}

// wish is what an entry needs.
type wish uint8

const (
	nothing wish = iota
	atHand       // an answer, if there is one at hand
	turn         // the same, and otherwise its turn: the quota has a backlog
	lookup       // an answer, by a call if there is none at hand
)

// wants returns what the entry of s needs at now. With force, only a fresh finding
// keeps it from a lookup. Without force, a quota with a backlog is left to the
// attackers that were granted its calls. Early reports whether a fresh finding is
// to be replaced early.
func (l *ledger) wants(s *source, now time.Time, force bool, early func(e *store.Entry) bool) wish {
	if !s.Applies(l.addr) {
		if e := l.entry(s.Name()); e.State != store.NotApplicable {
			l.move(e, store.NotApplicable, time.Time{})
			e.Error = ""
		}
		return nothing
	}
	e := l.record.Entry(s.Name())
	if e != nil {
		switch {
		case e.State == store.NotApplicable && e.Error == rejected:
			return nothing
		case e.State == store.Fresh && e.Finding != nil && now.Before(e.Expires) && !early(e):
			return nothing
		case !force && l.keeps(e, now) && !early(e):
			l.retire(e)
			return atHand
		case e.State == store.Due && !force && now.Before(e.Due):
			return atHand
		}
	}
	if !force && s.Scarce() && s.hasBacklog() && !slices.Contains(l.record.Granted, s.Name()) {
		if e == nil || e.State != store.Fresh || !now.Before(e.Expires) {
			return turn
		}
		return nothing
	}
	return lookup
}

// rejected is the Error of an entry that is not applicable because the provider
// itself rejected the address. Such an entry is never looked up again. An entry that
// is not applicable for our own reasons is looked up once these no longer hold.
var rejected = provider.ErrUnsupported.Error()

// await makes an entry wait for its provider. An entry that waits already keeps
// its Since.
func (l *ledger) await(e *store.Entry, now time.Time) {
	if e.State != store.Waiting {
		e.State, e.Due, e.Since = store.Waiting, time.Time{}, now.UTC()
		l.moved = true
	}
}

// putOff makes a provider due later without a lookup.
func (l *ledger) putOff(name string, due time.Time) {
	l.move(l.entry(name), store.Due, due.UTC())
}

// move puts an entry into a state in which it does not wait. It is due at a time,
// zero for never.
func (l *ledger) move(e *store.Entry, state store.State, due time.Time) {
	e.State, e.Due, e.Rank, e.Since = state, due, 0, time.Time{}
	l.moved = true
}

// settle enters what became of a lookup. A failure or a deferral leaves the
// finding as it is.
func (l *ledger) settle(name string, out *gate.Outcome, retry retrySchedule) {
	e := l.entry(name)
	if out.Kind == gate.Waiting {
		l.await(e, time.Now())
		switch kind := provider.Kind(out.Err); kind {
		case provider.ErrUnauthorized, provider.ErrConfig: // an operator has to fix that; a limit is not an error
			e.Error = kind.Error()
		}
		return
	}
	l.moved = true
	e.Rank, e.Since = 0, time.Time{}
	switch {
	case out.Kind == gate.Answered:
		*e = store.Entry{Provider: name, State: store.Fresh, Finding: out.Finding, Expires: out.Expires}
		l.change(name)
		l.answered = append(l.answered, name)
	case errors.Is(out.Err, provider.ErrUnsupported):
		e.State, e.Due, e.Error = store.NotApplicable, time.Time{}, rejected
	case out.Kind == gate.Failed:
		e.Failures++
		e.Error = provider.Kind(out.Err).Error()
		e.State, e.Due = store.Due, time.Now().Add(retry.after(out.Err, e.Failures)).UTC()
		if out.NotBefore.After(e.Due) {
			e.Due = out.NotBefore
		}
	default:
		e.State, e.Due = store.Due, out.NotBefore
	}
}

// next returns when the first of the named providers makes the attacker due; zero
// if none does.
func (l *ledger) next(names []string, now time.Time) (due time.Time) {
	for _, name := range names {
		e := l.record.Entry(name)
		at := now
		switch {
		case e == nil, e.State == store.Due && e.Due.IsZero():
		case e.State == store.Due:
			at = e.Due
		case e.State == store.Fresh:
			at = e.Expires
		default:
			continue
		}
		if l.keeps(e, at) || l.keeps(e, now) {
			continue
		}
		if due.IsZero() || at.Before(due) {
			due = at
		}
	}
	return due
}

// pending returns which of the named providers apply and have no fresh finding.
func (l *ledger) pending(names []string, now time.Time) (pending []string) {
	for _, name := range names {
		e := l.record.Entry(name)
		if l.keeps(e, now) {
			continue
		}
		if e == nil || e.State == store.Due || e.State == store.Waiting || e.State == store.Fresh && !now.Before(e.Expires) {
			pending = append(pending, name)
		}
	}
	return pending
}

// expiresAt returns the earliest expiry of the findings of the named providers that
// apply, and otherwise if none expires. Findings of other providers are never
// replaced: counting them would make a record look stale for ever.
func (l *ledger) expiresAt(names []string, otherwise time.Time) (at time.Time) {
	for _, name := range names {
		if e := l.record.Entry(name); e != nil && e.State != store.NotApplicable {
			at = earliest(at, e.Expires)
		}
	}
	if at.IsZero() {
		return otherwise
	}
	return at
}

// outlived reports whether a finding of one of the named providers is too old to
// count.
func (l *ledger) outlived(names []string, now time.Time, maxStale time.Duration) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		e := l.record.Entry(name)
		return e != nil && e.Finding != nil && l.tooOld(e, now, maxStale)
	})
}

// expired reports whether a finding has outlived its time. What a local provider
// says has none.
func expired(e *store.Entry, now time.Time) bool {
	return !e.Expires.IsZero() && !now.Before(e.Expires)
}

// tooOld reports whether the finding of an entry has expired and is maxStale old. No
// finding about an attacker that is refreshed no more is: the last decision stands.
func (l *ledger) tooOld(e *store.Entry, now time.Time, maxStale time.Duration) bool {
	return expired(e, now) && now.Sub(e.Finding.ObservedAt) >= maxStale && !l.retires.by(now)
}

// retrySchedule says when a failed lookup is repeated.
type retrySchedule struct{ min, max time.Duration }

// after returns the delay after a number of failures in a row, of which err is the
// last. It is at least what the provider asked for.
func (r retrySchedule) after(err error, failures int) time.Duration {
	delay := backoff.Delay(r.min, r.max, failures)
	if e, ok := errors.AsType[*provider.Error](err); ok {
		delay = max(delay, min(e.RetryAfter, maxRetryAfter))
	}
	return delay
}
