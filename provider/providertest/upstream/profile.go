package upstream

import (
	"encoding/binary"
	"net/netip"
)

// Profile is what kind of host an address is; the answers of all services
// about it follow from its profile.
type Profile uint8

// The profiles.
const (
	// Unseen is known to no service.
	Unseen Profile = iota
	// Scanner is a benign scanner: named by GreyNoise, whitelisted by AbuseIPDB.
	Scanner
	// Suspect is suspicious to GreyNoise and has an AbuseIPDB score of 25 to 74.
	Suspect
	// Attacker is malicious to GreyNoise and has an AbuseIPDB score of 75 to 100.
	Attacker
	// C2 is an Attacker, and listed by ThreatFox and Feodo as a botnet's
	// command and control server.
	C2
)

// ProfileOf returns the profile that an address has unless [Server.SetProfile]
// says otherwise. It is derived from the address alone, as if by chance: of
// many addresses, 35% are Unseen, 10% Scanner, 20% Suspect, 30% Attacker and
// 5% C2. One in eight of the scanners, suspects and attackers is nevertheless
// unseen by GreyNoise, and another eighth of them by AbuseIPDB.
func ProfileOf(addr netip.Addr) Profile {
	switch n := hash(addr) % 100; {
	case n < 35:
		return Unseen
	case n < 45:
		return Scanner
	case n < 65:
		return Suspect
	case n < 95:
		return Attacker
	}
	return C2
}

// overlooked reports whether the service happens not to know an address of one
// of the middle profiles.
func overlooked(source Source, addr netip.Addr) bool {
	return hash(addr)>>(20+4*source)%8 == 0
}

// hash returns a number that is always the same for the same address and
// otherwise looks random.
func hash(addr netip.Addr) uint64 {
	b := addr.As16()
	return mix(mix(binary.BigEndian.Uint64(b[:8])) ^ binary.BigEndian.Uint64(b[8:]))
}

// mix is the output function of the generator SplitMix64.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x = (x ^ x>>27) * 0x94d049bb133111eb
	return x ^ x>>31
}

// pick returns an element of list that depends on h.
func pick[T any](list []T, h uint64) T { return list[h%uint64(len(list))] }
