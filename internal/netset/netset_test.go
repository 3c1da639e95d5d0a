package netset_test

import (
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/netset"
)

func TestSet(t *testing.T) {
	t.Parallel()
	s := netset.Of([]netip.Prefix{
		netip.MustParsePrefix("10.1.2.3/16"), netip.MustParsePrefix("8.8.8.8/32"), netip.MustParsePrefix("2a0e::/29"), {},
		netip.MustParsePrefix("::ffff:9.9.9.0/120"), netip.MustParsePrefix("64:ff9b::7.7.7.7/128"),
	})
	for text, want := range map[string]bool{
		"10.1.255.255": true, "10.2.0.0": false, "8.8.8.8": true, "8.8.8.9": false, "2a0e:7::1": true, "2a0e:8::": false,
		"::ffff:8.8.8.8": true, "64:ff9b::8.8.8.8": true, "::a01:203": false,
		"9.9.9.200": true, "::ffff:9.9.9.1": true, "9.9.8.1": false, "7.7.7.7": true, "64:ff9b::7.7.7.7": true, "7.7.7.8": false,
	} {
		require.Equal(t, want, s.Contains(netip.MustParseAddr(text)), text)
	}
	require.False(t, s.Contains(netip.Addr{}))
	require.False(t, netset.Of(nil).Contains(netip.MustParseAddr("8.8.8.8")))
}
