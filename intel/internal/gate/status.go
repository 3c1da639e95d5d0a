package gate

import (
	"context"
	"math"
	"net/netip"
	"time"

	"github.com/decnet/enrich/intel/internal/quota"
)

// State is how a provider is doing.
type State string

// The states.
const (
	Unproven  State = "unproven"        // not asked yet, or not since it was left alone: the next call is a probe
	Probing   State = "probing"         // the probe is under way
	Working   State = "working"         // it answers
	Failing   State = "failing"         // left alone because it failed repeatedly
	Banned    State = "unauthorized"    // left alone because it refuses our key or configuration
	Limited   State = "rate limited"    // left alone because it was asked too fast
	Exhausted State = "quota exhausted" // left alone until there is quota again
	Gathering State = "gathering"       // it works, and addresses gather for its next call
)

// Status is a gate's state at one moment.
type Status struct {
	State State
	// Calls is how many lookups are worth sending now: addresses, where one call is about
	// many.
	Calls int
	// Until is when that may change if Calls is zero; zero if it is not known.
	Until time.Time
	// Idle says that the provider can be asked beyond need: it works, and more
	// than half of every quota is left.
	Idle bool
}

// Status returns the state at now.
func (g *Gate) Status(ctx context.Context, now time.Time) Status {
	state, until := g.breaker.state(now)
	budget := g.budget.State(ctx, now)
	s := Status{State: state, Until: until, Calls: budget.Left, Idle: state == Working && budget.Idle}
	switch state {
	case Failing, Banned, Probing:
		s.Calls = 0
		return s
	case Unproven:
		s.Calls = min(s.Calls, 1)
	}
	switch {
	case budget.Left == 0:
		s.State, s.Until = Exhausted, budget.Next
		switch budget.Why {
		case quota.Spaced:
			s.State = Gathering
		case quota.Limited:
			s.State = Limited
		case quota.Failing:
			s.State = Failing
		}
	case !budget.Busy.IsZero():
		s.Calls, s.Until = 0, budget.Busy
	case budget.Alone:
		s.Calls = min(s.Calls, 1)
	}
	if most := g.Together(); most > 1 && s.Calls > 0 {
		s.Calls = max(s.Calls, most)
	}
	return s
}

// Unlimited is the number of calls of a provider without quotas.
const Unlimited = math.MaxInt

// Failed reports whether the last lookups of addr have cost calls of a quota without
// an answer.
func (g *Gate) Failed(addr netip.Addr) bool { return g.budget.Failed(addr) }

// Scarce reports whether the provider has quotas.
func (g *Gate) Scarce() bool { return g.budget.Scarce() }

// Spare returns when more than half of every quota will be left if no call is made
// until then.
func (g *Gate) Spare(now time.Time) time.Time { return g.budget.Spare(now) }

// ReadBudget reads what other workers have spent.
func (g *Gate) ReadBudget(ctx context.Context, now time.Time) error {
	return g.budget.Refresh(ctx, now)
}

// Windows returns the state of the provider's quotas at now.
func (g *Gate) Windows(now time.Time) []quota.Window { return g.budget.Windows(now) }
