package sighting

import (
	"bytes"
	"net/netip"
	"time"
)

// columns says where in a line what is.
type columns struct {
	header    string // the line that says so; empty for a well-known format
	format    string
	separator byte // ' ' stands for any number of blanks
	count     int  // of columns
	source    int
	forwarded int // -1: none
	date      int // -1: none
	time      int // -1: none
	direction int // -1: none
}

// maxHeader is the longest header that is kept.
const maxHeader = 4 << 10

// headerOf returns the columns that a line names, and nil if it names none.
func headerOf(line []byte) *columns {
	if len(line) > maxHeader {
		return nil
	}
	format, separator, names := "csv", byte(0), line
	switch {
	case bytes.HasPrefix(line, []byte("#fields\t")):
		format, separator, names = "zeek", '\t', line[len("#fields\t"):]
	case bytes.HasPrefix(line, []byte("#Fields:")):
		format, separator, names = "w3c", ' ', bytes.TrimSpace(line[len("#Fields:"):])
	case line[0] == '#':
		return nil
	case bytes.Contains(line, []byte("srcaddr")) && bytes.Contains(line, []byte("dstaddr")) && !bytes.ContainsAny(line, ",;=\t"):
		format, separator = "vpc", ' '
	default:
		for _, s := range []byte("\t,;|") {
			if bytes.Count(line, []byte{s}) >= 1 {
				separator = s
				break
			}
		}
		if separator == 0 {
			return nil
		}
	}
	c := &columns{header: string(line), format: format, separator: separator, source: -1, forwarded: -1, date: -1, time: -1, direction: -1}
	best := uint8(noRank)
	for i, name := range c.split(names, nil) {
		if (format == "csv" || format == "vpc") && !isName(name) {
			return nil
		}
		c.count++
		m := meaningOf(name)
		if format == "w3c" && string(name) == "date" {
			c.date = i
			continue
		}
		switch m.role {
		case source:
			if m.rank < best {
				c.source, best = i, m.rank
			}
		case general:
			if m.rank < 3 && m.rank+100 < best {
				c.source, best = i, m.rank+100
			}
		case forwarded:
			c.forwarded = i
		case moment:
			if c.time < 0 {
				c.time = i
			}
		case direction:
			c.direction = i
		}
	}
	if c.source < 0 || format == "csv" && c.count < 2 {
		return nil
	}
	return c
}

// isName reports whether s may be the name of a column: words that begin with a
// letter.
func isName(s []byte) bool {
	if len(s) == 0 || len(s) > maxName || !isLetter(s[0]) && s[0] != '_' && s[0] != '@' {
		return false
	}
	for _, c := range s {
		if !isLetter(c) && !isDigit(c) && bytes.IndexByte([]byte("_-. @/"), c) < 0 {
			return false
		}
	}
	return true
}

// split returns the fields of a line.
func (c *columns) split(line []byte, into [][]byte) [][]byte {
	switch c.separator {
	case ' ':
		for word := range bytes.FieldsSeq(line) {
			into = append(into, word)
		}
		return into
	case '\t':
		for field := range bytes.SplitSeq(line, []byte{'\t'}) {
			into = append(into, field)
		}
		return into
	}
	for len(line) > 0 {
		if line[0] == '"' {
			if end := bytes.IndexByte(line[1:], '"'); end >= 0 {
				into = append(into, line[1:1+end])
				line = line[2+end:]
				if i := bytes.IndexByte(line, c.separator); i >= 0 {
					line = line[i+1:]
					continue
				}
				return into
			}
		}
		field, rest, more := bytes.Cut(line, []byte{c.separator})
		into = append(into, bytes.TrimSpace(field))
		if line = rest; !more {
			return into
		}
	}
	return into
}

// fits reports whether a line may have these columns.
func (c *columns) fits(line []byte) bool {
	if c.separator == ' ' {
		n := 0
		for range bytes.FieldsSeq(line) {
			n++
		}
		return n == c.count
	}
	n := bytes.Count(line, []byte{c.separator}) + 1
	return n >= c.count
}

