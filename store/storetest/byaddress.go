package storetest

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

func byAddress(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.ByAddress](f)
	var all []store.Attacker
	for i, ip := range []string{
		"45.9.0.1", "45.9.0.1", "45.9.0.2", "45.9.1.7", "45.10.0.1", "145.9.0.1", "4.5.9.1", "45.90.0.1", "2a0e:97c0::1", "2a0e:97c0:1::5", "2a0e:97c::1", "2a0e:9::",
	} {
		a := f.attacker(i)
		a.IP = ip
		all = append(all, a)
	}
	f.observe(all...)
	f.enrich(all[0], "a")
	for _, a := range all { // none is unknown to the ledger, and some are parked
		f.save(f.update(f.take(a)))
	}
	for text, want := range map[string][]int{
		"45.9.0.1/32": {0, 1}, "45.9.0.0/31": {0, 1}, "45.9.0.0/24": {0, 1, 2}, "45.9.0.0/23": {0, 1, 2, 3}, "45.8.0.0/14": {0, 1, 2, 3, 4},
		"45.0.0.0/8": {0, 1, 2, 3, 4, 7}, "44.0.0.0/7": {0, 1, 2, 3, 4, 7}, "0.0.0.0/0": {0, 1, 2, 3, 4, 5, 6, 7}, "8.8.8.8/32": nil,
		"2a0e:97c0::/32": {8, 9}, "2a0e:97c0::1/128": {8}, "2a0e::/16": {8, 9, 10, 11}, "2a0e::/20": {10, 11}, "2a0e:97c0:1::/48": {9},
	} {
		f.found(s, all, want, netip.MustParsePrefix(text))
	}
	f.found(s, all, []int{0, 1, 4, 8}, netip.MustParsePrefix("45.9.0.1/32"), netip.MustParsePrefix("2a0e:97c0::/64"),
		netip.MustParsePrefix("45.10.0.0/16"), netip.MustParsePrefix("45.9.0.1/32"), netip.Prefix{})
	f.found(s, all, nil)
	many := make([]netip.Prefix, 0, 3000)
	for i := range 3000 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{77, 1, byte(i >> 8), byte(i)}), 32-i%2*4).Masked())
	}
	f.found(s, all, []int{4}, append(many, netip.MustParsePrefix("45.10.0.0/28"))...)
	f.forget(all[4].ID)
	f.found(s, all, nil, netip.MustParsePrefix("45.10.0.0/16"))

	for i, ip := range []string{ // spelled as nobody would
		"::ffff:46.9.0.1", "64:ff9b::2e09:2", "::FFFF:2E09:3", "64:FF9B:0::46.9.1.4", "2A0F:97C0:0::1", "2a0f:97c0:0:0:0:0:0:2", "46.9.0.7",
	} {
		a := f.attacker(100 + i)
		a.IP = ip
		all = append(all[:12+i], a)
	}
	f.observe(all[12:]...)
	f.enrich(all[12], "a")
	for _, a := range all[12:] {
		f.save(f.update(f.take(a)))
	}
	moved := all[18]
	moved.IP = "::ffff:46.9.0.8"
	f.observe(moved)
	f.save(f.update(f.take(moved)))
	for text, want := range map[string][]int{
		"46.9.0.1/32": {12}, "46.9.0.2/32": {13}, "46.9.0.3/32": {14}, "46.9.0.0/24": {12, 13, 14, 18}, "46.9.0.0/16": {12, 13, 14, 15, 18},
		"46.9.0.7/32": nil, "46.9.0.8/32": {18}, "2a0f:97c0::1/128": {16}, "2a0f:97c0::2/128": {17}, "2a0f:97c0::/32": {16, 17}, "2a0f::/16": {16, 17},
		"::ffff:45.9.0.1/128": {0, 1}, "::ffff:45.9.0.0/120": {0, 1, 2}, "64:ff9b::45.9.1.0/120": {3}, "64:ff9b::2e09:8/128": {18},
	} {
		f.found(s, all, want, netip.MustParsePrefix(text))
	}
}

// found fails the test unless the attackers with the given places in all are found
// in networks, the most recently seen first.
func (f *fixture) found(s store.ByAddress, all []store.Attacker, places []int, networks ...netip.Prefix) {
	f.Helper()
	var want []uuid.UUID
	for _, i := range places {
		want = append(want, all[i].ID)
	}
	got, err := s.ByAddress(f.ctx, networks)
	if err != nil || !slices.Equal(got, want) {
		f.Errorf("ByAddress(%d networks, the last of which is %v) returned %d attackers, %v; want those numbered %v, newest first", len(networks), last(networks), len(got), err, places)
	}
}

func last(networks []netip.Prefix) netip.Prefix {
	if len(networks) == 0 {
		return netip.Prefix{}
	}
	return networks[len(networks)-1]
}
