package store_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func TestAttackerAddr(t *testing.T) {
	for ip, want := range map[string]netip.Addr{
		"45.9.148.3":          netip.MustParseAddr("45.9.148.3"),
		"::ffff:45.9.148.3":   netip.MustParseAddr("45.9.148.3"),
		"2A01:4F8:0:0::2":     netip.MustParseAddr("2a01:4f8::2"),
		"fe80::1%eth0":        netip.MustParseAddr("fe80::1"),
		"":                    {},
		"45.9.148.3:22":       {},
		"honeypot.example":    {},
		"45.9.148.3 ":         {},
		"045.9.148.3":         {},
		"45.9.148.3/32":       {},
		"2a01:4f8:c17::2::42": {},
	} {
		a := store.Attacker{IP: ip}
		require.Equal(t, want, a.Addr(), "%q", ip)
	}
}

func TestRecordEntry(t *testing.T) {
	r := store.Record{Entries: []store.Entry{{Provider: "a"}, {Provider: "b"}}}
	require.Same(t, &r.Entries[1], r.Entry("b"))
	require.Nil(t, r.Entry("c"))
	require.Nil(t, new(store.Record).Entry(""))
}

func TestStateString(t *testing.T) {
	for state, want := range map[store.State]string{
		store.Due: "due", store.Fresh: "fresh", store.Waiting: "waiting",
		store.NotApplicable: "not applicable", store.NotApplicable + 1: "invalid", 255: "invalid",
	} {
		require.Equal(t, want, state.String())
	}
}
