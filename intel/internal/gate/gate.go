// Package gate stands between the worker and each provider. It decides whether
// a lookup may be made now, makes it safely, and shares its answer.
package gate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/intel/internal/quota"
	"github.com/decnet/enrich/provider"
)

// Config says how a gate behaves. All durations must be positive.
type Config struct {
	Guard       provider.Guard
	TTL         func(provider.Finding) time.Duration // how long it is fresh, before jitter
	Jitter      float64                              // fraction of a TTL by which it is shortened at random
	MaxWait     time.Duration                        // for a probe, a slot and the provider's interval together
	Timeout     time.Duration                        // of one call; its Deadlines may add a hundredth
	MaxInFlight int                                  // if the provider does not limit itself
	Ledger      quota.Ledger                         // shares the budget; nil if there is none
	Opened      func()                               // called when calls are possible that were not before; may be nil
	Trouble     func(error)                          // told when the ledger fails; may be nil
}

// Gate guards one provider. Its methods are safe for concurrent use.
//
// A lookup passes these steps in order:
//
//  1. Applies: the address guard and the provider's coverage.
//  2. Recent and flights: an answer at hand is reused, a lookup under way joined.
//  3. breaker: a provider whose failures cost nothing, or that refuses our key, is
//     left alone.
//  4. admit: a slot, and the provider's interval.
//  5. budget: the provider's quotas, spent just before the call; the pauses after
//     refusals and after failures that may have been charged.
//  6. call: the call itself, under its deadline, with panics caught.
type Gate struct {
	provider  provider.Provider
	refresher provider.Refresher // nil if the provider is none
	listing   provider.Listing   // likewise
	batcher   provider.Batcher   // likewise
	local     bool
	limits    provider.Limits
	config    Config
	name      string
	flights   flights
	batches   batches
	breaker   breaker
	slots     chan struct{}
	pace      pace
	budget    *quota.Governor
	hoping    atomic.Int32  // lookups that wait for a probe
	overdue   time.Duration // after which a probe counts as failed
}

// New returns a gate in front of a provider, whose limits must be valid.
func New(id Identity, c Config) *Gate {
	g := &Gate{provider: id.Provider, refresher: id.refresher, listing: id.listing, batcher: id.batcher, local: id.Profile.Local, limits: id.Limits, config: c, name: id.Name}
	if g.limits.MaxInFlight <= 0 {
		g.limits.MaxInFlight = c.MaxInFlight
	}
	g.overdue = c.MaxWait + c.Timeout + c.Timeout/100 + time.Second
	g.budget = quota.NewGovernor(quota.Config{
		Name: g.name, Limits: g.limits, Account: id.account, Spaced: g.Gathers, Longest: c.Timeout + c.Timeout/100, Ledger: c.Ledger,
	})
	if g.Gathers() { // during one call the addresses of the next gather
		g.limits.MaxInFlight = 1
	}
	if n := g.budget.Slots(); n > 0 {
		g.limits.MaxInFlight = min(g.limits.MaxInFlight, n)
	}
	g.slots = make(chan struct{}, g.limits.MaxInFlight)
	g.pace.interval = g.limits.MinInterval
	return g
}

// Name returns the provider's name.
func (g *Gate) Name() string { return g.name }

// Applies reports whether the provider may be asked about addr at all.
func (g *Gate) Applies(addr netip.Addr) bool { return g.Refuses(addr) == "" }

// Refuses returns why the provider is never asked about addr, in the words of
// package provider; it is empty if the provider applies.
func (g *Gate) Refuses(addr netip.Addr) (why string) {
	switch {
	case !addr.IsValid():
		return provider.NotAnAddress
	case g.limits.Private:
	default:
		why = g.config.Guard.Refuses(addr)
	}
	if why == "" && g.limits.IPv4Only && !addr.Is4() {
		why = provider.OtherFamily
	}
	return why
}

// Deadlines give calls their deadlines.
type Deadlines interface {
	// Next returns the context of a call that begins at start. It ends a Timeout
	// later or when that of the lookup ends, with the reason as its cause.
	Next(start time.Time) context.Context
}

// Kind is what became of a lookup.
type Kind uint8

// The kinds. The zero Kind is none of them.
const (
	Answered Kind = iota + 1 // there is a Finding, and until when it is fresh: Expires
	Failed                   // the call failed: Err; another may not be before NotBefore, if that is set
	Deferred                 // no call was made, and none may be before NotBefore
	Waiting                  // the provider cannot be asked for now; Err is why if a call told
	Cut                      // the context ended, which is no failure
)

// Outcome is what became of a lookup.
type Outcome struct {
	Kind      Kind
	Finding   *provider.Finding
	Expires   time.Time
	Err       error
	NotBefore time.Time
	// Started is when the call began that was made for this lookup; zero if none
	// was: an answer was at hand, or another lookup called.
	Started time.Time
	// Took is how long the call took; if there was none, how long the lookup
	// waited for its turn in vain.
	Took time.Duration
}

// Called reports whether a call was made for this lookup.
func (o *Outcome) Called() bool { return !o.Started.IsZero() }

// Late reports whether the lookup waited for its turn for so long in vain.
func (o *Outcome) Late(wait time.Duration) bool {
	return (o.Kind == Deferred || o.Kind == Waiting) && !o.Called() && o.Took >= wait
}

// Reused reports whether the lookup was answered without a call of its own.
func (o *Outcome) Reused() bool { return o.Kind == Answered && !o.Called() }

// Recent returns the answer about addr if one is at hand and fresh at now.
func (g *Gate) Recent(addr netip.Addr, now time.Time) (Outcome, bool) {
	return g.flights.recent(addr, now)
}

// Forget drops the answer about addr at hand if it was obtained by the given
// time.
func (g *Gate) Forget(addr netip.Addr, by time.Time) {
	g.flights.forget(addr, by)
}

// Learn puts answers at hand that were obtained elsewhere.
func (g *Gate) Learn(f *provider.Finding, expires time.Time) {
	g.flights.learn(f.Addr, Outcome{Kind: Answered, Finding: f, Expires: expires})
}

// Lookup asks the provider about addr, which it must apply to, or joins a
// lookup of addr that is under way. The end of ctx ends the waiting and, if this
// lookup is the one that calls, the call; one of those who waited for it then
// calls in its place. A patient lookup waits up to MaxWait for its turn, others
// only go if it is now.
//
// Lookup returns when the provider does, which for a provider that ignores its
// context may be never.
func (g *Gate) Lookup(ctx context.Context, deadlines Deadlines, addr netip.Addr, patient bool) *Outcome {
	for {
		now := time.Now()
		f, done, leader := g.flights.join(addr, now)
		if leader {
			g.lead(ctx, deadlines, now, addr, patient, f)
			return &f.out
		}
		if done != nil {
			select {
			case <-done:
			case <-ctx.Done():
				return &Outcome{Kind: Cut}
			}
		}
		if out := f.out; out.Kind != Cut { // landed: not written any more
			out.Started = time.Time{}
			return &out
		}
	}
}

// lead makes the lookup of a flight and lands it, even if the provider ends the
// goroutine.
func (g *Gate) lead(ctx context.Context, deadlines Deadlines, now time.Time, addr netip.Addr, patient bool, f *flight) {
	ended := true
	defer func() {
		if ended {
			f.out = Outcome{Kind: Failed, Err: g.fail(provider.ErrUnavailable, errEnded)}
		}
		g.flights.land(addr, f)
	}()
	if most := g.Together(); most > 1 {
		g.askTogether(ctx, deadlines, now, addr, most, &f.out)
	} else {
		g.ask(ctx, deadlines, now, addr, patient, nil, &f.out)
	}
	ended = false
}

