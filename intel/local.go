package intel

import (
	"context"
	"math/rand/v2"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

const (
	// localBound is how long a lookup from memory may take, and localSlips how
	// often it may take longer before the provider is looked up like a remote one.
	localBound = 5 * time.Millisecond
	localSlips = 3
)

// observeLocal takes note of a lookup from memory. It logs the first failure in a
// row, and the answer that ends it.
func (s *source) observeLocal(took time.Duration, err error) {
	s.mu.Lock()
	was, late := s.failing, false
	if took > localBound && s.slips < localSlips {
		s.slips++
		late = s.slips == localSlips
		s.late.Store(late)
	}
	s.counts.calls++
	if s.failing = err != nil; err != nil {
		s.counts.fail(err)
	} else {
		s.counts.answered++
	}
	s.mu.Unlock()
	switch {
	case err != nil && !was:
		s.warn(err)
	case err == nil && was:
		s.log.Info("provider answers again", "provider", s.Name())
	}
	if late {
		s.log.Warn("provider says that it answers from memory, but takes too long; it is looked up like a remote one", "provider", s.Name(), "took", took)
	}
}

// askLocal looks the address up at the local providers, and enters what they say.
// It returns those that are too slow for that.
func (p *pass) askLocal(ctx context.Context) (slow []*source) {
	w, addr := p.w, p.ledger.addr
	if len(w.remote) == len(w.names) {
		return nil
	}
	began := time.Now()
	for _, s := range w.sources {
		switch {
		case !s.Local():
			continue
		case !s.Applies(addr):
			p.ledger.settleLocal(s.Name(), nil)
			continue
		case s.late.Load():
			slow = append(slow, s)
			continue
		}
		f, err := s.LookupLocal(ctx, addr, began)
		ended := time.Now()
		s.observeLocal(ended.Sub(began), err)
		began = ended
		if err == nil { // otherwise what is known stays
			p.ledger.settleLocal(s.Name(), f)
		}
	}
	return slow
}

// settleLocal enters what a local provider says, nil for nothing. What is known
// already makes no news.
func (l *ledger) settleLocal(name string, f *provider.Finding) {
	e := l.record.Entry(name)
	switch {
	case f == nil && e == nil:
		return
	case f == nil:
		if e.Finding != nil {
			l.change(name)
			l.gone = true
		}
		l.record.Entries = slices.DeleteFunc(l.record.Entries, func(e store.Entry) bool { return e.Provider == name })
		l.moved = true
		return
	case e != nil && e.Finding != nil && saysTheSame(e.Finding, f):
		if e.State != store.Fresh || !e.Expires.IsZero() {
			*e = store.Entry{Provider: name, State: store.Fresh, Finding: e.Finding}
			l.moved = true
		}
		return
	}
	*l.entry(name) = store.Entry{Provider: name, State: store.Fresh, Finding: f}
	l.change(name)
	if !slices.Contains(l.answered, name) {
		l.answered = append(l.answered, name)
	}
	l.moved = true
}

// saysTheSame reports whether two findings differ in nothing but when they were
// made.
func saysTheSame(a, b *provider.Finding) bool {
	return a.Addr == b.Addr && a.Known == b.Known && a.Verdict == b.Verdict && string(a.Raw) == string(b.Raw) && reflect.DeepEqual(a.Attrs, b.Attrs)
}

// exempt returns the rank below which providers are not called, because a local
// source knows the address to be harmless and silences what they could say: the
// operator, or a source that knows the whole network. It is 0 if all are called.
func (p *pass) exempt() int {
	w, rank, harm := p.w, 0, 0
	for i := range p.ledger.record.Entries {
		e := &p.ledger.record.Entries[i]
		s := w.sources.byName(e.Provider)
		if s == nil || !s.Local() || e.Finding == nil {
			continue
		}
		own := w.profiles[e.Provider].Rank
		switch v := e.Finding.Verdict; {
		case v > provider.Benign:
			harm = max(harm, own)
		case v == provider.Benign && !s.List().Stale && (own == provider.RankOperator || isNetwork(e.Finding)):
			rank = max(rank, own)
		}
	}
	if harm > rank { // it is silenced itself
		return 0
	}
	return rank
}

// isNetwork reports whether a finding is about a whole network and not a single,
// perhaps rented, address.
func isNetwork(f *provider.Finding) bool {
	text, _ := f.Attrs["network"].(string)
	network, err := netip.ParsePrefix(text)
	return err == nil && !network.IsSingleIP()
}

// spare keeps a provider from being called for an address that is exempt. An entry
// without a fresh finding is then not applicable: it is looked at again when the
// attacker's next pass comes, or the list changes.
func (l *ledger) spare(s *source, now time.Time) {
	e := l.record.Entry(s.Name())
	switch {
	case e != nil && e.State == store.Fresh && e.Finding != nil && now.Before(e.Expires):
		return
	case e == nil:
		e = l.entry(s.Name())
	}
	if e.State != store.NotApplicable {
		l.move(e, store.NotApplicable, time.Time{})
	}
}

// settleSlow enters what became of the lookup of a local provider that is looked
// up like a remote one.
func (p *pass) settleSlow(s *source, out *gate.Outcome) {
	switch {
	case out.Kind != gate.Answered:
	case !out.Finding.Known && out.Finding.Verdict == provider.None && len(out.Finding.Attrs) == 0:
		p.ledger.settleLocal(s.Name(), nil)
	default:
		p.ledger.settleLocal(s.Name(), out.Finding)
	}
}

// isDecided reports whether there is a verdict that a call could at most confirm
// or worsen.
func (p *pass) isDecided(now time.Time) bool {
	if !p.w.config.Spending.DeferDecided {
		return false
	}
	return p.w.decide(p.ledger, now).Verdict >= provider.Benign
}

// deferDecided puts the lookup of an attacker that is decided off as long as its
// provider has no calls to spare. It reports whether it has.
func (p *pass) deferDecided(ctx context.Context, s *source) bool {
	if !s.Scarce() || s.Status(ctx, p.started).Idle {
		return false
	}
	if e := p.ledger.record.Entry(s.Name()); e == nil || e.State != store.Fresh || !p.started.Before(e.Expires) {
		s.deferred()
		until := s.Spare(p.started)
		if latest := p.started.Add(provider.Week); until.After(latest) {
			until = latest
		}
		p.ledger.putOff(s.Name(), until.Add(deferral+rand.N(deferral)))
	}
	return true
}

// deferral is how long a decided attacker is put off after its provider may have calls
// to spare, and at most as much again, so that not all come at once.
const deferral = 3 * time.Hour
