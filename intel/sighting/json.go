package sighting

import (
	"bytes"
	"net/netip"
	"strings"
	"time"
	"unicode/utf16"
	"unicode/utf8"
)

// scope is what is around a field of a JSON object.
type scope uint8

const (
	top     scope = iota // the record, or a container of its fields
	within               // an object of the source
	foreign              // an object of no known meaning
)

// jsonRecord is what the fields of one JSON record say.
type jsonRecord struct {
	reader *Reader
	data   []byte
	pos    int

	source    netip.Addr
	rank      uint8
	forwarded []netip.Addr
	list      []byte // a value to read like text, when no field names a source
	listRank  uint8
	message   []byte
	at        []byte // the text of the time
	atRank    uint8
	outward   bool
	others    []byte // the first address with another role
	names     [names][]byte
}

// The fields by which formats are told apart.
const (
	eventID = iota
	eventType
	logType
	ecs
	kind
	names
)

// found is a source in a record inside a record.
type found struct {
	source    netip.Addr
	forwarded []netip.Addr
	outward   bool
	at        time.Time
	format    string
}

const (
	noRank     = 255
	maxJSON    = 64 // nested containers that are read
	maxForward = 32 // forwarded addresses that are kept
)

// record reads a JSON object. A record that is cut off counts as far as it goes.
func (r *Reader) record(data []byte, cut bool) {
	r.report.Lines++
	before := r.report.seen()
	ok := r.jsonObject(data, 0, cut, time.Time{})
	if !ok && !cut {
		r.text(bytes.TrimSpace(firstLine(data)), 1)
	}
	if len(r.pending) == 0 && r.report.seen() == before && !cut {
		r.report.WithoutAddress.add(r.line+1, string(data[:min(len(data), maxExample)]))
	}
}

func firstLine(data []byte) []byte {
	if i := bytes.IndexByte(data, '\n'); i >= 0 {
		data = data[:i]
	}
	return data[:min(len(data), maxLine)]
}

// jsonObject reads the fields of an object and takes its source. It reports false
// if data is not JSON. Level counts the texts around it.
func (r *Reader) jsonObject(data []byte, level int, cut bool, at time.Time) bool {
	j := jsonRecord{reader: r, data: data, rank: noRank, listRank: noRank, atRank: noRank}
	var inner []found
	ok := j.object(top, 0, &inner)
	if !ok && !cut {
		return false
	}
	if t := j.time(); !t.IsZero() {
		at = t
	}
	switch {
	case j.source.IsValid():
		r.takeFound(found{j.source, j.forwarded, j.outward, at, j.format()})
	case cut: // the sources inside are read later
	case len(inner) > 0:
		for _, f := range inner {
			if f.at.IsZero() {
				f.at = at
			}
			r.takeFound(f)
		}
	case j.message != nil && level < 2 && r.message(unescape(j.message), level, at):
	case len(j.forwarded) > 0:
		r.takeForwarded(netip.Addr{}, j.forwarded, at, j.format())
	case j.list != nil:
		r.words(unescape(j.list), at, listed)
	case j.others != nil:
		r.report.miss(NotSource, r.line+1, string(j.others))
	}
	return true
}

// message reads a text inside a JSON record and reports whether it says anything
// about addresses.
func (r *Reader) message(text []byte, level int, at time.Time) bool {
	before := r.report.seen()
	first := len(r.pending)
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return false
	}
	if text[0] != '{' || !r.jsonObject(text, level+1, false, at) {
		r.text(firstLine(text), level+1)
	}
	for i := first; i < len(r.pending); i++ {
		if r.pending[i].Time.IsZero() {
			r.pending[i].Time = at
		}
	}
	return r.report.seen() > before
}

func (r *Reader) takeFound(f found) {
	if f.outward {
		r.report.miss(OwnSide, r.line+1, f.source.String())
		return
	}
	r.takeForwarded(f.source, f.forwarded, f.at, f.format)
}

// format names the format by the fields that only it has.
func (j *jsonRecord) format() string {
	n := &j.names
	switch {
	case bytes.HasPrefix(n[eventID], []byte("cowrie.")):
		return "cowrie"
	case n[logType] != nil:
		return "opencanary"
	case n[eventType] != nil:
		return "suricata"
	case n[kind] != nil:
		return "zeek"
	case n[ecs] != nil:
		return "ecs"
	}
	return "json"
}

// object reads the object at j.pos.
func (j *jsonRecord) object(in scope, depth int, inner *[]found) bool {
	if depth > maxJSON {
		return false
	}
	j.pos++ // {
	j.blank()
	if j.peek() == '}' {
		j.pos++
		return true
	}
	for {
		j.blank()
		if j.peek() != '"' {
			return false
		}
		name, ok := j.text()
		if !ok {
			return false
		}
		j.blank()
		if j.peek() != ':' {
			return false
		}
		j.pos++
		j.blank()
		if !j.field(name, in, depth, inner) {
			return false
		}
		j.blank()
		switch j.peek() {
		case ',':
			j.pos++
		case '}':
			j.pos++
			return true
		default:
			return false
		}
	}
}

