package jsontext

import (
	"math"
	"strconv"
	"unicode/utf8"
)

// MaxDepth is how deep objects and arrays may be nested. Parsers of JSON in
// other languages go no deeper than about a thousand.
const MaxDepth = 1000

// IsObject reports whether b is a JSON object, without space before it, that is
// nested at most depth deep. See [Fields] for what is accepted.
func IsObject(b []byte, depth int) bool {
	s := scanner{b: b}
	return s.isObject(depth)
}

// IsCompact reports whether b is a JSON object without space between its parts, that
// is nested at most [MaxDepth] deep. See [Fields] for what is accepted.
func IsCompact(b []byte) bool {
	s := scanner{b: b}
	return s.isObject(MaxDepth) && !s.spaced
}

func (s *scanner) isObject(depth int) bool {
	if !s.fields(depth, nil) {
		return false
	}
	s.space()
	return s.i == len(s.b)
}

// Fields reports whether b is a JSON object that is nested at most [MaxDepth]
// deep, and calls field with each key, as it is written, and each value.
//
// It is stricter than package encoding/json: it rejects strings that are not Unicode,
// as bytes or as escapes, and numbers beyond the range of a float64, and has a lower
// limit for nesting. A client whose parser rejects an event loses its connection, so
// nothing may be accepted here that another parser rejects.
func Fields(b []byte, field func(key, value []byte)) bool {
	s := scanner{b: b}
	s.space()
	if !s.fields(MaxDepth, field) {
		return false
	}
	s.space()
	return s.i == len(b)
}

// Elements reports whether b is a JSON array that is nested at most [MaxDepth] deep,
// and calls element with each of its values. It is as strict as [Fields].
func Elements(b []byte, element func(value []byte)) bool {
	s := scanner{b: b}
	s.space()
	if !s.elements(MaxDepth, element) {
		return false
	}
	s.space()
	return s.i == len(b)
}

// scanner steps through JSON. Each of its methods reports whether there is such
// a thing at i, and moves i behind it.
type scanner struct {
	b      []byte
	i      int
	spaced bool // space was skipped
}

func (s *scanner) peek() byte {
	if s.i < len(s.b) {
		return s.b[s.i]
	}
	return 0
}

func (s *scanner) space() {
	for c := s.peek(); c == ' ' || c == '\t' || c == '\n' || c == '\r'; c = s.peek() {
		s.i++
		s.spaced = true
	}
}

// value skips one value.
func (s *scanner) value(depth int) bool {
	switch c := s.peek(); c {
	case '"':
		return s.text()
	case '{':
		return s.fields(depth, nil)
	case '[':
		return s.elements(depth, nil)
	case 't':
		return s.word("true")
	case 'f':
		return s.word("false")
	case 'n':
		return s.word("null")
	default:
		return s.number()
	}
}

func (s *scanner) word(w string) bool {
	if len(s.b)-s.i < len(w) || string(s.b[s.i:s.i+len(w)]) != w {
		return false
	}
	s.i += len(w)
	return true
}

func (s *scanner) fields(depth int, field func(key, value []byte)) bool {
	if depth == 0 || s.peek() != '{' {
		return false
	}
	s.i++
	s.space()
	if s.peek() == '}' {
		s.i++
		return true
	}
	for {
		from := s.i
		if s.peek() != '"' || !s.text() {
			return false
		}
		key := s.b[from:s.i]
		s.space()
		if s.peek() != ':' {
			return false
		}
		s.i++
		s.space()
		from = s.i
		if !s.value(depth - 1) {
			return false
		}
		if field != nil {
			field(key, s.b[from:s.i])
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case '}':
			s.i++
			return true
		default:
			return false
		}
	}
}

func (s *scanner) elements(depth int, element func(value []byte)) bool {
	if depth == 0 || s.peek() != '[' {
		return false
	}
	s.i++
	s.space()
	if s.peek() == ']' {
		s.i++
		return true
	}
	for {
		from := s.i
		if !s.value(depth - 1) {
			return false
		}
		if element != nil {
			element(s.b[from:s.i])
		}
		s.space()
		switch s.peek() {
		case ',':
			s.i++
			s.space()
		case ']':
			s.i++
			return true
		default:
			return false
		}
	}
}

// text skips a string.
func (s *scanner) text() bool {
	s.i++
	for {
		for s.i < len(s.b) && plain[s.b[s.i]] {
			s.i++
		}
		switch c := s.peek(); {
		case c == '"':
			s.i++
			return true
		case c == '\\':
			if !s.escape() {
				return false
			}
		case c < ' ': // or the end
			return false
		default:
			r, size := utf8.DecodeRune(s.b[s.i:])
			if r == utf8.RuneError && size == 1 {
				return false
			}
			s.i += size
		}
	}
}

// plain tells which bytes are ASCII characters that stand for themselves in a string.
var plain = func() (set [256]bool) {
	for c := ' '; c < utf8.RuneSelf; c++ {
		set[c] = c != '"' && c != '\\'
	}
	return set
}()

// escape skips a backslash and the rest of its escape.
func (s *scanner) escape() bool {
	s.i++
	switch s.peek() {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		s.i++
		return true
	case 'u':
		unit, ok := s.unit()
		if !ok || isLow(unit) {
			return false
		}
		if isHigh(unit) { // the first half of a character, which needs the second
			if s.peek() != '\\' {
				return false
			}
			s.i++
			if s.peek() != 'u' {
				return false
			}
			low, ok := s.unit()
			return ok && isLow(low)
		}
		return true
	}
	return false
}

func isHigh(unit int) bool { return unit>>10 == 0xD800>>10 }
func isLow(unit int) bool  { return unit>>10 == 0xDC00>>10 }

// unit skips a "u" and four hexadecimal digits, and returns their value.
func (s *scanner) unit() (value int, ok bool) {
	if len(s.b)-s.i < 5 {
		return 0, false
	}
	for _, c := range s.b[s.i+1 : s.i+5] {
		switch {
		case '0' <= c && c <= '9':
			value = value<<4 | int(c-'0')
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			value = value<<4 | int(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	s.i += 5
	return value, true
}

// number skips a number within the range of a float64.
func (s *scanner) number() bool {
	from := s.i
	if s.peek() == '-' {
		s.i++
	}
	if s.peek() == '0' {
		s.i++
	} else if !s.digits() {
		return false
	}
	if s.peek() == '.' {
		s.i++
		if !s.digits() {
			return false
		}
	}
	if c := s.peek(); c == 'e' || c == 'E' {
		s.i++
		if c := s.peek(); c == '+' || c == '-' {
			s.i++
		}
		if !s.digits() {
			return false
		}
	} else if s.i-from <= maxPlain {
		return true
	}
	x, _ := strconv.ParseFloat(string(s.b[from:s.i]), 64) // fails only beyond the range
	return !math.IsInf(x, 0)
}

// maxPlain is a number of digits with which no number without exponent is beyond the
// range.
const maxPlain = 300

func (s *scanner) digits() bool {
	from := s.i
	for c := s.peek(); '0' <= c && c <= '9'; c = s.peek() {
		s.i++
	}
	return s.i > from
}
