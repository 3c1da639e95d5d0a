package quota

import (
	"context"
	"fmt"
	"net/netip"
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
	name    string
	ledger  Ledger        // nil if there is none
	account func() string // the present account; nil if the provider has none
	spaced  func() bool   // see Config; nil for never

	mu      sync.Mutex
	budget  *Budget
	quotas  bool
	version uint64    // of the ledger's document that budget is
	read    time.Time // when that was last compared with the ledger, by the wall clock; zero if not yet
}

// Config says what a governor governs.
type Config struct {
	Name    string          // of the provider
	Limits  provider.Limits // must be valid
	Account func() string   // see provider.Accounted; nil if the provider has no accounts
	Spaced  func() bool     // whether calls are spread evenly over each window at present; nil for never
	Longest time.Duration   // the longest time between Spend and the end of a call
	Ledger  Ledger          // nil if there is none
}

// NewGovernor returns the governor of a provider's quotas.
func NewGovernor(c Config) *Governor {
	g := &Governor{
		name: c.Name, ledger: c.Ledger, account: c.Account, spaced: c.Spaced,
		budget: NewBudget(c.Limits, c.Longest), quotas: len(c.Limits.Quotas) > 0,
	}
	if g.account != nil {
		g.budget.key = accountKey(g.account())
	}
	return g
}

// accountKey returns what a document has as the key of an account.
func accountKey(account string) string {
	if account == "" {
		return "none"
	}
	return account
}

// Scarce reports whether there are quotas at all.
func (g *Governor) Scarce() bool { return g.quotas }

// Slots returns how many calls may be under way at a time; zero without quotas.
func (g *Governor) Slots() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.budget.Slots()
}

// Permit is an answer to [Governor.Spend]. The zero Permit means that no call may be
// made now.
type Permit struct {
	Granted bool
	// NotBefore is when the address may be looked up if it may not now; zero unless it
	// is the address that is refused.
	NotBefore time.Time
	// Alone says that no other call is allowed before this one has ended.
	Alone bool
}

// Spend counts a call about addr that is about to be made and that ends until by at
// the latest, if it may be made now. It is shared with all who use the ledger. If it
// returns an error no call may be made. [Governor.End] must follow a call that is
// granted.
func (g *Governor) Spend(ctx context.Context, now, by time.Time, addr netip.Addr) (p Permit, err error) {
	account := "" // it is computed outside the lock, as it is the provider's code
	if g.account != nil {
		account = accountKey(g.account())
	}
	spaced := g.spaced != nil && g.spaced()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.budget.spaced = spaced
	if account != g.budget.key {
		g.budget.use(account)
	}
	if !g.quotas {
		if err := g.refresh(ctx, now, staleAfter); err != nil {
			return Permit{}, err
		}
		return Permit{Granted: g.budget.Spend(now, by), Alone: g.budget.Alone()}, nil
	}
	grant := func(b *Budget) bool {
		p = Permit{NotBefore: b.Excluded(addr, now)}
		if p.NotBefore.IsZero() && b.Busy(now).IsZero() && b.Spend(now, by) {
			b.Begin(by)
			p.Granted, p.Alone = true, b.Alone()
		}
		return p.Granted
	}
	err = g.change(ctx, now, grant)
	if err == nil && g.ledger != nil && !p.Granted && !g.budget.Busy(now).IsZero() { // the call may have ended
		if err = g.load(ctx, now); err == nil {
			err = g.change(ctx, now, grant)
		}
	}
	if err != nil {
		return Permit{}, err
	}
	return p, nil
}

// Call is a call that was granted.
type Call struct {
	Addr netip.Addr
	By   time.Time // as given to Spend
	End  time.Time
}

// Result is what became of a call.
type Result uint8

// The results.
const (
	Cut      Result = iota // nobody waited for its end, and it tells nothing
	Unsent                 // it certainly did not reach the source
	Answered               // the source answered
	Rejected               // the source answered that it does not look up the address
	Failed                 // the source failed
	Bad                    // the source answered, but not as it should: the address may be to blame
	Refused                // the source refused it because of a limit
)

// Report is the result of a call and what the source said.
type Report struct {
	Result Result
	Usage  *provider.Usage // nil if it said nothing about its allowance
	Why    Reason          // of Refused: Limited or Spent
	Wait   time.Duration   // of Refused: how long the source asked to be left alone; zero if it did not
}

