package intel

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// source is one provider: its gate, and what the worker knows about it. Its
// methods are safe for concurrent use.
//
// Five clocks can delay a lookup. A lookup meets them in this order:
//
//	clock    kept in                 delays                   until
//	entry    store.Entry             one attacker             its finding expires, or its retry or deferral is due
//	backlog  source.backlog          attackers without grant  a claim grants the attacker one of the quota's calls
//	breaker  gate, breaker.go        all attackers            the pause after failures that cost no call of a quota, or
//	                                                          after a rejected key, ends and one probe has been answered
//	pace     gate, pace.go           one attacker             a slot is free and MinInterval has passed; after MaxWait
//	                                                          the entry becomes due later instead
//	budget   quota.Governor          all attackers            a window of the quota has room, the one call of a scarce
//	                                                          quota has ended, and so has the pause that the provider
//	                                                          asked for or that follows failures that may have been charged
//	                                 one address              its window ends, if its failures have cost its share
//
// Patience is none of them: it limits how long a record waits for a lookup.
type source struct {
	*gate.Gate
	log *slog.Logger

	exhausted exhaustion // only the loop uses it

	mu sync.Mutex // guards all fields below
	// slow is set by a pass whose lookup took longer than Patience or waited for
	// MaxWait in vain, and cleared by one that was answered in time. Records wait
	// for a provider unless it is slow, so each is waited for at first.
	slow bool
	// failing is set by a pass whose lookup failed, and cleared by one with a
	// finding. It keeps the log to the first failure.
	failing bool
	// ledgerFailing is set when the quota's ledger fails, and cleared by a pass
	// with a finding. It keeps the log to the first failure.
	ledgerFailing bool
	// backlog says that attackers may be waiting for the provider. Calls then go
	// to the attackers that a claim grants them to. The loop sets it at each poll,
	// saving an entry that waits sets it, and the loop clears it after a claim
	// that found fewer attackers than it granted.
	backlog bool
	// waits counts the entries that were saved waiting. The loop keeps the
	// backlog if one was added during its claim.
	waits uint64
	// granted is how many attackers the loop has handed out with a grant of which
	// the pass has not used it. A pass takes one off.
	granted int
	// late says that a local provider took too long too often; see slips, with which
	// it changes. Passes read it without the lock.
	late atomic.Bool
	// slips counts the lookups of a local provider that took too long, up to
	// localSlips. Passes add to it.
	slips int
	// owed is how many of the calls granted so far the attackers that have been
	// waiting longest should have had beyond those they had. Only the loop uses it.
	owed float64
	// counts are changed by passes.
	counts sourceCounts
}

// sourceCounts count the lookups of a provider since the worker was made.
type sourceCounts struct {
	calls    uint64 // made
	answered uint64 // brought a finding
	reused   uint64 // found an answer at hand
	deferred uint64 // put off without a call
	errors   [len(kinds)]uint64

	lastError   string
	lastErrorAt time.Time
}

// kinds are the kinds of failure that are counted.
var kinds = [...]error{
	provider.ErrRateLimited, provider.ErrQuotaExhausted, provider.ErrUnauthorized, provider.ErrConfig,
	provider.ErrBadResponse, provider.ErrUnsupported, provider.ErrUnavailable,
}

func (s *source) isSlow() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.slow
}

// tooSlow takes note that a lookup has exhausted Patience.
func (s *source) tooSlow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.slow = true
}

// deferred counts a lookup that was put off before it reached the gate.
func (s *source) deferred() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.deferred++
}

// observe takes note of what became of a lookup. It logs the first failure in a
// row, and the answer that ends it.
func (s *source) observe(out *gate.Outcome, patience, maxWait time.Duration) {
	s.mu.Lock()
	wasFailing := s.failing
	switch {
	case out.Called() && out.Took > patience, out.Late(maxWait):
		s.slow = true
	case out.Called():
		s.slow = false
	}
	if out.Called() {
		s.counts.calls++
	}
	switch {
	case out.Reused():
		s.counts.reused++
	case out.Finding != nil:
		s.counts.answered++
		s.failing, s.ledgerFailing = false, false
	case out.Err != nil:
		s.counts.fail(out.Err)
		s.counts.lastError, s.counts.lastErrorAt = out.Err.Error(), time.Now().UTC()
		s.failing = true
	default:
		s.counts.deferred++
	}
	failing := s.failing
	s.mu.Unlock()
	switch {
	case failing && !wasFailing:
		s.warn(out.Err)
	case wasFailing && !failing:
		s.log.Info("provider answers again", "provider", s.Name())
	}
}

// fail counts a failure.
func (c *sourceCounts) fail(err error) {
	if i := slices.Index(kinds[:], provider.Kind(err)); i >= 0 {
		c.errors[i]++
	}
}

// warn logs the first failure in a row.
func (s *source) warn(err error) {
	attrs := []any{"provider", s.Name(), "error", err}
	if p, ok := errors.AsType[*panics.Error](err); ok {
		attrs = append(attrs, "stack", string(p.Stack))
	}
	switch provider.Kind(err) {
	case provider.ErrUnauthorized, provider.ErrConfig:
		s.log.Error("provider rejects the API key or its configuration and is paused; fix the API key", attrs...)
	case provider.ErrRateLimited, provider.ErrQuotaExhausted:
		s.log.Warn("provider reports that its rate limit or quota is reached; attackers that wait for it are looked up later", attrs...)
	default:
		s.log.Warn("provider fails; its earlier findings stay", attrs...)
	}
}

