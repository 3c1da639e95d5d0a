package sighting

import (
	"bytes"
	"net/netip"
	"time"
)

// mode says how the addresses of a line are read.
type mode uint8

const (
	byWords mode = iota
	listed       // every address that no word excludes
	byKeys       // only addresses whose key names a source
)

// The ranks of a source, the best first. Those of keys are in fields.
const (
	rankArrow    = 10 // the left side of an arrow
	rankKey      = 15 // a key that names an address of nobody in particular
	rankFrom     = 30
	rankBy       = 33
	rankHost     = 35 // "host", "address"
	rankWith     = 40
	rankFor      = 45
	rankAttached = 50 // name[address]
	rankBare     = 60
	weaker       = 100 // added for a weak candidate
)

// prepositions are the meanings of words before an address that are no names of
// fields.
var prepositions = map[string]meaning{
	"from": {source, rankFrom}, "by": {source, rankBy}, "with": {source, rankWith}, "for": {source, rankFor},
	"ban": {source, rankFrom}, "banned": {source, rankFrom}, "block": {source, rankFrom}, "blocked": {source, rankFrom}, "blocking": {source, rankFrom},
	"attacker": {source, rankFrom}, "user": {source, rankBare}, "query": {source, rankBare},
	"to": {other, 1}, "on": {other, 1}, "onto": {other, 1}, "into": {other, 1}, "via": {other, 1}, "using": {other, 1}, "through": {other, 1},
	"toward": {other, 1}, "towards": {other, 1}, "against": {other, 1}, "reach": {other, 1}, "is": {other, 1},
}

// text reads a line. Level counts the texts around it. It reports whether the
// line is a header, which names columns.
func (r *Reader) text(line []byte, level int) (header bool) {
	if len(line) == 0 {
		return false
	}
	if level == 0 {
		if r.columns == nil || !r.columns.fits(line) {
			if c := headerOf(line); c != nil {
				r.columns = c
				return true
			}
		}
		if c := r.columns; c != nil && c.fits(line) && r.row(c, line) {
			return false
		}
	}
	if c := wellKnown(line); c != nil && r.row(c, line) {
		return false
	}
	at := r.lineTime(line)
	if r.accessLog(line, at) {
		return false
	}
	if i := bytes.Index(line, []byte(`{"`)); i >= 0 && level < 2 && line[0] != '{' {
		before := r.report.seen()
		if r.jsonObject(bytes.TrimSpace(line[i:]), level+1, false, at) && r.report.seen() > before {
			return false
		}
	}
	how := byWords
	switch {
	case bytes.Contains(line, []byte("CEF:")), bytes.Contains(line, []byte("LEEF:")):
		how = byKeys
	case at.IsZero() && !isLog(line):
		how = listed
	}
	r.words(line, at, how)
	return false
}

// isLog reports whether a line without a date is of a log all the same: it has a
// time of day or the tag of a program near its beginning.
func isLog(line []byte) bool {
	head := line[:min(len(line), 40)]
	for i := range head {
		if (i == 0 || head[i-1] == ' ' || head[i-1] == '[') && isDigit(head[i]) && isClock(head[i:]) {
			return true
		}
	}
	if bytes.HasPrefix(head, []byte("%ASA-")) || bytes.HasPrefix(head, []byte("%PIX-")) || bytes.HasPrefix(head, []byte("%FTD-")) {
		return true
	}
	open := bytes.IndexByte(head, '[')
	return open > 0 && isLetter(head[open-1]) && bytes.HasPrefix(trimNumber(head[open+1:]), []byte("]:")) && isDigit(head[open+1])
}

// words reads a line by the words around its addresses.
func (r *Reader) words(line []byte, at time.Time, how mode) {
	line, r.refanged = refang(r.refanged, line)
	format := formatOf(line)
	cs := candidates(r.cands[:0], line, format == "asa")
	r.cands = cs
	for i := range cs {
		if c := &cs[i]; c.shape == address || c.shape == malformed {
			c.understand(line)
		}
	}
	relate(cs, line)
	logHost(cs, line, at)
	outward := special(cs, line, format)
	r.choose(cs, line, at, how, format, outward)
}

