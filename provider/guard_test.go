package provider_test

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestGuardAllows(t *testing.T) {
	for _, text := range []string{
		"1.1.1.1", "8.8.8.8", "45.155.205.233", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0",
		"126.255.255.255", "128.0.0.0", "169.253.255.255", "169.255.0.0", "172.15.255.255", "172.32.0.0",
		"191.255.255.255", "192.0.0.9", "192.0.0.10", "192.0.1.0", "192.0.3.0", "192.88.98.255", "192.88.100.0",
		"192.167.255.255", "192.169.0.0", "198.17.255.255", "198.20.0.0", "198.51.99.255", "198.51.101.0",
		"203.0.112.255", "203.0.114.0", "223.255.255.255",
		"2000::1", "2001:200::1", "2001:4860:4860::8888", "2a0e:97c0::1", "2001:1::1", "2001:1::2", "2001:1::3",
		"2001:3::1", "2001:4:112::1", "2001:20::1", "2001:30::1", "2620:4f:8000::1", "3ffe::1", "3fff:1000::1",
		"::ffff:8.8.8.8",                       // IPv4-mapped
		"64:ff9b::808:808",                     // NAT64 of 8.8.8.8
		"2002:808:808::1",                      // 6to4 of 8.8.8.8
		"2001:0:4136:e378:8000:63bf:f7f7:f7f7", // Teredo: server 65.54.227.120, client 8.8.8.8
		"2a0e:97c0::1%eth0",                    // the zone is dropped
		"2a0e:97c0::5efe:8.8.8.8",              // ISATAP of 8.8.8.8
		"2a0e:97c0::200:5efe:8.8.8.8",          // likewise
		"2a0e:97c0::100:5efe:10.0.0.1",         // not ISATAP
	} {
		require.True(t, provider.Guard{}.Allows(netip.MustParseAddr(text)), text)
	}
}

func TestGuardRefuses(t *testing.T) {
	require.False(t, provider.Guard{}.Allows(netip.Addr{}), "the zero Addr")
	for _, text := range []string{
		"0.0.0.0", "0.255.255.255", "10.0.0.0", "10.255.255.255", "100.64.0.0", "100.127.255.255", "127.0.0.1",
		"127.255.255.255", "169.254.0.0", "169.254.169.254", "172.16.0.0", "172.31.255.255", "192.0.0.0", "192.0.0.8",
		"192.0.0.11", "192.0.0.255", "192.0.2.1", "192.88.99.1", "192.168.0.0", "192.168.255.255", "198.18.0.0",
		"198.19.255.255", "198.51.100.7", "203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255",
		"::", "::1", "100::1", "fc00::1", "fdff::1", "fe80::1", "fec0::1", "ff02::1", "4000::1", "1fff::1",
		"2001:2::1", "2001:10::1", "2001:1::4", "2001:1ff::1", "2001:db8::1", "3fff::1", "3fff:fff::1", "5f00::1", "64:ff9b:1::1",
		"::ffff:10.0.0.1", "::ffff:127.0.0.1", "::10.0.0.1",
		"64:ff9b::a00:1",                       // NAT64 of 10.0.0.1
		"2002:a00:1::1",                        // 6to4 of 10.0.0.1
		"2002:7f00:1::1",                       // 6to4 of 127.0.0.1
		"2001:0:a00:1:8000:63bf:f7f7:f7f7",     // Teredo with server 10.0.0.1
		"2001:0:4136:e378:8000:63bf:f5ff:fffe", // Teredo with client 10.0.0.1
		"2a0e:97c0::5efe:10.0.0.1",             // ISATAP of 10.0.0.1
		"2a0e:97c0::200:5efe:192.168.0.1",      // ISATAP of 192.168.0.1
		"2002:808:808::5efe:10.0.0.1",          // 6to4 of 8.8.8.8 and ISATAP of 10.0.0.1
		"64:ff9b:1::808:808",                   // NAT64 for local use, of 8.8.8.8
		"fe80::1%eth0",
	} {
		require.False(t, provider.Guard{}.Allows(netip.MustParseAddr(text)), text)
	}
}

func TestGuardOwnNetworks(t *testing.T) {
	g := provider.Guard{Own: []netip.Prefix{
		netip.MustParsePrefix("45.155.205.0/24"), netip.MustParsePrefix("2a0e:97c0::/32"),
	}}
	for text, want := range map[string]bool{
		"45.155.205.233": false, "45.155.204.233": true, "::ffff:45.155.205.1": false,
		"2a0e:97c0::1": false, "2a0e:97c1::1": true,
		"64:ff9b::2d9b:cd01": false, // NAT64 of 45.155.205.1
		"2002:2d9b:cd01::":   false, // 6to4 of 45.155.205.1
	} {
		require.Equal(t, want, g.Allows(netip.MustParseAddr(text)), text)
	}
}

// An own network counts whatever notation it is written in.
func TestGuardOwnNetworksInOtherNotations(t *testing.T) {
	for _, own := range []string{"::ffff:45.155.205.0/120", "64:ff9b::45.155.205.0/120", "::ffff:0:0/96", "45.155.205.7/24"} {
		g := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix(own)}}
		for _, text := range []string{"45.155.205.233", "::ffff:45.155.205.233", "64:ff9b::45.155.205.233", "2002:2d9b:cde9::1", "2a0e::5efe:45.155.205.233"} {
			require.False(t, g.Allows(netip.MustParseAddr(text)), "%s in %s", text, own)
		}
		require.True(t, g.Allows(netip.MustParseAddr("2a0e:97c0::1")), own)
	}
	require.True(t, provider.Guard{Own: []netip.Prefix{{}}}.Allows(netip.MustParseAddr("8.8.8.8")), "the zero Prefix holds nothing")
}

