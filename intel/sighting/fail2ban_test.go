package sighting

import (
	"bufio"
	"bytes"
	"encoding/json"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// fail2banLogs is where Debian's package fail2ban has the lines that its filters
// are tested with. FAIL2BAN_LOGS names another directory.
const fail2banLogs = "/usr/lib/python3/dist-packages/fail2ban/tests/files/logs"

// labelled is a line of the corpus with what its authors say about it.
type labelled struct {
	file string
	line string
	host netip.Addr
	time string
}

// fail2banLines reads the lines that a filter of fail2ban finds an address in. A
// comment before each says which.
func fail2banLines(t *testing.T) (lines []labelled) {
	dir := os.Getenv("FAIL2BAN_LOGS")
	if dir == "" {
		dir = fail2banLogs
	}
	if _, err := os.Stat(dir); err != nil {
		t.Skipf("no corpus of fail2ban: %v; install Debian's package fail2ban, or name a directory in FAIL2BAN_LOGS", err)
	}
	comment := regexp.MustCompile(`^#\s*failJSON:\s*(\{.*\})`)
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		defer f.Close()
		in := bufio.NewScanner(f)
		in.Buffer(nil, 1<<20)
		var label *struct {
			Match bool
			Host  string
			Time  string
		}
		for in.Scan() {
			line := in.Text()
			if m := comment.FindStringSubmatch(line); m != nil {
				label = nil
				if err := json.Unmarshal([]byte(m[1]), &label); err != nil {
					label = nil
				}
				continue
			}
			if strings.HasPrefix(line, "#") || strings.TrimSpace(line) == "" {
				continue
			}
			if label != nil && label.Match {
				if host, err := provider.ParseAddr(label.Host); err == nil {
					lines = append(lines, labelled{filepath.Base(path), line, host, label.Time})
				}
			}
			label = nil
		}
		return in.Err()
	})
	require.NoError(t, err)
	return lines
}

// The lines of a corpus that we did not write: fail2ban's, where it is installed.
func TestFail2banCorpus(t *testing.T) {
	lines := fail2banLines(t)
	zurich, err := time.LoadLocation("Europe/Zurich")
	require.NoError(t, err)
	now := time.Date(2005, 8, 14, 12, 0, 0, 0, zurich) // as in the tests of fail2ban
	var right, wrong, missed, elsewhere, times, timed int
	for _, l := range lines {
		if !bytes.Contains([]byte(l.line), []byte(l.host.String())) && l.host.Is4() {
			elsewhere++ // fail2ban knows the address from an earlier line
			continue
		}
		r := NewReader(strings.NewReader(l.line+"\n"), Options{
			Allow:    func(netip.Addr) bool { return true },
			Location: zurich, Now: func() time.Time { return now },
		})
		got := all(t, r)
		ok := false
		for _, s := range got {
			if s.Addr == l.host {
				ok = true
				if want, err := time.ParseInLocation("2006-01-02T15:04:05", l.time, zurich); err == nil {
					timed++
					if s.Time.Truncate(time.Second).Equal(want) {
						times++
					} else if testing.Verbose() && os.Getenv("SHOW_TIMES") != "" {
						t.Logf("%s: time %v, want %v: %s", l.file, s.Time, want.UTC(), l.line[:min(80, len(l.line))])
					}
				}
			} else {
				wrong++
				t.Logf("%s: wrong %v, want %v: %.300s", l.file, s.Addr, l.host, l.line)
			}
		}
		if ok {
			right++
		} else {
			missed++
			t.Logf("%s: missed %v: %.300s", l.file, l.host, l.line)
		}
	}
	precision, recall := float64(right)/float64(right+wrong), float64(right)/float64(right+missed)
	t.Logf("%d of %d lines do not hold the address; fail2ban knows it from an earlier line", elsewhere, len(lines))
	t.Logf("%d lines: precision %.2f %%, recall %.2f %%; the time is right in %d of %d", right+missed, 100*precision, 100*recall, times, timed)
	require.GreaterOrEqual(t, len(lines), 500)
	require.GreaterOrEqual(t, precision, 0.95)
	require.GreaterOrEqual(t, recall, 0.95)
}
