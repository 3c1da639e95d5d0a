package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// extracted returns what extract finds in text, as text.
func extracted(t *testing.T, text string) (found []string, skipped int) {
	t.Helper()
	skipped, err := extract(strings.NewReader(text), func(addr netip.Addr) { found = append(found, addr.String()) })
	require.NoError(t, err)
	return found, skipped
}

func TestExtractTakes(t *testing.T) {
	for text, want := range map[string]string{
		"1.2.3.4":                               "1.2.3.4",
		"77.90.185.20\t10":                      "77.90.185.20",
		"  1.2.3.4  ":                           "1.2.3.4",
		"1.2.3.4,5.6.7.8;9.9.9.9 8.8.8.8":       "1.2.3.4 5.6.7.8 9.9.9.9 8.8.8.8",
		"1.2.3.4 1.2.3.4":                       "1.2.3.4 1.2.3.4",
		"1.2.3.4:22":                            "1.2.3.4",
		"{ICMP} 1.2.3.4:0 -> 5.6.7.8:0":         "1.2.3.4 5.6.7.8",
		"from 1.2.3.4.":                         "1.2.3.4",
		"1.2.3.4: refused":                      "1.2.3.4",
		"client:1.2.3.4":                        "1.2.3.4",
		"tcp:1.2.3.4:80":                        "1.2.3.4",
		"src=1.2.3.4 dst=5.6.7.8":               "1.2.3.4 5.6.7.8",
		"root@1.2.3.4":                          "1.2.3.4",
		"(1.2.3.4)":                             "1.2.3.4",
		"unknown[1.2.3.4]":                      "1.2.3.4",
		"/1.2.3.4:5555":                         "1.2.3.4",
		"https://1.2.3.4/24":                    "1.2.3.4",
		"https://1.2.3.4:8443/a/b":              "1.2.3.4",
		`"http:\/\/1.2.3.4\/24"`:                "1.2.3.4",
		"1.2.3.4/32":                            "1.2.3.4",
		"1.2.3.4/32,":                           "1.2.3.4",
		"1.2.3.4/index.html":                    "1.2.3.4",
		"1.2.3.4/":                              "1.2.3.4",
		"1.2.3.4\x005.6.7.8\xff9.9.9.9":         "1.2.3.4 5.6.7.8 9.9.9.9",
		"\uFEFF1.2.3.4":                         "1.2.3.4",
		`{"ip":"1.2.3.4","log":"a\n5.6.7.8\t"}`: "1.2.3.4 5.6.7.8",
		`\u003c1.2.3.4\u003e`:                   "1.2.3.4",
		`\\1.2.3.4\share`:                       "1.2.3.4",
		`"\"1.2.3.4\""`:                         "1.2.3.4",
		"2001:4860:4860::8888":                  "2001:4860:4860::8888",
		"2001:4860:4860::8888.":                 "2001:4860:4860::8888",
		"2001:4860:4860::8888: no":              "2001:4860:4860::8888",
		"2001:DB8:0:0:0:0:0:1":                  "2001:db8::1",
		"2001:db8::":                            "2001:db8::",
		"[2001:db8::1]:443":                     "2001:db8::1",
		"http://[2001:db8::1]/64":               "2001:db8::1",
		"2001:db8::1/128":                       "2001:db8::1",
		"fe80::1%eth0":                          "fe80::1",
		"::1":                                   "::1",
		"::ffff:1.2.3.4":                        "1.2.3.4",
		"::ffff:102:304":                        "1.2.3.4",
		"Failed password for root from 218.92.0.31 port 4242 ssh2": "218.92.0.31",
	} {
		found, skipped := extracted(t, text)
		require.Equal(t, want, strings.Join(found, " "), "%q", text)
		require.Zero(t, skipped, "%q", text)
	}
}

