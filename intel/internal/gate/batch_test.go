package gate

import (
	"context"
	"net/netip"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// crowd is a source that answers about many addresses in one call.
type crowd struct {
	source
	most   atomic.Int64
	all    func(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error)
	bulk   sync.Mutex // guards the fields below
	calls  [][]netip.Addr
	called []time.Time
}

func (c *crowd) Batch() int { return int(c.most.Load()) }

func (c *crowd) LookupBatch(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
	c.bulk.Lock()
	c.calls, c.called = append(c.calls, slices.Clone(addrs)), append(c.called, time.Now())
	c.bulk.Unlock()
	if c.all != nil {
		return c.all(ctx, addrs)
	}
	return answers(addrs), nil
}

func answers(addrs []netip.Addr) (found []provider.Finding) {
	for _, addr := range slices.Backward(addrs) { // in any order
		found = append(found, provider.Finding{Addr: addr, Verdict: provider.Malicious})
	}
	return found
}

// gathering returns a gate in front of a crowd.
func gathering(most int64, quotas ...provider.Quota) (*Gate, *crowd) {
	c := &crowd{}
	c.most.Store(most)
	c.limits = provider.Limits{Quotas: quotas}
	g := New(identify(c), Config{TTL: hour, MaxWait: time.Second, Timeout: timeout, MaxInFlight: 8})
	g.breaker.proven = true
	return g, c
}

// lookups looks up n addresses at once.
func lookups(ctx context.Context, g *Gate, n int) []*Outcome {
	outs := make([]*Outcome, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { outs[i] = g.Lookup(ctx, deadlines{context.Background()}, nth(i), false) })
	}
	wg.Wait()
	return outs
}

// kinds counts outcomes.
func kinds(outs []*Outcome) map[Kind]int {
	found := map[Kind]int{}
	for _, out := range outs {
		found[out.Kind]++
	}
	return found
}

func TestBatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(100)
		outs := lookups(t.Context(), g, 250)
		require.Equal(t, map[Kind]int{Answered: 250}, kinds(outs))
		called := 0
		for i, out := range outs {
			require.Equal(t, nth(i), out.Finding.Addr)
			require.Equal(t, provider.Malicious, out.Finding.Verdict)
			if out.Called() {
				called++
			}
		}
		require.Equal(t, len(c.calls), called, "one lookup of each call has made it")
		require.Len(t, c.calls, 3)
		for _, addrs := range c.calls {
			require.LessOrEqual(t, len(addrs), 100)
		}
		require.Zero(t, c.source.calls(), "Lookup is not used")
		again := lookups(t.Context(), g, 10)
		require.True(t, again[0].Reused())
		require.Len(t, c.calls, 3)
	})
}

// One address does not wait long for others.
func TestBatchOfOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(100)
		start := time.Now()
		out := lookup(t.Context(), g, addr)
		require.Equal(t, Answered, out.Kind)
		require.Equal(t, quiet, time.Since(start))
		require.Equal(t, [][]netip.Addr{{addr}}, c.calls)
	})
}

// Addresses that come while a call is under way gather for the next one.
func TestBatchGathersDuringCall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(100)
		c.all = func(_ context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
			<-time.After(700 * time.Millisecond)
			return answers(addrs), nil
		}
		var wg sync.WaitGroup
		for i := range 30 {
			wg.Go(func() {
				<-time.After(time.Duration(i) * 50 * time.Millisecond)
				require.Equal(t, Answered, g.Lookup(t.Context(), deadlines{t.Context()}, nth(i), false).Kind)
			})
		}
		wg.Wait()
		require.LessOrEqual(t, len(c.calls), 4)
	})
}

// Calls are spread evenly over the quota's window, and what cannot be asked yet waits.
func TestBatchSpends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(1000, provider.Quota{Calls: 25, Window: provider.Week})
		require.Equal(t, 1000, g.Status(t.Context(), time.Now()).Calls)
		require.Equal(t, map[Kind]int{Answered: 400}, kinds(lookups(t.Context(), g, 400)))
		require.Len(t, c.calls, 1)
		out := lookup(t.Context(), g, netip.MustParseAddr("9.9.9.9"))
		require.Equal(t, Waiting, out.Kind)
		status := g.Status(t.Context(), time.Now())
		require.Equal(t, Gathering, status.State)
		require.Zero(t, status.Calls)
		require.WithinDuration(t, time.Now().Add(provider.Week/25), status.Until, provider.Week/256)
		require.Equal(t, 24, g.Windows(time.Now())[0].Left)
		<-time.After(time.Until(status.Until))
		require.Equal(t, 1000, g.Status(t.Context(), time.Now()).Calls)
		require.Equal(t, Answered, lookup(t.Context(), g, netip.MustParseAddr("9.9.9.9")).Kind)
	})
}

