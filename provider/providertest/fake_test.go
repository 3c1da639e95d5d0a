package providertest_test

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
)

func TestFakeReplies(t *testing.T) {
	boom := errors.New("boom")
	f := providertest.NewFake("mine", providertest.Reply{Finding: provider.Finding{Known: true, Verdict: provider.Benign}}).
		WithLimits(provider.Limits{MaxInFlight: 3}).
		On(addrA, providertest.Reply{Err: boom}, providertest.Reply{Finding: provider.Finding{Verdict: provider.Malicious}}).
		On(addrB, providertest.Reply{Panic: "ouch"})
	require.Equal(t, "mine", f.Name())
	require.Equal(t, provider.Limits{MaxInFlight: 3}, f.Limits())

	_, err := f.Lookup(t.Context(), addrA)
	require.Equal(t, boom, err)
	for range 2 {
		got, err := f.Lookup(t.Context(), addrA)
		require.NoError(t, err)
		require.Equal(t, provider.Malicious, got.Verdict)
		require.Equal(t, "mine", got.Provider)
		require.Equal(t, addrA, got.Addr)
		require.WithinDuration(t, time.Now(), got.ObservedAt, time.Minute)
		require.NoError(t, got.Validate())
	}
	require.PanicsWithValue(t, "ouch", func() { _, _ = f.Lookup(t.Context(), addrB) })
	got, err := f.Lookup(t.Context(), addrC)
	require.NoError(t, err)
	require.Equal(t, provider.Benign, got.Verdict)

	f.On(addrA)
	got, err = f.Lookup(t.Context(), addrA)
	require.NoError(t, err)
	require.Equal(t, provider.Benign, got.Verdict, "no replies of its own any more")

	require.Equal(t, 6, f.Calls())
	require.Equal(t, 4, f.CallsFor(addrA))
	require.Equal(t, []netip.Addr{addrA, addrC, addrB}, f.Asked())
	require.Zero(t, f.InFlight(), "also after a panic")
	require.Equal(t, 1, f.Peak())
}

func TestFakeKeepsWhatItIsGiven(t *testing.T) {
	when := time.Date(2026, 11, 1, 0, 0, 0, 0, time.UTC)
	given := provider.Finding{Provider: "another", Addr: addrB, ObservedAt: when, TTL: time.Hour}
	f := providertest.NewFake("mine", providertest.Reply{Finding: given})
	got, err := f.Lookup(t.Context(), addrA)
	require.NoError(t, err)
	require.Equal(t, given, got)
}

func TestFakeZeroValue(t *testing.T) {
	var f providertest.Fake
	got, err := f.Lookup(t.Context(), addrA)
	require.NoError(t, err)
	require.Equal(t, "fake", got.Provider)
	require.False(t, got.Known)
	require.Equal(t, provider.None, got.Verdict)
	require.Equal(t, provider.Limits{}, f.Limits())
}

func TestFakeDelayHonoursContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := providertest.NewFake("slow", providertest.Reply{Delay: time.Minute})
		began := time.Now()
		_, err := f.Lookup(t.Context(), addrA)
		require.NoError(t, err)
		require.Equal(t, time.Minute, time.Since(began))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = f.Lookup(ctx, addrA)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, time.Minute+time.Second, time.Since(began))
		_, err = f.Lookup(ctx, addrA)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.Equal(t, 3, f.Calls())
	})
}

func TestFakeHangIgnoresContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		release := make(chan struct{})
		f := providertest.NewFake("deaf", providertest.Reply{Hang: release})
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() { _, _ = f.Lookup(ctx, addrA) })
		}
		synctest.Wait()
		cancel()
		synctest.Wait()
		require.Equal(t, 3, f.InFlight())
		require.Equal(t, 3, f.Peak())
		close(release)
		wg.Wait()
		require.Zero(t, f.InFlight())
	})
}
