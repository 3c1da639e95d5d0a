package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
)

// ownSite is a site with a database of its own, which DECNET has not made.
func ownSite(tb testing.TB) *site {
	s := newSite(tb, upstream.Options{})
	s.exec("DROP TABLE attackers")
	s.exec("DROP TABLE attacker_intel")
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.env["DECNET_INTEL_PROVIDERS"] = "feodo"
	return s
}

// sighted returns the n-th attacker's address.
func sighted(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{45, byte(n >> 16), byte(n >> 8), byte(n)})
}

func cowrie(n int) string {
	return fmt.Sprintf(`{"eventid":"cowrie.session.connect","src_ip":"%s","dst_ip":"8.8.8.8","timestamp":"2026-11-28T08:09:10Z"}`+"\n", sighted(n))
}

func (s *site) observed() int {
	var n int
	if s.db.QueryRow("SELECT count(*) FROM attackers").Scan(&n) != nil {
		return -1
	}
	return n
}

// TestFollow: from a log to findings, without DECNET.
func TestFollow(t *testing.T) {
	s := ownSite(t)
	path := filepath.Join(filepath.Dir(s.file), "cowrie.json")
	require.NoError(t, os.WriteFile(path, []byte(cowrie(1)+cowrie(2)), 0o600))
	own := filepath.Join(filepath.Dir(s.file), "own")
	require.NoError(t, os.WriteFile(own, []byte("45.0.0.2\n"), 0o600))
	p := s.start("-create", "-follow", path, "-follow", path+".other", "-own", own)
	eventually(t, "the first attacker is enriched", func() bool {
		var n int
		return s.db.QueryRow("SELECT count(*) FROM attacker_intel WHERE attacker_ip = '45.0.0.1'").Scan(&n) == nil && n == 1
	})
	require.NoError(t, os.WriteFile(path+".other", []byte("Nov 28 08:09:10 h sshd[1]: Invalid user x from 45.0.0.3 port 1\n"), 0o600))
	eventually(t, "the other file is read", func() bool { return s.observed() == 2 })
	require.Equal(t, []string{store.AttackerID(sighted(1)).String()}, s.column("SELECT uuid FROM attackers WHERE ip = '45.0.0.1'"))
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.Contains(t, p.output(), "45.0.0.2")
}

// TestIngestListen: lines over TCP.
func TestIngestListen(t *testing.T) {
	s := ownSite(t)
	address := freePort(t)
	p := s.start("-create", "-ingest-listen", "tcp://"+address)
	p.until("listening for attackers")
	conn, err := net.Dial("tcp", address)
	require.NoError(t, err)
	defer conn.Close()
	for n := range 50 {
		_, err := io.WriteString(conn, cowrie(n))
		require.NoError(t, err)
	}
	eventually(t, "all are stored", func() bool { return s.observed() == 50 })
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
}

// post sends observations and returns the status and the body of the answer.
func post(tb testing.TB, address, token, body string) (int, string) {
	tb.Helper()
	req, err := http.NewRequestWithContext(tb.Context(), http.MethodPost, "http://"+address+"/api/v1/observations", strings.NewReader(body))
	require.NoError(tb, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(tb, err)
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	text, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	return resp.StatusCode, string(text)
}

// TestObservations: over HTTP, with the token.
func TestObservations(t *testing.T) {
	s := ownSite(t)
	address := freePort(t)
	file := filepath.Join(filepath.Dir(s.file), "token")
	require.NoError(t, os.WriteFile(file, []byte("correct-horse-battery\n"), 0o600))
	s.env["DECNET_INTEL_TOKEN_FILE"] = file
	p := s.start("-create", "-listen", address)
	p.until("enriching")
	const good = "correct-horse-battery"
	code, body := post(t, address, good, `{"address":"45.0.0.1"}`+"\n"+`{"address":"10.0.0.1"}`+"\nx")
	require.Equal(t, http.StatusAccepted, code)
	require.JSONEq(t, `{"accepted":1,"guarded":1,"malformed":1}`, body)
	require.Equal(t, 1, s.observed())
	for _, wrong := range []string{"", "wrong", good + "x"} {
		code, _ = post(t, address, wrong, `{"address":"45.0.0.2"}`)
		require.Equal(t, http.StatusUnauthorized, code)
	}
	require.Equal(t, 1, s.observed())
	require.NotContains(t, p.output(), good)
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())

	delete(s.env, "DECNET_INTEL_TOKEN_FILE")
	p = s.start("-create", "-listen", address)
	p.until("enriching")
	code, _ = post(t, address, good, `{"address":"45.0.0.2"}`)
	require.Equal(t, http.StatusNotFound, code, "there is no token")
}

