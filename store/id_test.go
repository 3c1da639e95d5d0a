package store_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// TestAttackerID pins the UUIDs: they are keys in databases and never change.
func TestAttackerID(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1":          "25098bb0-8bfb-52b9-8041-af949e64f44c",
		"::ffff:192.0.2.1":   "25098bb0-8bfb-52b9-8041-af949e64f44c",
		"2001:db8::1":        "58c7e13c-cb1f-51fb-84a1-e319b4d73c0d",
		"2001:db8::1%eth0":   "58c7e13c-cb1f-51fb-84a1-e319b4d73c0d",
		"2001:db8:0:0::0001": "58c7e13c-cb1f-51fb-84a1-e319b4d73c0d",
	} {
		require.Equal(t, want, store.AttackerID(netip.MustParseAddr(text)).String(), text)
	}
	require.Equal(t, uuid.Version(5), store.AttackerID(netip.MustParseAddr("192.0.2.1")).Version())
	require.Equal(t, uuid.Nil, store.AttackerID(netip.Addr{}))
}

func TestEventID(t *testing.T) {
	id := uuid.MustParse("5f6cbb9a-0b68-4c52-8a1b-9c42f0ad21b6")
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456789, time.UTC)
	want := store.EventID(id, 7, at)
	require.Equal(t, "b3e85b8f65b85bb2af83f4fd993cef2e", want)
	require.Equal(t, want, store.EventID(id, 7, at.Truncate(time.Microsecond)), "as a store returns the time")
	require.Equal(t, want, store.EventID(id, 7, at.In(time.FixedZone("elsewhere", 3600))))
	for _, other := range []string{
		store.EventID(uuid.New(), 7, at), store.EventID(id, 8, at), store.EventID(id, 7, at.Add(time.Microsecond)),
		store.EventID(id, 71, at), // the revision and the time are told apart
	} {
		require.NotEqual(t, want, other)
	}
}