// choose takes the source among the candidates of a line, or all that may be
// sources in a list.
func (r *Reader) choose(cs []candidate, line []byte, at time.Time, how mode, format string, outward bool) {
	best := uint8(noRank)
	var forward []netip.Addr
	var rejected []byte
	for i := range cs {
		c := &cs[i]
		text := line[c.start:min(c.end, len(line))]
		switch {
		case c.shape == network:
			r.report.Networks.add(r.line+1, string(text))
		case c.shape == numbers, c.role == version:
			r.report.miss(Version, r.line+1, string(text))
			c.role = version
		case c.shape == malformed:
			if c.role != other {
				r.report.miss(Malformed, r.line+1, string(text))
			}
		case c.role == forwarded:
			forward = append(forward, c.addr)
		case c.role == other, how == byKeys && c.rank > rankArrow, c.weak && how == byWords && inURL(line, c.start):
			c.role = other
			rejected = text
		default:
			if c.weak {
				c.rank += weaker
			}
			best = min(best, c.rank)
		}
	}
	usable := func(c *candidate) bool {
		return c.shape == address && c.role != other && c.role != forwarded && c.role != version
	}
	switch {
	case best == noRank:
		if len(forward) > 0 {
			r.takeForwarded(netip.Addr{}, forward, at, format)
		} else if rejected != nil {
			r.report.miss(NotSource, r.line+1, string(rejected))
		}
	case how == listed && best >= rankFrom:
		for i := range cs {
			if c := &cs[i]; usable(c) && (c.rank < weaker || best >= weaker || inURL(line, c.start)) {
				r.take(c.addr, at, format)
			}
		}
	case outward:
		r.report.miss(OwnSide, r.line+1, pick(cs, line, best, usable).String())
	default:
		r.takeForwarded(pick(cs, line, best, usable), forward, at, format)
	}
}

// pick returns the source among the candidates of the best rank. A user name or
// the like, which the attacker chooses, may hold something that looks like it and
// comes before it, so a later one counts; but not behind a colon after "from",
// where the attacker's own words may follow.
func pick(cs []candidate, line []byte, best uint8, usable func(*candidate) bool) (source netip.Addr) {
	end := 0
	for i := range cs {
		c := &cs[i]
		if !usable(c) || c.rank != best {
			continue
		}
		if end > 0 && (best == rankArrow || best >= rankFrom && bytes.IndexByte(line[end:c.start], ':') >= 0 || best == rankBare) {
			break
		}
		source, end = c.addr, c.end
	}
	return source
}

// inURL reports whether the word at i is the host of a URL.
func inURL(line []byte, i int) bool {
	return i > 2 && line[i-1] == '/' && line[i-2] == '/'
}

// understand sets the role and rank of a candidate by the words before it.
func (c *candidate) understand(line []byte) {
	c.role, c.rank = source, rankBare
	if c.label != nil {
		m := meaningOf(c.label)
		if m.role == general { // remote host [ipv4:1.2.3.4:445]
			t := tokenBefore(line, c.start)
			if side := t.meaning(line); (side.role == source || side.role == other) && c.apply(side, t.op) {
				return
			}
		}
		if m.role != unknown && c.apply(m, true) {
			return
		}
	}
	if c.start > 1 && line[c.start-2] == '(' && line[c.start-1] == '[' && bytes.HasPrefix(line[c.end:], []byte("])")) {
		c.role = other // what a mail client calls itself
		return
	}
	if after, ok := bytes.CutPrefix(line[c.end:], []byte(") [")); ok {
		host, _, _ := bytes.Cut(after, []byte{']'})
		if _, ok := parseAddress(host); ok {
			c.role = other // likewise, before the address that it has
			return
		}
	}
	if bytes.HasSuffix(line[:c.start], []byte("'@'")) {
		c.rank = rankFrom // the host behind the name, as MySQL writes it
		return
	}
	t := tokenBefore(line, c.start)
	if t.quoted(line, c) || t.query || t.inValue(line, c) {
		c.weak = true
	}
	if m := t.meaning(line); m.role != unknown && c.apply(m, t.op) {
		return
	}
	if t.bracket && len(t.text) > 0 { // name[address], name (address)
		before := tokenBefore(line, t.start)
		if m := before.meaning(line); m.role != unknown && m.role != general && m.rank != rankFor && c.apply(m, before.op) {
			return
		}
		if t.attached {
			c.rank = rankAttached
		}
	}
}

