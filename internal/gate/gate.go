// Package gate stands between the worker and each provider. It decides whether
// a lookup may be made now, makes it safely, and shares its answer.
package gate

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"runtime/debug"
	"time"

	"github.com/decnet/enrich/provider"
)

// Config says how a gate behaves. All durations must be positive.
type Config struct {
	Guard       provider.Guard
	TTL         time.Duration // of findings that bring none of their own
	Jitter      float64       // fraction of a TTL by which it is shortened at random
	MaxWait     time.Duration // for a slot or for the provider's interval
	MaxInFlight int           // if the provider does not limit itself
}

// Gate guards one provider. Its methods are safe for concurrent use.
//
// A lookup passes these steps in order:
//
//  1. Applies: the address guard and the provider's coverage.
//  2. Recent and flights: an answer at hand is reused, a lookup under way joined.
//  3. admit: whether, and after which wait, the provider may be called.
//  4. call: the call itself, under its deadline, with panics caught.
type Gate struct {
	provider provider.Provider
	limits   provider.Limits
	config   Config
	name     string
	flights  flights
	slots    chan struct{}
	pace     pace
}

// New returns a gate in front of p.
func New(p provider.Provider, c Config) *Gate {
	g := &Gate{provider: p, config: c, name: p.Name()}
	if l, ok := provider.As[provider.Limited](p); ok {
		g.limits = l.Limits()
	}
	if g.limits.MaxInFlight <= 0 {
		g.limits.MaxInFlight = c.MaxInFlight
	}
	g.slots = make(chan struct{}, g.limits.MaxInFlight)
	g.pace.interval = g.limits.MinInterval
	return g
}

// Name returns the provider's name.
func (g *Gate) Name() string { return g.name }

// Provider returns the provider behind the gate.
func (g *Gate) Provider() provider.Provider { return g.provider }

// Applies reports whether the provider may be asked about addr at all.
func (g *Gate) Applies(addr netip.Addr) bool {
	switch {
	case !addr.IsValid(), g.limits.IPv4Only && !addr.Is4():
		return false
	case g.limits.Private:
		return true
	}
	return g.config.Guard.Allows(addr)
}

// Outcome is what became of a lookup. Exactly one of Finding, Err, NotBefore
// and Cut tells: it was answered, it failed, it was not made and may be made at
// that time, or it was cut off by its context, which is no failure.
type Outcome struct {
	Finding   *provider.Finding
	Expires   time.Time // of Finding
	Reused    bool      // Finding was at hand, no call was made for this lookup
	Err       error
	NotBefore time.Time
	Cut       bool
	Took      time.Duration // from the start of the call to its end
}

// Recent returns the answer about addr if one is at hand and fresh at now.
func (g *Gate) Recent(addr netip.Addr, now time.Time) (Outcome, bool) {
	return g.flights.recent(addr, now)
}

// Learn puts answers at hand that were obtained elsewhere.
func (g *Gate) Learn(f *provider.Finding, expires time.Time) {
	g.flights.learn(f.Addr, Outcome{Finding: f, Expires: expires})
}

// Lookup asks the provider about addr, which it must apply to, or joins a
// lookup of addr that is under way. The end of ctx ends the waiting and, if this
// lookup is the one that calls, the call; one of those who waited for it then
// calls in its place. A patient lookup waits up to MaxWait for its turn, others
// only go if it is now. The deadlines must not outlive ctx.
//
// Lookup returns when the provider does, which for a provider that ignores its
// context may be never.
func (g *Gate) Lookup(ctx context.Context, deadlines *Deadlines, addr netip.Addr, patient bool) *Outcome {
	for {
		now := time.Now()
		f, done, leader := g.flights.join(addr, now)
		if leader {
			g.ask(ctx, deadlines, now, addr, patient, &f.out)
			g.flights.land(addr, f)
			return &f.out
		}
		if done != nil {
			select {
			case <-done:
			case <-ctx.Done():
				return &Outcome{Cut: true}
			}
		}
		if out := f.out; !out.Cut { // landed: not written any more
			out.Reused = out.Finding != nil
			return &out
		}
	}
}

