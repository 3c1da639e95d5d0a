package feed

import (
	"errors"
	"math/bits"
	"net/netip"
	"strings"

	"github.com/decnet/enrich/provider"
)

var errNoNetwork = errors.New("neither an address, a network, a range nor an address with a port")

// parseNetworks returns the networks that a text names: an address, a network in
// CIDR notation, a range, or an address with a port. It appends them to list.
func parseNetworks(list []netip.Prefix, text string) ([]netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return append(list, provider.CanonicalPrefix(whole(addr))), nil
	}
	if p, err := netip.ParsePrefix(text); err == nil {
		return append(list, provider.CanonicalPrefix(p)), nil
	}
	if first, last, ok := strings.Cut(text, "-"); ok {
		from, err := netip.ParseAddr(strings.TrimSpace(first))
		to, err2 := netip.ParseAddr(strings.TrimSpace(last))
		if err != nil || err2 != nil {
			return list, errNoNetwork
		}
		from, to = from.Unmap().WithZone(""), to.Unmap().WithZone("")
		if from.BitLen() != to.BitLen() || to.Less(from) {
			return list, errNoNetwork
		}
		return appendRange(list, from, to), nil
	}
	if ap, err := netip.ParseAddrPort(text); err == nil {
		return append(list, provider.CanonicalPrefix(whole(ap.Addr()))), nil
	}
	return list, errNoNetwork
}

func whole(addr netip.Addr) netip.Prefix { return netip.PrefixFrom(addr.WithZone(""), addr.BitLen()) }

// appendRange appends the fewest networks that hold exactly the addresses from
// one to another of the same family.
func appendRange(list []netip.Prefix, from, to netip.Addr) []netip.Prefix {
	for {
		length := from.BitLen() - trailingZeros(from)
		p := netip.PrefixFrom(from, length)
		for to.Less(lastOf(p)) {
			length++
			p = netip.PrefixFrom(from, length)
		}
		list = append(list, provider.CanonicalPrefix(p))
		last := lastOf(p)
		if last == to {
			return list
		}
		from = last.Next()
	}
}

// trailingZeros returns the number of zero bits at the end of an address.
func trailingZeros(addr netip.Addr) int {
	n := 0
	b := addr.AsSlice()
	for i := len(b) - 1; i >= 0; i-- {
		if b[i] != 0 {
			return n + bits.TrailingZeros8(b[i])
		}
		n += 8
	}
	return n
}

// lastOf returns the last address of a network.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Addr().AsSlice()
	for i := p.Bits(); i < len(b)*8; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	addr, _ := netip.AddrFromSlice(b)
	return addr
}

// The widest networks that a list may hold.
const (
	widest4 = 8
	widest6 = 16
)

func tooWide(p netip.Prefix) bool {
	if p.Addr().Is4() {
		return p.Bits() < widest4
	}
	return p.Bits() < widest6
}