func TestCanonical(t *testing.T) {
	for text, want := range map[string]string{
		"8.8.8.8": "8.8.8.8", "::ffff:8.8.8.8": "8.8.8.8", "::ffff:8.8.8.8%eth0": "8.8.8.8", "fe80::1%eth0": "fe80::1", "2A0E::1": "2a0e::1",
		"64:ff9b::808:808": "8.8.8.8", "64:ff9b::8.8.8.8%eth0": "8.8.8.8", "64:ff9b::10.0.0.1": "10.0.0.1", // NAT64
		"64:ff9b::1:808:808": "64:ff9b::1:808:808", "64:ff9b:1::808:808": "64:ff9b:1::808:808", // not of its well-known prefix
		"2002:808:808::1": "2002:808:808::1", "::8.8.8.8": "::8.8.8.8", "2a0e::5efe:8.8.8.8": "2a0e::5efe:808:808",
	} {
		require.Equal(t, netip.MustParseAddr(want), provider.Canonical(netip.MustParseAddr(text)), text)
	}
	require.Equal(t, netip.Addr{}, provider.Canonical(netip.Addr{}))
}

func TestCanonicalPrefix(t *testing.T) {
	for text, want := range map[string]string{
		"8.8.8.8/24": "8.8.8.0/24", "::ffff:8.8.8.8/120": "8.8.8.0/24", "64:ff9b::8.8.8.8/128": "8.8.8.8/32", "::ffff:0:0/96": "0.0.0.0/0",
		"2A0E::1/64": "2a0e::/64", "64:ff9b:1::8.8.8.8/128": "64:ff9b:1::8.8.8.8/128",
	} {
		require.Equal(t, netip.MustParsePrefix(want), provider.CanonicalPrefix(netip.MustParsePrefix(text)), text)
	}
	require.False(t, provider.CanonicalPrefix(netip.Prefix{}).IsValid())
}

func TestParseAddrRefusesAllButAddresses(t *testing.T) {
	for _, text := range []string{"", " 8.8.8.8", "8.8.8.8 ", "8.8.8.8:80", "8.8.8.0/24", "[2a0e::1]", "008.8.8.8", "8.8.8", "host.example", "8.8.8.8\x00"} {
		addr, err := provider.ParseAddr(text)
		require.Error(t, err, "%q", text)
		require.False(t, addr.IsValid(), "%q", text)
	}
}

func FuzzParseAddr(f *testing.F) {
	for _, s := range []string{"8.8.8.8", "::ffff:10.0.0.1", "fe80::1%eth0", "2001:0:4136:e378:8000:63bf:f7f7:f7f7", "x"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		addr, err := provider.ParseAddr(s)
		if err != nil {
			if addr.IsValid() {
				t.Fatalf("%q: an address and an error", s)
			}
			return
		}
		if addr.Zone() != "" || addr.Is4In6() || addr != provider.Canonical(addr) {
			t.Fatalf("%q: %v is not canonical", s, addr)
		}
		if again, err := provider.ParseAddr(addr.String()); err != nil || again != addr {
			t.Fatalf("%q: %v does not parse back: %v, %v", s, addr, again, err)
		}
	})
}

// FuzzGuard compares the guard with what package netip knows, and every way to
// embed an IPv4 address with that address itself.
func FuzzGuard(f *testing.F) {
	f.Add([]byte{10, 0, 0, 1}, []byte{0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Add([]byte{8, 8, 8, 8}, []byte{0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1})
	f.Fuzz(func(t *testing.T, four, sixteen []byte) {
		var g provider.Guard
		for _, b := range [][]byte{four, sixteen} {
			addr, ok := netip.AddrFromSlice(b)
			if !ok {
				continue
			}
			plain := provider.Canonical(addr)
			special := !plain.IsGlobalUnicast() || plain.IsPrivate()
			if g.Allows(addr) && special {
				t.Fatalf("%v is let through", addr)
			}
			if g.Allows(addr) != g.Allows(plain) {
				t.Fatalf("%v and %v are judged differently", addr, plain)
			}
		}
		if len(four) != 4 {
			return
		}
		v4 := netip.AddrFrom4([4]byte(four))
		good := [4]byte{8, 8, 8, 8}
		inverted := binary.BigEndian.AppendUint32(nil, ^binary.BigEndian.Uint32(four))
		for name, b := range map[string][]byte{
			"mapped":        append(make([]byte, 10), append([]byte{0xff, 0xff}, four...)...),
			"NAT64":         append([]byte{0, 0x64, 0xff, 0x9b, 0, 0, 0, 0, 0, 0, 0, 0}, four...),
			"ISATAP":        append([]byte{0x2a, 0x0e, 0, 0, 0, 0, 0, 0, 0, 0, 0x5e, 0xfe}, four...),
			"6to4":          append(append([]byte{0x20, 0x02}, four...), make([]byte, 10)...),
			"Teredo server": append(append([]byte{0x20, 0x01, 0, 0}, four...), 0, 0, 0, 0, ^good[0], ^good[1], ^good[2], ^good[3]),
			"Teredo client": append([]byte{0x20, 0x01, 0, 0, good[0], good[1], good[2], good[3], 0, 0, 0, 0}, inverted...),
		} {
			addr, _ := netip.AddrFromSlice(b)
			if g.Allows(addr) != g.Allows(v4) {
				t.Fatalf("%s: %v is judged unlike %v, which is embedded in it", name, addr, v4)
			}
		}
	})
}

func BenchmarkGuard(b *testing.B) {
	addr := netip.MustParseAddr("45.155.205.233")
	b.ReportAllocs()
	for b.Loop() {
		if !(provider.Guard{}).Allows(addr) {
			b.Fatal("refused")
		}
	}
}