// ask makes a lookup and writes down what became of it.
func (g *Gate) ask(ctx context.Context, deadlines *Deadlines, now time.Time, addr netip.Addr, patient bool, out *Outcome) {
	start, notBefore := g.admit(ctx, now, patient)
	if start.IsZero() {
		out.NotBefore, out.Cut = notBefore, notBefore.IsZero()
		return
	}
	defer func() { <-g.slots }()
	if ctx.Err() != nil {
		out.Cut = true
		return
	}
	finding, err := g.call(deadlines.Next(start), addr)
	now = time.Now()
	out.Took = now.Sub(start)
	g.pace.observe(out.Took)
	switch {
	case err == nil:
		if finding.ObservedAt.IsZero() || finding.ObservedAt.After(now) {
			finding.ObservedAt = now
		}
		finding.ObservedAt = finding.ObservedAt.UTC().Truncate(precision)
		out.Finding, out.Expires = finding, now.Add(g.ttl(finding)).UTC().Truncate(precision)
	case ctx.Err() != nil:
		out.Cut = true
	default:
		out.Err = err
	}
}

// ttl returns how long the finding is to be fresh, shortened at random.
func (g *Gate) ttl(f *provider.Finding) time.Duration {
	ttl := f.TTL
	if ttl == 0 {
		ttl = g.config.TTL
	}
	ttl = max(ttl, minTTL)
	return ttl - time.Duration(rand.Float64()*g.config.Jitter*float64(ttl))
}

// minTTL keeps a finding that claims to expire at once from being asked for
// over and over.
const minTTL = time.Second

// precision is that of times in every store, so that what is at hand and what
// is stored expire together.
const precision = time.Microsecond

// admit takes a slot, which is to be given back, waits for the provider's
// interval and returns when that was over. If there is no place it returns no
// start but the time to come again, which is zero if ctx ended meanwhile.
func (g *Gate) admit(ctx context.Context, now time.Time, patient bool) (start, notBefore time.Time) {
	deadline := now
	if patient {
		deadline = now.Add(g.config.MaxWait)
	}
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

// call makes one lookup and returns a finding that is fit to be stored.
func (g *Gate) call(ctx context.Context, addr netip.Addr) (f *provider.Finding, err error) {
	defer func() {
		if v := recover(); v != nil {
			f, err = nil, g.fail(provider.ErrUnavailable, &PanicError{Value: v, Stack: debug.Stack()})
		}
	}()
	finding, err := g.provider.Lookup(ctx, addr)
	switch {
	case err == nil:
	case errors.Is(context.Cause(ctx), errDeadline) && provider.Kind(err) == provider.ErrUnavailable:
		return nil, g.fail(provider.ErrUnavailable, context.Cause(ctx))
	default:
		if _, ok := errors.AsType[*provider.Error](err); ok {
			return nil, err
		}
		return nil, g.fail(provider.Kind(err), err)
	}
	if finding.Provider == "" {
		finding.Provider = g.name
	}
	if finding.Provider != g.name || provider.Normalize(finding.Addr) != addr {
		return nil, g.fail(provider.ErrBadResponse, fmt.Errorf("asked about %v, got a finding of %q about %v", addr, finding.Provider, finding.Addr))
	}
	finding.Addr = addr
	if len(finding.Raw) > provider.MaxRaw {
		if raw := provider.CapRaw(finding.Raw); raw != nil {
			finding.Raw = raw
		}
	}
	if err := finding.Validate(); err != nil {
		return nil, g.fail(provider.ErrBadResponse, err)
	}
	return &finding, nil
}

func (g *Gate) fail(kind, err error) error {
	return &provider.Error{Provider: g.name, Kind: kind, Err: err}
}

// PanicError is a panic of a provider, turned into an error.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the panic's value as text.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }
