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
	prompt  atomic.Int32                   // of prompt providers, not returned yet
	hopeful bool                           // some provider is unproven
	arrived chan struct{}                  // cap 1: the last prompt one has returned, or any other one
}

// fanOut asks the providers behind lanes, each in a goroutine of its own.
func fanOut(ctx context.Context, deadlines *gate.Deadlines, addr netip.Addr, lanes []*lane) *fan {
	f := &fan{
		lanes: lanes, outs: make([]atomic.Pointer[gate.Outcome], len(lanes)), left: len(lanes),
		arrived: make(chan struct{}, 1),
	}
	speeds := make([]speed, len(lanes))
	prompt := int32(0)
	for i, g := range lanes {
		speeds[i] = g.speed()
		switch speeds[i] {
		case prompted:
			prompt++
		case unproven:
			f.hopeful = true
		}
	}
	f.prompt.Store(prompt)
	// Nobody waits for the group: a provider that never returns must not hold up
	// its siblings.
	var group errgroup.Group
	for i, g := range lanes {
		group.Go(func() error {
			f.outs[i].Store(g.Lookup(ctx, deadlines, addr, speeds[i] != slow))
			if speeds[i] != prompted || f.prompt.Add(-1) == 0 {
				select {
				case f.arrived <- struct{}{}:
				default: // there is a look to come already
				}
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
