package memstore_test

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// announce enriches a new attacker with an event of that ID.
func announce(t *testing.T, s *memstore.Store, eventID string) {
	t.Helper()
	id := uuid.New()
	require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: "45.9.148.3"}))
	c, err := s.Claim(t.Context(), request(time.Now()))
	require.NoError(t, err)
	require.Len(t, c.Records, 1)
	require.NoError(t, s.Save(t.Context(), store.Update{
		Lease: store.Lease{ID: id, Fence: c.Records[0].Fence}, IP: "45.9.148.3", Revision: 1,
		Event: &bus.Event{ID: eventID, Topic: "attacker.intel.enriched"},
	}))
}

func TestOutboxHoldsAnEventOnce(t *testing.T) {
	s := memstore.New()
	for _, id := range []string{"one", "two", "one"} {
		announce(t, s, id)
	}
	events, err := s.Unpublished(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.NoError(t, s.Published(t.Context(), "one"))
	events, err = s.Unpublished(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 1)
	require.Equal(t, "two", events[0].ID)
}

func TestOutboxNamesEventsWithoutID(t *testing.T) {
	s := memstore.New()
	announce(t, s, "")
	announce(t, s, "")
	events, err := s.Unpublished(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Len(t, events, 2)
	require.NoError(t, s.Published(t.Context(), events[0].ID))
	left, err := s.Unpublished(t.Context(), 0, 10)
	require.NoError(t, err)
	require.Equal(t, events[1:], left)
}