// End settles a call. It reports whether the provider is left alone because of it.
// What it enters is in force here even if the ledger fails. The end of ctx does not
// keep it from being stored.
func (g *Governor) End(ctx context.Context, call Call, r Report) (pauses bool, err error) {
	if !g.quotas && r.Result != Refused && r.Result != Answered {
		return false, nil
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	entered := false
	enter := func(b *Budget) (changed bool) {
		entered, pauses = true, false
		if r.Result == Unsent {
			b.Refund(call.By)
			return b.caution.end() || len(b.windows) > 0
		}
		changed = b.Settle(call.By, call.End)
		if b.caution.end() {
			changed = true
		}
		usage := r.Usage
		if usage == nil {
			usage = &provider.Usage{}
		}
		if r.Result != Refused && b.Correct(call.End, *usage) {
			changed = true
		}
		switch r.Result {
		case Answered, Rejected:
			return b.Works(call.End, call.Addr) || changed
		case Failed, Bad:
			pauses = b.Fail(call.End, call.Addr, r.Result == Failed)
			return true
		case Refused:
			pauses = true
			b.Refuse(call.End, r.Why, *usage, r.Wait)
			return true
		}
		return changed
	}
	if g.ledger != nil {
		ctx = context.WithoutCancel(ctx)
	}
	if err = g.change(ctx, call.End, enter); err != nil && !entered {
		enter(g.budget)
	}
	return pauses, err
}

// Failed reports whether the last lookups of addr have cost calls without an answer,
// as far as this process knows.
func (g *Governor) Failed(addr netip.Addr) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.budget.Failed(addr)
}

// Excluded is [Budget.Excluded].
func (g *Governor) Excluded(addr netip.Addr, now time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.budget.Excluded(addr, now)
}

// State is what can be seen of a budget.
type State struct {
	Left  int       // calls allowed now, if none is under way that must end first
	Next  time.Time // if none: when there may be some
	Why   Reason    // if none
	Busy  time.Time // until when at the latest such a call is under way; zero if none is
	Alone bool      // one call at a time is allowed
	Idle  bool      // more than half of every quota is left
}

// Spare is [Budget.Spare], as far as this process knows.
func (g *Governor) Spare(now time.Time) time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.budget.Spare(now)
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
	spaced := g.spaced != nil && g.spaced()
	g.mu.Lock()
	defer g.mu.Unlock()
	g.budget.spaced = spaced
	_ = g.refresh(ctx, now, staleAfter) // then what is known has to do; a call will tell
	var s State
	s.Left, s.Next, s.Why = g.budget.Left(now)
	s.Busy, s.Alone, s.Idle = g.budget.Busy(now), g.budget.Alone(), g.budget.Idle(now)
	return s
}

// Refresh reads what others have spent, unless it was read at now.
func (g *Governor) Refresh(ctx context.Context, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.refresh(ctx, now, 1)
}

// Windows returns the state of every quota at now, as far as this process knows
// it. Nothing is left of a quota that the source says is spent.
func (g *Governor) Windows(now time.Time) []Window {
	g.mu.Lock()
	defer g.mu.Unlock()
	b := g.budget
	spent := b.paused(now) && b.why == Spent
	var all []Window
	for i := range b.windows {
		w := &b.windows[i]
		state := Window{Quota: w.Quota, Left: w.left(now)}
		if len(w.buckets) > 0 {
			state.Reset = w.end(w.buckets[0].index).Add(w.Window)
			if w.Calendar {
				state.Reset = w.End(now)
			}
		}
		if spent {
			state.Left, state.Reset = 0, b.until
		}
		all = append(all, state)
	}
	return all
}

// change applies f to the budget, and to the ledger's if f reports a change.
func (g *Governor) change(ctx context.Context, now time.Time, f func(b *Budget) bool) error {
	if g.ledger == nil {
		g.budget.trust(now)
		f(g.budget)
		return nil
	}
	if g.read.IsZero() {
		if err := g.load(ctx, now); err != nil {
			return err
		}
	}
	for {
		corrected := g.budget.trust(now)
		if !f(g.budget) && !corrected {
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
		g.version, g.read = g.version+1, now.Round(0)
	}
	return swapped, nil
}

// refresh compares the budget with the ledger's if that was not done lately.
func (g *Governor) refresh(ctx context.Context, now time.Time, stale time.Duration) error {
	if g.ledger == nil {
		g.budget.trust(now)
		return nil
	}
	if age := now.Sub(g.read); !g.read.IsZero() && age < stale && age > -stale {
		return nil
	}
	return g.load(ctx, now)
}

// load replaces the budget by the ledger's, but for a pause that the ledger was
// not told because it failed. An unchanged document is not decoded again, unless the
// clock was set back: the document has the calls that a clock ahead of time has
// forgotten. What a clock that was wrong has left in the ledger is corrected there. A
// damaged document is replaced by one that says that everything was spent just now.
func (g *Governor) load(ctx context.Context, now time.Time) error {
	b := g.budget
	until, why := b.until, b.why
	doc, version, err := g.ledger.Budget(ctx, g.name)
	if err == nil && version == g.version && !g.read.IsZero() && !now.Before(g.read) { // budget is what doc says
		g.read = now.Round(0)
		return nil
	}
	if err == nil {
		g.version, g.read = version, now.Round(0)
		err = b.decode(doc)
	}
	if err != nil && err != errDamaged {
		g.read = time.Time{}
		return fmt.Errorf("read the budget of %s: %w", g.name, err)
	}
	if until.After(b.until) {
		b.until, b.why = until, why
	}
	damaged := err != nil
	if corrected := b.trust(now); !damaged && !corrected {
		return nil
	}
	if damaged {
		for i := range b.windows {
			w := &b.windows[i]
			w.add(now, w.left(now))
		}
	}
	if swapped, err := g.swap(ctx, now); swapped || err != nil {
		return err
	}
	return g.load(ctx, now)
}
