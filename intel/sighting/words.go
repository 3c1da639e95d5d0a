package sighting

import (
	"bytes"
	"net/netip"
	"strconv"
	"strings"

	"github.com/decnet/enrich/provider"
)

// shape is what a word that looks like an address is.
type shape uint8

const (
	none shape = iota
	address
	network   // a prefix or a range
	numbers   // a version, an object identifier
	malformed // like 1.2.3.256
)

// candidate is a word of a line that looks like an address.
type candidate struct {
	shape      shape
	addr       netip.Addr
	port       int    // -1: none
	label      []byte // client in client:1.2.3.4
	start, end int    // in the line, with label and port
	role       role
	rank       uint8
	weak       bool // in a URL, in a quoted text, in an e-mail address
}

// candidates appends the words of a line that look like addresses to cs.
// SlashIsPort says that a number behind a slash is always a port.
func candidates(cs []candidate, line []byte, slashIsPort bool) []candidate {
	for i := 0; i < len(line); {
		if !isWord(line[i]) {
			i++
			continue
		}
		start, dots, colons, digits := i, 0, 0, 0
		for ; i < len(line) && isWord(line[i]); i++ {
			switch c := line[i]; {
			case c == '.':
				dots++
			case c == ':':
				colons++
			case isDigit(c):
				digits++
			}
		}
		if digits == 0 || dots < 3 && colons < 2 || i-start > maxWord {
			continue
		}
		word := trimWord(line[start:i])
		c := parseWord(word)
		if c.shape == none {
			continue
		}
		c.start, c.end = start, start+len(word)
		c.surround(line, slashIsPort)
		if c.shape != none {
			cs = append(cs, c)
		}
		i = max(i, c.end)
	}
	return cs
}

// maxWord is more than the longest word with an address in it.
const maxWord = 255

// trimWord returns a word without the punctuation at its end.
func trimWord(w []byte) []byte {
	for len(w) > 0 {
		last := w[len(w)-1]
		if (last != ':' || len(w) > 1 && w[len(w)-2] == ':') && strings.IndexByte(".-_+~%", last) < 0 {
			break
		}
		w = w[:len(w)-1]
	}
	return w
}

// parseWord returns what a trimmed word is or holds.
func parseWord(w []byte) candidate {
	if addr, ok := parseAddress(w); ok {
		return candidate{shape: address, addr: addr, port: -1}
	}
	if addr, port, ok := parsePort(w); ok {
		return candidate{shape: address, addr: addr, port: port}
	}
	// address:port:interface
	if i := bytes.LastIndexByte(w, ':'); i > 0 && isLabel(w[i+1:]) {
		if addr, port, ok := parsePort(w[:i]); ok && addr.Is4() {
			return candidate{shape: address, addr: addr, port: port}
		}
	}
	// label:address, label:address:port
	if label, rest, ok := bytes.Cut(w, []byte{':'}); ok && isLabel(label) {
		if c := parseWord(rest); c.shape != none {
			if c.label == nil {
				c.label = label
			}
			return c
		}
	}
	if before, after, ok := bytes.Cut(w, []byte{'-'}); ok {
		if a, ok := parseAddress(before); ok {
			if b, ok := parseAddress(after); ok && a.Is4() == b.Is4() {
				return candidate{shape: network, port: -1}
			}
			return candidate{shape: numbers, port: -1} // 1.2.3.4-1.el9
		}
		return candidate{}
	}
	return candidate{shape: dotted(w), port: -1}
}

// dotted returns what a word is that consists of numbers and dots, perhaps behind
// a v.
func dotted(w []byte) shape {
	v := len(w) > 1 && (w[0] == 'v' || w[0] == 'V')
	if v {
		w = w[1:]
	}
	parts := 0
	for part := range bytes.SplitSeq(bytes.TrimPrefix(w, []byte{'.'}), []byte{'.'}) {
		if len(part) == 0 || len(bytes.Trim(part, "0123456789")) > 0 {
			return none
		}
		parts++
	}
	switch {
	case parts == 4 && !v && w[0] != '.':
		return malformed
	case parts >= 4:
		return numbers
	}
	return none
}

// parseAddress parses the text of an address. An IPv6 address needs a digit and
// must not be written like a hardware address or a time.
func parseAddress(w []byte) (netip.Addr, bool) {
	if len(w) < 3 || len(w) > 64 {
		return netip.Addr{}, false
	}
	six := bytes.IndexByte(w, ':') >= 0
	if !six {
		return parse4(w)
	}
	addr, err := netip.ParseAddr(string(w))
	if err != nil || isEUI64(w) {
		return netip.Addr{}, false
	}
	addr = provider.Canonical(addr)
	text := addr.String()
	if addr.Is6() && (isEUI64([]byte(text)) || !strings.ContainsAny(text, "0123456789")) {
		return netip.Addr{}, false
	}
	return addr, true
}

