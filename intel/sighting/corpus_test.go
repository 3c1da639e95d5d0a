package sighting

import (
	"bytes"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// allowForTests is a guard for lines with addresses for documentation: our own
// networks are 10/8, 192.168/16, 198.51.100/24 and 2001:db8:ffff::/48.
func allowForTests(addr netip.Addr) bool {
	for _, own := range []string{"0.0.0.0/8", "10.0.0.0/8", "127.0.0.0/8", "192.168.0.0/16", "198.51.100.0/24", "2001:db8:ffff::/48", "::/8", "fe80::/10"} {
		if netip.MustParsePrefix(own).Contains(addr) {
			return false
		}
	}
	return true
}

var testNow = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func testOptions() Options {
	return Options{Allow: allowForTests, Location: time.UTC, Now: func() time.Time { return testNow }}
}

// sample is a line of testdata/corpus with the addresses to be taken from it.
type sample struct {
	format, header, line string
	want                 []string
}

// samples reads testdata/corpus. A file has the lines of one format, each after a
// line that begins with "=" and names the attackers, or none. A line that begins
// with "!" is the header of the file.
func samples(t testing.TB) (ss []sample) {
	paths, err := filepath.Glob("testdata/corpus/*.txt")
	require.NoError(t, err)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		s := sample{format: strings.TrimSuffix(filepath.Base(path), ".txt")}
		for line := range strings.Lines(string(text)) {
			line = strings.TrimSuffix(line, "\n")
			switch {
			case strings.HasPrefix(line, "! "):
				s.header = line[2:]
			case strings.HasPrefix(line, "= "):
				s.want = strings.Fields(strings.TrimSuffix(line[2:], "none"))
			default:
				s.line = line
				ss = append(ss, s)
			}
		}
	}
	return ss
}

// The source of each line of our own corpus is found, and nothing else.
func TestCorpus(t *testing.T) {
	formats := map[string]int{}
	right, wrong, missed, timed := 0, 0, 0, 0
	for _, s := range samples(t) {
		formats[s.format]++
		text := s.line + "\n"
		if s.header != "" {
			text = s.header + "\n" + text
		}
		r := NewReader(strings.NewReader(text), testOptions())
		var got []string
		for _, found := range all(t, r) {
			got = append(got, found.Addr.String())
			if !found.Time.IsZero() {
				timed++
			}
		}
		for _, want := range s.want {
			if slices.Contains(got, netip.MustParseAddr(want).String()) {
				right++
			} else {
				missed++
				t.Logf("%s: missed %s: %s", s.format, want, s.line)
			}
		}
		for _, g := range got {
			if !slices.ContainsFunc(s.want, func(w string) bool { return netip.MustParseAddr(w).String() == g }) {
				wrong++
				t.Logf("%s: wrong %s: %s", s.format, g, s.line)
			}
		}
		if len(s.want) == 0 {
			report := r.Report()
			require.Zero(t, report.Sightings)
			require.NotEmpty(t, report.Left(), "%s is not reported", s.line)
		}
	}
	lines := 0
	for _, n := range formats {
		lines += n
	}
	precision, recall := float64(right)/float64(right+wrong), float64(right)/float64(right+missed)
	t.Logf("%d formats, %d lines: precision %.2f %%, recall %.2f %%, %d with a time", len(formats), lines, 100*precision, 100*recall, timed)
	require.GreaterOrEqual(t, len(formats), 40)
	require.GreaterOrEqual(t, lines, 400)
	require.GreaterOrEqual(t, precision, 0.99)
	require.GreaterOrEqual(t, recall, 0.99)
}

// Destinations and sensors are not taken because the line says what they are, and
// not only because a guard refuses them.
func TestCorpusWithoutGuard(t *testing.T) {
	right, wrong := 0, 0
	for _, s := range samples(t) {
		if len(s.want) == 0 || strings.Contains(s.line, "10.0.0.3") || strings.Contains(s.line, "10.0.0.2 ") {
			continue // a source of our own, or a forwarder of our own
		}
		o := testOptions()
		o.Allow = func(netip.Addr) bool { return true }
		r := NewReader(strings.NewReader(s.header+"\n"+s.line+"\n"), o)
		for _, found := range all(t, r) {
			if slices.ContainsFunc(s.want, func(w string) bool { return netip.MustParseAddr(w) == found.Addr }) {
				right++
				continue
			}
			wrong++
			t.Logf("%s: wrong %s: %s", s.format, found.Addr, s.line)
		}
	}
	require.GreaterOrEqual(t, float64(right)/float64(right+wrong), 0.99, "%d right, %d wrong", right, wrong)
}

// All formats in one file, in any order, give the same.
func TestCorpusInOneFile(t *testing.T) {
	var text bytes.Buffer
	want := 0
	for _, s := range samples(t) {
		if s.header == "" {
			text.WriteString(s.line + "\n")
			want += len(s.want)
		}
	}
	r := NewReader(&text, testOptions())
	got := len(all(t, r))
	require.InDelta(t, want, got, float64(want)/100)
}