// row takes the source from its column and reports whether the line has one
// there.
func (r *Reader) row(c *columns, line []byte) bool {
	var buf [64][]byte
	row := c.split(line, buf[:0])
	if c.source >= len(row) {
		return false
	}
	at := r.rowTime(c, row)
	cell := row[c.source]
	addr, ok := parseValue(cell)
	var ahead []netip.Addr
	if !ok && bytes.IndexByte(cell, ',') > 0 {
		if list := parseList(nil, cell); len(list) > 0 {
			addr, ok, ahead = list[len(list)-1], true, list[:len(list)-1]
		}
	}
	if c.forwarded >= 0 && c.forwarded < len(row) {
		ahead = parseList(ahead, bytes.ReplaceAll(row[c.forwarded], []byte{'+'}, nil))
	}
	switch {
	case !ok && len(ahead) == 0:
		return string(cell) == "-"
	case ok && c.direction >= 0 && c.direction < len(row) && outward(string(row[c.direction])):
		r.report.miss(OwnSide, r.line+1, addr.String())
	default:
		r.takeForwarded(addr, ahead, at, c.format)
	}
	return true
}

func (r *Reader) rowTime(c *columns, row [][]byte) time.Time {
	if c.time < 0 || c.time >= len(row) {
		return r.lineTime(row[0]) // of a syslog header
	}
	text := row[c.time]
	if c.date >= 0 && c.date < len(row) {
		text = joined(row[c.date], []byte(" "), text, []byte("Z")) // W3C times are in UTC
	}
	return r.parseTime(text)
}

// The formats whose columns need no header.
var (
	vpcDefault = &columns{format: "vpc", separator: ' ', source: 3, forwarded: -1, date: -1, time: 10, direction: -1}
	filter4    = &columns{format: "pf", separator: ',', source: 18, forwarded: -1, date: -1, time: -1, direction: 7}
	filter6    = &columns{format: "pf", separator: ',', source: 15, forwarded: -1, date: -1, time: -1, direction: 7}
	panos      = &columns{format: "panos", separator: ',', source: 7, forwarded: -1, date: -1, time: 1, direction: -1}
	squid      = &columns{format: "squid", separator: ' ', source: 2, forwarded: -1, date: -1, time: 0, direction: -1}
	elb        = &columns{format: "elb", separator: ' ', source: 3, forwarded: -1, date: -1, time: 1, direction: -1}
)

// wellKnown returns the columns of a line of a format without a header, and nil
// if it has none.
func wellKnown(line []byte) *columns {
	var buf [9][]byte
	words := buf[:0]
	for word := range bytes.FieldsSeq(line[:min(len(line), 400)]) {
		if words = append(words, word); len(words) == len(buf) {
			break
		}
	}
	switch {
	case len(words) > 8 && len(words[1]) == 12 && len(trimNumber(words[1])) == 0 && bytes.HasPrefix(words[2], []byte("eni-")):
		return vpcDefault
	case len(words) > 6 && isSquid(words):
		return squid
	case len(words) > 8 && (bytes.HasPrefix(words[2], []byte("app/")) || bytes.HasPrefix(words[2], []byte("net/"))):
		return elb
	}
	if bytes.Contains(line, []byte("filterlog")) {
		fields := bytes.Split(line, []byte{','})
		switch {
		case len(fields) > 19 && string(fields[8]) == "4":
			return filter4
		case len(fields) > 16 && string(fields[8]) == "6":
			return filter6
		}
	}
	if bytes.Contains(line, []byte(",TRAFFIC,")) || bytes.Contains(line, []byte(",THREAT,")) {
		return panos
	}
	return nil
}

// isSquid reports whether words begin a line of Squid's access log: time,
// duration, client, result/status.
func isSquid(words [][]byte) bool {
	i := bytes.IndexByte(words[3], '/')
	return len(words[0]) > 10 && words[0][10] == '.' && len(trimNumber(words[1])) == 0 && i > 3 && atoi(words[3][i+1:]) >= 0
}
