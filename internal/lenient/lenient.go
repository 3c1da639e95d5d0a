// Package lenient reads JSON values whose type is not what a service documents:
// a number given as a string, a list that has only one element and no brackets,
// and the like. A value that cannot be read as what is wanted counts as absent,
// so no function fails.
package lenient

import (
	"bytes"
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/decnet/enrich/internal/jsontext"
)

// What is longer is cut, so that no answer makes a finding too large to store.
const (
	MaxText = 256 // bytes of a text
	MaxList = 64  // elements of a list
)

// Text returns a JSON string, or the text of a number, cut to MaxText bytes.
func Text(value []byte) (text string, ok bool) {
	switch {
	case len(value) == 0:
	case value[0] == '"':
		if text, ok = plain(value); !ok {
			text, ok = unquote(value)
		}
	case value[0] == '-' || value[0] >= '0' && value[0] <= '9':
		text, ok = string(value), true
	}
	return Cut(text), ok
}

// unquote returns the text of any JSON string.
func unquote(value []byte) (text string, ok bool) {
	err := json.Unmarshal(value, &text)
	return text, err == nil
}

// plain returns the text of a JSON string without escapes.
func plain(value []byte) (text string, ok bool) {
	for i, c := range value {
		inside := i > 0 && i < len(value)-1
		if c < ' ' || c >= utf8.RuneSelf || c == '\\' || (c == '"') == inside {
			return "", false
		}
	}
	if len(value) < len(`""`) {
		return "", false
	}
	return string(value[1 : len(value)-1]), true
}

// Cut returns the first MaxText bytes of s, or a few less if a character would
// be split.
func Cut(s string) string {
	if len(s) <= MaxText {
		return s
	}
	n := MaxText
	for n > MaxText-utf8.UTFMax && !utf8.RuneStart(s[n]) {
		n--
	}
	return strings.Clone(s[:n]) // releases the rest
}

// Int returns a JSON number, or the number in a string. A number with a fraction
// is absent.
func Int(value []byte) (n int64, ok bool) {
	text := string(value)
	if len(value) > 0 && value[0] == '"' {
		if text, ok = unquote(value); !ok {
			return 0, false
		}
		text = strings.TrimSpace(text)
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return n, true
	}
	if f, err := strconv.ParseFloat(text, 64); err == nil && f == math.Trunc(f) && math.Abs(f) < 1<<53 {
		return int64(f), true
	}
	return 0, false
}

// Bool returns true or false, also if value is 1 or 0 or a string of one of
// these.
func Bool(value []byte) (b, ok bool) {
	switch strings.ToLower(string(bytes.Trim(value, `" `))) {
	case "true", "1":
		return true, true
	case "false", "0":
		return false, true
	}
	return false, false
}

// Texts returns the texts in a JSON array, or the one text that value is. Empty
// and repeated texts are left out, and so is everything after the first MaxList.
func Texts(value []byte) (list []string) {
	var room [8]json.RawMessage
	for _, element := range elements(room[:0], value) {
		if text, _ := Text(element); len(list) < MaxList && text != "" && !slices.Contains(list, text) {
			list = append(list, text)
		}
	}
	return list
}

// Ints returns the integers in a JSON array, or the one integer that value is.
// Repetitions are left out, and so is everything after the first MaxList.
func Ints(value []byte) (list []int64) {
	var room [8]json.RawMessage
	for _, element := range elements(room[:0], value) {
		if n, ok := Int(element); len(list) < MaxList && ok && !slices.Contains(list, n) {
			list = append(list, n)
		}
	}
	return list
}

// elements appends the elements of an array to list, which is empty, or value alone if
// it is none.
func elements(list []json.RawMessage, value []byte) []json.RawMessage {
	if len(value) == 0 || value[0] != '[' {
		return append(list, value)
	}
	if jsontext.Elements(value, func(element []byte) { list = append(list, element) }) {
		return list
	}
	var all []json.RawMessage
	_ = json.Unmarshal(value, &all) // it is less strict, and an array of anything always fits
	return all
}
