package sighting

import (
	"bytes"
	"errors"
	"io"
)

// step reads one line or JSON record and adds what it found to r.pending. It
// returns the error of the input when nothing is left.
func (r *Reader) step() error {
	if resume := r.resume; resume != nil {
		r.resume = nil
		if err := resume(); err != nil {
			return err
		}
	}
	for {
		text := r.in.unread()
		if len(text) == 0 {
			if !r.in.more() {
				return r.in.err
			}
			continue
		}
		switch c := text[0]; {
		case c == '\n':
			r.in.consume(1)
			r.line++
		case c == ' ', c == '\t', c == '\r', c == 0:
			r.in.consume(1)
		case c == '{':
			if handled, err := r.object(); handled || err != nil {
				return err
			}
			return r.textLine()
		case r.depth > 0:
			if err := r.between(c); err != nil {
				return err
			}
		case c == ',', c == ']', c == '}':
			r.in.consume(1) // between the records of an array, or behind the last
		case c == '[':
			if next, err := r.lookahead(); err != nil {
				return err
			} else if next != '{' && next != '[' {
				return r.textLine()
			}
			r.in.consume(1)
		default:
			return r.textLine()
		}
	}
}

// lookahead returns the first byte behind the current one that is not blank, and
// 0 if there is none.
func (r *Reader) lookahead() (byte, error) {
	for i := 1; ; i++ {
		for i >= len(r.in.unread()) {
			if i >= maxLine {
				return 0, nil
			}
			if !r.in.more() {
				return 0, r.in.fatal()
			}
		}
		if c := r.in.unread()[i]; c > ' ' {
			return c, nil
		}
	}
}

// fatal returns the error of the input unless it is its end.
func (in *input) fatal() error {
	if errors.Is(in.err, io.EOF) {
		return nil
	}
	return in.err
}

// textLine reads a line of text, or a piece of a long one.
func (r *Reader) textLine() error {
	seen := 0
	for {
		text := r.in.unread()
		if n := bytes.IndexByte(text[seen:], '\n'); n >= 0 && seen+n <= maxLine {
			r.readLine(text[:seen+n])
			r.in.consume(seen + n)
			return nil
		}
		if seen = len(text); seen > maxLine {
			return r.longLine()
		}
		if !r.in.more() {
			if err := r.in.fatal(); err != nil {
				return err
			}
			text = r.in.unread()
			r.readLine(text)
			r.in.consume(len(text))
			return nil
		}
	}
}

// readLine reads a line of text without its end.
func (r *Reader) readLine(line []byte) {
	line = bytes.TrimRight(line, " \t\r\x00")
	if line[0] == '#' {
		if c := headerOf(line); c != nil {
			r.columns = c
		}
		return
	}
	found := r.report.seen()
	r.report.Lines++
	if r.text(line, 0) {
		r.report.Lines-- // a header
		return
	}
	if len(r.pending) == 0 && r.report.seen() == found {
		r.report.WithoutAddress.add(r.line+1, string(line[:min(len(line), maxExample)]))
	}
}

// seen counts everything in the report that looks like an address.
func (r *Report) seen() int64 {
	n := r.Sightings + r.Networks.N
	for _, c := range r.NotTaken {
		n += c.N
	}
	return n
}

// longLine reads a line in pieces that end between two words. The first piece is
// read like a line; the others are only if it did not name a source.
func (r *Reader) longLine() error {
	piece := r.piece()
	before := r.report.Sightings
	listed := !hasTime(piece)
	r.readLine(piece)
	r.in.consume(len(piece))
	if r.report.Sightings > before && !listed {
		return r.skipLine()
	}
	return nil
}

// piece returns the beginning of a line longer than maxLine, up to a separator.
func (r *Reader) piece() []byte {
	text := r.in.unread()[:maxLine]
	if i := bytes.LastIndexAny(text, " \t,;|"); i > 0 {
		return text[:i]
	}
	return text
}

// skipLine consumes everything before the end of the line.
func (r *Reader) skipLine() error {
	for {
		text := r.in.unread()
		if n := bytes.IndexByte(text, '\n'); n >= 0 {
			r.in.consume(n)
			return nil
		}
		r.in.consume(len(text))
		if !r.in.more() {
			return r.later(r.skipLine)
		}
	}
}

// later returns the error of the input, after which resume goes on, unless it is
// the end.
func (r *Reader) later(resume func() error) error {
	err := r.in.fatal()
	if err != nil {
		r.resume = resume
	}
	return err
}

// maxDepth is how many JSON containers that are too large for a record may be
// around one.
const maxDepth = 32

// object reads a JSON object. It reports false if the text is none; then nothing
// is consumed.
func (r *Reader) object() (handled bool, err error) {
	if next, err := r.lookahead(); err != nil || next != '"' && next != '}' {
		return false, err
	}
	var s objectScan
	for {
		text := r.in.unread()
		switch s.scan(text) {
		case complete:
			r.record(text[:s.at], false)
			r.line += int64(bytes.Count(text[:s.at], newline))
			r.in.consume(s.at)
			return true, nil
		case invalid:
			r.depth = 0 // what was around it was cut off, too
			return false, nil
		}
		if len(text) >= maxRecord {
			return true, r.largeObject(text)
		}
		if !r.in.more() {
			return false, r.in.fatal()
		}
	}
}

