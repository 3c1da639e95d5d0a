package intel

import (
	"context"
	"net/netip"
	"sync/atomic"

	"github.com/decnet/enrich/intel/internal/gate"
)

// fan is a number of lookups of one address, under way at once.
type fan struct {
	lookups []lookup
	left    int           // outcomes not taken yet
	prompt  atomic.Int32  // lookups of prompt providers that have not returned yet
	hopeful bool          // some provider is unproven
	arrived chan struct{} // cap 1: the last prompt one has returned, or any other one
}

// lookup is one of them.
type lookup struct {
	lane  *lane // nil once the outcome was taken
	speed speed // of the provider, when it was asked
	out   atomic.Pointer[gate.Outcome]
}

// start has the crew make the lookups. A provider that never returns keeps only
// its own goroutine.
func (f *fan) start(ctx context.Context, s *shift, addr netip.Addr) {
	f.arrived = make(chan struct{}, 1)
	f.left = len(f.lookups)
	prompt := int32(0)
	for i := range f.lookups {
		l := &f.lookups[i]
		switch l.speed = l.lane.speed(); l.speed {
		case prompted:
			prompt++
		case unproven:
			f.hopeful = true
		}
	}
	f.prompt.Store(prompt)
	for i := range f.lookups {
		l, g := &f.lookups[i], f.lookups[i].lane
		s.crew.run(func() {
			l.out.Store(g.Lookup(ctx, s.lookup, addr, l.speed != slow))
			if l.speed != prompted || f.prompt.Add(-1) == 0 {
				select {
				case f.arrived <- struct{}{}:
				default: // there is a look to come already
				}
			}
		})
	}
}

// each calls take for every lookup that has returned since the last call.
func (f *fan) each(take func(*lane, *gate.Outcome)) {
	for i := range f.lookups {
		l := &f.lookups[i]
		g := l.lane
		if g == nil {
			continue
		}
		if out := l.out.Load(); out != nil {
			l.lane = nil
			f.left--
			take(g, out)
		}
	}
}

// rest returns the lanes whose lookups have not returned.
func (f *fan) rest() []*lane {
	var rest []*lane
	for i := range f.lookups {
		if g := f.lookups[i].lane; g != nil {
			rest = append(rest, g)
		}
	}
	return rest
}
