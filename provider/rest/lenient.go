package rest

import "github.com/decnet/enrich/internal/lenient"

// Limits of the lenient types. They keep a finding small enough to be stored.
const (
	MaxText = lenient.MaxText // bytes of a String; the rest is cut off
	MaxList = lenient.MaxList // elements of Strings and Ints; the rest is left out
)

// String is a JSON string, or the text of a JSON number.
//
// The types String, Int, Bool, Strings and Ints decode from any JSON value. They
// also read a number given as a string and the like. A value that cannot be read
// counts as absent, so decoding them never fails.
type String struct {
	Value string
	OK    bool // false if absent
}

// UnmarshalJSON implements [json.Unmarshaler].
func (s *String) UnmarshalJSON(b []byte) error {
	s.Value, s.OK = lenient.Text(b)
	return nil
}

// Set sets an attribute, unless s is absent or empty.
func (s String) Set(attrs map[string]any, name string) {
	if s.Value != "" {
		attrs[name] = s.Value
	}
}

// Int is a JSON number without a fraction, or a string that holds one.
type Int struct {
	Value int64
	OK    bool // false if absent
}

// UnmarshalJSON implements [json.Unmarshaler].
func (i *Int) UnmarshalJSON(b []byte) error {
	i.Value, i.OK = lenient.Int(b)
	return nil
}

// Set sets an attribute, unless i is absent.
func (i Int) Set(attrs map[string]any, name string) {
	if i.OK {
		attrs[name] = i.Value
	}
}

// Bool is true or false, 1 or 0, or a string that holds one of these.
type Bool struct {
	Value bool
	OK    bool // false if absent
}

// UnmarshalJSON implements [json.Unmarshaler].
func (v *Bool) UnmarshalJSON(b []byte) error {
	v.Value, v.OK = lenient.Bool(b)
	return nil
}

// Set sets an attribute, unless v is absent.
func (v Bool) Set(attrs map[string]any, name string) {
	if v.OK {
		attrs[name] = v.Value
	}
}

// Strings are the different strings and numbers in a JSON array, or a single
// one without an array. Null and empty elements are left out.
type Strings []string

// UnmarshalJSON implements [json.Unmarshaler].
func (l *Strings) UnmarshalJSON(b []byte) error {
	*l = lenient.Texts(b)
	return nil
}

// Set sets an attribute. If there are no strings, it is an empty list.
func (l Strings) Set(attrs map[string]any, name string) {
	attrs[name] = append([]string{}, l...)
}

// Ints are the different integers in a JSON array, or a single one without an
// array. Elements that are not an [Int] are left out.
type Ints []int64

// UnmarshalJSON implements [json.Unmarshaler].
func (l *Ints) UnmarshalJSON(b []byte) error {
	*l = lenient.Ints(b)
	return nil
}

// Set sets an attribute. If there are no integers, it is an empty list.
func (l Ints) Set(attrs map[string]any, name string) {
	attrs[name] = append([]int64{}, l...)
}
