package sighting

import (
	"bytes"
	"net/netip"
	"time"
)

// formatOf names the format of a line of text.
func formatOf(line []byte) string {
	for _, f := range textFormats {
		if bytes.Contains(line, f.mark) {
			return f.name
		}
	}
	return "text"
}

var textFormats = []struct {
	mark []byte
	name string
}{
	{[]byte("%ASA-"), "asa"},
	{[]byte("%PIX-"), "asa"},
	{[]byte("%FTD-"), "asa"},
	{[]byte("CEF:"), "cef"},
	{[]byte("LEEF:"), "leef"},
	{[]byte("SRC="), "netfilter"},
	{[]byte("sshd"), "sshd"},
	{[]byte("dropbear"), "sshd"},
	{[]byte("HoneyPot"), "cowrie"},
	{[]byte("TelnetTransport,"), "cowrie"},
	{[]byte("New connection: "), "cowrie"},
	{[]byte("[pid "), "apache"},
	{[]byte("[**]"), "snort"},
	{[]byte("ACCEPT host="), "endlessh"},
	{[]byte("CLOSE host="), "endlessh"},
	{[]byte(" IP "), "tcpdump"},
	{[]byte(" IP6 "), "tcpdump"},
	{[]byte("proftpd"), "proftpd"},
}

// special applies what only one format says. It reports whether the source is on
// our own side.
func special(cs []candidate, line []byte, format string) (outward bool) {
	switch format {
	case "asa":
		return asa(cs, line)
	case "cef":
		return bytes.Contains(line, []byte("deviceDirection=1"))
	case "netfilter":
		embedded(cs)
		return bytes.Contains(line, []byte(" OUT=")) && bytes.Contains(line, []byte("IN= ")) && !bytes.Contains(line, []byte(" OUT= "))
	case "sshd":
		sshd(cs, line)
	case "cowrie":
		cowrie(cs, line)
	case "apache":
		portFollows(cs, line, "[client ")
		web(cs, line)
	case "snort":
		portFollows(cs, line, "{TCP} ")
		portFollows(cs, line, "{UDP} ")
	case "tcpdump":
		// The answer to a connection comes from the side that was attacked.
		return bytes.Contains(line, []byte("Flags [S.]"))
	case "proftpd":
		for i := range cs {
			if c := &cs[i]; c.role == source && c.start > 0 && line[c.start-1] == '[' && c.rank >= rankAttached {
				c.rank = rankFrom
				break
			}
		}
	default:
		oracle(cs, line)
	}
	return false
}

// oracle reads the field tr of Oracle's mail server, which names both ends of a
// connection, its own first.
func oracle(cs []candidate, line []byte) {
	for i := range cs {
		if c := &cs[i]; bytes.HasSuffix(line[:c.start], []byte(` tr="TCP|`)) {
			c.role = other
		}
	}
}

// asa reads the messages of Cisco firewalls that do not say "from".
func asa(cs []candidate, line []byte) (outward bool) {
	if i := bytes.Index(line, []byte("Original IP payload")); i > 0 { // of an ICMP error, whose sender chose it
		for j := range cs {
			if c := &cs[j]; c.start > i {
				c.role = other
			}
		}
	}
	switch {
	case bytes.Contains(line, []byte("Built outbound")):
		return true
	case bytes.Contains(line, []byte("Teardown")) && len(cs) >= 2:
		// It does not say who opened the connection: the side with the port of a
		// client did.
		first, last := &cs[0], &cs[len(cs)-1]
		return first.port < last.port
	}
	return false
}

// embedded excludes the source of the packet that an ICMP error quotes, which
// the sender of the error chooses.
func embedded(cs []candidate) {
	seen := false
	for i := range cs {
		if c := &cs[i]; c.shape == address && c.role == source {
			if seen {
				c.role = other
			}
			seen = true
		}
	}
}

// web finds the source in [client ADDRESS] of Apache, or in the words of vsftpd
// behind the name of the user; the attacker chooses everything else.
func web(cs []candidate, line []byte) {
	for i := range cs {
		c := &cs[i]
		if before := line[:c.start]; c.shape == address && bytes.HasSuffix(before, []byte("[client ")) {
			c.rank = 0
			return
		} else if c.shape == address && bytes.HasSuffix(before, []byte(`: Client "`)) {
			c.rank, c.weak = 0, false
		}
	}
}

// sshd finds the source by what the daemon itself writes around it: a port behind
// it, or "from" before it and a port in it. The attacker chooses the name of the
// user and the version before it, so the last one counts; but in a message that
// begins with the source, the attacker's words follow, so the first one does.
func sshd(cs []candidate, line []byte) {
	first, end := false, len(line)
	if _, message, ok := bytes.Cut(line, []byte("]: ")); ok {
		message = bytes.TrimPrefix(bytes.TrimPrefix(message, []byte("error: ")), []byte("fatal: "))
		for _, m := range sshdFirst {
			first = first || bytes.HasPrefix(message, m)
		}
		if i := bytes.Index(line, []byte(": Change of username")); i > 0 && bytes.HasPrefix(message, []byte("Disconnecting ")) {
			end = i // the names follow
		}
	}
	var found *candidate
	for i := range cs {
		c := &cs[i]
		before, after := line[:c.start], line[c.end:]
		if c.shape != address || c.end > end || bytes.HasSuffix(before, []byte(" on ")) || bytes.HasSuffix(before, []byte(" to ")) {
			continue
		}
		from := bytes.HasSuffix(before, []byte(" from ")) && (c.port >= 0 || first)
		if from || bytes.HasPrefix(after, []byte(" port ")) {
			if found = c; first {
				break
			}
		}
	}
	if found != nil {
		found.role, found.rank, found.weak = source, 0, false
	}
}

