// Package decodetest holds what is true of every provider's decoder, whatever
// bytes it is given.
package decodetest

import (
	"bytes"
	"errors"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/decnet/enrich/provider"
)

// Check checks what came of decoding input, an answer about addr.
func Check(tb testing.TB, name string, addr netip.Addr, f provider.Finding, err error, input []byte) {
	tb.Helper()
	if err != nil {
		checkError(tb, name, f, err, input)
		return
	}
	if err := f.Validate(); err != nil {
		tb.Errorf("finding: %v", err)
	}
	if f.Provider != name || f.Addr != addr {
		tb.Errorf("finding of %q about %v; want one of %q about %v", f.Provider, f.Addr, name, addr)
	}
	if f.ObservedAt.IsZero() || f.ObservedAt.Location() != time.UTC {
		tb.Errorf("finding observed at %v; want a time in UTC", f.ObservedAt)
	}
	if !f.Known && f.Verdict > provider.Unknown {
		tb.Errorf("verdict %v on an address that is not known", f.Verdict)
	}
	if !utf8.Valid(f.Raw) {
		tb.Error("raw is not UTF-8")
	}
}

func checkError(tb testing.TB, name string, f provider.Finding, err error, input []byte) {
	tb.Helper()
	if !reflect.DeepEqual(f, provider.Finding{}) {
		tb.Errorf("an error and a finding: %+v", f)
	}
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.Provider != name || e.Kind == nil {
		tb.Errorf("error %v; want a *provider.Error with Provider %q and a Kind", err, name)
	}
	if part := Leak(err, input); part != "" {
		tb.Errorf("%q, a part of the answer, is in the error: %v", part, err)
	}
}

var word = regexp.MustCompile(`[A-Za-z0-9_-]{8,}`)

// Leak returns a part of input that is in the text of err, and "" if there is
// none. It looks for words of eight or more characters with a digit among them,
// as no error of our own making has.
func Leak(err error, input []byte) string {
	text := []byte(err.Error())
	for _, w := range word.FindAll(input, -1) {
		if bytes.ContainsAny(w, "0123456789") && bytes.Contains(text, w) {
			return string(w)
		}
	}
	return ""
}

// Samples calls use for every file testdata/*.json, with the HTTP status that
// its name says ("error_429_daily.json"), or 200.
func Samples(tb testing.TB, use func(status int, body []byte)) {
	tb.Helper()
	files, err := filepath.Glob("testdata/*.json")
	if err != nil || len(files) == 0 {
		tb.Fatalf("no samples (%v)", err)
	}
	for _, file := range files {
		body, err := os.ReadFile(file)
		if err != nil {
			tb.Fatal(err)
		}
		use(status(filepath.Base(file)), body)
	}
}

func status(file string) int {
	for part := range strings.SplitSeq(file, "_") {
		if n, err := strconv.Atoi(part); err == nil && http.StatusText(n) != "" {
			return n
		}
	}
	return http.StatusOK
}
