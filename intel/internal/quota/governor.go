package quota

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
)

// Ledger is where budgets outlive the process and are shared, as
// store.QuotaLedger describes it.
type Ledger interface {
	Budget(ctx context.Context, provider string) (doc []byte, version uint64, err error)
	SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error)
}

// staleAfter is how long what others have spent may go unnoticed where it does
// not matter for a call.
const staleAfter = time.Minute

// Governor is a budget to be spent from many goroutines, and through a ledger
// from many processes. Its methods are safe for concurrent use.
type Governor struct {
	name   string
	ledger Ledger // nil if there is none

	mu      sync.Mutex
	budget  *Budget
	quotas  bool
	version uint64    // of the ledger's document that budget is
	read    time.Time // when that was last compared with the ledger; zero if not yet
}

// NewGovernor returns the governor of the quotas in l, those of the named
// provider. The ledger may be nil.
func NewGovernor(name string, l provider.Limits, ledger Ledger) *Governor {
	return &Governor{name: name, ledger: ledger, budget: NewBudget(l), quotas: len(l.Quotas) > 0}
}

// Scarce reports whether there are quotas at all.
func (g *Governor) Scarce() bool { return g.quotas }

// Spend is [Budget.Spend], shared with all who use the ledger. If it returns an
// error no call may be made.
func (g *Governor) Spend(ctx context.Context, now, by time.Time) (ok bool, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.quotas {
		if err := g.refresh(ctx, now); err != nil {
			return false, err
		}
		return g.budget.Spend(now, by), nil
	}
	err = g.change(ctx, now, func(b *Budget) bool {
		ok = b.Spend(now, by)
		return ok
	})
	return ok && err == nil, err
}

// Settle is [Budget.Settle] and [Budget.Correct] with what the source said,
// which may be nil.
func (g *Governor) Settle(ctx context.Context, by, end time.Time, u *provider.Usage) error {
	if !g.quotas {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.change(ctx, end, func(b *Budget) bool {
		changed := b.Settle(by, end)
		if u != nil && b.Correct(end, *u) {
			changed = true
		}
		return changed
	})
}

// Refund is [Budget.Refund].
func (g *Governor) Refund(ctx context.Context, now, by time.Time) error {
	if !g.quotas {
		return nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.change(ctx, now, func(b *Budget) bool {
		b.Refund(by)
		return true
	})
}

// Exhaust is [Budget.Exhaust]; the usage may be nil.
func (g *Governor) Exhaust(ctx context.Context, now time.Time, u *provider.Usage, wait time.Duration) error {
	if u == nil {
		u = &provider.Usage{}
	}
	return g.leave(ctx, now, func(b *Budget) { b.Exhaust(now, *u, wait) })
}

// Rest is [Budget.Rest].
func (g *Governor) Rest(ctx context.Context, now, until time.Time, why Reason) error {
	return g.leave(ctx, now, func(b *Budget) { b.Rest(now, until, why) })
}

// leave makes a change that is in force here even if the ledger fails.
func (g *Governor) leave(ctx context.Context, now time.Time, change func(b *Budget)) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	err := g.change(ctx, now, func(b *Budget) bool {
		change(b)
		return true
	})
	if err != nil {
		change(g.budget)
	}
	return err
}

// State is what can be seen of a budget.
type State struct {
	Left int       // calls allowed now
	Next time.Time // if none: when there may be some
	Why  Reason    // if none
	Idle bool      // more than half of every quota is left
}

// Window is the state of one quota.
type Window struct {
	provider.Quota
	Left  int
	Reset time.Time // when Left may next grow; zero if nothing is spent
}

// State returns the state at now, without the windows, as far as this process
// knows it.
func (g *Governor) State(ctx context.Context, now time.Time) State {
	g.mu.Lock()
	defer g.mu.Unlock()
	_ = g.refresh(ctx, now) // then what is known has to do; a call will tell
	var s State
	s.Left, s.Next, s.Why = g.budget.Left(now)
	s.Idle = g.budget.Idle(now)
	return s
}

// Windows returns the state of every quota at now, as far as this process knows
// it.
func (g *Governor) Windows(now time.Time) []Window {
	g.mu.Lock()
	defer g.mu.Unlock()
	var all []Window
	for i := range g.budget.windows {
		w := &g.budget.windows[i]
		state := Window{Quota: w.Quota, Left: w.left(now)}
		if len(w.buckets) > 0 {
			state.Reset = w.end(w.buckets[0].index).Add(w.Window)
			if w.Calendar {
				state.Reset = w.End(now)
			}
		}
		all = append(all, state)
	}
	return all
}

// change applies f to the budget, and to the ledger's if f reports a change.
func (g *Governor) change(ctx context.Context, now time.Time, f func(b *Budget) bool) error {
	if g.ledger == nil {
		f(g.budget)
		return nil
	}
	if g.read.IsZero() {
		if err := g.load(ctx, now); err != nil {
			return err
		}
	}
	for {
		if !f(g.budget) {
			return nil
		}
		if swapped, err := g.swap(ctx, now); swapped || err != nil {
			return err
		}
		if err := g.load(ctx, now); err != nil {
			return err
		}
	}
}

// swap stores the budget unless the ledger's is no longer the one that it was
// read from.
func (g *Governor) swap(ctx context.Context, now time.Time) (swapped bool, err error) {
	swapped, err = g.ledger.SwapBudget(ctx, g.name, g.version, g.budget.encode())
	if err != nil {
		g.read = time.Time{} // it may have been stored or not
		return false, fmt.Errorf("store the budget of %s: %w", g.name, err)
	}
	if swapped {
		g.version, g.read = g.version+1, now
	}
	return swapped, nil
}

// refresh compares the budget with the ledger's if that was not done lately.
func (g *Governor) refresh(ctx context.Context, now time.Time) error {
	if g.ledger == nil || !g.read.IsZero() && now.Sub(g.read) < staleAfter {
		return nil
	}
	return g.load(ctx, now)
}

// load replaces the budget by the ledger's, but for a rest that the ledger was
// not told because it failed. A damaged document is replaced by one that says
// that everything was spent just now.
func (g *Governor) load(ctx context.Context, now time.Time) error {
	until, why := g.budget.until, g.budget.why
	doc, version, err := g.ledger.Budget(ctx, g.name)
	if err == nil {
		g.version, g.read = version, now
		err = g.budget.decode(doc)
	}
	if err != nil && err != errDamaged {
		g.read = time.Time{}
		return fmt.Errorf("read the budget of %s: %w", g.name, err)
	}
	if until.After(g.budget.until) {
		g.budget.until, g.budget.why = until, why
	}
	if err == nil {
		return nil
	}
	for i := range g.budget.windows {
		w := &g.budget.windows[i]
		w.add(now, w.left(now))
	}
	if swapped, err := g.swap(ctx, now); swapped || err != nil {
		return err
	}
	return g.load(ctx, now)
}
