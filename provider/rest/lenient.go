package rest

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"
)

// Sizes beyond which lenient types cut what they read, so that no answer makes
// a finding too big to store.
const (
	MaxText = 256 // bytes of a String
	MaxList = 64  // elements of a Strings, different integers of an Ints
)

// The types String, Int, Bool, Strings and Ints take whatever JSON holds. They
// read a number given as a string and the like; a value that cannot be read as
// what is wanted counts as absent. Decoding them never fails.

// String is a JSON string, or the text of a number.
type String struct {
	Value string
	OK    bool // there was one
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *String) UnmarshalJSON(b []byte) error {
	*s = String{}
	switch {
	case len(b) == 0:
	case b[0] == '"':
		s.OK = json.Unmarshal(b, &s.Value) == nil
	case isNumber(b):
		s.Value, s.OK = string(b), true
	}
	s.Value = cut(s.Value)
	return nil
}

// Set sets an attribute if there is a string and it is not empty.
func (s String) Set(attrs map[string]any, name string) {
	if s.Value != "" {
		attrs[name] = s.Value
	}
}

// cut returns the first MaxText bytes of s, or a few less so as not to end
// inside a character.
func cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > MaxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) // and let go of the rest
}

// Int is a JSON number, or a string that holds one, without a fraction.
type Int struct {
	Value int64
	OK    bool // there was one
}

// UnmarshalJSON implements [json.Unmarshaler].
func (i *Int) UnmarshalJSON(b []byte) error {
	*i = Int{}
	text := string(b)
	if len(b) > 0 && b[0] == '"' {
		if json.Unmarshal(b, &text) != nil {
			return nil
		}
		text = strings.TrimSpace(text)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		i.Value, i.OK = n, true
	} else if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		i.Value, i.OK = int64(f), true
	}
	return nil
}

// Set sets an attribute if there is an integer.
func (i Int) Set(attrs map[string]any, name string) {
	if i.OK {
		attrs[name] = i.Value
	}
}

// Bool is true or false, 1 or 0, or a string that holds one of these.
type Bool struct {
	Value bool
	OK    bool // there was one
}

// UnmarshalJSON implements [json.Unmarshaler].
func (v *Bool) UnmarshalJSON(b []byte) error {
	*v = Bool{}
	switch strings.ToLower(string(bytes.Trim(b, `" `))) {
	case "true", "1":
		*v = Bool{Value: true, OK: true}
	case "false", "0":
		*v = Bool{OK: true}
	}
	return nil
}

// Set sets an attribute if there is a boolean.
func (v Bool) Set(attrs map[string]any, name string) {
	if v.OK {
		attrs[name] = v.Value
	}
}

// Strings are the strings and numbers in a JSON array, or one that is not in an
// array. Null, empty and repeated elements are left out, and so is everything
// after the first MaxList.
type Strings []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *Strings) UnmarshalJSON(b []byte) error {
	*l = nil
	for _, element := range elements(b) {
		var s String
		_ = s.UnmarshalJSON(element) // never fails
		if len(*l) < MaxList && s.Value != "" && !slices.Contains(*l, s.Value) {
			*l = append(*l, s.Value)
		}
	}
	return nil
}

// Ints are the integers in a JSON array, each as an [Int], or one that is not
// in an array; everything else in it is left out, and so are repetitions and
// what comes after the first MaxList.
type Ints []int64

// UnmarshalJSON implements [json.Unmarshaler].
func (l *Ints) UnmarshalJSON(b []byte) error {
	*l = nil
	for _, element := range elements(b) {
		var i Int
		_ = i.UnmarshalJSON(element) // never fails
		if len(*l) < MaxList && i.OK && !slices.Contains(*l, i.Value) {
			*l = append(*l, i.Value)
		}
	}
	return nil
}

// elements returns the elements of the array b, or b alone if it is something
// else.
func elements(b []byte) []json.RawMessage {
	if len(b) == 0 || b[0] != '[' {
		return []json.RawMessage{b}
	}
	var list []json.RawMessage
	_ = json.Unmarshal(b, &list) // an array of anything always fits
	return list
}

func isNumber(b []byte) bool {
	return b[0] == '-' || b[0] >= '0' && b[0] <= '9'
}
