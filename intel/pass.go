package intel

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// pass is one round of work on one claimed attacker.
type pass struct {
	w       *Worker
	ledger  *ledger
	verdict provider.Verdict // as last saved
	started time.Time
	fan     *fan
	cut     bool // some lookup was cut off
}

// limits are the deadlines of what a worker waits for.
type limits struct {
	lookup   *gate.Deadlines // for one lookup
	patience *gate.Deadlines // for all lookups of one attacker
}

func (w *Worker) newLimits(ctx context.Context) limits {
	return limits{
		lookup:   gate.NewDeadlines(ctx, w.config.LookupTimeout),
		patience: gate.NewDeadlines(ctx, w.config.Patience),
	}
}

// begin starts a pass: it takes the answers at hand and asks all other
// providers that are due.
func (w *Worker) begin(ctx context.Context, lim limits, r store.Record, force bool) *pass {
	p := &pass{w: w, ledger: openLedger(r, len(w.gates)), verdict: r.Decision.Verdict, started: time.Now()}
	addr := p.ledger.addr
	asked := make([]*lane, 0, len(w.gates))
	for _, g := range w.gates {
		if !p.ledger.wants(g.Gate, p.started, force) {
			continue
		}
		if out, ok := g.Recent(addr, p.started); ok {
			p.take(g, &out)
			continue
		}
		asked = append(asked, g)
	}
	p.fan = fanOut(ctx, lim.lookup, addr, asked)
	return p
}

// take enters the outcome of a lookup into the ledger.
func (p *pass) take(g *lane, out *gate.Outcome) {
	if out.Cut {
		p.cut = true
		return
	}
	if out.Took > 0 && !out.Reused {
		set(&g.slow, out.Took > p.w.config.Patience)
	}
	p.ledger.settle(g.Name(), out, p.w.retry)
	p.w.observe(p.ledger, g, out)
}

// wait takes outcomes until all providers that are expected to answer in time
// have done so or the patience is exhausted.
func (p *pass) wait(ctx context.Context, lim limits) {
	late := false
	select {
	case <-p.fan.inTime:
	case <-lim.patience.Next(p.started).Done():
		late = ctx.Err() == nil
	}
	p.fan.each(p.take)
	if late {
		for _, g := range p.fan.rest() {
			set(&g.slow, true)
		}
	}
}

// finish takes the remaining outcomes. A provider that does not even return
// after its deadline has failed.
func (p *pass) finish(ctx context.Context) {
	timeout := p.w.config.LookupTimeout
	deadline := time.NewTimer(p.w.config.MaxWait + timeout + timeout/100 + overrun - time.Since(p.started))
	defer deadline.Stop()
	select {
	case <-p.fan.all:
		p.fan.each(p.take)
	case <-ctx.Done():
		p.fan.each(p.take)
		p.cut = p.cut || p.fan.left > 0
	case <-deadline.C:
		p.fan.each(p.take)
		for _, g := range p.fan.rest() {
			err := &provider.Error{Provider: g.Name(), Kind: provider.ErrUnavailable, Err: errOverrun}
			p.take(g, &gate.Outcome{Err: err, Took: time.Since(p.started)})
		}
	}
}

// set stores v unless it is there already: what all lookups share is better
// read than written.
func set(b *atomic.Bool, v bool) {
	if b.Load() != v {
		b.Store(v)
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
	u := store.Update{
		Lease:   store.Lease{ID: r.ID, Fence: r.Fence, Due: l.next(w.names, now)},
		IP:      r.IP,
		Changed: l.changed,
		Hold:    hold,
	}
	info := SavedInfo{Answered: l.answered, Pending: l.pending(w.names, now), More: hold}
	if learnt {
		r.Revision++
		r.CachedAt, u.SavedAt = now, now
	}
	if learnt || len(l.changed) > 0 && r.Revision > 0 {
		r.Decision = w.config.Policy.Decide(l.evidence(w.names, now, w.config.MaxStale), now)
		decision := r.Decision
		u.Decision = &decision
		info.Changed = r.Decision.Verdict != p.verdict
		p.verdict = r.Decision.Verdict
	}
	u.Revision = r.Revision
	if learnt && w.config.Bus != nil {
		u.Event = enrichedEvent(r, announcement{w.names, info.Answered, info.Pending, info.Changed}, now)
	}
	info.Record = *r
	if hold { // the pass goes on writing to its entries
		info.Record.Entries = slices.Clone(r.Entries)
	}
	u.Entries = info.Record.Entries
	idle := !learnt && len(l.changed) == 0 && !l.moved
	l.changed, l.answered, l.moved = nil, nil, false
	return &job{update: u, saved: info, release: idle && p.cut}
}

// pass works on one attacker: it saves what is learnt in time, and leaves the
// rest to a goroutine of its own among the stragglers.
func (w *Worker) pass(ctx context.Context, lim limits, r store.Record, wr *writer, stragglers *sync.WaitGroup) {
	lease := store.Lease{ID: r.ID, Fence: r.Fence}
	defer w.rescue(wr, lease)
	p := w.begin(ctx, lim, r, false)
	p.wait(ctx, lim)
	if p.fan.left == 0 || ctx.Err() != nil {
		p.cut = p.cut || p.fan.left > 0
		wr.put(p.update(false))
		return
	}
	if len(p.ledger.answered) > 0 {
		wr.put(p.update(true))
	}
	stragglers.Go(func() {
		defer w.rescue(wr, lease)
		p.finish(ctx)
		wr.put(p.update(false))
	})
}

// rescue keeps a panic of an embedder's policy or hook from ending more than
// the work on one attacker.
func (w *Worker) rescue(wr *writer, lease store.Lease) {
	if v := recover(); v != nil {
		w.log.Error("panic while enriching an attacker; trying again later",
			"attacker", lease.ID, "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
		lease.Due = time.Now().Add(w.trouble.delay(lease.ID, w.config.RetryMin, w.config.RetryMax)).UTC()
		wr.put(&job{update: store.Update{Lease: lease}, release: true})
	}
}

// observe counts, reports and logs a lookup.
func (w *Worker) observe(l *ledger, g *lane, out *gate.Outcome) {
	name := g.Name()
	info := LookupInfo{
		Provider: name, Attacker: l.record.ID, Addr: l.addr, Took: out.Took,
		Reused: out.Reused, NotBefore: out.NotBefore, Err: out.Err,
	}
	switch {
	case out.Finding != nil:
		info.Known = out.Finding.Known
		if out.Reused {
			w.counts.reused.Add(1)
		} else {
			w.counts.answered.Add(1)
		}
		if g.failing.Load() && !out.Reused && g.failing.Swap(false) {
			w.log.Info("provider answers again", "provider", name)
		}
	case out.Err != nil:
		w.counts.failed.Add(1)
		if !g.failing.Swap(true) {
			w.warn(name, out.Err)
		}
	default:
		w.counts.deferred.Add(1)
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
		w.log.Error("provider refuses our key or configuration; check its API key", attrs...)
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