// sshdFirst are the beginnings of messages that name the source before the
// attacker's words.
var sshdFirst = [][]byte{
	[]byte("Received disconnect from "), []byte("Unable to negotiate with "), []byte("Protocol major versions differ for "),
	[]byte("banner exchange: "), []byte("ssh_dispatch_run_fatal: "),
}

// cowrie finds the source in the name of the protocol, as in
// [HoneyPotSSHTransport,12,192.0.2.1], or after "New connection".
func cowrie(cs []candidate, line []byte) {
	portFollows(cs, line, "New connection: ")
	for i := range cs {
		c := &cs[i]
		if c.shape != address || c.end >= len(line) {
			continue
		}
		before := bytes.TrimRight(line[:c.start], "0123456789,")
		if line[c.end] == ']' && c.start > 0 && line[c.start-1] == ',' && len(before) < c.start-2 {
			c.role, c.rank = source, 0
			return
		}
	}
}

// portFollows separates the port from IPv6 addresses without brackets behind a
// text that is always followed by an address and a port.
func portFollows(cs []candidate, line []byte, before string) {
	for i := range cs {
		c := &cs[i]
		if c.shape != address || c.addr.Is4() || c.port >= 0 || !bytes.HasSuffix(line[:c.start], []byte(before)) {
			continue
		}
		if addr, port, ok := parsePort(line[c.start:c.end]); ok {
			c.addr, c.port = addr, port
		}
	}
}

// accessLog reads a line of a web server's access log: the address of the client,
// or several where a forwarder has named them, before the time in brackets; the
// forwarded addresses may also be the last quoted field.
func (r *Reader) accessLog(line []byte, at time.Time) bool {
	open := bytes.IndexByte(line, '[')
	if open < 8 || open > 400 || len(line) < open+22 || !isAccessTime(line[open+1:]) {
		return false
	}
	head := line[:open]
	for word := range bytes.FieldsSeq(head) {
		if word[len(word)-1] == ':' && bytes.IndexByte(word, '[') < 0 && !isHex(word[0]) {
			return false // a message of a program
		}
	}
	var before []netip.Addr
	for i, word := range bytes.FieldsFunc(head, func(c rune) bool { return c == ' ' || c == ',' || c == '\t' || c == '"' }) {
		addr, ok := parseValue(word)
		if !ok && (len(before) > 0 || i > 8) {
			break
		}
		if ok && len(before) == 0 && addr.Is4() && bytes.IndexByte(word, ':') > 0 && word[0] != ':' && bytes.IndexByte(head, ',') < 0 {
			if _, isHost := parse4(bytes.Split(word, []byte{':'})[0]); isHost && moreAddresses(head, word) {
				continue // the virtual host, with its port
			}
		}
		if ok {
			before = append(before, addr)
		}
	}
	if len(before) == 0 {
		return false
	}
	// A list with commas is a forwarder's, whose last address is the connection's.
	source, ahead := before[0], before[1:]
	if bytes.IndexByte(head, ',') >= 0 {
		source, ahead = before[len(before)-1], before[:len(before)-1]
	}
	if t := r.parseTime(line[open+1 : min(len(line), open+28)]); !t.IsZero() {
		at = t
	}
	if !r.options.Allow(source) {
		ahead = append(ahead[:len(ahead):len(ahead)], lastQuoted(line[open:])...)
	}
	r.takeForwarded(source, ahead, at, "access")
	return true
}

// moreAddresses reports whether an address follows a word in a text.
func moreAddresses(text, word []byte) bool {
	_, rest, _ := bytes.Cut(text, word)
	for next := range bytes.FieldsSeq(rest) {
		_, ok := parseValue(next)
		return ok
	}
	return false
}

// isAccessTime reports whether s begins like 02/Jan/2006:15.
func isAccessTime(s []byte) bool {
	return isDigit(s[0]) && isDigit(s[1]) && s[2] == '/' && (isLetter(s[3]) || isDigit(s[3])) && bytes.IndexByte(s[:14], ':') > 0
}

// lastQuoted returns the addresses of the last quoted field that holds nothing
// else.
func lastQuoted(s []byte) []netip.Addr {
	for range 4 {
		end := bytes.LastIndexByte(s, '"')
		if end < 0 {
			return nil
		}
		start := bytes.LastIndexByte(s[:end], '"')
		if start < 0 {
			return nil
		}
		field := s[start+1 : end]
		list := parseList(nil, field)
		if len(list) > 0 && len(list) == bytes.Count(field, []byte{','})+1 {
			return list
		}
		s = s[:start]
	}
	return nil
}
