package human_test

import (
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/human"
)

func TestDuration(t *testing.T) {
	for d, want := range map[time.Duration]string{
		-time.Hour: "0 seconds", 0: "0 seconds", time.Second: "1 second", 59 * time.Second: "59 seconds", time.Minute: "1 minute",
		90 * time.Minute: "1 hour", 47 * time.Hour: "47 hours", 48 * time.Hour: "2 days", 1 << 62: "53375 days",
	} {
		require.Equal(t, want, human.Duration(d))
	}
}

func TestText(t *testing.T) {
	for s, want := range map[string]string{
		"":                      "",
		"plain, ünïcödé 漢字 🤷":   "plain, ünïcödé 漢字 🤷",
		"a\u3000b\u00a0c":       "a\u3000b\u00a0c",
		"\x1b[31mred\x00\n":     `\u{1b}[31mred\u{0}\u{a}`,
		"a\u202eb\u2066c\u200f": `a\u{202e}b\u{2066}c\u{200f}`,
		"e\u0301" + strings.Repeat("\u0316", 99) + "x\u0301": "e\u0301\u0316\u0316x\u0301",
		"\xed\xa0\x80\xff":         `\xed\xa0\x80\xff`,
		strings.Repeat("é", 200):   strings.Repeat("é", 200),
		strings.Repeat("é", 1<<16): strings.Repeat("é", 200) + "…",
	} {
		require.Equal(t, want, human.Text(s))
	}
}

func TestValue(t *testing.T) {
	for _, c := range []struct {
		v    any
		want string
	}{
		{nil, "none"}, {true, "true"}, {1.5, "1.5"}, {int64(7), "7"}, {"a\x00", `a\u{0}`},
		{[]string{"a", "b\u202e"}, `a, b\u{202e}`}, {[]int64{1, 2}, "1, 2"}, {[]any{"a", 1, nil}, "a, 1, <nil>"}, {[]string{}, ""},
		{map[string]any{"a": "\x1b"}, `map[a:\u{1b}]`}, {make([]int64, 1<<20), strings.Repeat("0, ", 49) + "0"},
	} {
		require.Equal(t, c.want, human.Value(c.v))
	}
}

func FuzzText(f *testing.F) {
	f.Add("\x1b]0;title\a\u202e\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, s string) {
		shown := human.Text(s)
		require.True(t, utf8.ValidString(shown))
		require.False(t, strings.ContainsAny(shown, "\x00\a\b\t\n\r\x1b\x7f\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"))
		require.LessOrEqual(t, utf8.RuneCountInString(shown), 200*len(`\u{10ffff}`)+1)
	})
}