// apply sets the role that a key or a word gives the candidate. It reports false
// if it says nothing about an address.
func (c *candidate) apply(m meaning, key bool) bool {
	switch m.role {
	case source:
		c.rank = m.rank
		if !key && m.rank < rankFrom {
			c.rank += 20 // a word, not a key
		}
	case general:
		if c.rank = rankHost; key {
			c.rank = rankKey + m.rank
		}
	case forwarded, other, version:
		c.role = m.role
	default:
		return false
	}
	return true
}

// token is a word before an address and what is between the two.
type token struct {
	text     []byte
	start    int
	op       bool // = or : is between
	bracket  bool // an opening bracket is between
	attached bool // nothing else is between
	query    bool // the word begins a parameter of a URL
}

// tokenBefore returns the word that ends before i. Its text is empty if other
// punctuation is between.
func tokenBefore(line []byte, i int) token {
	t := token{attached: true, start: i}
	for ; i > 0; i-- {
		switch line[i-1] {
		case '[', '(':
			t.bracket = true
			continue
		case ' ', '\t':
			t.attached = false
			continue
		case '"', '\'', '`', '<', '{', '\\':
			continue
		case '=', ':':
			t.op = true
			continue
		case '>':
			if i > 1 && line[i-2] == '=' {
				continue // =>
			}
		}
		break
	}
	end := i
	for i > 0 && (isLetter(line[i-1]) || isDigit(line[i-1]) || line[i-1] == '_' || line[i-1] == '-' || line[i-1] == '.') {
		i--
	}
	t.text, t.start = line[i:end], i
	t.query = t.op && i > 0 && (line[i-1] == '?' || line[i-1] == '&')
	return t
}

// meaning returns what a word, or it and the one or two before it, say about an
// address.
func (t token) meaning(line []byte) meaning {
	if len(t.text) == 0 {
		return meaning{}
	}
	var buf [maxName]byte
	word := normalize(&buf, t.text)
	if !t.op {
		if m, ok := prepositions[string(word)]; ok {
			return m
		}
	}
	// Two or three words: Source Network Address, IP address.
	one := wordMeaning(t.text)
	if t.op {
		one = meaningOf(t.text)
	}
	if t.start > 1 && line[t.start-1] == ' ' {
		before := tokenBefore(line, t.start)
		if len(before.text) > 0 && !before.op && !before.bracket {
			third := tokenBefore(line, before.start)
			if len(third.text) > 0 && !third.op && !third.bracket {
				if m := wordMeaning(joined(third.text, before.text, t.text)); addressed(m) {
					return m
				}
			}
			if m := wordMeaning(joined(before.text, t.text)); addressed(m) {
				return m
			}
			if one.role == general && !t.op {
				var buf [maxName]byte
				m, ok := prepositions[string(normalize(&buf, before.text))]
				switch {
				case bytes.HasPrefix(third.text, []byte("resolve")): // a name to the address that it was looked up for
					return meaning{source, rankFor}
				case ok && m.rank != rankFor:
					return m
				}
			}
		}
	}
	if !addressed(one) || !t.op && string(word) == "hostname" {
		return meaning{}
	}
	return one
}

func joined(parts ...[]byte) []byte { return bytes.Join(parts, nil) }

// addressed reports whether a meaning is one of an address.
func addressed(m meaning) bool {
	switch m.role {
	case source, general, forwarded, other, version:
		return true
	}
	return false
}

// inValue reports whether the word is a key inside the value of another key, in
// brackets or in single quotes, as in user=src=1.2.3.4, helo=<src=1.2.3.4>, user
// [src=1.2.3.4] and 'src=1.2.3.4', or its = is escaped: that is a name that
// somebody chose.
func (t token) inValue(line []byte, c *candidate) bool {
	if !t.op || len(t.text) == 0 || t.start == 0 {
		return false
	}
	between := line[t.start+len(t.text) : max(c.start, t.start+len(t.text)+1)]
	switch {
	case bytes.HasPrefix(between, []byte(`\=`)):
		return true
	case between[0] != '=' && between[0] != ':':
		return false // the key itself is quoted
	}
	switch line[t.start-1] {
	case '=', '\'':
		return true
	case '<', '[':
		return between[0] == '='
	}
	return false
}