// parse4 parses an IPv4 address. Leading zeros are refused, because they mean
// different numbers to different programs.
func parse4(w []byte) (netip.Addr, bool) {
	var b [4]byte
	part, value, digits := 0, 0, 0
	for i := 0; ; i++ {
		if i == len(w) || w[i] == '.' {
			if digits == 0 || value > 255 || part > 3 {
				return netip.Addr{}, false
			}
			b[part] = byte(value)
			part++
			if i == len(w) {
				break
			}
			value, digits = 0, 0
			continue
		}
		if !isDigit(w[i]) || digits > 0 && value == 0 || digits == 3 {
			return netip.Addr{}, false
		}
		value, digits = value*10+int(w[i]-'0'), digits+1
	}
	return netip.AddrFrom4(b), part == 4
}

// parsePort parses address:port, also where the address is IPv6 without brackets
// and the port cannot be a part of it, address.port as tcpdump writes it, and
// address::port as VNC servers write it.
func parsePort(w []byte) (netip.Addr, int, bool) {
	i := bytes.LastIndexByte(w, ':')
	if dot := bytes.LastIndexByte(w, '.'); i < 0 || dot > i {
		i = dot
	}
	if i < 2 {
		return netip.Addr{}, 0, false
	}
	port, n := number(w[i+1:], 1, 5)
	if n == 0 || i+1+n != len(w) || port > 65535 {
		return netip.Addr{}, 0, false
	}
	w = w[:i]
	if bytes.IndexByte(w, ':') == len(w)-1 { // VNC: 1.2.3.4::5900
		w = w[:len(w)-1]
	}
	addr, ok := parseAddress(w)
	return addr, port, ok
}

// parseValue parses a value that is an address, perhaps with a port, in brackets
// or behind a scheme.
func parseValue(v []byte) (netip.Addr, bool) {
	v = bytes.Trim(v, " \t\"'")
	if len(v) < 2 || len(v) > 100 {
		return netip.Addr{}, false
	}
	if addr, ok := parseAddress(v); ok {
		return addr, true
	}
	if i := bytes.Index(v, []byte("://")); i > 0 {
		v = bytes.TrimRight(v[i+3:], "/")
	}
	v = bytes.TrimPrefix(v, []byte("/"))
	if v = bytes.TrimSuffix(v, []byte("/32")); len(v) > 0 && v[0] == '[' {
		inside, after, ok := bytes.Cut(v[1:], []byte{']'})
		if !ok || len(after) > 0 && after[0] != ':' {
			return netip.Addr{}, false
		}
		v = inside
	}
	if addr, ok := parseAddress(v); ok {
		return addr, true
	}
	if bytes.IndexByte(v, ':') < 0 {
		return netip.Addr{}, false
	}
	addr, _, ok := parsePort(v)
	return addr, ok
}

// surround looks at what is directly around a word: a slash with a prefix length,
// a port or a product, the host of a URL, an e-mail address.
func (c *candidate) surround(line []byte, slashIsPort bool) {
	start, end := c.start, c.end
	if c.shape == address && c.port >= 0 && line[end-1] != ':' && bytes.LastIndexByte(line[start:end], ':') < 0 {
		// Five numbers with dots: only an arrow, or the colon that ends the
		// second address, shows that the last is a port.
		if !bytes.HasPrefix(line[end:], []byte(" > ")) && !bytes.HasSuffix(line[:start], []byte(" > ")) {
			c.shape = numbers
		}
	}
	if c.shape == address && end < len(line) && line[end] == '/' {
		c.slash(line, slashIsPort)
	}
	if start == 0 {
		return
	}
	switch line[start-1] {
	case '/':
		c.path(line)
	case '@':
		c.weak = start > 1 && isWord(line[start-2])
	case '[':
		c.weak = start > 1 && line[start-2] == '@'
	}
	if c.label != nil && c.shape == address && meaningOf(c.label).role == version {
		c.shape = numbers
	}
	if c.shape == malformed && (c.weak || c.label != nil) {
		c.shape = none
	}
}

// slash looks at what is behind a slash after an address.
func (c *candidate) slash(line []byte, slashIsPort bool) {
	rest := line[c.end+1:]
	n := 0
	for n < len(rest) && isWord(rest[n]) {
		n++
	}
	word := bytes.TrimRight(rest[:n], ".:-")
	if mask, ok := parse4(word); ok && c.addr.Is4() {
		if isMask(mask) {
			c.shape, c.end = network, c.end+1+len(word)
		} else if mask == c.addr {
			c.end += 1 + len(word) // host/address
		}
		return
	}
	v, digits := number(word, 1, 5)
	if digits == 0 || digits != len(word) {
		return // a path, or the name of a port
	}
	switch {
	case c.port >= 0 || digits > 1 && word[0] == '0':
		if c.port < 0 {
			c.shape = network // 1.2.3.4/031
		}
	case slashIsPort || v > c.addr.BitLen():
		c.port = v
		c.end += 1 + len(word)
	case v == c.addr.BitLen():
		c.end += 1 + len(word)
	default:
		c.shape = network
		c.end += 1 + len(word)
	}
}