// ask makes a lookup and writes down what became of it. If it is made for a batch, the
// call is about all addresses of that.
func (g *Gate) ask(ctx context.Context, deadlines Deadlines, now time.Time, addr netip.Addr, patient bool, b *batch, out *Outcome) {
	came, latest := now, now
	if patient {
		latest = now.Add(g.config.MaxWait)
	}
	p := g.breaker.pass(now, now.Add(g.overdue))
	if p.probing != nil && latest.After(now) {
		p, now = g.enter(ctx, now, latest, p)
	}
	if !p.granted {
		out.Kind, out.Took = Waiting, time.Since(came)
		if ctx.Err() != nil {
			*out = Outcome{Kind: Cut}
		}
		return
	}
	told, alone := noResult, false
	defer func() {
		opens := g.breaker.leave(now, p, told)
		if alone && !opens { // it was the one call that was allowed at a time
			opens = g.budget.State(context.WithoutCancel(ctx), now).Left > 0
		}
		if opens && g.config.Opened != nil {
			g.config.Opened()
		}
	}()
	if g.budget.State(ctx, now).Left == 0 {
		out.Kind = Waiting
		return
	}
	start, notBefore := g.admit(ctx, now, latest)
	if start.IsZero() {
		switch {
		case notBefore.IsZero():
			out.Kind = Cut
		case g.budget.State(ctx, now).Alone: // others are in line, too, and this one may not be next
			out.Kind, out.Took = Waiting, time.Since(came)
		default:
			out.Kind, out.NotBefore, out.Took = Deferred, notBefore, time.Since(came)
		}
		return
	}
	defer func() { <-g.slots }()
	if b != nil {
		g.batches.gather(ctx, b, g.Together(), latest)
		start = time.Now()
		if len(b.addrs) > 1 {
			addr = netip.Addr{} // a failure has nothing to do with any one of them
		}
	}
	now = start
	if ctx.Err() != nil {
		out.Kind = Cut
		return
	}
	by := start.Add(g.config.Timeout + g.config.Timeout/100)
	spent, err := g.budget.Spend(ctx, start, by, addr)
	switch {
	case err != nil && ctx.Err() != nil:
		out.Kind = Cut
		return
	case err != nil:
		g.trouble(err)
		out.Kind, out.NotBefore = Deferred, start.Add(ledgerRetry).UTC()
		return
	case !spent.NotBefore.IsZero():
		out.Kind, out.NotBefore = Deferred, spent.NotBefore.UTC()
		return
	case !spent.Granted:
		out.Kind = Waiting
		return
	}
	told, alone = failure, spent.Alone // failure, unless the provider returns
	finding, found, err := g.call(deadlines.Next(start), addr, b)
	now = time.Now()
	out.Started, out.Took = start, now.Sub(start)
	g.pace.observe(out.Took)
	call := quota.Call{Addr: addr, By: by, End: now}
	switch {
	case err == nil && b != nil:
		told = success
		g.end(ctx, call, quota.Report{Result: quota.Answered, Usage: g.share(b, found, now)})
		b.outs[0].Started, b.outs[0].Took = out.Started, out.Took
		*out = b.outs[0]
	case err == nil:
		told = success
		g.answer(finding, now, out)
		g.end(ctx, call, quota.Report{Result: quota.Answered, Usage: finding.Usage})
		finding.Usage = nil
	case ctx.Err() != nil:
		told = noResult
		out.Kind = Cut
		r := quota.Report{Result: quota.Cut}
		if provider.Unsent(err) {
			r.Result = quota.Unsent
		}
		g.end(ctx, call, r)
	default:
		told = g.fault(ctx, err, call, out)
	}
}

// ledgerRetry is how long a lookup is put off because the ledger fails.
const ledgerRetry = 30 * time.Second

// enter waits for the probe under way, until latest, and asks for permission to
// call again. It returns the time when the waiting was over.
func (g *Gate) enter(ctx context.Context, now, latest time.Time, p permit) (permit, time.Time) {
	if g.hoping.Add(1) > int32(cap(g.slots)) {
		g.hoping.Add(-1)
		return p, now
	}
	defer g.hoping.Add(-1)
	timer := time.NewTimer(latest.Sub(now))
	defer timer.Stop()
	for p.probing != nil {
		select {
		case <-p.probing:
			now = time.Now()
			p = g.breaker.pass(now, now.Add(g.overdue))
		case <-timer.C:
			return permit{}, now
		case <-ctx.Done():
			return permit{}, now
		}
	}
	return p, now
}

// answer enters an answer that came at now.
func (g *Gate) answer(f *provider.Finding, now time.Time, out *Outcome) {
	f.ObservedAt = observed(f.ObservedAt, now)
	out.Kind, out.Finding, out.Expires = Answered, f, now.Add(g.ttl(f)).UTC().Truncate(precision)
}

// observed returns the time of a finding, for which its provider gives at. A time that is
// missing or in the future becomes now. An earlier one than a store can hold becomes oldest.
func observed(at, now time.Time) time.Time {
	if at.IsZero() || at.After(now) {
		at = now
	}
	if at.Before(oldest) {
		at = oldest
	}
	return at.UTC().Truncate(precision)
}

// fault enters a failed call, and returns what it tells about the provider. A
// refusal for a limit is no failure of the lookup: it has to wait.
func (g *Gate) fault(ctx context.Context, err error, call quota.Call, out *Outcome) result {
	e, _ := errors.AsType[*provider.Error](err) // call returns no other
	r := quota.Report{Result: quota.Failed, Usage: e.Usage, Wait: e.RetryAfter}
	out.Kind, out.Err = Failed, err
	told := failure
	switch e.Kind {
	case provider.ErrUnsupported:
		r.Result, told = quota.Rejected, success
	case provider.ErrUnauthorized, provider.ErrConfig:
		out.Kind, told = Waiting, ban
		call.Addr = netip.Addr{} // which has nothing to do with it
	case provider.ErrRateLimited, provider.ErrQuotaExhausted:
		out.Kind, told = Waiting, refusal
		r.Result, r.Why = quota.Refused, quota.Limited
		if e.Kind == provider.ErrQuotaExhausted || e.RetryAfter > burstMax {
			r.Why = quota.Spent
		}
	case provider.ErrBadResponse:
		r.Result = quota.Bad
	}
	if e.Unsent {
		if r.Result = quota.Unsent; e.Kind == provider.ErrUnsupported {
			told = noResult
		}
	}
	pauses := g.end(ctx, call, r)
	if told == failure && !e.Unsent && g.Scarce() { // the budget counts it
		if told = noResult; pauses {
			told = refusal
		}
	}
	if out.Kind == Failed {
		out.NotBefore = g.budget.Excluded(call.Addr, call.End).UTC()
	}
	return told
}

