package provider

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
)

// ParseNetworks reads networks, for example those of [Guard].Own: a network like
// 192.0.2.0/24 or an address on each line. A # begins a comment. IPv4 networks may
// be written as IPv6 ones, mapped or in the prefix of NAT64. A byte order mark at
// the beginning is ignored. The error names the first line that is neither; a line
// may have 64 KiB.
func ParseNetworks(r io.Reader) ([]netip.Prefix, error) {
	var networks []netip.Prefix
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		text := in.Text()
		if n == 1 {
			text = strings.TrimPrefix(text, "\ufeff")
		}
		text, _, _ = strings.Cut(text, "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		network, err := parseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %.60q is neither a network, like 192.0.2.0/24, nor an address", n, text)
		}
		networks = append(networks, network)
	}
	switch err := in.Err(); {
	case errors.Is(err, bufio.ErrTooLong):
		return nil, errors.New("a line is too long")
	case err != nil:
		return nil, err
	}
	return networks, nil
}

func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := ParseAddr(text)
		if err != nil {
			return p, err
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	return CanonicalPrefix(p), nil
}
