// Package jsontext writes and checks JSON as text, without building values of
// it. Package encoding/json allocates too much for what happens with every
// event and every save, and accepts text that other parsers reject.
package jsontext

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// AppendString appends s as a JSON string. Bytes that are not UTF-8 become
// U+FFFD.
func AppendString(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			quoted, _ := json.Marshal(s) // of a string never fails
			return append(dst, quoted...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// Clean returns s as every database can store it: valid UTF-8, with U+FFFD for what
// is not, and without NUL characters, which PostgreSQL refuses.
func Clean(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	if strings.IndexByte(s, 0) >= 0 {
		s = strings.ReplaceAll(s, "\x00", "")
	}
	return s
}

// ASCII returns a JSON text with all characters outside ASCII escaped. Bytes that
// are not UTF-8 become an escaped U+FFFD.
func ASCII(text string) string {
	plain := true
	for i := range len(text) {
		plain = plain && text[i] < utf8.RuneSelf
	}
	if plain {
		return text
	}
	b := make([]byte, 0, 2*len(text))
	for _, r := range text {
		switch {
		case r < utf8.RuneSelf:
			b = append(b, byte(r))
		case r <= 0xFFFF:
			b = fmt.Appendf(b, `\u%04x`, r)
		default:
			high, low := utf16.EncodeRune(r)
			b = fmt.Appendf(b, `\u%04x\u%04x`, high, low)
		}
	}
	return string(b)
}

// AppendInt appends n as a JSON number.
func AppendInt(dst []byte, n int64) []byte { return strconv.AppendInt(dst, n, 10) }

// AppendList appends a JSON array; each is called for every element and appends
// it.
func AppendList[T any](dst []byte, list []T, each func(dst []byte, element T) []byte) []byte {
	dst = append(dst, '[')
	for i, element := range list {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = each(dst, element)
	}
	return append(dst, ']')
}

// Unquote returns the text of a JSON string, which must be valid. Of anything
// too short to be one it returns the empty string.
func Unquote(text []byte) string {
	if len(text) < len(`""`) {
		return ""
	}
	if slices.Contains(text, '\\') {
		var s string
		_ = json.Unmarshal(text, &s) // fails only for text that is not valid
		return s
	}
	return string(text[1 : len(text)-1])
}