// TestAdoptUnknown: an event about an address that no attacker has adds one.
func TestAdoptUnknown(t *testing.T) {
	s := ownSite(t)
	delete(s.env, "DECNET_BUS_ENABLED")
	defer s.startBus()()
	b := s.connect()
	p := s.start("-create", "-adopt-unknown")
	p.until("enriching")
	eventually(t, "it is adopted", func() bool {
		observed(t, b, "45.0.0.1")
		return s.observed() == 1
	})
	observed(t, b, "10.0.0.1")
	observed(t, b, "45.0.0.2")
	eventually(t, "the other is adopted", func() bool { return s.observed() == 2 })
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
}

// TestNoObservationsForDECNET: DECNET adds its attackers itself.
func TestNoObservationsForDECNET(t *testing.T) {
	s := newSite(t, upstream.Options{})
	for _, args := range [][]string{{"-follow", "x.log"}, {"-ingest-listen", "tcp://127.0.0.1:0"}, {"-adopt-unknown"}} {
		p := s.start(args...)
		require.Equal(t, exitUsage, p.code(), p.output())
		require.Contains(t, p.output(), "DECNET adds its attackers itself")
	}
	address := freePort(t)
	s.env["DECNET_INTEL_TOKEN"] = "correct-horse-battery"
	s.env["DECNET_BUS_ENABLED"] = "false"
	p := s.start("-listen", address)
	p.until("enriching")
	code, _ := post(t, address, "correct-horse-battery", `{"address":"45.0.0.1"}`)
	require.Equal(t, http.StatusForbidden, code)
	code, _ = post(t, address, "wrong", `{"address":"45.0.0.1"}`)
	require.Equal(t, http.StatusUnauthorized, code)
	require.Zero(t, s.observed())
	s.profile(uuid.New(), "45.0.0.1") // DECNET goes on
}

func TestObservingFlags(t *testing.T) {
	dir := t.TempDir()
	for args, want := range map[string]string{
		"-follow " + dir:                      "no regular file",
		"-follow a -follow a":                 "followed already",
		"-ingest-listen 127.0.0.1:1":          "tcp://127.0.0.1:4711",
		"-ingest-listen tcp://0.0.0.0:1":      "-ingest-listen: ",
		"-once -follow a":                     "-once excludes",
		"-once -adopt-unknown":                "-once excludes",
		"-ingest-listen tcp://127.0.0.1:port": "-ingest-listen: ",
	} {
		r := runWith(t, nil, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want, args)
	}
	r := runWith(t, map[string]string{"DECNET_BUS_ENABLED": "false"}, "-adopt-unknown")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "-adopt-unknown needs a bus")
}

// TestFollowKilled: a log of 1,000 lines a second is rotated all the time, and
// enrichd is killed again and again. No attacker is missed.
func TestFollowKilled(t *testing.T) {
	lines, rotations, kills := 4000, 100, 5
	if os.Getenv("ENRICHD_TORTURE") != "" {
		lines, rotations, kills = 60_000, 1000, 100
	}
	s := ownSite(t)
	s.env["DECNET_INTEL_PROVIDERS"] = ""
	dir := filepath.Join(filepath.Dir(s.file), "log")
	require.NoError(t, os.Mkdir(dir, 0o700))
	path := filepath.Join(dir, "cowrie.json")

	out, err := os.Create(path)
	require.NoError(t, err)
	var written atomic.Int64
	var writer sync.WaitGroup
	followed := make(chan struct{}) // what was rotated before the file was first followed is not read
	writer.Go(func() {
		<-followed
		began := time.Now()
		for n := range lines {
			if n > 0 && n%(lines/rotations) == 0 {
				require.NoError(t, os.Rename(path, fmt.Sprintf("%s.%d", path, n/(lines/rotations))))
				_, err = io.WriteString(out, "") // the writer still has it
				require.NoError(t, err)
				require.NoError(t, out.Close())
				out, err = os.Create(path)
				require.NoError(t, err)
			}
			_, err = io.WriteString(out, cowrie(n))
			require.NoError(t, err)
			written.Add(1)
			if ahead := time.Duration(n)*time.Millisecond - time.Since(began); ahead > 5*time.Millisecond {
				<-time.After(ahead)
			}
		}
		require.NoError(t, out.Close())
	})
	killed := 0
	for killed < kills {
		p := s.start("-create", "-follow", path)
		p.until("following")
		if killed == 0 {
			close(followed)
		}
		before := s.observed()
		within(t, 2*wait, "something is read", func() bool { return s.observed() > before || int(written.Load()) == lines })
		p.signal(syscall.SIGKILL)
		p.code()
		killed++
	}
	writer.Wait()
	p := s.start("-create", "-follow", path)
	within(t, 4*wait, "all attackers are there", func() bool { return s.observed() >= lines })
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, lines, s.observed())
	require.NotContains(t, p.output(), "not read to its end")
	t.Logf("%d lines, %d rotations, %d kills: %d attackers", lines, rotations, killed, s.observed())
}

