package memstore_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/suitecheck"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/storetest"
)

var harness = storetest.Harness{
	New:   func(testing.TB) store.Store { return memstore.New() },
	Shift: func(_ testing.TB, s store.Store, by time.Duration) { s.(*memstore.Store).Shift(by) },
}

func TestStore(t *testing.T) {
	storetest.Run(t, harness)
}

// TestClockChecks: the checks of a clock that was wrong notice a store that does not
// correct what it finds, such as one that was told nothing.
func TestClockChecks(t *testing.T) {
	for _, c := range storetest.Checks() {
		if slices.Contains([]string{"ClockLease", "ClockTurn", "ClockOutbox"}, c.Name) {
			shiftless := harness
			shiftless.Shift = func(testing.TB, store.Store, time.Duration) {}
			require.NotEmpty(t, suitecheck.Failure(t, func(tb testing.TB) { c.Run(tb, shiftless) }), c.Name)
		}
	}
}

func BenchmarkStore(b *testing.B) {
	storetest.Benchmark(b, harness)
}

// audited checks the store's own books, and each claim against a search of
// everything.
type audited struct {
	*memstore.Store
	tb testing.TB
}

func (a audited) audit(call string) {
	if err := a.Audit(); err != nil {
		a.tb.Errorf("after %s: %v", call, err)
	}
}

func (a audited) Claim(ctx context.Context, req store.ClaimRequest) (store.Claimed, error) {
	want := a.Claimable(req)
	c, err := a.Store.Claim(ctx, req)
	var got []uuid.UUID
	for _, rec := range c.Records {
		got = append(got, rec.ID)
	}
	if err == nil && !slices.Equal(got, want) {
		a.tb.Errorf("Claim(%+v) returned %v; want %v", req, got, want)
	}
	a.audit("Claim")
	return c, err
}

func (a audited) Save(ctx context.Context, updates ...store.Update) error {
	defer a.audit("Save")
	return a.Store.Save(ctx, updates...)
}

func (a audited) Release(ctx context.Context, due time.Time, leases ...store.Lease) error {
	defer a.audit("Release")
	return a.Store.Release(ctx, due, leases...)
}

func (a audited) Observe(ctx context.Context, attackers ...store.Attacker) error {
	defer a.audit("Observe")
	return a.Store.Observe(ctx, attackers...)
}

func (a audited) Forget(ctx context.Context, ids ...uuid.UUID) error {
	defer a.audit("Forget")
	return a.Store.Forget(ctx, ids...)
}

func (a audited) Published(ctx context.Context, ids ...string) error {
	defer a.audit("Published")
	return a.Store.Published(ctx, ids...)
}

func TestBooksAreRightAfterRandomCalls(t *testing.T) {
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			storetest.Model(t, storetest.Harness{
				New: func(tb testing.TB) store.Store { return audited{memstore.New(), tb} },
			}, seed)
		})
	}
}

func request(now time.Time) store.ClaimRequest {
	return store.ClaimRequest{Now: now, Owner: "test", Lease: time.Minute, Limit: 10}
}

func TestLeaseEndsOnTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := memstore.New()
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: "45.9.148.3"}))
		claim := func() store.Claimed {
			c, err := s.Claim(t.Context(), request(time.Now()))
			require.NoError(t, err)
			return c
		}
		first := claim()
		require.Len(t, first.Records, 1)
		end := time.Now().Add(time.Minute)
		<-time.After(time.Minute - time.Microsecond)
		c := claim()
		require.Empty(t, c.Records)
		require.True(t, c.NextDue.Equal(end))
		<-time.After(time.Microsecond)
		second := claim()
		require.Len(t, second.Records, 1)
		require.Greater(t, second.Records[0].Fence, first.Records[0].Fence)
	})
}

func TestSaveAfterTheLeaseExpired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, id := memstore.New(), uuid.New()
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.148.3"}))
		expired := func() store.Update {
			c, err := s.Claim(t.Context(), request(time.Now()))
			require.NoError(t, err)
			require.Len(t, c.Records, 1)
			<-time.After(time.Hour)
			return store.Update{Lease: store.Lease{ID: id, Fence: c.Records[0].Fence}, IP: "45.9.148.3", Revision: c.Records[0].Revision + 1}
		}
		u := expired()
		_, err := s.Claim(t.Context(), request(time.Now()))
		require.NoError(t, err)
		require.ErrorIs(t, s.Save(t.Context(), u), store.ErrConflict, "somebody has claimed the attacker since")

		<-time.After(time.Hour)
		require.NoError(t, s.Save(t.Context(), expired()), "nobody has claimed the attacker since")
		rec, err := s.Get(t.Context(), id)
		require.NoError(t, err)
		require.EqualValues(t, 1, rec.Revision)
	})
}

func TestReleaseOfAMovedAttackerMakesItDue(t *testing.T) {
	s, id := memstore.New(), uuid.New()
	now := time.Now()
	require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.148.3"}))
	c, err := s.Claim(t.Context(), request(now))
	require.NoError(t, err)
	require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.148.4"}))
	require.NoError(t, s.Release(t.Context(), now.Add(time.Hour), store.Lease{ID: id, Fence: c.Records[0].Fence}))
	c, err = s.Claim(t.Context(), request(now))
	require.NoError(t, err)
	require.Len(t, c.Records, 1)
}

func TestSaveRefusesTwoEntriesOfOneProvider(t *testing.T) {
	s, id := memstore.New(), uuid.New()
	require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.148.3"}))
	c, err := s.Claim(t.Context(), request(time.Now()))
	require.NoError(t, err)
	u := store.Update{
		Lease:   store.Lease{ID: id, Fence: c.Records[0].Fence},
		IP:      "45.9.148.3",
		Entries: []store.Entry{{Provider: "a"}, {Provider: "b"}, {Provider: "a"}},
	}
	var failed *store.SaveError
	require.ErrorAs(t, s.Save(t.Context(), u), &failed)
	require.Len(t, failed.Failed, 1)
	require.ErrorIs(t, failed.Failed[id], store.ErrInvalid)
	u.Entries = u.Entries[:2]
	require.NoError(t, s.Save(t.Context(), u), "the lease is still good")
}
