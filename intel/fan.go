package intel

import (
	"context"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/internal/gate"
)

// fan is a number of lookups of one address, under way at once.
type fan struct {
	lanes   []*lane                        // nil once the outcome was taken
	outs    []atomic.Pointer[gate.Outcome] // by lane, as they return
	left    int                            // outcomes not taken yet
	all     chan struct{}                  // closed when all have returned
	inTime  chan struct{}                  // closed when those expected in time have; all, if all are
	waiting [2]atomic.Int32                // how many inTime and all wait for
}

// fanOut asks the providers behind lanes, each in a goroutine of its own. Those
// that are slow are not waited for by inTime.
func fanOut(ctx context.Context, deadlines *gate.Deadlines, addr netip.Addr, lanes []*lane) *fan {
	f := &fan{
		lanes: lanes, outs: make([]atomic.Pointer[gate.Outcome], len(lanes)), left: len(lanes),
		all: make(chan struct{}),
	}
	patient := make([]bool, len(lanes))
	prompt := 0
	for i, g := range lanes {
		if patient[i] = !g.slow.Load(); patient[i] {
			prompt++
		}
	}
	f.inTime = f.all
	if prompt < len(lanes) {
		f.inTime = make(chan struct{})
	}
	f.waiting[0].Store(int32(prompt))
	f.waiting[1].Store(int32(len(lanes)))
	if prompt == 0 {
		close(f.inTime)
	}
	// Nobody waits for the group: a provider that never returns must not hold up
	// its siblings.
	var group errgroup.Group
	for i, g := range lanes {
		group.Go(func() error {
			f.outs[i].Store(g.Lookup(ctx, deadlines, addr, patient[i]))
			if patient[i] && f.inTime != f.all && f.waiting[0].Add(-1) == 0 {
				close(f.inTime)
			}
			if f.waiting[1].Add(-1) == 0 {
				close(f.all)
			}
			return nil
		})
	}
	return f
}

// each calls take for every lookup that has returned since the last call.
func (f *fan) each(take func(*lane, *gate.Outcome)) {
	for i, g := range f.lanes {
		if g == nil {
			continue
		}
		if out := f.outs[i].Load(); out != nil {
			f.lanes[i] = nil
			f.left--
			take(g, out)
		}
	}
}

// rest returns the lanes whose lookups have not returned.
func (f *fan) rest() []*lane {
	var rest []*lane
	for _, g := range f.lanes {
		if g != nil {
			rest = append(rest, g)
		}
	}
	return rest
}