// ledgerFailed logs the first failure in a row of the ledger that keeps the
// provider's budget.
func (s *source) ledgerFailed(err error) {
	s.mu.Lock()
	logged := s.ledgerFailing
	s.ledgerFailing = true
	s.mu.Unlock()
	if !logged {
		s.log.Error("cannot keep the provider's budget in the store; no call is made without it", "provider", s.Name(), "error", err)
	}
}

// reset drops the grants that an earlier run handed out and did not use.
func (s *source) reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted = 0
}

// mayWait makes the next claims grant calls, as attackers may be waiting.
func (s *source) mayWait() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.backlog = true
}

// hasBacklog reports whether attackers may be waiting for the provider.
func (s *source) hasBacklog() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backlog
}

// waiting takes note that an entry that waits was saved, and reports whether a
// claim could grant it a call now.
func (s *source) waiting() bool {
	s.mu.Lock()
	s.backlog = true
	s.waits++
	s.mu.Unlock()
	calls, _ := s.available(context.Background(), time.Now())
	return calls > 0
}

// used takes note that a pass has used a grant, or cannot use it. It reports
// whether claims should grant more.
func (s *source) used() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.granted--
	return s.granted == 0 && s.backlog
}

// available returns how many attackers that wait for the provider can be handed
// out at now. If none can, it returns when that may change; zero if only the end
// of a call will show.
func (s *source) available(ctx context.Context, now time.Time) (calls int, until time.Time) {
	st := s.Status(ctx, now)
	if st.Calls == 0 {
		return 0, st.Until
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return max(st.Calls-s.granted, 0), time.Time{}
}

// sources are all providers of a worker, in order of name.
type sources []*source

// byName returns the source with a name, or nil.
func (ss sources) byName(name string) *source {
	for _, s := range ss {
		if s.Name() == name {
			return s
		}
	}
	return nil
}

// recall puts at hand what the store knows about the addresses of records
// because of other attackers. If the store fails the providers are queried.
func (w *Worker) recall(ctx context.Context, records []store.Record, now time.Time) {
	if w.answers == nil || len(records) == 0 || len(w.sources) == 0 {
		return
	}
	addrs := make([]netip.Addr, 0, len(records))
	for i := range records {
		if addr := records[i].Addr(); addr.IsValid() {
			addrs = append(addrs, addr)
		}
	}
	answers, err := w.answers.Answers(ctx, now, addrs...)
	if err != nil && ctx.Err() == nil {
		w.log.Warn("cannot look for answers in the store; querying the providers", "error", err)
	}
	for _, a := range answers {
		far := a.Expires.After(now.Add(w.config.ttl(*a.Finding) + clockSlack)) // by a clock that was wrong
		if s := w.sources.byName(a.Finding.Provider); s != nil && !far {
			s.Learn(a.Finding, a.Expires)
		}
	}
}

// waiting takes note of the entries of a saved record that wait, and reports
// whether a claim could grant one of them a call now.
func (ss sources) waiting(entries []store.Entry) (grantable bool) {
	for i := range entries {
		if entries[i].State != store.Waiting {
			continue
		}
		if s := ss.byName(entries[i].Provider); s != nil && s.waiting() {
			grantable = true
		}
	}
	return grantable
}

// offer is what a claim may hand out of the attackers that wait.
type offer struct {
	grants map[string]store.Grant // by provider; nil if there are none
	waits  map[string]uint64      // source.waits before the claim
}

// offer returns what a claim at now may hand out: at most limit attackers for
// each provider, and of those the fraction fair to the ones waiting longest.
func (ss sources) offer(ctx context.Context, now time.Time, limit int, fair float64) (o offer) {
	for _, s := range ss {
		if !s.hasBacklog() {
			continue
		}
		calls, _ := s.available(ctx, now)
		if calls = min(calls, limit); calls == 0 {
			continue
		}
		if o.grants == nil {
			o.grants, o.waits = make(map[string]store.Grant, len(ss)), make(map[string]uint64, len(ss))
		}
		s.mu.Lock()
		o.grants[s.Name()] = store.Grant{Calls: calls, Oldest: int(s.owed + fair*float64(calls))}
		o.waits[s.Name()] = s.waits
		s.mu.Unlock()
	}
	return o
}

// taken takes note of what a claim of at most limit attackers has handed out of
// an offer, and reports whether it may have left some of it.
func (ss sources) taken(o offer, records []store.Record, limit int, fair float64) (more bool) {
	used := make(map[string]int, len(o.grants))
	for i := range records {
		for _, name := range records[i].Granted {
			used[name]++
		}
	}
	for name, grant := range o.grants {
		s, n := ss.byName(name), used[name]
		s.mu.Lock()
		s.granted += n
		s.owed += fair*float64(n) - float64(min(grant.Oldest, n))
		switch {
		case n >= grant.Calls:
			more = true
		case len(records) < limit && s.waits == o.waits[name]:
			s.backlog = false
		}
		s.mu.Unlock()
	}
	return more
}

// nextGrant returns when a claim may next grant calls to attackers that wait;
// zero if that is not known.
func (ss sources) nextGrant(ctx context.Context, now time.Time) (next time.Time) {
	for _, s := range ss {
		if !s.hasBacklog() {
			continue
		}
		if calls, until := s.available(ctx, now); calls == 0 && !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	return next
}