var newline = []byte{'\n'}

// largeObject reads an object longer than maxRecord, of which text is the
// beginning: if it names a source itself, the rest is skipped, and otherwise the
// objects inside it are read.
func (r *Reader) largeObject(text []byte) error {
	if r.record(text, true); len(r.pending) > 0 {
		return r.skipObject()
	}
	if r.depth >= maxDepth {
		r.report.miss(TooLarge, r.line+1, string(text[:maxExample]))
		return r.skipObject()
	}
	r.in.consume(1)
	r.depth++
	return nil
}

// skipObject consumes an object.
func (r *Reader) skipObject() error { return r.skipRest(&objectScan{}) }

func (r *Reader) skipRest(s *objectScan) error {
	for {
		text := r.in.unread()
		state := s.scan(text)
		if text = text[:s.at]; state == invalid {
			r.depth = 0
		}
		r.line += int64(bytes.Count(text, newline))
		r.in.consume(len(text))
		s.at = 0
		if state != incomplete {
			return nil
		}
		if !r.in.more() {
			return r.later(func() error { return r.skipRest(s) })
		}
	}
}

// between consumes one token, which begins with c, between the objects of a
// container that is too large for a record.
func (r *Reader) between(c byte) error {
	switch c {
	case '[':
		r.depth++
	case ']', '}':
		r.depth--
	case '"':
		return r.skipString()
	default:
		if c != ',' && c != ':' && c != '-' && c != '+' && c != '.' && !isDigit(c) && !isJSONLetter(c) {
			r.depth = 0 // the container was cut off
			return nil
		}
	}
	r.in.consume(1)
	return nil
}

func (r *Reader) skipString() error {
	r.in.consume(1)
	return r.skipToQuote(false)
}

func (r *Reader) skipToQuote(escaped bool) error {
	for {
		text := r.in.unread()
		for i, c := range text {
			switch {
			case escaped:
				escaped = false
			case c == '\\':
				escaped = true
			case c == '"':
				r.in.consume(i + 1)
				return nil
			case c == '\n': // the container was cut off
				r.in.consume(i)
				r.depth = 0
				return nil
			}
		}
		r.in.consume(len(text))
		if !r.in.more() {
			return r.later(func() error { return r.skipToQuote(escaped) })
		}
	}
}

// scanState is how far an [objectScan] has come.
type scanState uint8

const (
	incomplete scanState = iota
	complete
	invalid
)

// objectScan finds the end of a JSON object. It may go over several lines, but a
// line that begins a new object where none may be shows that the one before was
// cut off, as by a crash.
type objectScan struct {
	at      int // the bytes scanned
	depth   int
	objects uint64 // bit i says that the container at depth i is an object
	string  bool
	escape  bool
	fresh   bool // nothing but blanks since the beginning of the line
	last    byte // the last byte that was not blank; a quote for a string
}

// scan goes on at s.at. After complete, s.at is behind the object.
func (s *objectScan) scan(text []byte) scanState {
	i := s.at
	for ; i < len(text); i++ {
		c := text[i]
		if s.string {
			switch {
			case s.escape:
				s.escape = false
			case c == '\\':
				s.escape = true
			case c == '"':
				s.string, s.last = false, c
			case c == '\n':
				s.at = i
				return invalid
			}
			continue
		}
		if s.fresh && c > ' ' && !s.continues(c) {
			s.at = i
			return invalid
		}
		switch {
		case c == '"':
			s.string = true
		case c == '\n':
			s.fresh = true
			continue
		case c == ' ' || c == '\t' || c == '\r':
			continue
		case c == '{' || c == '[':
			if s.depth < 64 {
				s.objects &^= 1 << s.depth
				if c == '{' {
					s.objects |= 1 << s.depth
				}
			}
			s.depth++
		case c == '}' || c == ']':
			if s.depth--; s.depth == 0 {
				s.at = i + 1
				return complete
			}
		case c == ',' || c == ':' || c == '-' || c == '+' || c == '.' || isDigit(c):
		case !isJSONLetter(c):
			s.at = i
			return invalid
		}
		s.fresh, s.last = false, c
	}
	s.at = i
	return incomplete
}

// continues reports whether a line that begins with c may be a part of the object.
func (s *objectScan) continues(c byte) bool {
	inObject := s.depth > 64 || s.depth > 0 && s.objects>>(s.depth-1)&1 != 0
	switch s.last {
	case ':':
		return false
	case '{':
		return c == '"' || c == '}'
	case ',':
		return !inObject || c == '"'
	case '[':
		return true
	}
	return c == ',' || c == '}' || c == ']' || c == ':'
}

// isJSONLetter reports whether c occurs in true, false, null or a number.
func isJSONLetter(c byte) bool {
	return bytes.IndexByte([]byte("truefalsnE"), c) >= 0
}
