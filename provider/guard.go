package provider

import (
	"encoding/binary"
	"net/netip"
	"slices"
)

// Canonical returns addr in the only form in which this module compares, stores
// and sends addresses. A zone is removed. An IPv4-mapped IPv6 address and an
// address of the well-known NAT64 prefix 64:ff9b::/96 (RFC 6052) become the IPv4
// address they wrap. The zero Addr stays the zero Addr.
func Canonical(addr netip.Addr) netip.Addr {
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) {
		return v4At(addr, 12)
	}
	return addr
}

// CanonicalPrefix returns p masked, as the prefix of addresses in their [Canonical]
// form: a prefix of IPv4-mapped or NAT64 addresses becomes the IPv4 prefix that it
// wraps. An invalid Prefix stays invalid.
func CanonicalPrefix(p netip.Prefix) netip.Prefix {
	if p.Addr().Is6() && p.Bits() >= 96 {
		if v4 := Canonical(p.Addr()); v4.Is4() {
			p = netip.PrefixFrom(v4, p.Bits()-96)
		}
	}
	return p.Masked()
}

// ParseAddr parses the text of an IP address and returns the address's
// [Canonical] form. It accepts nothing else: no port, no prefix length, no
// surrounding space.
func ParseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	return Canonical(addr), nil
}

// Guard decides which addresses may be sent to a source outside. The zero value
// allows exactly the addresses that are globally reachable according to the
// IANA special-purpose address registries
// (https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry). It is safe for
// concurrent use.
type Guard struct {
	// Own are further networks whose addresses are not sent, for example the
	// operator's public ranges. A prefix of IPv4-mapped or NAT64 addresses counts
	// as the IPv4 prefix that it wraps.
	Own []netip.Prefix
	// OwnFunc returns more networks of this kind, which may change while the program
	// runs. It is called for every address, by several goroutines at once. Nil means
	// none.
	OwnFunc func() []netip.Prefix
}

// Why a provider is not asked about an address: what [Guard.Refuses] returns, and
// what else stands in store.Entry.Reason.
const (
	NotAnAddress     = "not an address"
	Private          = "private"                // special purpose: nobody outside can know it
	OwnNetwork       = "own network"            // in Guard.Own or OwnFunc
	OtherFamily      = "family"                 // IPv6, and the provider knows IPv4 only
	RejectedBySource = "rejected by the source" // the provider's answer was that it does not cover the address
	Spared           = "spared"                 // a list knows the address to be harmless, and outranks the provider
)

// Allows reports whether addr may be sent to a remote provider. It judges the
// [Canonical] form of addr. It refuses the zero Addr, every special-purpose
// address, every address in g.Own or g.OwnFunc, and every IPv6 address that holds an IPv4
// address (6to4, Teredo, ISATAP) which it refuses by itself.
func (g Guard) Allows(addr netip.Addr) bool { return g.Refuses(addr) == "" }

// Refuses returns why addr may not be sent: [NotAnAddress], [OwnNetwork] or
// [Private]. It returns the empty text if [Guard.Allows] allows it.
func (g Guard) Refuses(addr netip.Addr) (why string) {
	if !addr.IsValid() {
		return NotAnAddress
	}
	addr = Canonical(addr)
	if g.owns(addr) {
		return OwnNetwork
	}
	if addr.Is4() {
		if !global4(addr) {
			return Private
		}
		return ""
	}
	if !global6(addr) {
		return Private
	}
	for _, v4 := range embedded4(addr) {
		if v4.IsValid() {
			if why := g.Refuses(v4); why != "" {
				return why
			}
		}
	}
	return ""
}

// owns reports whether addr is in a network of the operator's own.
func (g Guard) owns(addr netip.Addr) bool {
	within := func(p netip.Prefix) bool { return CanonicalPrefix(p).Contains(addr) }
	return slices.ContainsFunc(g.Own, within) || g.OwnFunc != nil && slices.ContainsFunc(g.OwnFunc(), within)
}

