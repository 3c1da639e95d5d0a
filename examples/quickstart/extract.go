package main

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strconv"
	"strings"

	"github.com/decnet/enrich/provider"
)

// extract finds the IP addresses in a text of any kind (a block list, a log, a
// JSON dump), calls found for each of them, normalized, in order and as often as
// it occurs, and returns how many lines it skipped: those without an address,
// not counting blank lines and comments, which begin with #. Its memory does
// not grow with the length of the text or of a line. It returns the error of r.
//
// An address has to stand alone. It is a word: a run of ASCII letters, digits
// and . : _ - + ~ %, so that 1.2.3.4.5, v1.2.3.4 and foo-1.2.3.4.tar are none.
// What may surround the address in its word:
//
//	1.2.3.4:22  [2001:db8::1]:443       a port
//	client:1.2.3.4                      a label, before IPv4
//	from 1.2.3.4.  1.2.3.4:             punctuation
//
// A slash tells by what is on its other side:
//
//	1.2.3.4/32  2001:db8::1/128         one address
//	1.2.3.0/24  10.0.0.0/255.0.0.0      a network: skipped
//	https://1.2.3.4/24                  the host of a URL
//	Chrome/120.0.0.0  a/1.2.3.4         a version, a path: skipped
//
// Times, MAC addresses and identifiers such as a::b are no IPv6 addresses: one
// needs a decimal digit, and not eight groups of two digits, which is an EUI-64.
// IPv4 with leading zeros is refused, as it means different things to different
// programs.
func extract(r io.Reader, found func(netip.Addr)) (skipped int, err error) {
	s := scanner{found: found}
	in := bufio.NewReaderSize(r, 64<<10)
	if bom, _ := in.Peek(3); string(bom) == "\uFEFF" {
		_, _ = in.Discard(3) // they have been read
	}
	for {
		c, err := in.ReadByte()
		if err != nil {
			s.endLine()
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return s.skipped, err
		}
		s.next(c)
	}
}

// maxWord is more than the longest word that holds an address; of longer words
// nothing is kept.
const maxWord = 255

// place is what stands before a word, as far as it matters.
type place uint8

const (
	free   place = iota // nothing that binds the word
	path                // a word and a slash
	scheme              // a colon and a slash
	host                // a colon and two slashes
)

// scanner is the state of [extract] between two bytes.
type scanner struct {
	found   func(netip.Addr)
	skipped int

	line   struct{ began, comment, has bool }
	word   []byte // of at most maxWord+1 bytes
	before place
	// pending is an address directly followed by a slash, so that the next word
	// may show it to be a network.
	pending netip.Addr
	escape  escape
}

// escape is how far an escape sequence of JSON has come.
type escape uint8

const (
	plain     escape = iota
	backslash        // after the backslash
	hex4             // four digits are left
	hex3
	hex2
	hex1
)

func (s *scanner) next(c byte) {
	if c == '\n' {
		s.endLine()
		return
	}
	if s.line.comment {
		return
	}
	if !s.line.began && !isBlank(c) {
		s.line.began, s.line.comment = true, c == '#'
	}
	switch s.escape {
	case backslash:
		s.escape = plain
		switch c {
		case '/':
			s.separate('/')
			return
		case 'n', 'r', 't', '"', '\\':
			s.separate(' ')
			return
		case 'u':
			s.separate(' ')
			s.escape = hex4
			return
		}
		s.separate('\\')
	case hex4, hex3, hex2, hex1:
		s.escape = (s.escape + 1) % (hex1 + 1)
		if isHex(c) {
			return
		}
		s.escape = plain
	}
	switch {
	case c == '\\':
		s.escape = backslash
	case isWord(c):
		if len(s.word) <= maxWord {
			s.word = append(s.word, c)
		}
	default:
		s.separate(c)
	}
}