// field reads the value of a field.
func (j *jsonRecord) field(name []byte, in scope, depth int, inner *[]found) bool {
	m := meaningOf(name)
	switch c := j.peek(); c {
	case '"':
		value, ok := j.text()
		if ok {
			j.value(name, m, in, depth, value)
		}
		return ok
	case '{':
		switch {
		case m.role == other:
			return j.skip(depth)
		case m.role == source || m.role == general && in == within:
			return j.object(within, depth+1, inner)
		case m.role == unknown && sideOf(name) == other:
			return j.skip(depth)
		case m.role == unknown && sideOf(name) == source:
			return j.object(within, depth+1, inner)
		case m.role == wrapper && in == top, m.role == message:
			return j.object(top, depth+1, inner)
		case string(name) == "ecs":
			j.names[ecs] = name
		}
		return j.object(foreign, depth+1, inner)
	case '[':
		return j.array(m, in, depth, inner)
	default:
		from := j.pos
		if !j.scalar() {
			return false
		}
		if m.role == moment && in == top && m.rank+uint8(depth) < j.atRank {
			j.at, j.atRank = j.data[from:j.pos], m.rank+uint8(depth)
		}
		if string(name) == "logtype" && depth == 0 {
			j.names[logType] = name
		}
		return true
	}
}

// value takes note of a field whose value is a string.
func (j *jsonRecord) value(name []byte, m meaning, in scope, depth int, value []byte) {
	rank := m.rank + min(uint8(depth), 20)*4
	if in == foreign {
		rank += 20
	}
	switch m.role {
	case unknown:
		if depth > 0 {
			return
		}
		switch string(name) {
		case "eventid":
			j.names[eventID] = value
		case "event_type":
			j.names[eventType] = value
		case "ecs.version":
			j.names[ecs] = value
		}
	case source:
		if string(name) == "id.orig_h" || string(name) == "orig_h" {
			j.names[kind] = name
		}
		j.candidate(value, rank)
	case general:
		switch {
		case in == within:
			j.candidate(value, rank)
		case string(name) == "host": // where the log was written
		case in == top && rank+100 < j.listRank:
			j.list, j.listRank = value, rank+100
		}
	case forwarded:
		j.forward(value)
	case other:
		if j.others == nil {
			if addr, _ := parseValue(unescape(value)); addr.IsValid() {
				j.others = value
			}
		}
	case moment:
		if in == top && rank < j.atRank && len(value) > 0 {
			j.at, j.atRank = value, rank
		}
	case message, wrapper:
		if m.role == wrapper && bytes.IndexByte(value, ' ') < 0 {
			return
		}
		if in == top && j.message == nil && len(value) >= 7 {
			j.message = value
		}
	case direction:
		if in == top && outward(string(value)) {
			j.outward = true
		}
	}
}

// candidate takes note of a source. A list of addresses is what a forwarder
// makes: its last is the connection's.
func (j *jsonRecord) candidate(value []byte, rank uint8) {
	if rank >= j.rank || len(value) < 2 {
		return
	}
	value = unescape(value)
	if addr, ok := parseValue(value); ok {
		j.source, j.rank = addr, rank
		return
	}
	if bytes.IndexByte(value, ',') < 0 {
		return
	}
	if list := parseList(nil, value); len(list) > 0 {
		last := len(list) - 1
		j.source, j.rank = list[last], rank
		j.forwarded = append(j.forwarded[:0], list[:last]...)
	}
}

func (j *jsonRecord) forward(value []byte) {
	if len(j.forwarded) < maxForward {
		j.forwarded = parseList(j.forwarded, unescape(value))
	}
}

// parseList appends the addresses in the value of X-Forwarded-For or Forwarded.
func parseList(list []netip.Addr, value []byte) []netip.Addr {
	for part := range bytes.SplitSeq(value, []byte{','}) {
		part = bytes.TrimSpace(part)
		if i := bytes.Index(part, []byte("for=")); i >= 0 {
			part, _, _ = bytes.Cut(part[i+4:], []byte{';'})
			part = bytes.Trim(part, ` "`)
		}
		if addr, ok := parseValue(part); ok {
			list = append(list, addr)
		}
	}
	return list
}

