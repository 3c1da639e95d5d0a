package intel

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"net/netip"
	"runtime/debug"
	"slices"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/intel/internal/panics"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// pass is the work on one claimed attacker. One goroutine at a time has it. Its
// steps are, in the order of this file: start the lookups of the providers that
// are due, wait for those that answer within Patience, finish with the slow ones,
// and make an update of what was learnt.
type pass struct {
	w       *Worker
	ledger  *ledger
	lookups lookups
	started time.Time
	verdict provider.Verdict // as last saved
	granted []string         // providers whose grant was not used yet
	skipped []*source        // not looked up because they cannot change the verdict
	cut     bool             // a lookup was cut off
}

func newPass(w *Worker, r store.Record) *pass {
	p := &pass{
		w: w, ledger: openLedger(r, len(w.sources)), started: time.Now(),
		verdict: r.Decision.Verdict, granted: r.Granted,
	}
	p.ledger.retires = w.config.retires(&r, p.started)
	p.ledger.trust(&w.config, p.started)
	return p
}

// pass works on one claimed attacker. It saves what the providers have answered
// that the record waits for. The slow ones are left to a goroutine of their own,
// so that they do not hold up the next attacker.
func (r *run) pass(record store.Record) {
	p := newPass(r.w, record)
	if p.attempt(r, p.first) {
		r.stragglers.Go(func() { p.attempt(r, p.rest) })
	}
}

// attempt does one part of a pass, which reports whether there is more to do. A
// panic of the embedder's policy or hooks ends only the work on this attacker.
func (p *pass) attempt(r *run, part func(*run) bool) (more bool) {
	defer func() {
		if v := recover(); v != nil {
			id := p.ledger.record.ID
			p.w.log.Error("panic while enriching an attacker; trying again later",
				"attacker", id, "panic", (&panics.Error{Value: v}).Error(), "stack", string(debug.Stack()))
			r.writer.put(&job{update: store.Update{Lease: p.lease()}, kind: panicked})
			more = false
		}
		if !more {
			p.returnGrants()
		}
	}()
	return part(r)
}

// first saves what is learnt in time. It reports whether lookups are left.
func (p *pass) first(r *run) (more bool) {
	p.start(r.lookups, r.pool, demand{})
	p.wait(r.lookups, r.pool)
	if len(p.lookups.open) == 0 || r.lookups.Err() != nil {
		p.cut = p.cut || len(p.lookups.open) > 0
		r.writer.put(p.last(r.lookups))
		return false
	}
	if p.learnt() {
		r.writer.put(p.update(true))
	}
	return true
}

// rest saves what the slow providers answer, each answer as it comes.
func (p *pass) rest(r *run) (more bool) {
	p.finish(r.lookups, func() { r.writer.put(p.update(true)) })
	r.writer.put(p.last(r.lookups))
	return false
}

func (p *pass) lease() store.Lease {
	return store.Lease{ID: p.ledger.record.ID, Fence: p.ledger.record.Fence}
}

// learnt reports whether there are findings to save, or one of a list that no
// longer has the address is to be dropped.
func (p *pass) learnt() bool { return len(p.ledger.answered) > 0 || p.ledger.gone }

// start asks the local providers, takes the answers at hand and looks up the
// address at all other providers that are due and that matter, or that are demanded.
func (p *pass) start(ctx context.Context, pool *pool, d demand) {
	w, addr := p.w, p.ledger.addr
	if !addr.IsValid() {
		w.noteInvalid(&p.ledger.record.Attacker)
	}
	due := make([]*source, 0, len(w.sources))
	due = append(due, p.askLocal(ctx)...)
	rank, decided := p.exempt(), !d.now && p.isDecided(p.started)
	for _, s := range w.sources {
		switch {
		case s.Local(), !d.includes(s.Name()):
			continue
		case rank > w.profiles[s.Name()].Rank && s.Applies(addr):
			p.ledger.spare(s, p.started)
			continue
		case decided && s.Applies(addr) && !slices.Contains(p.ledger.record.Granted, s.Name()) && p.deferDecided(ctx, s):
			continue
		}
		again := d.repeats(s.Name())
		early := func(e *store.Entry) bool {
			return again || w.config.early(p.ledger, e, p.started, func() gate.Status { return s.Status(ctx, p.started) })
		}
		wish := p.ledger.wants(s, p.started, d.now, early)
		if wish == nothing {
			continue
		}
		if again {
			s.Forget(addr, d.before(p.started))
		}
		if out, ok := s.Recent(addr, p.started); ok {
			if p.serves(s, &out, wish) {
				p.settle(s, &out)
				continue
			}
			if wish == lookup {
				s.Forget(addr, out.Finding.ObservedAt)
			}
		}
		switch wish {
		case atHand:
			continue
		case turn:
			p.ledger.await(p.ledger.entry(s.Name()), p.started)
			s.deferred()
			continue
		}
		if !d.now && p.skip(s) {
			continue
		}
		due = append(due, s)
	}
	p.lookups.start(ctx, pool, addr, due, p.ledger.record.Granted)
}