// special4 are the IPv4 blocks that are not globally reachable; global
// exceptions inside them are in exceptions4.
var special4 = prefixes(
	"0.0.0.0/8",       // this network
	"10.0.0.0/8",      // private use
	"100.64.0.0/10",   // shared address space (CGNAT)
	"127.0.0.0/8",     // loopback
	"169.254.0.0/16",  // link local
	"172.16.0.0/12",   // private use
	"192.0.0.0/24",    // IETF protocol assignments
	"192.0.2.0/24",    // documentation
	"192.88.99.0/24",  // deprecated 6to4 relay anycast
	"192.168.0.0/16",  // private use
	"198.18.0.0/15",   // benchmarking
	"198.51.100.0/24", // documentation
	"203.0.113.0/24",  // documentation
	"224.0.0.0/4",     // multicast
	"240.0.0.0/4",     // reserved, limited broadcast
)

var exceptions4 = prefixes(
	"192.0.0.9/32",  // Port Control Protocol anycast
	"192.0.0.10/32", // TURN anycast
)

// special6 are the blocks inside the global unicast space 2000::/3 that are
// not globally reachable. Everything outside 2000::/3 is refused, for example
// NAT64 for local use, 64:ff9b:1::/48 (RFC 8215).
var special6 = prefixes(
	"2001::/23",     // IETF protocol assignments
	"2001:db8::/32", // documentation
	"3fff::/20",     // documentation
)

var exceptions6 = prefixes(
	"2001::/32",         // Teredo; judged by the addresses it holds
	"2001:1::1/128",     // Port Control Protocol anycast
	"2001:1::2/128",     // TURN anycast
	"2001:1::3/128",     // DNS-SD service registration anycast
	"2001:3::/32",       // automatic multicast tunneling
	"2001:4:112::/48",   // AS112
	"2001:20::/28",      // ORCHIDv2
	"2001:30::/28",      // drone remote identification
	"2620:4f:8000::/48", // AS112
)

var (
	globalUnicast6 = netip.MustParsePrefix("2000::/3")
	nat64          = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour      = netip.MustParsePrefix("2002::/16")
	teredo         = netip.MustParsePrefix("2001::/32")
)

func prefixes(texts ...string) []netip.Prefix {
	ps := make([]netip.Prefix, len(texts))
	for i, s := range texts {
		ps[i] = netip.MustParsePrefix(s)
	}
	return ps
}

func in(addr netip.Addr, ps []netip.Prefix) bool {
	for _, p := range ps {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// specialBy are the prefixes of special4 by the first byte of their addresses.
var specialBy = func() (by [256][]netip.Prefix) {
	for _, p := range special4 {
		first := int(p.Addr().As4()[0])
		for i := first; i < first+1<<max(8-p.Bits(), 0); i++ {
			by[i] = append(by[i], p)
		}
	}
	return by
}()

func global4(addr netip.Addr) bool {
	return !in(addr, specialBy[addr.As4()[0]]) || in(addr, exceptions4)
}

func global6(addr netip.Addr) bool {
	return globalUnicast6.Contains(addr) && (!in(addr, special6) || in(addr, exceptions6))
}

// embedded4 returns the IPv4 addresses that a transition mechanism puts into an
// IPv6 address. Unused places hold the zero Addr.
func embedded4(addr netip.Addr) (v4 [3]netip.Addr) {
	b := addr.As16()
	switch {
	case sixToFour.Contains(addr): // RFC 3056
		v4[0] = v4At(addr, 2)
	case teredo.Contains(addr): // RFC 4380: server, and client with its bits inverted
		v4[0] = v4At(addr, 4)
		client := [4]byte{}
		binary.BigEndian.PutUint32(client[:], ^binary.BigEndian.Uint32(b[12:]))
		v4[1] = netip.AddrFrom4(client)
	}
	// RFC 5214: the interface identifier is 0000:5efe or, for a globally unique
	// address, 0200:5efe, followed by the IPv4 address.
	if b[8]&^0x02 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe {
		v4[2] = v4At(addr, 12)
	}
	return v4
}

// v4At returns the IPv4 address in the four bytes of addr that start at i.
func v4At(addr netip.Addr, i int) netip.Addr {
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[i : i+4]))
}
