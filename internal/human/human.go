// Package human makes text for people: of durations, and of what sources and sensors
// sent, which may be hostile.
package human

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Duration returns a duration in the greatest unit that fits. A negative one is zero.
func Duration(d time.Duration) string {
	count := func(n time.Duration, unit string) string {
		if n == 1 {
			return "1 " + unit
		}
		return strconv.FormatInt(int64(n), 10) + " " + unit + "s"
	}
	switch d = max(d, 0); {
	case d >= 48*time.Hour:
		return count(d/(24*time.Hour), "day")
	case d >= time.Hour:
		return count(d/time.Hour, "hour")
	case d >= time.Minute:
		return count(d/time.Minute, "minute")
	}
	return count(d/time.Second, "second")
}

const (
	// maxText is the number of characters that are shown of one text.
	maxText = 200
	// maxItems is the number of values that are shown of one list.
	maxItems = 50
	// maxMarks is the number of marks that are shown of those on one character. More
	// pile up over the text around.
	maxMarks = 3
)

// Text returns text of others as a terminal and a page can show it: cut, and with
// escapes for what is invisible, acts on a terminal or turns the direction of text. It
// is not escaped for HTML.
func Text(s string) string {
	var b strings.Builder
	n, marks := 0, 0
	for i := 0; i < len(s); n++ {
		r, size := utf8.DecodeRuneInString(s[i:])
		if marks++; !unicode.Is(unicode.M, r) {
			marks = 0
		}
		if n == maxText {
			b.WriteString("…")
			break
		}
		switch {
		case r == utf8.RuneError && size <= 1:
			fmt.Fprintf(&b, `\x%02x`, s[i])
		case marks > maxMarks:
		case !unicode.IsPrint(r) && !unicode.Is(unicode.Zs, r):
			fmt.Fprintf(&b, `\u{%x}`, r)
		default:
			b.WriteString(s[i : i+size])
		}
		i += size
	}
	return b.String()
}

// Value returns the value of an attribute as [Text].
func Value(v any) string {
	switch v := v.(type) {
	case nil:
		return "none"
	case string:
		return Text(v)
	case []string:
		return list(v)
	case []int64:
		return list(v)
	case []any:
		return list(v)
	}
	return Text(fmt.Sprint(v))
}

func list[T any](all []T) string {
	parts := make([]string, 0, min(len(all), maxItems))
	for _, v := range all[:min(len(all), maxItems)] {
		parts = append(parts, fmt.Sprint(v))
	}
	return Text(strings.Join(parts, ", "))
}