// serves reports whether an answer at hand takes the place of the finding in the
// ledger: it is newer, or it is fresh while the finding is not and a call is not to
// be had or scarce.
func (p *pass) serves(s *source, out *gate.Outcome, wish wish) bool {
	e := p.ledger.record.Entry(s.Name())
	if e == nil || e.Finding == nil || out.Finding.ObservedAt.After(e.Finding.ObservedAt) || e.Finding.ObservedAt.After(p.started) {
		return true
	}
	return !p.started.Before(e.Expires) && out.Expires.After(p.started) && (wish != lookup || s.Scarce())
}

// skip saves a call that cannot change the verdict, if Spending.SkipDecided is
// set. The entry becomes due when the verdict may change by itself.
func (p *pass) skip(s *source) bool {
	c, l := &p.w.config, p.ledger
	if !c.Spending.SkipDecided || !s.Scarce() {
		return false
	}
	if !p.w.settled(l, s.Name(), p.started) {
		return false
	}
	due := p.started.Add(c.TTL)
	for _, e := range l.record.Entries {
		if e.State == store.Fresh && e.Expires.After(p.started) && e.Expires.Before(due) {
			due = e.Expires
		}
	}
	s.deferred()
	l.putOff(s.Name(), due)
	p.skipped = append(p.skipped, s)
	return true
}

// wait receives results until all lookups that the record waits for have ended,
// for Patience at most. Then the providers that have not answered are slow.
func (p *pass) wait(ctx context.Context, pool *pool) {
	patience := pool.patience.Next(p.started)
	for p.lookups.awaited > 0 {
		select {
		case r := <-p.lookups.results:
			p.receive(r)
		case <-patience.Done():
			p.receiveAll()
			if ctx.Err() == nil {
				for _, s := range p.lookups.open {
					s.tooSlow()
				}
			}
			return
		}
	}
	p.receiveAll()
}

// finish receives the remaining results. It calls progress when there are
// findings to save and other lookups are still under way. A provider that does
// not even return after its deadline has failed.
func (p *pass) finish(ctx context.Context, progress func()) {
	timeout := p.w.config.LookupTimeout
	giveUp := time.NewTimer(p.w.config.MaxWait + timeout + timeout/100 + overrun - time.Since(p.started))
	defer giveUp.Stop()
	for len(p.lookups.open) > 0 {
		select {
		case r := <-p.lookups.results:
			p.receive(r)
			p.receiveAll() // results that come together are saved together
			if len(p.lookups.open) > 0 && p.learnt() {
				progress()
			}
		case <-ctx.Done():
			p.receiveAll()
			p.cut = p.cut || len(p.lookups.open) > 0
			return
		case <-giveUp.C:
			p.receiveAll()
			for _, s := range p.lookups.open {
				err := &provider.Error{Provider: s.Name(), Kind: provider.ErrUnavailable, Err: errOverrun}
				p.settle(s, &gate.Outcome{Kind: gate.Failed, Err: err, Started: p.started, Took: time.Since(p.started)})
			}
			return
		}
	}
}

// overrun is how long after its deadline a lookup is given up.
const overrun = time.Second

var errOverrun = errors.New("the lookup ignores its deadline")

// receiveAll receives the results that are there.
func (p *pass) receiveAll() {
	for {
		select {
		case r := <-p.lookups.results:
			p.receive(r)
		default:
			return
		}
	}
}

func (p *pass) receive(r result) {
	p.lookups.received(r)
	p.settle(r.source, r.outcome)
}

// settle enters the outcome of a lookup into the ledger.
func (p *pass) settle(s *source, out *gate.Outcome) {
	p.useGrant(s)
	if out.Kind == gate.Cut {
		p.cut = true
		return
	}
	if s.Local() {
		p.settleSlow(s, out)
	} else {
		p.ledger.settle(s.Name(), out, p.w.retry)
	}
	s.observe(out, p.w.config.Patience, p.w.config.MaxWait)
	if p.w.config.Hooks.Lookup != nil {
		info := LookupInfo{
			Provider: s.Name(), Attacker: p.ledger.record.ID, Addr: p.ledger.addr, Reused: out.Reused(),
			Known: out.Finding != nil && out.Finding.Known, NotBefore: out.NotBefore, Waiting: out.Kind == gate.Waiting, Err: out.Err,
		}
		if out.Called() {
			info.Started, info.Took = out.Started, out.Took
		}
		p.w.config.Hooks.Lookup(info)
	}
}

// useGrant takes note that the provider's grant, if the pass has one, is used.
func (p *pass) useGrant(s *source) {
	if i := slices.Index(p.granted, s.Name()); i >= 0 {
		p.granted = slices.Concat(p.granted[:i], p.granted[i+1:])
		if s.used() {
			p.w.wake.send() // a claim may grant more
		}
	}
}

