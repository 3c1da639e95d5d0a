package gate

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
)

// quiet is how long a batch waits for another address before its call is made.
const quiet = 200 * time.Millisecond

// batch is the addresses that one call is to be made about. The lookup that began it
// makes the call; the others wait for it.
type batch struct {
	addrs  []netip.Addr  // that of the lookup which makes the call is the first
	joined chan struct{} // has a token if an address has joined
	done   chan struct{} // closed once outs are there
	outs   []Outcome     // by index in addrs
	all    Outcome       // of those without one in outs
}

// batches lets lookups gather. The zero value is ready to use.
type batches struct {
	mu   sync.Mutex
	open *batch // that lookups join; nil if the next one begins another
}

// join adds an address to the open batch, or begins one if there is none with less
// than most addresses. It returns the place of the address.
func (bs *batches) join(addr netip.Addr, most int) (b *batch, place int) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.open == nil || len(bs.open.addrs) >= most {
		bs.open = &batch{joined: make(chan struct{}, 1), done: make(chan struct{})}
	}
	b = bs.open
	b.addrs = append(b.addrs, addr)
	select {
	case b.joined <- struct{}{}:
	default:
	}
	return b, len(b.addrs) - 1
}

// size returns how many addresses have joined b.
func (bs *batches) size(b *batch) int {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	return len(b.addrs)
}

// close ends the joining of b. Its addresses can then be read.
func (bs *batches) close(b *batch) {
	bs.mu.Lock()
	defer bs.mu.Unlock()
	if bs.open == b {
		bs.open = nil
	}
}

// gather waits while addresses join b: until none has for a while, there are most of
// them, or the time is over. It closes b.
func (bs *batches) gather(ctx context.Context, b *batch, most int, latest time.Time) {
	defer bs.close(b)
	for until := time.Now(); bs.size(b) < most && until.Before(latest); {
		until = time.Now().Add(quiet)
		if latest.Before(until) {
			until = latest
		}
		timer := time.NewTimer(time.Until(until))
		select {
		case <-b.joined:
			timer.Stop()
		case <-timer.C:
			return
		case <-ctx.Done():
			timer.Stop()
			return
		}
	}
}

// Together returns how many addresses one call is about, less than two if the provider
// is asked about one at a time.
func (g *Gate) Together() (n int) {
	if g.batcher != nil {
		_ = guard(func() { n = g.batcher.Batch() })
	}
	return n
}

// Gathers reports whether lookups of different addresses share calls.
func (g *Gate) Gathers() bool { return g.Together() > 1 }

// askTogether makes a lookup together with others. Every such lookup is patient: it
// may have to wait for one that is.
func (g *Gate) askTogether(ctx context.Context, deadlines Deadlines, now time.Time, addr netip.Addr, most int, out *Outcome) {
	for {
		b, place := g.batches.join(addr, most)
		if place == 0 {
			g.askForAll(ctx, deadlines, now, addr, b, out)
			return
		}
		select {
		case <-b.done:
		case <-ctx.Done():
			*out = Outcome{Kind: Cut}
			return
		}
		if *out = b.outcome(place); out.Kind != Cut || ctx.Err() != nil {
			return
		}
		now = time.Now() // the lookup that was to call was cut off
	}
}

// askForAll makes the lookup of a batch.
func (g *Gate) askForAll(ctx context.Context, deadlines Deadlines, now time.Time, addr netip.Addr, b *batch, out *Outcome) {
	b.all = Outcome{Kind: Failed, Err: g.fail(provider.ErrUnavailable, errEnded)} // unless ask returns
	defer func() {
		g.batches.close(b)
		close(b.done)
	}()
	g.ask(ctx, deadlines, now, addr, true, b, out)
	b.all = *out
	b.all.Started = time.Time{}
}

var errUnmentioned = errors.New("the answer about many addresses does not mention this one")

// outcome returns what became of the lookup of an address.
func (b *batch) outcome(place int) Outcome {
	if place < len(b.outs) {
		return b.outs[place]
	}
	return b.all
}

// share hands out the findings of a call that has ended at now, and returns what the
// source said about its quota. Addresses without a finding have failed; if none has one
// they wait.
func (g *Gate) share(b *batch, found []provider.Finding, now time.Time) (usage *provider.Usage) {
	b.outs = make([]Outcome, len(b.addrs))
	places := make(map[netip.Addr]int, len(b.addrs))
	for i, addr := range b.addrs {
		b.outs[i].Kind = Waiting
		if len(found) > 0 {
			b.outs[i] = Outcome{Kind: Failed, Err: g.fail(provider.ErrBadResponse, errUnmentioned)}
		}
		places[addr] = i
	}
	for i := range found {
		f := &found[i]
		if usage == nil {
			usage = f.Usage
		}
		f.Usage = nil
		place, ok := places[provider.Canonical(f.Addr)]
		if !ok {
			continue
		}
		if err := g.fit(f, b.addrs[place]); err != nil {
			b.outs[place] = Outcome{Kind: Failed, Err: err}
			continue
		}
		g.answer(f, now, &b.outs[place])
	}
	return usage
}