// quoted reports whether the candidate is in a quoted text with something before
// it in the quotes.
func (t token) quoted(line []byte, c *candidate) bool {
	before := line[:c.start]
	if bytes.Count(before, []byte{'"'})%2 == 0 {
		return false
	}
	open := bytes.LastIndexByte(before, '"')
	return len(bytes.Trim(before[open+1:], " [(<'")) > 0
}

// relate finds out what the text between two candidates says: an arrow, "to", an
// address in parentheses behind another, a list.
func relate(cs []candidate, line []byte) {
	for i := 1; i < len(cs); i++ {
		a, b := &cs[i-1], &cs[i]
		if a.shape == network || b.shape == network || a.end > b.start {
			continue
		}
		between := line[a.end:b.start]
		if len(between) > 48 {
			continue
		}
		switch arrow(between, b.label != nil) {
		case forward:
			if a.role == source && a.rank > rankArrow {
				a.rank = rankArrow
			}
			b.role = other
		case backward:
			if b.role == source {
				b.rank = rankArrow
			}
			a.role = other
		case inParentheses:
			b.role = a.role
			if a.role == source {
				b.rank = max(a.rank, rankBare)
			}
		case unrelated:
			// A name that was tried, and where from: user src=1.2.3.4 from 5.6.7.8.
			if a.role == source && a.rank < rankFrom && b.role == source && bytes.Contains(between, []byte(" from ")) &&
				bytes.IndexByte(between, '=') < 0 {
				a.weak = true
			}
		case list:
			if a.role == forwarded && b.role == source && b.rank == rankBare {
				b.role = forwarded
			}
		}
	}
}

// relation is what a text between two addresses says.
type relation uint8

const (
	unrelated relation = iota
	forward
	backward
	inParentheses
	list
)

func arrow(s []byte, labelled bool) relation {
	switch {
	case bytes.Contains(s, []byte("<->")):
		return forward
	case bytes.Contains(s, []byte("->")), bytes.Contains(s, []byte("=>")), bytes.Contains(s, []byte("→")), string(s) == " > ",
		bytes.Contains(s, []byte("&gt;")):
		return forward
	case bytes.Contains(s, []byte("<-")):
		return backward
	case string(s) == " (IP=": // slapd: the client, and the address that it connected to
		return forward
	case string(s) == " (":
		return inParentheses
	case string(s) == ", " || string(s) == ",":
		return list
	}
	if before, _, ok := bytes.Cut(s, []byte(" to ")); ok && len(bytes.TrimLeft(before, "0123456789)]#(/: port")) == 0 {
		return forward
	}
	return unrelated
}

// logHost excludes the host that a syslog header names by its address.
func logHost(cs []candidate, line []byte, at time.Time) {
	if len(cs) == 0 || cs[0].shape != address || cs[0].port >= 0 || at.IsZero() {
		return
	}
	c := &cs[0]
	if c.end > timeWindow || c.end >= len(line) || line[c.end] != ' ' || c.start == 0 || line[c.start-1] != ' ' {
		return
	}
	for word := range bytes.FieldsSeq(line[:c.start]) {
		month, _ := monthName(word)
		if month == 0 && !weekday(append(word[:len(word):len(word)], "  "...)) && !bytes.ContainsAny(word, "0123456789") {
			return
		}
	}
	rest := line[c.end+1:]
	n := 0
	for n < len(rest) && (isLetter(rest[n]) || isDigit(rest[n]) || bytes.IndexByte([]byte("_-./%()"), rest[n]) >= 0) {
		n++
	}
	if n == 0 || n == len(rest) || isDigit(rest[0]) {
		return
	}
	pid := rest[n] == '[' && bytes.Contains(rest[n:min(len(rest), n+12)], []byte("]:"))
	versioned := bytes.HasPrefix(line, []byte{'<'}) && bytes.Contains(line[:min(len(line), 6)], []byte(">1"))
	if pid || versioned || rest[n] == ':' && (len(cs) > 1 || rest[0] == '%') {
		c.role = other
	}
}
