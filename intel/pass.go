package intel

import (
	"context"
	"errors"
	"runtime"
	"runtime/debug"
	"slices"
	"sync"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// pass is one round of work on one claimed attacker.
type pass struct {
	w       *Worker
	ledger  *ledger
	verdict provider.Verdict // as last saved
	started time.Time
	fan     fan
	cut     bool     // some lookup was cut off
	granted []string // providers whose grant is not used up
	skipped []*lane  // spared because their word could change nothing
}

// shift is what passes made together have in common.
type shift struct {
	crew     crew       // makes the lookups
	lookup   *deadlines // for one lookup
	patience *deadlines // for all lookups of one attacker
}

// newShift returns a shift whose crew is to be dismissed.
func (w *Worker) newShift(ctx context.Context) *shift {
	return &shift{
		crew:     newCrew(),
		lookup:   newDeadlines(ctx, w.config.LookupTimeout),
		patience: newDeadlines(ctx, w.config.Patience),
	}
}

func (w *Worker) newPass(r store.Record) *pass {
	return &pass{w: w, ledger: openLedger(r, len(w.gates)), verdict: r.Decision.Verdict, started: time.Now(), granted: r.Granted}
}

// begin takes the answers at hand and asks all other providers that are due.
// With force, those too that are not.
func (p *pass) begin(ctx context.Context, s *shift, force bool) {
	w, addr := p.w, p.ledger.addr
	p.fan.lookups = make([]lookup, 0, len(w.gates))
	for _, g := range w.gates {
		early := func(e *store.Entry) bool {
			return w.config.early(p.ledger, e, p.started, func() gate.Status { return g.Status(ctx, p.started) })
		}
		if !p.ledger.wants(g, p.started, force, early) {
			continue
		}
		if out, ok := g.Recent(addr, p.started); ok {
			if p.newer(g, &out) {
				p.take(g, &out)
				continue
			}
			g.Forget(addr, out.Finding.ObservedAt)
		}
		if !force && p.skip(g) {
			continue
		}
		p.fan.lookups = append(p.fan.lookups, lookup{lane: g})
	}
	p.fan.start(ctx, s, addr)
}

// newer reports whether an answer at hand is not the one that the ledger has.
func (p *pass) newer(g *lane, out *gate.Outcome) bool {
	e := p.ledger.record.Entry(g.Name())
	return e == nil || e.Finding == nil || out.Finding.ObservedAt.After(e.Finding.ObservedAt)
}

// skip spares a call that cannot change the verdict, if that is wanted, and
// makes its entry due when the verdict may change by itself.
func (p *pass) skip(g *lane) bool {
	c, l := &p.w.config, p.ledger
	if !c.Spending.SkipDecided || !g.Scarce() {
		return false
	}
	if !p.w.settled(l, g.Name(), p.started) {
		return false
	}
	due := p.started.Add(c.TTL)
	for _, e := range l.record.Entries {
		if e.State == store.Fresh && e.Expires.After(p.started) && e.Expires.Before(due) {
			due = e.Expires
		}
	}
	g.deferred.Add(1)
	l.putOff(g.Name(), due)
	p.skipped = append(p.skipped, g)
	return true
}

// recheck makes providers that were spared due after all if their word counts
// now.
func (p *pass) recheck(now time.Time) {
	for _, g := range p.skipped {
		if !p.w.settled(p.ledger, g.Name(), now) {
			p.ledger.putOff(g.Name(), now)
		}
	}
}

// take enters the outcome of a lookup into the ledger.
func (p *pass) take(g *lane, out *gate.Outcome) {
	p.unclaim(g)
	if out.Kind == gate.Cut {
		p.cut = true
		return
	}
	switch {
	case out.Called() && out.Took > p.w.config.Patience, out.Late(p.w.config.MaxWait):
		g.clock(slow)
	case out.Called():
		g.clock(prompted)
	}
	p.ledger.settle(g.Name(), out, p.w.retry)
	p.w.observe(p.ledger, g, out)
}

// unclaim gives back the provider's grant, if the pass has one.
func (p *pass) unclaim(g *lane) {
	if i := slices.Index(p.granted, g.Name()); i >= 0 {
		p.granted = slices.Concat(p.granted[:i], p.granted[i+1:])
		p.w.asked(g)
	}
}

// end gives back the grants that came to nothing.
func (p *pass) end() {
	for len(p.granted) > 0 {
		p.unclaim(p.w.lane(p.granted[0]))
	}
}

// wait takes outcomes until all providers that are prompt have answered and
// there is something to save, or until the patience is exhausted.
func (p *pass) wait(ctx context.Context, s *shift) {
	patience := s.patience.Next(p.started).Done()
	for {
		p.fan.each(p.take)
		if p.fan.left == 0 || p.fan.prompt.Load() == 0 && (len(p.ledger.answered) > 0 || !p.fan.hopeful) {
			return
		}
		select {
		case <-p.fan.arrived:
			if p.fan.hopeful { // those that return together are saved together
				runtime.Gosched()
			}
		case <-patience:
			p.fan.each(p.take)
			if ctx.Err() == nil {
				p.tooSlow()
			}
			return
		}
	}
}

// finish takes the remaining outcomes, and calls progress when there is
// something to save while others are still to come. A provider that does not
// even return after its deadline has failed.
func (p *pass) finish(ctx context.Context, s *shift, progress func()) {
	timeout := p.w.config.LookupTimeout
	deadline := time.NewTimer(p.w.config.MaxWait + timeout + timeout/100 + overrun - time.Since(p.started))
	defer deadline.Stop()
	patience := s.patience.Next(p.started).Done()
	for p.fan.left > 0 {
		select {
		case <-p.fan.arrived:
			runtime.Gosched() // those that return together are saved together
			p.fan.each(p.take)
			if p.fan.left > 0 && len(p.ledger.answered) > 0 {
				progress()
			}
		case <-patience:
			patience = nil
			if ctx.Err() == nil {
				p.tooSlow()
			}
		case <-ctx.Done():
			p.fan.each(p.take)
			p.cut = p.cut || p.fan.left > 0
			return
		case <-deadline.C:
			p.fan.each(p.take)
			for _, g := range p.fan.rest() {
				err := &provider.Error{Provider: g.Name(), Kind: provider.ErrUnavailable, Err: errOverrun}
				p.take(g, &gate.Outcome{Kind: gate.Failed, Err: err, Started: p.started, Took: time.Since(p.started)})
			}
			return
		}
	}
}

// tooSlow takes note of the providers that have exhausted the patience.
func (p *pass) tooSlow() {
	for _, g := range p.fan.rest() {
		g.clock(slow)
	}
}

// overrun is how long after its deadline a lookup is given up for good.
const overrun = time.Second

var errOverrun = errors.New("the lookup ignores its deadline")

// update returns what the pass has to save now. Without hold it is the last
// update of the pass and ends the lease.
func (p *pass) update(hold bool) *job {
	w, l, now := p.w, p.ledger, time.Now().UTC()
	r := &l.record
	learnt := len(l.answered) > 0
	if learnt && len(p.skipped) > 0 {
		p.recheck(now)
	}
	pending, changed := l.pending(w.names, now), false
	u := store.Update{
		Lease:   store.Lease{ID: r.ID, Fence: r.Fence},
		IP:      r.IP,
		Changed: l.changed,
		Hold:    hold,
		Due:     l.next(w.names, now),
	}
	if !hold {
		u.Ahead = w.config.sightingsFrom(l, w.names, now)
	}
	if learnt {
		r.Revision++
		r.CachedAt, u.SavedAt = now, now
	}
	news := learnt || len(l.changed) > 0 && r.Revision > 0
	if news || r.Revision > 0 && l.outlived(w.names, now, w.config.MaxStale) {
		decision := w.decide(l, now)
		if news || !alike(&r.Decision, &decision) {
			r.Decision, u.Decision = decision, &decision
			changed = decision.Verdict != p.verdict
			p.verdict = decision.Verdict
		}
	}
	for i := range r.Entries {
		if e := &r.Entries[i]; e.State == store.Waiting {
			e.Rank = w.config.Spending.Rank(r, e.Provider)
		}
	}
	u.Revision = r.Revision
	if learnt && w.config.Bus != nil {
		u.Event = enrichedEvent(r, announcement{w.names, l.answered, pending, changed}, now)
	}
	u.Entries = r.Entries
	if hold { // the pass goes on writing to its entries
		u.Entries = slices.Clone(r.Entries)
	}
	j := &job{update: u, after: r.Unpublished, release: !learnt && len(l.changed) == 0 && !l.moved && p.cut}
	if w.config.Hooks.Saved != nil {
		j.saved = &SavedInfo{Record: *r, Answered: l.answered, Pending: pending, Changed: changed, More: hold}
		j.saved.Record.Entries = u.Entries
	}
	l.changed, l.answered, l.moved = nil, nil, false
	return j
}

// pass works on one attacker: it saves what is learnt in time, and leaves the
// rest to a goroutine of its own among the stragglers.
func (w *Worker) pass(ctx context.Context, s *shift, r store.Record, wr *writer, stragglers *sync.WaitGroup) {
	lease := store.Lease{ID: r.ID, Fence: r.Fence}
	p := w.newPass(r)
	leftTo := false // to the stragglers
	defer func() {
		if !leftTo {
			p.end()
		}
	}()
	defer w.rescue(wr, lease)
	p.begin(ctx, s, false)
	p.wait(ctx, s)
	if p.fan.left == 0 || ctx.Err() != nil {
		p.cut = p.cut || p.fan.left > 0
		wr.put(p.update(false))
		return
	}
	if len(p.ledger.answered) > 0 {
		wr.put(p.update(true))
	}
	leftTo = true
	stragglers.Go(func() {
		defer p.end()
		defer w.rescue(wr, lease)
		p.finish(ctx, s, func() { wr.put(p.update(true)) })
		wr.put(p.update(false))
	})
}

// rescue keeps a panic of an embedder's policy or hook from ending more than
// the work on one attacker.
func (w *Worker) rescue(wr *writer, lease store.Lease) {
	if v := recover(); v != nil {
		w.log.Error("panic while enriching an attacker; trying again later",
			"attacker", lease.ID, "panic", (&gate.PanicError{Value: v}).Error(), "stack", string(debug.Stack()))
		due := time.Now().Add(backoff.Delay(w.config.RetryMin, w.config.RetryMax, w.trouble.count(lease.ID))).UTC()
		wr.put(&job{update: store.Update{Lease: lease, Due: due}, release: true})
	}
}

// observe counts, reports and logs a lookup.
func (w *Worker) observe(l *ledger, g *lane, out *gate.Outcome) {
	name := g.Name()
	info := LookupInfo{
		Provider: name, Attacker: l.record.ID, Addr: l.addr,
		Reused: out.Reused(), NotBefore: out.NotBefore, Waiting: out.Kind == gate.Waiting, Err: out.Err,
	}
	if out.Called() {
		info.Took = out.Took
		g.calls.Add(1)
	}
	switch {
	case out.Finding != nil:
		info.Known = out.Finding.Known
		if out.Reused() {
			g.reused.Add(1)
		} else {
			g.answered.Add(1)
			if g.ledgerFails.Load() {
				g.ledgerFails.Store(false)
			}
		}
		if g.failing.Load() && !out.Reused() && g.failing.Swap(false) {
			w.log.Info("provider answers again", "provider", name)
		}
	case out.Err != nil:
		g.fails(out.Err)
		if !g.failing.Swap(true) {
			w.warn(name, out.Err)
		}
	default:
		g.deferred.Add(1)
	}
	if w.config.Hooks.Lookup != nil {
		w.config.Hooks.Lookup(info)
	}
}

// warn logs the first of a row of failures.
func (w *Worker) warn(name string, err error) {
	attrs := []any{"provider", name, "error", err}
	if pe, ok := errors.AsType[*gate.PanicError](err); ok {
		attrs = append(attrs, "stack", string(pe.Stack))
	}
	switch provider.Kind(err) {
	case provider.ErrUnauthorized, provider.ErrConfig:
		w.log.Error("provider refuses our key or configuration and is left alone; mend its API key", attrs...)
	case provider.ErrRateLimited, provider.ErrQuotaExhausted:
		w.log.Warn("provider has enough of us; those who wait for it are asked about later", attrs...)
	default:
		w.log.Warn("provider fails; its earlier findings stay", attrs...)
	}
}

// safely calls f and turns a panic into an error.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &gate.PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	return f()
}