// TestObservationsKilled: enrichd is killed again and again while clients post to it.
// Whatever it has accepted is there.
func TestObservationsKilled(t *testing.T) {
	const clients, batch, kills = 4, 50, 4
	s := ownSite(t)
	s.env["DECNET_INTEL_PROVIDERS"] = ""
	s.env["DECNET_INTEL_TOKEN"] = "correct-horse-battery"
	address := freePort(t)
	var (
		next    atomic.Int64
		mu      sync.Mutex
		taken   []int // the first of each batch that was accepted
		done    = make(chan struct{})
		sending sync.WaitGroup
	)
	accepted := func() int {
		mu.Lock()
		defer mu.Unlock()
		return len(taken)
	}
	for range clients {
		sending.Go(func() {
			client := &http.Client{Transport: &http.Transport{}}
			defer client.CloseIdleConnections()
			for {
				select {
				case <-done:
					return
				default:
				}
				from := int(next.Add(batch)) - batch
				var body strings.Builder
				for n := from; n < from+batch; n++ {
					fmt.Fprintf(&body, `{"address":"%s"}`+"\n", sighted(n))
				}
				r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+address+"/api/v1/observations", strings.NewReader(body.String()))
				if err != nil {
					t.Error(err)
					return
				}
				r.Header.Set("Authorization", "Bearer correct-horse-battery")
				resp, err := client.Do(r)
				if err != nil { // it is being killed, or not there yet
					<-time.After(20 * time.Millisecond)
					continue
				}
				_ = resp.Body.Close()
				switch resp.StatusCode {
				case http.StatusAccepted:
					mu.Lock()
					taken = append(taken, from)
					mu.Unlock()
				case http.StatusServiceUnavailable:
				default:
					t.Errorf("status %d", resp.StatusCode)
				}
			}
		})
	}
	for range kills {
		before := accepted()
		p := s.start("-create", "-listen", address)
		within(t, 2*wait, "something is accepted", func() bool { return accepted() > before+2*clients })
		p.signal(syscall.SIGKILL)
		p.code()
	}
	close(done)
	sending.Wait()
	have := make(map[string]bool)
	for _, ip := range s.column("SELECT ip FROM attackers") {
		have[ip] = true
	}
	for _, from := range taken {
		for n := from; n < from+batch; n++ {
			require.True(t, have[sighted(n).String()], "attacker %d of an accepted batch is missing", n)
		}
	}
	t.Logf("%d batches were accepted in spite of %d kills; %d attackers are there", len(taken), kills, len(have))
}

// BenchmarkObservations posts batches of 500 observations of new addresses, from
// four clients, to the program with an SQLite database.
func BenchmarkObservations(b *testing.B) {
	s := ownSite(b)
	s.env["DECNET_INTEL_PROVIDERS"] = ""
	address := freePort(b)
	s.env["DECNET_INTEL_TOKEN"] = "correct-horse-battery"
	p := s.start("-create", "-listen", address)
	p.until("enriching")
	const batch, clients = 500, 4
	var next, refused atomic.Int64
	b.ResetTimer()
	var sending sync.WaitGroup
	for range clients {
		sending.Go(func() {
			for {
				n := int(next.Add(1)) - 1
				if n >= b.N {
					return
				}
				var body strings.Builder
				for k := range batch {
					fmt.Fprintf(&body, `{"address":"%s","time":"2026-11-28T08:09:10Z","source":"bait"}`+"\n", sighted(n*batch+k))
				}
				for {
					code, text := post(b, address, "correct-horse-battery", body.String())
					if code == http.StatusServiceUnavailable {
						refused.Add(1)
						<-time.After(50 * time.Millisecond)
						continue
					}
					var got struct{ Accepted int }
					if code != http.StatusAccepted || json.Unmarshal([]byte(text), &got) != nil || got.Accepted != batch {
						b.Errorf("%d %s", code, text)
					}
					break
				}
			}
		})
	}
	sending.Wait()
	b.StopTimer()
	if got := s.observed(); got != b.N*batch {
		b.Fatalf("%d are stored, %d were accepted", got, b.N*batch)
	}
	b.ReportMetric(float64(b.N*batch)/b.Elapsed().Seconds(), "observations/s")
	b.ReportMetric(float64(refused.Load()), "refused")
	p.signal(syscall.SIGTERM)
	p.code()
	cpu := p.cmd.ProcessState.UserTime() + p.cmd.ProcessState.SystemTime()
	b.ReportMetric(float64(b.N*batch)/cpu.Seconds(), "observations/cpu-s")
}
