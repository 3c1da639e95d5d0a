package intel_test

import (
	"context"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

var errRefused = &provider.Error{Kind: provider.ErrBadResponse, StatusCode: 400}

// TestARetryIsNotEarly: a pass for another provider does not repeat a lookup whose
// retry is not due, and takes the answer that another attacker has brought.
func TestARetryIsNotEarly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, often := newSource("a").will(fails(errRefused)), newSource("often")
		r := newRig(t, intel.Config{
			Jitter: -1, RetryMin: 2 * time.Hour, RetryMax: 2 * time.Hour,
			Freshness: map[string]intel.Freshness{"often": {Known: 10 * time.Minute}},
		}, a, often)
		id := r.observe(ip(1))[0]
		r.start()
		time.Sleep(15 * time.Minute)
		require.Equal(t, 2, often.asked())
		require.Equal(t, 1, a.asked())
		require.Equal(t, 1, r.get(id).Entry("a").Failures)

		a.will(says(provider.Suspicious))
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(1)}))
		r.worker.Wake()
		synctest.Wait()
		require.Equal(t, 2, a.asked())
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		require.Equal(t, provider.Suspicious, r.get(id).Entry("a").Finding.Verdict)
		require.Equal(t, 2, a.asked())
	})
}

// TestRetryAfter: a failed lookup is repeated when the provider says, but within a day.
func TestRetryAfter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		busy := func(wait time.Duration) func(context.Context, netip.Addr) (provider.Finding, error) {
			return fails(&provider.Error{Kind: provider.ErrBadResponse, StatusCode: 400, RetryAfter: wait})
		}
		a := newSource("a").will(busy(3 * time.Hour))
		r := newRig(t, intel.Config{Jitter: -1, RetryMin: time.Hour, RetryMax: time.Hour}, a)
		id := r.observe(ip(1))[0]
		r.start()
		synctest.Wait()
		require.Equal(t, 3*time.Hour, time.Until(r.get(id).Entry("a").Due))
		a.will(busy(100 * time.Hour))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Equal(t, 2, a.asked())
		require.Equal(t, 24*time.Hour, time.Until(r.get(id).Entry("a").Due))
	})
}

// TestARetiredAttacker: once an attacker is refreshed no more it waits for no provider
// that has answered. It goes on looking for a first answer, and takes what another
// attacker with its address brings.
func TestARetiredAttacker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, never, weekly := newSource("a"), newSource("never").will(fails(errRefused)), scarce("weekly", 3, provider.Week)
		var done saves
		r := newRig(t, intel.Config{Jitter: -1, RefreshFor: 5 * provider.Day, Hooks: done.hooks()}, a, never, weekly)
		ids := r.observe(ips(3)...)
		r.start()
		require.Equal(t, 3, weekly.asked())
		time.Sleep(2 * provider.Day)
		synctest.Wait()
		require.Equal(t, store.Waiting, r.get(ids[0]).Entry("weekly").State)
		time.Sleep(4 * provider.Day)
		synctest.Wait()
		for _, id := range ids {
			e := r.get(id).Entry("weekly")
			require.Equal(t, store.Fresh, e.State)
			require.Zero(t, e.Since)
			require.True(t, e.Expires.Before(time.Now()))
		}
		asked, tried := a.asked(), never.asked()
		time.Sleep(provider.Week)
		synctest.Wait()
		require.Equal(t, 3, weekly.asked())
		require.Equal(t, asked, a.asked())
		require.Greater(t, never.asked(), tried)

		a.will(says(provider.Suspicious))
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(1)}))
		r.worker.Wake()
		before := done.count()
		time.Sleep(20 * time.Hour)
		synctest.Wait()
		require.Equal(t, provider.Suspicious, r.get(ids[1]).Entry("a").Finding.Verdict)
		require.Equal(t, asked+1, a.asked())
		r.stop()
		var pending []string
		for _, info := range done.infos[before:] {
			if info.Record.ID == ids[1] && len(info.Answered) > 0 {
				pending = info.Pending
			}
		}
		require.Equal(t, []string{"never"}, pending)
	})
}

// TestEarlyRefreshesLeaveTheBacklog: a sighting does not replace a fresh finding early
// while attackers may be waiting for the provider, and does not add to them.
func TestEarlyRefreshesLeaveTheBacklog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		weekly := scarce("weekly", 30, provider.Week)
		r := newRig(t, intel.Config{PollInterval: time.Second}, weekly)
		id := r.observe(ip(0))[0]
		r.start()
		time.Sleep(13 * time.Hour)
		weekly.will(takes(10*time.Second, provider.Malicious))
		r.observe(ip(1))
		r.worker.Wake()
		time.Sleep(3 * time.Second) // others may have come by now
		require.Equal(t, 2, weekly.asked())
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(0), LastSeen: time.Now()}))
		r.worker.Wake()
		synctest.Wait()
		require.Equal(t, store.Fresh, r.get(id).Entry("weekly").State)
		time.Sleep(time.Minute)
		require.Equal(t, 2, weekly.asked())

		weekly.will(nil)
		time.Sleep(time.Hour)
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: ip(0), LastSeen: time.Now()}))
		r.worker.Wake()
		synctest.Wait()
		require.Equal(t, 3, weekly.asked(), "nobody waits any more")
	})
}

// updates is a store that keeps the last update.
type updates struct {
	*memstore.Store
	last store.Update
}

func (s *updates) Save(ctx context.Context, ups ...store.Update) error {
	s.last = ups[len(ups)-1]
	return s.Store.Save(ctx, ups...)
}

// TestWhenARecordExpires: with the first finding of a provider that is configured and
// applies, and after TTL if none expires.
func TestWhenARecordExpires(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &updates{Store: memstore.New()}
		list := &roster{name: "list", verdict: provider.Malicious, private: true}
		list.set(map[string]string{"45.1.0.0/16": "x"})
		var own []netip.Prefix
		id := uuid.New()
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: ip(1)}))
		expires := func(after time.Duration, ps ...intel.Provider) {
			t.Helper()
			r := newRig(t, intel.Config{
				Store: s, Jitter: -1, TTL: 8 * time.Hour, Guard: provider.Guard{OwnFunc: func() []netip.Prefix { return own }},
			}, ps...)
			_, err := r.worker.Enrich(t.Context(), id, intel.Force())
			require.NoError(t, err)
			require.Equal(t, after, time.Until(s.last.ExpiresAt))
			time.Sleep(time.Minute)
		}
		lives := func(name string, ttl time.Duration) *source {
			return newSource(name).will(func(context.Context, netip.Addr) (provider.Finding, error) {
				return provider.Finding{Verdict: provider.Unknown, TTL: ttl}, nil
			})
		}
		a, b, private := lives("a", time.Hour), lives("b", 2*time.Hour), localSource{lives("private", 4*time.Hour)}
		expires(8*time.Hour, list)
		expires(time.Hour, a, b, list, private)
		expires(2*time.Hour, b, list, private)
		own = []netip.Prefix{netip.MustParsePrefix("45.1.0.0/16")}
		expires(4*time.Hour, b, list, private)
	})
}