// array reads the array at j.pos. Objects in it are records of their own, which
// count if the record around them names no source.
func (j *jsonRecord) array(m meaning, in scope, depth int, inner *[]found) bool {
	if depth > maxJSON {
		return false
	}
	j.pos++ // [
	var sources []netip.Addr
	for {
		j.blank()
		switch c := j.peek(); c {
		case ']':
			j.pos++
			if n := len(sources) - 1; n >= 0 && m.rank+20 < j.rank {
				j.source, j.rank = sources[n], m.rank+20
				j.forwarded = append(j.forwarded[:0], sources[:n]...)
			}
			return true
		case ',':
			j.pos++
		case '"':
			value, ok := j.text()
			if !ok {
				return false
			}
			switch {
			case m.role == source && in != foreign && len(sources) < maxForward:
				sources = parseList(sources, unescape(value))
			case m.role == forwarded:
				j.forward(value)
			case m.role == general && in == top && j.list == nil:
				j.list, j.listRank = value, 150
			}
		case '{':
			if m.role == other {
				if !j.skip(depth) {
					return false
				}
				continue
			}
			if !j.innerRecord(depth, inner) {
				return false
			}
		case '[':
			if !j.array(m, in, depth+1, inner) {
				return false
			}
		default:
			if !j.scalar() {
				return false
			}
		}
	}
}

// maxInner is how many records inside one are read.
const maxInner = 16 << 10

// innerRecord reads an object in an array as a record of its own.
func (j *jsonRecord) innerRecord(depth int, inner *[]found) bool {
	if depth > maxJSON {
		return false
	}
	sub := jsonRecord{reader: j.reader, data: j.data, pos: j.pos, rank: noRank, listRank: noRank, atRank: noRank}
	ok := sub.object(top, 0, inner)
	j.pos = sub.pos
	if ok && sub.source.IsValid() && len(*inner) < maxInner {
		*inner = append(*inner, found{sub.source, sub.forwarded, sub.outward, sub.time(), sub.format()})
	}
	return ok
}

// skip reads a value without looking at it.
func (j *jsonRecord) skip(depth int) bool {
	for open := 0; ; {
		j.blank()
		switch c := j.peek(); c {
		case '"':
			if _, ok := j.text(); !ok {
				return false
			}
		case '{', '[':
			open++
			j.pos++
			if depth+open > maxJSON {
				return false
			}
		case '}', ']':
			open--
			j.pos++
		case ',', ':':
			j.pos++
		default:
			if !j.scalar() {
				return false
			}
		}
		if open == 0 {
			return true
		}
	}
}

func (j *jsonRecord) peek() byte {
	if j.pos < len(j.data) {
		return j.data[j.pos]
	}
	return 0
}

func (j *jsonRecord) blank() {
	for j.pos < len(j.data) && (j.data[j.pos] == ' ' || j.data[j.pos] == '\n' || j.data[j.pos] == '\t' || j.data[j.pos] == '\r') {
		j.pos++
	}
}

// text returns the string at j.pos as it is written, without its quotes.
func (j *jsonRecord) text() ([]byte, bool) {
	from := j.pos + 1
	for i := from; ; {
		n := bytes.IndexByte(j.data[i:], '"')
		if n < 0 {
			return nil, false
		}
		i += n
		slashes := 0
		for k := i - 1; k >= from && j.data[k] == '\\'; k-- {
			slashes++
		}
		i++
		if slashes%2 == 0 {
			j.pos = i
			return j.data[from : i-1], true
		}
	}
}

// scalar reads a number, true, false or null.
func (j *jsonRecord) scalar() bool {
	from := j.pos
	for j.pos < len(j.data) {
		if c := j.data[j.pos]; !isDigit(c) && !isJSONLetter(c) && c != '-' && c != '+' && c != '.' {
			break
		}
		j.pos++
	}
	return j.pos > from
}

// time returns the time of the record.
func (j *jsonRecord) time() time.Time {
	if j.at == nil {
		return time.Time{}
	}
	return j.reader.parseTime(unescape(j.at))
}

// unescape returns the text of a JSON string. It returns s itself if there is
// nothing to do.
func unescape(s []byte) []byte {
	i := bytes.IndexByte(s, '\\')
	if i < 0 {
		return s
	}
	out := append(make([]byte, 0, len(s)), s[:i]...)
	for i < len(s) {
		c := s[i]
		i++
		if c != '\\' || i == len(s) {
			out = append(out, c)
			continue
		}
		c = s[i]
		i++
		switch c {
		case 'n', 'r', 't', 'b', 'f':
			out = append(out, ' ')
		case 'u':
			high, ok := hex4(s[i:])
			if !ok {
				continue
			}
			i += 4
			if utf16.IsSurrogate(high) && i+1 < len(s) && s[i] == '\\' && s[i+1] == 'u' {
				if low, ok := hex4(s[i+2:]); ok {
					high = utf16.DecodeRune(high, low)
					i += 6
				}
			}
			out = utf8.AppendRune(out, high)
		default:
			out = append(out, c)
		}
	}
	return out
}

func hex4(s []byte) (c rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, d := range s[:4] {
		n := strings.IndexByte("0123456789abcdef", d|0x20)
		if isDigit(d) {
			n = int(d - '0')
		}
		if n < 0 {
			return 0, false
		}
		c = c<<4 | rune(n)
	}
	return c, true
}
