package intel

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// lane is a provider's gate, and what the worker has learnt about it.
type lane struct {
	*gate.Gate
	pace atomic.Int32 // a speed

	// backlog says that attackers may be waiting for the provider: then those
	// that a claim grants go first.
	backlog atomic.Bool
	// granted is how many of them were handed out and not asked about yet.
	granted atomic.Int64
	// fair is how many of the calls granted so far are owed to those that have
	// been waiting longest. Only the loop uses it.
	fair float64

	calls, answered, reused, deferred atomic.Uint64
	errors                            [len(kinds)]atomic.Uint64
	failing                           atomic.Bool // its last call failed
	ledgerFails                       atomic.Bool
}

// speed is how fast a provider was seen to be.
type speed int32

const (
	unproven speed = iota // has not answered yet: rows do not wait for it
	prompted              // has answered within Patience: rows wait for it
	slow                  // has not, lately: rows do not wait for it, nor it for its turn
)

func (g *lane) speed() speed { return speed(g.pace.Load()) }

// clock takes note of how fast the provider was. What all lookups share is
// better read than written.
func (g *lane) clock(s speed) {
	if g.speed() != s {
		g.pace.Store(int32(s))
	}
}

// available returns how many of those that wait for the provider may be handed
// out at now; if none, when there may be some, which is zero if only the end of
// a call can tell.
func (g *lane) available(ctx context.Context, now time.Time) (calls int, until time.Time) {
	st := g.Status(ctx, now)
	if st.Calls == 0 {
		return 0, st.Until
	}
	return max(st.Calls-int(g.granted.Load()), 0), time.Time{}
}

// kinds are the kinds of failure that are counted.
var kinds = [...]error{
	provider.ErrRateLimited, provider.ErrQuotaExhausted, provider.ErrUnauthorized, provider.ErrConfig,
	provider.ErrBadResponse, provider.ErrUnsupported, provider.ErrUnavailable,
}

// fails counts a failure.
func (g *lane) fails(err error) {
	kind := provider.Kind(err)
	for i := range kinds {
		if kinds[i] == kind {
			g.errors[i].Add(1)
		}
	}
}

// grants returns what a claim at now may hand out of those that wait.
func (w *Worker) grants(ctx context.Context, now time.Time) map[string]store.Grant {
	var grants map[string]store.Grant
	for _, g := range w.gates {
		if !g.backlog.Load() {
			continue
		}
		if n, _ := g.available(ctx, now); n > 0 {
			if grants == nil {
				grants = make(map[string]store.Grant, len(w.gates))
			}
			n = min(n, w.config.Batch)
			grants[g.Name()] = store.Grant{Calls: n, Oldest: int(g.fair + w.config.Spending.Fair*float64(n))}
		}
	}
	return grants
}

// count takes note of what a claim handed out, and reports whether there may be
// more of it.
func (w *Worker) count(grants map[string]store.Grant, c *store.Claimed) (more bool) {
	used := make(map[string]int, len(grants))
	for i := range c.Records {
		for _, name := range c.Records[i].Granted {
			used[name]++
		}
	}
	for name, grant := range grants {
		g := w.lane(name)
		g.granted.Add(int64(used[name]))
		g.fair += w.config.Spending.Fair*float64(used[name]) - float64(min(grant.Oldest, used[name]))
		switch {
		case used[name] >= grant.Calls:
			more = true
		case len(c.Records) < w.config.Batch:
			g.backlog.Store(false)
		}
	}
	return more
}

// asked takes note that a granted attacker was asked about, or not after all.
func (w *Worker) asked(g *lane) {
	if g.granted.Add(-1) == 0 && g.backlog.Load() {
		w.Wake() // for the next of those that wait
	}
}

// waits takes note that an attacker was saved that waits for some of the
// providers, and sees to it that those are handed out that can be.
func (w *Worker) waits(entries []store.Entry) {
	for i := range entries {
		if entries[i].State != store.Waiting {
			continue
		}
		if g := w.lane(entries[i].Provider); g != nil {
			g.backlog.Store(true)
			if n, _ := g.available(context.Background(), time.Now()); n > 0 {
				w.Wake()
			}
		}
	}
}

// nextGrant returns when attackers that wait may be handed out next, and zero
// if that is not known.
func (w *Worker) nextGrant(ctx context.Context, now time.Time) (next time.Time) {
	for _, g := range w.gates {
		if !g.backlog.Load() {
			continue
		}
		if n, until := g.available(ctx, now); n == 0 && !until.IsZero() && (next.IsZero() || until.Before(next)) {
			next = until
		}
	}
	return next
}
