// Package netset tells whether an address is in any of many networks.
package netset

import (
	"net/netip"

	"github.com/decnet/enrich/provider"
)

// Set is a set of networks. It is made by [Of] and never changes.
type Set struct {
	networks map[netip.Prefix]struct{}
	lengths  [2][]int // of IPv4 and IPv6 prefixes
}

// Of returns the set of the given networks, each in its canonical form; see
// [provider.CanonicalPrefix]. Invalid ones are left out.
func Of(networks []netip.Prefix) *Set {
	s := &Set{networks: make(map[netip.Prefix]struct{}, len(networks))}
	var seen [2][129]bool
	for _, p := range networks {
		if !p.IsValid() {
			continue
		}
		p = provider.CanonicalPrefix(p)
		s.networks[p] = struct{}{}
		family := familyOf(p.Addr())
		if !seen[family][p.Bits()] {
			seen[family][p.Bits()] = true
			s.lengths[family] = append(s.lengths[family], p.Bits())
		}
	}
	return s
}

func familyOf(addr netip.Addr) int {
	if addr.Is4() {
		return 0
	}
	return 1
}

// Contains reports whether a network of the set contains addr, in its canonical
// form.
func (s *Set) Contains(addr netip.Addr) bool {
	addr = provider.Canonical(addr)
	if !addr.IsValid() {
		return false
	}
	for _, length := range s.lengths[familyOf(addr)] {
		p, _ := addr.Prefix(length) // the length fits
		if _, ok := s.networks[p]; ok {
			return true
		}
	}
	return false
}
