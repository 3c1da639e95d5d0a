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
	})
	for text, want := range map[string]bool{
		"10.1.255.255": true, "10.2.0.0": false, "8.8.8.8": true, "8.8.8.9": false, "2a0e:7::1": true, "2a0e:8::": false,
		"::ffff:8.8.8.8": true, "64:ff9b::8.8.8.8": true, "::a01:203": false,
	} {
		require.Equal(t, want, s.Contains(netip.MustParseAddr(text)), text)
	}
	require.False(t, s.Contains(netip.Addr{}))
	require.False(t, netset.Of(nil).Contains(netip.MustParseAddr("8.8.8.8")))
}