func TestExtractRefuses(t *testing.T) {
	for _, text := range []string{
		"1.2.3", "1.2.3.4.5", ".1.3.6.1", "1.2.3.256", "1.2.3.04", "01.2.3.4", "1.2.3.4x", "a1.2.3.4",
		"v1.2.3.4", "foo-1.2.3.4.tar.gz", "1.2.3.4-1.el9", "1.2.3.4-1.2.3.9", "1.2.3.4_5", "1.2.3.4+deb12", "1.2.3.4~rc1",
		"1.2.3.4:65536", ":1.2.3.4", "fe80:1.2.3.4", "12:34:56:1.2.3.4",
		"1.2.3.0/24", "1.2.3.0/24: blocked", "10.0.0.0/255.0.0.0", "1.2.3.4/031", "2001:db8::/32", "2001:db8::1/64",
		"Chrome/120.0.0.0", "a/b/1.2.3.4", "https://example.com/1.2.3.4",
		"12:34:56", "2026-11-23T12:34:56Z", "00:1a:2b:3c:4d:5e", "00:11:22:33:44:55:66:77", "00-1a-2b-3c-4d-5e",
		"std::string", "a::b", "::", "dead::beef", "1:2:3:4:5:6:7", "1:2:3:4:5:6:7:8:9", "2001:db8::g",
		"f47ac10b-58cc-4372-a567-0e02b2c3d479", "no address here", strings.Repeat("9", 1000) + ".2.3.4", "\x00",
		"1.2.3.4" + strings.Repeat(".", 1000),
	} {
		found, skipped := extracted(t, text)
		require.Empty(t, found, "%q", text)
		require.Equal(t, 1, skipped, "%q", text)
	}
}

func TestExtractCountsSkippedLines(t *testing.T) {
	found, skipped := extracted(t, "# comment 9.9.9.9\n\n \t\r\n1.2.3.4 2.3.4.5\r\nnothing\n  # 8.8.8.8\n10.0.0.0/8\n1.2.3.4\nlast")
	require.Equal(t, []string{"1.2.3.4", "2.3.4.5", "1.2.3.4"}, found)
	require.Equal(t, 3, skipped, "nothing, 10.0.0.0/8 and last")
}

// An address at the very end of a long line is found, and a word that is
// longer than any address costs no memory.
func TestExtractLongLines(t *testing.T) {
	long := io.MultiReader(strings.NewReader("1.2.3.4 "), io.LimitReader(endless('a'), 8<<20), strings.NewReader(" 5.6.7.8"))
	found := 0
	perRun := testing.AllocsPerRun(1, func() {
		skipped, err := extract(long, func(netip.Addr) { found++ })
		require.NoError(t, err)
		require.Zero(t, skipped)
	})
	require.Equal(t, 2, found)
	require.Less(t, perRun, 100.0)
}

type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

func TestExtractReportsReadError(t *testing.T) {
	broken := errors.New("broken disk")
	found := 0
	_, err := extract(io.MultiReader(strings.NewReader("1.2.3.4"), iotest.ErrReader(broken)), func(netip.Addr) { found++ })
	require.ErrorIs(t, err, broken)
	require.Equal(t, 1, found)
}

func FuzzExtract(f *testing.F) {
	for _, seed := range []string{
		"1.2.3.4:22 [2001:db8::1]:443", "10.0.0.0/8 1.2.3.4/32", "# x\n::ffff:1.2.3.4%z", `\u003c1.2.3.4\/`, "a/1.2.3.4/b",
		"http://1.2.3.4/24", "client:1.2.3.4", "\xef\xbb\xbf1.2.3.4\r\n", "fe80::1%1.2.3.4",
	} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		var found []netip.Addr
		collect := func(addr netip.Addr) { found = append(found, addr) }
		skipped, err := extract(bytes.NewReader(text), collect)
		require.NoError(t, err)
		require.LessOrEqual(t, skipped, 1+bytes.Count(text, []byte("\n")))

		whole := found
		found = nil
		again, err := extract(iotest.OneByteReader(bytes.NewReader(text)), collect)
		require.NoError(t, err)
		require.Equal(t, whole, found, "depends on how the text arrives")
		require.Equal(t, skipped, again)

		var list strings.Builder
		for _, addr := range whole {
			require.Equal(t, addr.Unmap().WithZone(""), addr, "not normalized")
			require.True(t, occurs(addr, string(text)), "%v is not in the text", addr)
			list.WriteString(addr.String() + "\n")
		}
		found = nil
		_, err = extract(strings.NewReader(list.String()), collect)
		require.NoError(t, err)
		require.Equal(t, whole, found, "not idempotent")
	})
}

// occurs reports whether any part of text is the text of addr: the naive check.
func occurs(addr netip.Addr, text string) bool {
	for i := range len(text) {
		for j := i + 2; j <= min(len(text), i+45); j++ {
			if a, err := netip.ParseAddr(text[i:j]); err == nil && a.Unmap() == addr {
				return true
			}
		}
	}
	return false
}
