package intel_test

import (
	"context"
	"errors"
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

func TestForce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b")
		r := newRig(t, intel.Config{}, a, b)
		id := r.observe(ip(1))[0]
		enrich := func(options ...intel.EnrichOption) store.Record {
			time.Sleep(time.Minute)
			rec, err := r.worker.Enrich(t.Context(), id, options...)
			require.NoError(t, err)
			return rec
		}
		enrich()
		enrich()
		require.Equal(t, []int{1, 1}, []int{a.asked(), b.asked()}, "both are fresh")

		a.will(says(provider.Benign))
		b.will(says(provider.Benign))
		rec := enrich(intel.Force("a"))
		require.Equal(t, []int{2, 1}, []int{a.asked(), b.asked()})
		require.Equal(t, provider.Benign, rec.Entry("a").Finding.Verdict)
		require.EqualValues(t, 2, rec.Revision)
		rec = enrich(intel.Force())
		require.Equal(t, []int{3, 2}, []int{a.asked(), b.asked()})
		require.Equal(t, provider.Benign, rec.Decision.Verdict)

		a.will(fails(errors.New("down")))
		rec = enrich(intel.Force("a", "b"))
		require.Equal(t, provider.Benign, rec.Entry("a").Finding.Verdict, "a failure keeps the finding")
		require.Equal(t, store.Due, rec.Entry("a").State, "and is tried again")

		_, err := r.worker.Enrich(t.Context(), id, intel.Force("nobody"))
		require.ErrorContains(t, err, `there is no provider "nobody" to force; the providers are a, b`)
	})
}

// TestForceWithinQuota: force spends no call that is not there, and what could not
// be asked waits.
func TestForceWithinQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a")
		r := newRig(t, intel.Config{}, &limited{a, provider.Limits{Quotas: []provider.Quota{{Calls: 2, Window: provider.Day}}}})
		id := r.observe(ip(1))[0]
		for range 5 {
			_, err := r.worker.Enrich(t.Context(), id, intel.Force())
			require.NoError(t, err)
			time.Sleep(time.Second)
		}
		require.Equal(t, 2, a.asked())
		require.Equal(t, store.Waiting, r.get(id).Entry("a").State)
	})
}

func TestReask(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := newSource("a"), newSource("b")
		r := newRig(t, intel.Config{TTL: 1000 * time.Hour}, a, b)
		r.observe(ips(600)...)
		twin := r.observe(ip(7))[0] // another attacker with an address that is there
		require.NoError(t, r.worker.Drain(t.Context()))
		asked := a.asked()
		require.Equal(t, 600, asked)
		time.Sleep(time.Hour)
		a.will(says(provider.Benign))
		b.will(says(provider.Benign))

		began := time.Now()
		done, err := r.worker.Reask(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, intel.Reasked{Seen: 601, Answered: 601}, done)
		require.Equal(t, 600, a.asked()-asked, "one call for an address")
		require.Equal(t, 600, b.asked())
		require.InDelta(t, 601*50*time.Millisecond, time.Since(began), float64(time.Second), "paced")
		for _, rec := range r.records() {
			require.Equal(t, provider.Benign, rec.Entry("a").Finding.Verdict)
			require.Equal(t, provider.Malicious, rec.Entry("b").Finding.Verdict, "everything else stays")
		}
		require.NotNil(t, r.get(twin).Entry("a"))

		_, err = r.worker.Reask(t.Context(), "nobody")
		require.ErrorContains(t, err, `there is no provider "nobody"; the providers are a, b`)
		blind := newRig(t, intel.Config{Store: struct{ store.Store }{memstore.New()}}, a)
		_, err = blind.worker.Reask(t.Context(), "a")
		require.ErrorContains(t, err, "it has to be a store.Lister")
	})
}

// TestReaskLeavesQuota: a scarce provider is asked again only while more than half
// of its quota is left, and goes on when the quota is back.
func TestReaskLeavesQuota(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a")
		r := newRig(t, intel.Config{TTL: 1000 * time.Hour}, &limited{a, provider.Limits{Quotas: []provider.Quota{{Calls: 20, Window: provider.Day}}}})
		r.observe(ips(20)...)
		require.NoError(t, r.worker.Drain(t.Context()))
		require.Equal(t, 20, a.asked())
		time.Sleep(25 * time.Hour)

		ctx, cancel := context.WithTimeout(t.Context(), 12*time.Hour)
		done, err := r.worker.Reask(ctx, "a")
		cancel()
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 10, done.Answered)
		require.Equal(t, 30, a.asked())
		done, err = r.worker.Reask(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, 20, done.Answered)
	})
}

// TestReaskRejectedKey: a rejected key ends it.
func TestReaskRejectedKey(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newSource("a")
		r := newRig(t, intel.Config{}, a)
		r.observe(ips(5)...)
		require.NoError(t, r.worker.Drain(t.Context()))
		time.Sleep(time.Minute)
		a.will(func(context.Context, netip.Addr) (provider.Finding, error) {
			return provider.Finding{}, &provider.Error{Provider: "a", Kind: provider.ErrUnauthorized, StatusCode: 401}
		})
		done, err := r.worker.Reask(t.Context(), "a")
		require.ErrorContains(t, err, "rejects the API key")
		require.Equal(t, intel.Reasked{Seen: 1, Failed: 1}, done)
		require.Equal(t, 6, a.asked())
		ids := []uuid.UUID{}
		for id := range r.records() {
			ids = append(ids, id)
		}
		require.Len(t, ids, 5)
	})
}