func isMask(mask netip.Addr) bool {
	b := mask.As4()
	v := uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
	return v != 0 && ^v&(^v+1) == 0
}

// path looks at what is before a slash before a word.
func (c *candidate) path(line []byte) {
	i := c.start - 1
	if i > 1 && line[i-1] == '/' && line[i-2] == ':' {
		c.weak = true // a URL
		return
	}
	from := i
	for from > 0 && (isWord(line[from-1]) || line[from-1] == '/') {
		from--
	}
	before := line[from:i]
	switch {
	case len(before) == 0: // as Java writes an address without a name
	case bytes.HasPrefix(before, []byte("IPV4/")), bytes.HasPrefix(before, []byte("IPV6/")):
		if i = c.start - len(before) - 1; i >= 0 {
			c.start = i
		}
	case c.port >= 0, c.end < len(line) && line[c.end] == '(' && c.end+1 < len(line) && isDigit(line[c.end+1]):
	case bytes.IndexByte(before, '/') < 0 && bytes.IndexByte(before, '.') > 0 && !isDigit(before[len(before)-1]):
	default:
		if c.shape == address || c.shape == malformed {
			c.shape = numbers
		}
	}
}

// isLabel reports whether s names what follows its colon: a letter, then letters,
// digits, _ and -, but not only hexadecimal digits, as that may be the beginning
// of an IPv6 address.
func isLabel(s []byte) bool {
	if len(s) == 0 || !isLetter(s[0]) {
		return false
	}
	onlyHex := true
	for _, c := range s {
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '-' {
			return false
		}
		onlyHex = onlyHex && (isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f')
	}
	return !onlyHex
}

// isEUI64 reports whether an IPv6 address is written as a hardware address of
// eight bytes is.
func isEUI64(s []byte) bool {
	if len(s) != 8*3-1 {
		return false
	}
	for i := range s {
		if (s[i] == ':') != (i%3 == 2) {
			return false
		}
	}
	return true
}

// fangs are the ways in which reports keep an address from becoming a link.
var fangs = [][2]string{
	{"[.]", "."}, {"(.)", "."}, {"{.}", "."}, {"[dot]", "."}, {"(dot)", "."}, {"{dot}", "."}, {"[DOT]", "."}, {"(DOT)", "."},
	{`\.`, "."}, {"[.", "."}, {"[:]", ":"}, {"(:)", ":"}, {"[:", ":"}, {"[://]", "://"}, {"[/]", "/"},
}

// refang undoes the defanging of addresses in a line. It returns line itself if
// there is nothing to do; otherwise the result is in buf.
func refang(buf, line []byte) (text, newBuf []byte) {
	if bytes.IndexByte(line, '[') < 0 && bytes.IndexByte(line, '(') < 0 && bytes.IndexByte(line, '{') < 0 && bytes.IndexByte(line, '\\') < 0 {
		return line, buf
	}
	out := buf[:0]
	changed := false
scan:
	for i := 0; i < len(line); {
		if c := line[i]; c == '[' || c == '(' || c == '{' || c == '\\' {
			for _, f := range fangs {
				n := len(f[0])
				if !bytes.HasPrefix(line[i:], []byte(f[0])) || i == 0 || i+n == len(line) || !joins(f[1], line[i-1], line[i+n]) {
					continue
				}
				out = append(out, f[1]...)
				i += n
				changed = true
				continue scan
			}
		}
		out = append(out, line[i])
		i++
	}
	if !changed {
		return line, out
	}
	return out, out
}

// joins reports whether a separator between two bytes may be a part of an address.
func joins(separator string, before, after byte) bool {
	switch separator {
	case ".":
		return isDigit(before) && isDigit(after)
	case ":":
		return (isHex(before) || before == ':' || before == ']') && (isHex(after) || after == ':' || after == '[')
	}
	return true
}

func isWord(c byte) bool   { return wordBytes[c] }
func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }

var wordBytes = func() (b [256]bool) {
	for c := range b {
		b[c] = isLetter(byte(c)) || isDigit(byte(c)) || strings.IndexByte(".:_-+~%", byte(c)) >= 0
	}
	return b
}()

// trimNumber returns s without a number at its beginning.
func trimNumber(s []byte) []byte { return bytes.TrimLeft(s, "0123456789") }

func atoi(s []byte) int {
	n, err := strconv.Atoi(string(s))
	if err != nil {
		return -1
	}
	return n
}
