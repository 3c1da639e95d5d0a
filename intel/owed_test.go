package intel_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

// TestLeasesThatCouldNotBeReleased: attackers whose record could be neither saved nor
// released do not wait for their leases to expire once the store works again.
func TestLeasesThatCouldNotBeReleased(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &down{Store: memstore.New()}
		a := newSource("a").will(takes(time.Second, provider.Malicious))
		r := newRig(t, intel.Config{Store: s, PollInterval: time.Second, Lease: time.Hour}, a)
		r.store = s.Store
		ids := r.observe(ips(10)...)
		r.start()
		s.off.Store(true) // while the lookups are under way
		time.Sleep(5 * time.Minute)
		s.off.Store(false)
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision)
		}
		require.Equal(t, 10, a.asked(), "the answers are still at hand")
	})
}
