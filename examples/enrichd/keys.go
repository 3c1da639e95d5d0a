package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/decnet/enrich/provider"
)

// key returns a service's API key, and "" if there is none: from its variable,
// from the file that a variable with _FILE at its end names, or from a credential
// of systemd with the variable's name.
func (e *environment) key(variable string) (string, error) {
	key, path, where := e.text(variable), e.text(variable+"_FILE"), variable
	switch {
	case key != "" && path != "":
		return "", fmt.Errorf("%s and %s_FILE are both set; remove one", variable, variable)
	case key != "":
	case path != "":
		where = variable + "_FILE"
		text, err := readKey(path)
		if err != nil {
			return "", fmt.Errorf("%s: %w", where, err)
		}
		key = text
	default:
		dir := e.text("CREDENTIALS_DIRECTORY")
		if dir == "" {
			return "", nil
		}
		where = "the credential " + variable
		text, err := readKey(filepath.Join(dir, variable))
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return "", nil
		case err != nil:
			return "", fmt.Errorf("%s: %w", where, err)
		}
		key = text
	}
	if strings.ContainsAny(key[:1]+key[len(key)-1:], "\"'`") {
		return "", fmt.Errorf("%s has quotes around the key; remove them (an --env-file of Docker or Podman keeps quotes)", where)
	}
	return key, nil
}

// readKey reads the file of a key. Its errors repeat nothing from the file.
func readKey(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	const most = 4 << 10
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	key := strings.TrimSpace(string(text))
	switch {
	case err != nil:
		return "", err
	case len(text) > most:
		return "", fmt.Errorf("%s is too long for a key", path)
	case key == "":
		return "", fmt.Errorf("%s is empty", path)
	}
	return key, nil
}

// ownNetworks reads the operator's own networks from a file.
func ownNetworks(path string) ([]netip.Prefix, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	own, err := parseNetworks(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return own, nil
}

// parseNetworks reads a network or an address from each line; a # begins a
// comment. IPv4 networks may be written as IPv6 ones, mapped or as NAT64 does it.
func parseNetworks(r io.Reader) (own []netip.Prefix, err error) {
	in := bufio.NewScanner(r)
	for n := 1; in.Scan(); n++ {
		text, _, _ := strings.Cut(in.Text(), "#")
		if text = strings.TrimSpace(text); text == "" {
			continue
		}
		network, err := parseNetwork(text)
		if err != nil {
			return nil, fmt.Errorf("line %d: %.60q is neither a network, like 192.0.2.0/24, nor an address", n, text)
		}
		own = append(own, network)
	}
	if in.Err() != nil {
		return nil, errors.New("a line is too long")
	}
	return own, nil
}

// wrapping are the first 96 bits of IPv6 addresses that stand for the IPv4 address
// in their last 32: mapped ones, and those of NAT64.
var wrapping = [][12]byte{{10: 0xff, 11: 0xff}, {1: 0x64, 2: 0xff, 3: 0x9b}}

func parseNetwork(text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		addr, err := provider.ParseAddr(text)
		if err != nil {
			return p, err
		}
		p = netip.PrefixFrom(addr, addr.BitLen())
	}
	if b := p.Addr().As16(); p.Addr().Is6() && p.Bits() >= 96 && slices.Contains(wrapping, [12]byte(b[:12])) {
		p = netip.PrefixFrom(netip.AddrFrom4([4]byte(b[12:])), p.Bits()-96)
	}
	return p.Masked(), nil
}