// burstMax is the longest wait that is taken for one after a burst. Whoever asks for
// more means a quota.
const burstMax = 10 * time.Minute

// end settles a call, also if nobody waits for it any more: what was learnt is kept.
func (g *Gate) end(ctx context.Context, call quota.Call, r quota.Report) (pauses bool) {
	pauses, err := g.budget.End(ctx, call, r)
	if err != nil {
		g.trouble(err)
	}
	return pauses
}

func (g *Gate) trouble(err error) {
	if g.config.Trouble != nil {
		g.config.Trouble(err)
	}
}

// ttl returns how long the finding is to be fresh, shortened at random.
func (g *Gate) ttl(f *provider.Finding) time.Duration {
	ttl := max(g.config.TTL(*f), minTTL)
	return ttl - time.Duration(rand.Float64()*g.config.Jitter*float64(ttl))
}

// minTTL keeps a finding that claims to expire at once from being asked for
// over and over.
const minTTL = time.Second

// oldest is the earliest time of a finding, which every store can hold.
var oldest = time.Unix(0, 0)

// precision is that of times in every store, so that what is at hand and what
// is stored expire together.
const precision = time.Microsecond

// admit takes a slot, which is to be given back, waits for the provider's
// interval and returns when that was over. If there is no place until the
// deadline it returns no start but the time to come again, which is zero if ctx
// ended meanwhile.
func (g *Gate) admit(ctx context.Context, now, deadline time.Time) (start, notBefore time.Time) {
	select {
	case g.slots <- struct{}{}:
	default:
		timer := time.NewTimer(deadline.Sub(now))
		defer timer.Stop()
		select {
		case g.slots <- struct{}{}:
			now = time.Now()
		case <-timer.C:
			return time.Time{}, g.pace.later(deadline, deadline, cap(g.slots))
		case <-ctx.Done():
			return time.Time{}, time.Time{}
		}
	}
	delay, ok := g.pace.reserve(now, deadline)
	switch {
	case !ok:
		<-g.slots
		return time.Time{}, g.pace.later(now, deadline, cap(g.slots))
	case delay > 0:
		timer := time.NewTimer(delay)
		defer timer.Stop()
		select {
		case <-timer.C:
			now = time.Now()
		case <-ctx.Done():
			<-g.slots
			return time.Time{}, time.Time{}
		}
	}
	return now, time.Time{}
}

// call makes one lookup and returns a finding that is fit to be stored, or, of a
// batch, all findings as they came. Its error is as [OwnError] returns it. Nothing
// else sees what the provider returned.
func (g *Gate) call(ctx context.Context, addr netip.Addr, b *batch) (one *provider.Finding, all []provider.Finding, err error) {
	var f provider.Finding
	panicked := guard(func() {
		if b != nil {
			all, err = g.batcher.LookupBatch(ctx, b.addrs)
		} else {
			f, err = g.provider.Lookup(ctx, addr)
		}
	})
	if panicked != nil {
		return nil, nil, g.fail(provider.ErrUnavailable, panicked)
	}
	if err != nil {
		err = OwnError(g.name, err)
		if ctx.Err() != nil && provider.Kind(err) == provider.ErrUnavailable {
			err = &provider.Error{
				Provider: g.name, Kind: provider.ErrUnavailable, Unsent: provider.Unsent(err), Err: context.Cause(ctx),
			}
		}
		return nil, nil, err
	}
	if b != nil {
		return nil, all, nil
	}
	if err := g.fit(&f, addr); err != nil {
		return nil, nil, err
	}
	return &f, nil, nil
}

// fit makes a finding about addr fit to be stored, or returns why it is not.
func (g *Gate) fit(f *provider.Finding, addr netip.Addr) error {
	if f.Provider == "" {
		f.Provider = g.name
	}
	if !f.Addr.IsValid() {
		return g.fail(provider.ErrBadResponse, errors.New("the finding names no address"))
	}
	if f.Provider != g.name || provider.Canonical(f.Addr) != addr {
		return g.fail(provider.ErrBadResponse, fmt.Errorf("asked about %v, got a finding of %q about %v", addr, f.Provider, f.Addr))
	}
	f.Addr = addr
	if len(f.Raw) > provider.MaxRaw {
		if raw := provider.CapRaw(f.Raw); raw != nil {
			f.Raw = raw
		}
	}
	if err := f.Validate(); err != nil {
		return g.fail(provider.ErrBadResponse, err)
	}
	return nil
}

func (g *Gate) fail(kind, err error) error {
	return &provider.Error{Provider: g.name, Kind: kind, Err: err}
}
