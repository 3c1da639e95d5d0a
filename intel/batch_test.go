package intel_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
)

// crowd is a provider that takes many addresses in one call.
type crowd struct {
	paid
	mu    sync.Mutex
	calls []int // how many addresses each
}

func (c *crowd) Batch() int { return 1000 }

func (c *crowd) LookupBatch(ctx context.Context, addrs []netip.Addr) ([]provider.Finding, error) {
	c.mu.Lock()
	c.calls = append(c.calls, len(addrs))
	c.mu.Unlock()
	time.Sleep(200 * time.Millisecond)
	found := make([]provider.Finding, len(addrs))
	for i, addr := range addrs {
		found[i], _ = c.paid.Lookup(ctx, addr)
	}
	return found, nil
}

func (c *crowd) sizes() []int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]int{}, c.calls...)
}

// Attackers that wait for a scarce provider that takes many addresses are looked up
// together: nobody waits longer than a window divided by its calls.
func TestBatchedLookups(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		quota := provider.Quota{Calls: 25, Window: provider.Week}
		c := &crowd{paid: paid{name: "crowd", verdict: provider.Malicious, limits: provider.Limits{Quotas: []provider.Quota{quota}}}}
		free := &paid{name: "free", verdict: provider.Unknown}
		l := runLocal(t, intel.Config{TTL: provider.Month}, c, free)
		defer l.stop()
		first := l.see("77.1.0.1")[0]
		require.Equal(t, provider.Malicious, l.get(first).Decision.Verdict, "the first call is made at once")
		require.EqualValues(t, 1, l.get(first).Revision, "and the record waits for it")

		var ips []string
		for i := range 1800 {
			ips = append(ips, netip.AddrFrom4([4]byte{77, 2, byte(i >> 8), byte(i)}).String())
		}
		many := l.see(ips...)
		require.Equal(t, []int{1}, c.sizes())
		for _, id := range many {
			require.Equal(t, provider.Unknown, l.get(id).Decision.Verdict)
		}
		time.Sleep(provider.Week/25 + provider.Week/256)
		require.Equal(t, []int{1, 1000}, c.sizes())
		time.Sleep(provider.Week/25 + provider.Week/256)
		require.Equal(t, []int{1, 1000, 800}, c.sizes())
		for _, id := range many {
			require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
		}

		for range 40 { // two weeks in which somebody comes every eight hours
			time.Sleep(8 * time.Hour)
			id := l.see(netip.AddrFrom4([4]byte{77, 3, 0, byte(len(c.sizes()))}).String())[0]
			require.Equal(t, provider.Malicious, l.get(id).Decision.Verdict)
		}
		require.Len(t, c.sizes(), 43)
	})
}
