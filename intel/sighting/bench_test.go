package sighting

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const benchLines = 200_000

// jsonLine returns line i of a log of Cowrie: 480 bytes with its end.
func jsonLine(i int) string {
	line := fmt.Sprintf(`{"eventid":"cowrie.login.failed","username":"root","password":"hunter%06d","message":"login attempt [root/hunter%06d] failed",`+
		`"sensor":"bait-7","uuid":"5b1f6c1e-0d6b-11f0-9c3e-0242ac120002","timestamp":"2026-11-28T08:09:10.%06dZ","src_ip":"%d.%d.%d.%d","src_port":%d,"dst_ip":"10.0.0.5","dst_port":2222,`+
		`"session":"a1b2c3d4e5f6","protocol":"ssh","hassh":"92674389fa1e47a27ddd8d9b63ecd42b"`,
		i, i, i, 11+i>>16&63, i>>8&255, i&255, 7, 1024+i%60000)
	return line + `,"pad":"` + strings.Repeat("x", 480-len(line)-len(`,"pad":""}`)-1) + "\"}\n"
}

// generated streams lines without keeping them.
type generated struct {
	i, n  int
	array bool
	rest  []byte
}

func (g *generated) Read(p []byte) (int, error) {
	for len(g.rest) < len(p) && g.i < g.n {
		line := jsonLine(g.i)
		if g.array {
			sep := ","
			if g.i == 0 {
				sep = "["
			}
			line = sep + strings.TrimSuffix(line, "\n")
			if g.i == g.n-1 {
				line += "]\n"
			}
		}
		g.rest = append(g.rest, line...)
		g.i++
	}
	if len(g.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, g.rest)
	g.rest = append(g.rest[:0], g.rest[n:]...)
	return n, nil
}

func drain(t testing.TB, r io.Reader) (n int) {
	in := NewReader(r, Options{})
	for {
		if _, err := in.Next(); err != nil {
			if !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
			return n
		}
		n++
	}
}

// BenchmarkJSON reads a log of 200,000 lines of 480 bytes, and the same as one
// array on one line. The ratio is that to encoding/json with a struct of the two
// fields.
func BenchmarkJSON(b *testing.B) {
	lines, err := io.ReadAll(&generated{n: benchLines})
	require.NoError(b, err)
	array, err := io.ReadAll(&generated{n: benchLines, array: true})
	require.NoError(b, err)
	var reference float64
	b.Run("encoding-json", func(b *testing.B) {
		b.SetBytes(int64(len(lines)))
		for b.Loop() {
			in := bufio.NewScanner(bytes.NewReader(lines))
			for in.Scan() {
				var v struct {
					Source string `json:"src_ip"`
					Time   string `json:"timestamp"`
				}
				if json.Unmarshal(in.Bytes(), &v) != nil || v.Source == "" {
					b.Fatal(in.Text())
				}
			}
		}
		reference = float64(b.Elapsed()) / float64(b.N)
	})
	for name, text := range map[string][]byte{"lines": lines, "array": array} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			for b.Loop() {
				if n := drain(b, bytes.NewReader(text)); n != benchLines {
					b.Fatal(n)
				}
			}
			b.ReportMetric(reference/(float64(b.Elapsed())/float64(b.N)), "times-encoding/json")
		})
	}
}

// BenchmarkText reads sshd's log.
func BenchmarkText(b *testing.B) {
	var text bytes.Buffer
	for i := range benchLines {
		fmt.Fprintf(&text, "Nov 28 08:09:10 bait sshd[%d]: Failed password for invalid user admin from 11.%d.%d.7 port %d ssh2\n", i, i>>8&255, i&255, 1024+i%60000)
	}
	b.SetBytes(int64(text.Len()))
	for b.Loop() {
		if n := drain(b, bytes.NewReader(text.Bytes())); n != benchLines {
			b.Fatal(n)
		}
	}
}

// A reader of a log of 96 MB, and of an array of 96 MB on one line, stays below 50
// MiB of resident memory.
func TestResidentMemory(t *testing.T) {
	if kind := os.Getenv("SIGHTING_CHILD"); kind != "" {
		n := drain(t, &generated{n: benchLines, array: kind == "array"})
		status, err := os.ReadFile("/proc/self/status")
		require.NoError(t, err)
		fmt.Printf("found %d, peak %s kB\n", n, regexp.MustCompile(`VmHWM:\s+(\d+)`).FindSubmatch(status)[1])
		return
	}
	if _, err := os.Stat("/proc/self/status"); err != nil {
		t.Skip("no /proc")
	}
	for _, kind := range []string{"lines", "array"} {
		c := exec.Command(os.Args[0], "-test.run=^TestResidentMemory$")
		c.Env = append(os.Environ(), "SIGHTING_CHILD="+kind)
		out, err := c.CombinedOutput()
		require.NoError(t, err, "%s", out)
		m := regexp.MustCompile(`found (\d+), peak (\d+) kB`).FindStringSubmatch(string(out))
		require.NotNil(t, m, "%s", out)
		require.Equal(t, strconv.Itoa(benchLines), m[1])
		peak, err := strconv.Atoi(m[2])
		require.NoError(t, err)
		t.Logf("%s: %d MiB resident at most", kind, peak>>10)
		if !raceEnabled {
			require.LessOrEqual(t, peak, 50<<10)
		}
	}
}