// A finding that is not about an address of the call, or not fit to be stored, harms no
// other address. Addresses without a finding have failed.
func TestBatchOddFindings(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(10)
		c.all = func(_ context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
			found := answers(addrs[:3])
			found = append(found, provider.Finding{Addr: netip.MustParseAddr("9.9.9.9")}, provider.Finding{})
			for i := range found {
				if found[i].Addr == addrs[1] {
					found[i].Provider = "another"
				}
			}
			return found, nil
		}
		require.Equal(t, map[Kind]int{Answered: 2, Failed: 3}, kinds(lookups(t.Context(), g, 5)))
	})
}

func TestBatchFails(t *testing.T) {
	for name, c := range map[string]struct {
		all  func(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error)
		kind Kind
		is   error
	}{
		"fails": {func(context.Context, []netip.Addr) ([]provider.Finding, error) {
			return nil, &provider.Error{Kind: provider.ErrUnavailable}
		}, Failed, provider.ErrUnavailable},
		"panics": {func(context.Context, []netip.Addr) ([]provider.Finding, error) { panic("no") }, Failed, provider.ErrUnavailable},
		"is limited": {func(context.Context, []netip.Addr) ([]provider.Finding, error) {
			return nil, &provider.Error{Kind: provider.ErrQuotaExhausted}
		}, Waiting, provider.ErrQuotaExhausted},
		"refuses the key": {func(context.Context, []netip.Addr) ([]provider.Finding, error) {
			return nil, &provider.Error{Kind: provider.ErrUnauthorized}
		}, Waiting, provider.ErrUnauthorized},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, s := gathering(10, provider.Quota{Calls: 25, Window: provider.Week})
				s.all = c.all
				outs := lookups(t.Context(), g, 5)
				require.Equal(t, map[Kind]int{c.kind: 5}, kinds(outs))
				for _, out := range outs {
					require.ErrorIs(t, out.Err, c.is)
				}
				require.Len(t, s.calls, 1)
				require.False(t, g.Failed(nth(0)), "no single address is to blame")
			})
		})
	}
}

// A provider that ends the goroutine of the lookup that calls fails for the others.
func TestBatchEndsGoroutine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, s := gathering(10)
		s.all = func(context.Context, []netip.Addr) ([]provider.Finding, error) { runtime.Goexit(); return nil, nil }
		outs := slices.DeleteFunc(lookups(t.Context(), g, 5), func(out *Outcome) bool { return out == nil })
		require.Equal(t, map[Kind]int{Failed: 4}, kinds(outs))
		require.ErrorIs(t, outs[0].Err, errEnded)
	})
}

// If the lookup that is to call is cut off, another one of the batch calls.
func TestBatchCallerCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(10)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { require.Equal(t, Cut, g.Lookup(ctx, deadlines{ctx}, nth(0), false).Kind) })
		synctest.Wait()
		for i := 1; i < 4; i++ {
			wg.Go(func() {
				require.Equal(t, Answered, g.Lookup(t.Context(), deadlines{t.Context()}, nth(i), false).Kind)
			})
		}
		synctest.Wait()
		cancel()
		wg.Wait()
		require.Len(t, c.calls, 1)
		require.Len(t, c.calls[0], 3)
	})
}

// A provider that stops taking many addresses is asked about one at a time.
func TestBatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, c := gathering(10, provider.Quota{Calls: 1000, Window: provider.Day})
		c.all = func(_ context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
			c.most.Store(1)
			return nil, nil
		}
		require.Equal(t, map[Kind]int{Waiting: 4}, kinds(lookups(t.Context(), g, 4)))
		require.Equal(t, 999, g.Status(t.Context(), time.Now()).Calls)
		for i := range 4 {
			require.Equal(t, Answered, lookup(t.Context(), g, nth(i)).Kind)
		}
		require.Equal(t, 4, c.source.calls())
	})
}

// A decorator is not bypassed.
func TestBatchOfDecorated(t *testing.T) {
	c := &crowd{}
	c.most.Store(10)
	g := New(identify(wrapper{c}), Config{TTL: hour, MaxWait: time.Second, Timeout: timeout, MaxInFlight: 8})
	require.False(t, g.Gathers())
}

// TestBatchUsage: what the source says about its allowance is taken from the first
// finding that has it, and no finding keeps it.
func TestBatchUsage(t *testing.T) {
	g, _ := gathering(3)
	first, second := &provider.Usage{Limit: 1}, &provider.Usage{Limit: 2}
	b := &batch{addrs: []netip.Addr{nth(1), nth(2), nth(3)}}
	found := answers(b.addrs)
	found[1].Usage, found[2].Usage = first, second
	require.Same(t, first, g.share(b, found, time.Now()))
	for i := range b.outs {
		require.Equal(t, Answered, b.outs[i].Kind)
		require.Nil(t, b.outs[i].Finding.Usage)
	}
}
