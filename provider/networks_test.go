package provider_test

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestParseNetworks(t *testing.T) {
	own, err := provider.ParseNetworks(strings.NewReader("# ours\n45.9.148.3/24 # office\n\n193.32.162.7\n2a10:1fc0::/32\n::ffff:71.6.135.0/120\n64:ff9b::5.6.7.0/120\n::ffff:0:0/90\n2a10:1fc0:6::2\n"))
	require.NoError(t, err)
	var got []string
	for _, p := range own {
		got = append(got, p.String())
	}
	require.Equal(t, []string{"45.9.148.0/24", "193.32.162.7/32", "2a10:1fc0::/32", "71.6.135.0/24", "5.6.7.0/24", "::ffc0:0:0/90", "2a10:1fc0:6::2/128"}, got)
	own, err = provider.ParseNetworks(strings.NewReader("\ufeff45.9.148.0/24\r\n193.32.162.7\r\n"))
	require.NoError(t, err, "as an editor of Windows writes it")
	require.Equal(t, []netip.Prefix{netip.MustParsePrefix("45.9.148.0/24"), netip.MustParsePrefix("193.32.162.7/32")}, own)
	for _, text := range []string{"nonsense", "1.2.3.4/33", "1.2.3.4-1.2.3.9", "fe80::/10%eth0", "1.2.3"} {
		_, err := provider.ParseNetworks(strings.NewReader("1.2.3.4\n" + text))
		require.ErrorContains(t, err, "line 2: ")
		require.ErrorContains(t, err, text)
	}
	_, err = provider.ParseNetworks(strings.NewReader(strings.Repeat("x", 1<<20)))
	require.ErrorContains(t, err, "too long")
	broken := errors.New("broken disk")
	_, err = provider.ParseNetworks(iotest.ErrReader(broken))
	require.ErrorIs(t, err, broken)
}

func FuzzParseNetworks(f *testing.F) {
	f.Add("45.9.148.3/24 # office\n2a10::/32\n::ffff:1.2.3.4/120")
	f.Fuzz(func(t *testing.T, text string) {
		own, err := provider.ParseNetworks(strings.NewReader(text))
		if err != nil {
			return
		}
		for _, p := range own {
			require.Equal(t, p.Masked(), p)
			require.True(t, p.IsValid() && !p.Addr().Is4In6() || p.Bits() < 96, p)
			require.Equal(t, netip.PrefixFrom(p.Addr(), p.Bits()), p)
		}
	})
}