// separate ends the word before the separator c, if there is one, and takes
// note of what c means for the next.
func (s *scanner) separate(c byte) {
	w := s.word
	s.word = s.word[:0]
	if s.pending.IsValid() {
		if suffix := bytes.TrimRight(w, ".:"); !isNetwork(suffix) || string(suffix) == strconv.Itoa(s.pending.BitLen()) {
			s.take(s.pending)
		}
		s.pending = netip.Addr{}
	}
	if len(w) > 0 && len(w) <= maxWord && s.before != path {
		switch addr := parse(string(w)); {
		case !addr.IsValid():
		case c == '/' && s.before != host:
			s.pending = addr
		default:
			s.take(addr)
		}
	}
	switch {
	case c != '/':
		s.before = free
	case len(w) > 0 && w[len(w)-1] == ':':
		s.before = scheme
	case len(w) > 0:
		s.before = path
	case s.before == scheme:
		s.before = host
	default:
		s.before = free
	}
}

func (s *scanner) take(addr netip.Addr) {
	s.line.has = true
	s.found(addr)
}

func (s *scanner) endLine() {
	if s.escape == backslash {
		s.escape = plain
	}
	s.separate('\n')
	if s.line.began && !s.line.comment && !s.line.has {
		s.skipped++
	}
	s.escape = plain
	s.line.began, s.line.comment, s.line.has = false, false, false
}

// parse returns the address that a word is or holds, normalized, and the zero
// Addr if there is none.
func parse(w string) netip.Addr {
	w = trimEnd(w)
	if strings.Count(w, ":") < 2 {
		return parse4(w)
	}
	addr, err := provider.ParseAddr(w)
	if err != nil {
		return parse4(w)
	}
	if text := addr.String(); isEUI64(w) || isEUI64(text) || !strings.ContainsAny(text, "0123456789") {
		return netip.Addr{}
	}
	return addr
}

// trimEnd removes punctuation from the end of a word.
func trimEnd(w string) string {
	w = strings.TrimRight(w, ".")
	if strings.HasSuffix(w, ":") && !strings.HasSuffix(w, "::") {
		w = w[:len(w)-1]
	}
	return w
}

// parse4 returns the IPv4 address in a word of the form [label:]address[:port].
// The port is 0 in logs of ICMP.
func parse4(w string) netip.Addr {
	if label, rest, ok := strings.Cut(w, ":"); ok && isLabel(label) {
		w = rest
	}
	if host, port, ok := strings.Cut(w, ":"); ok {
		if _, err := strconv.ParseUint(port, 10, 16); err != nil {
			return netip.Addr{}
		}
		w = host
	}
	addr, err := netip.ParseAddr(w)
	if err != nil || !addr.Is4() {
		return netip.Addr{}
	}
	return addr
}

// isLabel reports whether s names what follows its colon: a letter, then
// letters, digits, _ and -, but not only hexadecimal digits, as that might be
// the beginning of an IPv6 address.
func isLabel(s string) bool {
	if s == "" || !isLetter(s[0]) {
		return false
	}
	onlyHex := true
	for i := range len(s) {
		c := s[i]
		if !isLetter(c) && !isDigit(c) && c != '_' && c != '-' {
			return false
		}
		onlyHex = onlyHex && isHex(c)
	}
	return !onlyHex
}

// isEUI64 reports whether an IPv6 address is written as a hardware address of
// eight bytes is.
func isEUI64(s string) bool {
	if len(s) != 8*3-1 {
		return false
	}
	for i := range len(s) {
		if (s[i] == ':') != (i%3 == 2) {
			return false
		}
	}
	return true
}

// isNetwork reports whether what follows an address and a slash is a prefix
// length or a mask.
func isNetwork(s []byte) bool {
	return len(s) > 0 && len(bytes.Trim(s, "0123456789.")) == 0
}

func isWord(c byte) bool {
	return isLetter(c) || isDigit(c) || strings.IndexByte(".:_-+~%", c) >= 0
}

func isLetter(c byte) bool { return c|0x20 >= 'a' && c|0x20 <= 'z' }
func isDigit(c byte) bool  { return c >= '0' && c <= '9' }
func isHex(c byte) bool    { return isDigit(c) || c|0x20 >= 'a' && c|0x20 <= 'f' }
func isBlank(c byte) bool  { return c == ' ' || c >= '\t' && c <= '\r' }
