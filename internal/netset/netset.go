// Package netset tells whether an address is in any of many networks.
package netset

import (
	"net/netip"
	"slices"

	"github.com/decnet/enrich/provider"
)

// Set is a set of networks. It is made by [Of] and never changes.
type Set struct {
	networks []netip.Prefix // in order, none within another
}

// Of returns the set of the given networks, each in its canonical form; see
// [provider.CanonicalPrefix]. Invalid ones are left out.
func Of(networks []netip.Prefix) *Set {
	all := make([]netip.Prefix, 0, len(networks))
	for _, p := range networks {
		if p = provider.CanonicalPrefix(p); p.IsValid() {
			all = append(all, p)
		}
	}
	slices.SortFunc(all, netip.Prefix.Compare) // a network comes before those within it
	s := new(Set)
	for _, p := range all {
		if last := len(s.networks) - 1; last < 0 || !s.networks[last].Contains(p.Addr()) {
			s.networks = append(s.networks, p)
		}
	}
	return s
}

// Contains reports whether a network of the set contains addr, in its canonical
// form.
func (s *Set) Contains(addr netip.Addr) bool {
	addr = provider.Canonical(addr)
	if !addr.IsValid() {
		return false
	}
	i, found := slices.BinarySearchFunc(s.networks, addr, func(p netip.Prefix, addr netip.Addr) int { return p.Addr().Compare(addr) })
	return found || i > 0 && s.networks[i-1].Contains(addr)
}
