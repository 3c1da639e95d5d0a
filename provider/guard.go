package provider

import (
	"encoding/binary"
	"net/netip"
)

// Normalize returns addr in the one form this module compares, stores and
// sends: an IPv4-mapped IPv6 address becomes IPv4, and a zone is dropped.
func Normalize(addr netip.Addr) netip.Addr {
	return addr.Unmap().WithZone("")
}

// ParseAddr parses and normalizes the text of an IP address, and of nothing
// else: no port, no prefix, no surrounding space.
func ParseAddr(s string) (netip.Addr, error) {
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	return Normalize(addr), nil
}

// Guard decides which addresses may be named to somebody outside. The zero
// value lets through exactly the addresses that are globally reachable
// according to the IANA special-purpose address registries
// (https://www.iana.org/assignments/iana-ipv4-special-registry and
// https://www.iana.org/assignments/iana-ipv6-special-registry). It is safe for
// concurrent use.
type Guard struct {
	// Own are further networks whose addresses must not leave, for example the
	// operator's public ranges.
	Own []netip.Prefix
}

// Allows reports whether addr may be named to a remote provider. It refuses
// the zero Addr, every special-purpose address, every address in g.Own, and
// every IPv6 address in which an IPv4 address is embedded (mapped, NAT64, 6to4,
// Teredo) that it would refuse by itself.
func (g Guard) Allows(addr netip.Addr) bool {
	if !addr.IsValid() {
		return false
	}
	addr = Normalize(addr)
	for _, p := range g.Own {
		if p.Contains(addr) {
			return false
		}
	}
	if addr.Is4() {
		return global4(addr)
	}
	if !global6(addr) {
		return false
	}
	for _, v4 := range embedded4(addr) {
		if v4.IsValid() && !g.Allows(v4) {
			return false
		}
	}
	return true
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
// not globally reachable. Everything outside 2000::/3 is refused, except the
// well-known NAT64 prefix.
var special6 = prefixes(
	"2001::/23",     // IETF protocol assignments
	"2001:db8::/32", // documentation
	"3fff::/20",     // documentation
)

var exceptions6 = prefixes(
	"2001::/32",         // Teredo; judged by the addresses embedded in it
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

func global4(addr netip.Addr) bool {
	return !in(addr, special4) || in(addr, exceptions4)
}

func global6(addr netip.Addr) bool {
	if nat64.Contains(addr) {
		return true
	}
	return globalUnicast6.Contains(addr) && (!in(addr, special6) || in(addr, exceptions6))
}

// embedded4 returns the IPv4 addresses that a transition mechanism has put
// into addr; unused places hold the zero Addr.
func embedded4(addr netip.Addr) (v4 [2]netip.Addr) {
	b := addr.As16()
	at := func(i int) netip.Addr { return netip.AddrFrom4([4]byte(b[i : i+4])) }
	switch {
	case nat64.Contains(addr): // RFC 6052
		v4[0] = at(12)
	case sixToFour.Contains(addr): // RFC 3056
		v4[0] = at(2)
	case teredo.Contains(addr): // RFC 4380: server, and client with its bits inverted
		v4[0] = at(4)
		client := [4]byte{}
		binary.BigEndian.PutUint32(client[:], ^binary.BigEndian.Uint32(b[12:]))
		v4[1] = netip.AddrFrom4(client)
	}
	return v4
}
