package netset_test

import (
	"math/rand/v2"
	"net/netip"
	"slices"
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

// TestSetAgreesWithALookAtEveryNetwork compares it with one that looks at all of them.
func TestSetAgreesWithALookAtEveryNetwork(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	addr := func() netip.Addr {
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{45, byte(r.IntN(2)), byte(r.IntN(4)), byte(r.IntN(256))})
		}
		return netip.AddrFrom16([16]byte{0: 0x2a, 2: byte(r.IntN(2)), 15: byte(r.IntN(256))})
	}
	for range 200 {
		networks := make([]netip.Prefix, r.IntN(12))
		for i := range networks {
			a := addr()
			networks[i] = netip.PrefixFrom(a, a.BitLen()-r.IntN(24))
		}
		s := netset.Of(networks)
		for range 100 {
			a := addr()
			want := slices.ContainsFunc(networks, func(p netip.Prefix) bool { return p.Contains(a) })
			require.Equal(t, want, s.Contains(a), "%v in %v", a, networks)
		}
	}
}
