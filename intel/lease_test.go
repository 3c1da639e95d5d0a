package intel_test

import (
	"context"
	"fmt"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

// Two workers that have more to do than their leases last make no call twice: none
// claims more than it can work on in that time.
func TestNoLeaseRunsOutBeforeItsLookup(t *testing.T) {
	for _, c := range []struct {
		attackers, concurrency, batch            int
		patience, lease, timeout, maxWait, takes time.Duration
	}{
		{12, 1, 3, 10 * time.Second, 22 * time.Second, 0, 0, 8 * time.Second},
		{100, 1, 50, 10 * time.Second, 60 * time.Second, 0, 0, 9 * time.Second},
		{200, 4, 0, 10 * time.Second, 22 * time.Second, 0, 0, 9 * time.Second},
		{300, 64, 1_000_000, 10 * time.Second, 25 * time.Second, 0, 0, 9 * time.Second},
		{2000, 0, 0, 0, 1400 * time.Millisecond, 600 * time.Millisecond, 100 * time.Millisecond, 500 * time.Millisecond},
		{2000, 0, 0, 0, 0, 0, 0, 950 * time.Millisecond},
		{1000, 1, 1000, 2 * time.Second, 202002 * time.Millisecond, time.Second, time.Millisecond, 1009 * time.Millisecond}, // within what a deadline may come late
		{12, 1, 0, 11 * time.Second, 20002 * time.Millisecond, 0, time.Millisecond, 10050 * time.Millisecond},
	} {
		t.Run(fmt.Sprintf("%d attackers in %v by %d", c.attackers, c.lease, c.concurrency), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				shared := memstore.New()
				var rigs [2]*rig
				answers := make(map[netip.Addr]int)
				var mu sync.Mutex
				slow := func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
					f, err := takes(c.takes, provider.Malicious)(ctx, addr)
					if err == nil {
						mu.Lock()
						answers[addr]++
						mu.Unlock()
					}
					return f, err
				}
				for i := range rigs {
					rigs[i] = newRig(t, intel.Config{
						Store: shared, Concurrency: c.concurrency, Batch: c.batch, Patience: c.patience,
						Lease: c.lease, LookupTimeout: c.timeout, MaxWait: c.maxWait, PollInterval: time.Second,
					}, newSource("slow").will(slow))
					rigs[i].store = shared
				}
				ids := rigs[0].observe(ips(c.attackers)...)
				rigs[0].start()
				rigs[1].start()
				time.Sleep(20 * time.Minute)
				for _, id := range ids {
					require.EqualValues(t, 1, rigs[0].get(id).Revision)
				}
				require.Len(t, answers, c.attackers)
				for addr, n := range answers {
					require.Equal(t, 1, n, "answers about %v", addr)
				}
			})
		})
	}
}

// A provider that ignores its deadline makes no attacker wait for longer than a lookup
// may take, however long Patience is.
func TestNoLeaseRunsOutWithADeafProvider(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		shared := memstore.New()
		deaf := func(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
			time.Sleep(5 * time.Minute)
			return says(provider.None)(ctx, addr)
		}
		var good [2]*source
		var rigs [2]*rig
		for i := range rigs {
			good[i] = newSource("good").will(takes(100*time.Millisecond, provider.Malicious))
			rigs[i] = newRig(t, intel.Config{Store: shared, Concurrency: 4, Patience: 10 * time.Minute}, good[i], newSource("deaf").will(deaf))
			rigs[i].store = shared
		}
		rigs[0].observe(ips(40)...)
		rigs[0].start()
		rigs[1].start()
		time.Sleep(time.Hour)
		require.Equal(t, 40, good[0].asked()+good[1].asked())
	})
}
