package main

import (
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/mock/gomock"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/intelmock"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

var (
	quiet  = slog.New(slog.DiscardHandler)
	bad    = netip.MustParseAddr("45.155.205.233")
	good   = netip.MustParseAddr("71.6.135.131")
	odd    = netip.MustParseAddr("193.32.162.7")
	inside = netip.MustParseAddr("192.168.1.5")
)

// said is the reply of a provider that knows an address.
func said(v provider.Verdict) providertest.Reply {
	return providertest.Reply{Finding: provider.Finding{Known: true, Verdict: v}}
}

// TestWithMocks is about which calls are made, in which order, and about failures
// that fakes do not have: after a database that fails once, the service ends its
// subscription and makes another. It believes the record, not the event.
func TestWithMocks(t *testing.T) {
	ctrl := gomock.NewController(t)
	records, b := intelmock.NewMockStore(ctrl), intelmock.NewMockBus(ctrl)
	first, second := intelmock.NewMockSubscription(ctrl), intelmock.NewMockSubscription(ctrl)
	empty := memstore.New()
	s, err := NewService(struct {
		*intelmock.MockStore
		store.Registrar
		store.Lister
	}{records, empty, empty}, b, quiet)
	require.NoError(t, err)

	r := store.Record{Attacker: store.Attacker{ID: store.AttackerID(bad), IP: bad.String()}}
	r.Decision.Verdict = provider.Malicious
	event := bus.Event{Payload: json.RawMessage(`{"attacker_uuid":"` + r.ID.String() + `","aggregate_verdict":"benign"}`)}
	down := errors.New("the database is down")
	events := make(chan bus.Event, 1)
	first.EXPECT().Events().Return(events).AnyTimes()
	second.EXPECT().Events().Return(events).AnyTimes()
	gomock.InOrder(
		b.EXPECT().Subscribe(gomock.Any(), intel.TopicEnriched).Return(first, nil),
		records.EXPECT().Get(gomock.Any(), r.ID).Return(store.Record{}, down),
		first.EXPECT().Close().Return(nil),

		b.EXPECT().Subscribe(gomock.Any(), intel.TopicEnriched).Return(second, nil),
		records.EXPECT().Get(gomock.Any(), r.ID).Return(r, nil),
		second.EXPECT().Err().Return(bus.ErrLost),
		second.EXPECT().Close().Return(nil),
	)

	events <- event
	require.ErrorIs(t, s.follow(t.Context()), down)
	require.False(t, s.Blocked(bad))
	events <- event
	close(events)
	require.ErrorIs(t, s.follow(t.Context()), bus.ErrLost)
	require.True(t, s.Blocked(bad), "by the record, whatever the event says")
}

// TestWithFakes is about what the service does, whatever calls that takes: a
// store and a bus in memory, and a provider that says what it is told to.
func TestWithFakes(t *testing.T) {
	attackers, b := memstore.New(), membus.New(membus.Options{})
	defer b.Close()
	fake := providertest.NewFake("fake").On(bad, said(provider.Malicious)).On(good, said(provider.Benign))
	s, err := NewService(attackers, b, quiet, fake)
	require.NoError(t, err)
	verdicts, err := b.Subscribe(t.Context(), intel.TopicEnriched)
	require.NoError(t, err)

	for _, addr := range []netip.Addr{bad, good, odd, inside} {
		require.NoError(t, s.LoginFailed(t.Context(), addr))
	}
	require.NoError(t, s.worker.Drain(t.Context()))
	require.Equal(t, []netip.Addr{bad, good, odd}, fake.Asked(), "a private address is told to nobody")
	for range fake.Asked() {
		require.NoError(t, s.React(t.Context(), <-verdicts.Events()))
	}
	require.True(t, s.Blocked(bad))
	for _, addr := range []netip.Addr{good, odd, inside} {
		require.False(t, s.Blocked(addr), addr)
	}

	// After a restart the service reads what is known.
	s, err = NewService(attackers, b, quiet, fake)
	require.NoError(t, err)
	require.NoError(t, s.load(t.Context()))
	require.True(t, s.Blocked(bad))
	require.Equal(t, 3, fake.Calls(), "without asking again")
}

// TestInVirtualTime is about time: a provider that fails at first is asked again
// within minutes, and a verdict that changes after days unblocks the attacker.
// The days pass in an instant.
func TestInVirtualTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		defer b.Close()
		fake := providertest.NewFake("fake").On(bad,
			providertest.Reply{Err: &provider.Error{Provider: "fake", Kind: provider.ErrUnavailable}},
			said(provider.Malicious), said(provider.Malicious), said(provider.Benign))
		s, err := NewService(memstore.New(), b, quiet, fake)
		require.NoError(t, err)
		ctx, stop := context.WithCancel(t.Context())
		stopped := make(chan error, 1)
		go func() { stopped <- s.Run(ctx) }()
		defer func() {
			stop()
			require.NoError(t, <-stopped)
		}()
		synctest.Wait()

		require.NoError(t, s.LoginFailed(t.Context(), bad))
		synctest.Wait()
		require.Equal(t, 1, fake.Calls())
		require.False(t, s.Blocked(bad), "a failure is no finding")

		time.Sleep(5 * time.Minute)
		require.Equal(t, 2, fake.Calls())
		require.True(t, s.Blocked(bad))

		time.Sleep(24 * time.Hour) // a finding is fresh for a day
		require.Equal(t, 3, fake.Calls())
		require.True(t, s.Blocked(bad))

		time.Sleep(24 * time.Hour)
		require.Equal(t, 4, fake.Calls())
		require.False(t, s.Blocked(bad))
	})
}