// returnGrants gives back the grants that were not used.
func (p *pass) returnGrants() {
	for len(p.granted) > 0 {
		p.useGrant(p.w.sources.byName(p.granted[0]))
	}
}

// last returns the last update. Before that it takes the answers that came to other
// attackers during the pass: the store serves only those that wait without a lease.
func (p *pass) last(ctx context.Context) *job {
	l, now := p.ledger, time.Now()
	waits := func(s *source) bool {
		e := l.record.Entry(s.Name())
		return e != nil && e.State == store.Waiting && s.Applies(l.addr)
	}
	if ctx.Err() == nil && cap(p.lookups.results) > 0 && slices.ContainsFunc(p.w.sources, waits) {
		p.w.recall(ctx, []store.Record{l.record}, now)
	}
	for _, s := range p.w.sources {
		if !waits(s) {
			continue
		}
		if out, ok := s.Recent(l.addr, now); ok && p.serves(s, &out, turn) {
			p.settle(s, &out)
		}
	}
	return p.update(false)
}

// update returns what there is to save now. Without hold it is the pass's last
// update and ends the lease.
func (p *pass) update(hold bool) *job {
	w, l, now := p.w, p.ledger, time.Now().UTC()
	r, learnt := &l.record, p.learnt()
	if learnt && len(p.skipped) > 0 {
		p.recheck(now)
	}
	u := store.Update{
		Lease: p.lease(), IP: r.IP, Changed: l.changed, Hold: hold, Due: l.next(w.remote, now),
	}
	if !hold {
		u.Ahead = w.config.sightingsFrom(l, w.remote, now)
	}
	if learnt {
		r.Revision++
		r.CachedAt, u.SavedAt = now, now
		u.ExpiresAt = l.expiresAt(w.names, now.Add(w.config.TTL))
	}
	u.Revision = r.Revision
	changed := p.decide(&u, now)
	for i := range r.Entries {
		e := &r.Entries[i]
		if e.State == store.Waiting {
			e.Rank = w.rank(l, e, now)
		}
		if e.Addr = l.addr; e.Finding != nil {
			e.Addr = netip.Addr{}
		}
		w.explainState(l, e)
	}
	pending := l.pending(w.remote, now)
	if learnt && (w.config.Bus != nil || len(w.config.Readers) > 0) {
		u.Readers, u.NoBus = w.config.Readers, w.config.Bus == nil
		u.Event = enrichedEvent(r, announcement{w.configured, l.answered, pending, changed}, now)
	}
	u.Entries = r.Entries
	if hold { // the pass goes on changing its entries
		u.Entries = slices.Clone(r.Entries)
	}
	j := &job{update: u, after: r.Unpublished}
	if !learnt && len(l.changed) == 0 && !l.moved && p.cut {
		j.kind = release
	}
	if !hold && w.log.Enabled(context.Background(), slog.LevelDebug) {
		j.line = w.describe(l, pending, now)
	}
	if w.config.Hooks.Saved != nil {
		j.saved = &SavedInfo{Record: *r, Started: p.started, Answered: l.answered, Pending: pending, Changed: changed, More: hold}
		j.saved.Record.Entries = u.Entries
	}
	l.changed, l.answered, l.moved, l.gone = nil, nil, false, false
	return j
}

// rank returns the rank of an entry that waits. Behind all others come attackers
// that were not seen for long, and addresses that have cost calls without an answer.
func (w *Worker) rank(l *ledger, e *store.Entry, now time.Time) int {
	s := w.sources.byName(e.Provider)
	if l.retires.by(now) || s != nil && s.Failed(l.addr) {
		return lastRank
	}
	return w.config.Spending.Rank(&l.record, e.Provider)
}

// lastRank is behind every rank of a Spending.
const lastRank = math.MinInt32

// decide adds a decision to an update if findings have come, gone or become too
// old to count. It reports whether the verdict is another than before.
func (p *pass) decide(u *store.Update, now time.Time) (changed bool) {
	w, l := p.w, p.ledger
	r := &l.record
	news := p.learnt() || len(l.changed) > 0 && r.Revision > 0
	if !news && (r.Revision == 0 || !l.outlived(w.names, now, w.config.MaxStale)) {
		return false
	}
	decision := w.decide(l, now)
	if !news && alike(&r.Decision, &decision) {
		return false
	}
	r.Decision, u.Decision = decision, &decision
	changed = decision.Verdict != p.verdict
	p.verdict = decision.Verdict
	return changed
}

// recheck makes skipped providers due now if their answer can change the verdict
// after all.
func (p *pass) recheck(now time.Time) {
	for _, s := range p.skipped {
		if !p.w.settled(p.ledger, s.Name(), now) {
			p.ledger.putOff(s.Name(), now)
		}
	}
}
