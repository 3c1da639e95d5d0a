package main

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// posted is what a receiver of webhooks has accepted, by attacker.
type posted struct {
	*httptest.Server
	mu     sync.Mutex
	down   bool
	events map[string][]string // IDs
}

func newPosted(t *testing.T) *posted {
	p := &posted{events: make(map[string][]string)}
	p.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.down {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		body, _ := io.ReadAll(r.Body)
		var m struct {
			Type      string
			Timestamp string
			Data      struct {
				ID      string `json:"attacker_uuid"`
				EventID string `json:"event_id"`
				Verdict string `json:"aggregate_verdict"`
			}
		}
		id := r.Header.Get("webhook-id")
		if json.Unmarshal(body, &m) == nil && m.Type == "intel.enriched" && m.Timestamp != "" && m.Data.EventID == id &&
			strings.HasPrefix(r.Header.Get("webhook-signature"), "v1,") {
			p.events[m.Data.ID] = append(p.events[m.Data.ID], id)
		}
	}))
	t.Cleanup(p.Close)
	return p
}

func (p *posted) set(down bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.down = down
}

func (p *posted) has(id uuid.UUID) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.events[id.String()]) > 0
}

// secretFile writes the secret of a webhook.
func secretFile(t *testing.T) string {
	path := filepath.Join(t.TempDir(), "secret")
	require.NoError(t, os.WriteFile(path, []byte("whsec_"+"c2VjcmV0LW9mLWF0LWxlYXN0LTI0LWJ5dGVz\n"), 0o600))
	return path
}

// TestWebhooks: every event reaches every receiver. One that is down delays neither
// the other nor the worker, and gets everything later, also after a crash.
func TestWebhooks(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	up, down := newPosted(t), newPosted(t)
	down.set(true)
	address := freePort(t)
	args := []string{
		"-poll-interval", "100ms", "-webhook", up.URL + "/s3cr3t-of-up", "-webhook", down.URL + "/s3cr3t-of-down",
		"-webhook-secret-file", secretFile(t), "-webhook-allow-internal",
	}
	var ids []uuid.UUID
	add := func() {
		id := uuid.New()
		ids = append(ids, id)
		s.profile(id, notorious(s.up, len(ids)))
	}
	p := s.start(append(args, "-listen", address)...)
	p.until("enriching")
	for range 20 {
		add()
	}
	eventually(t, "the working receiver has all events", func() bool {
		for _, id := range ids {
			if !up.has(id) {
				return false
			}
		}
		return true
	})
	p.until("cannot deliver to a webhook; events wait")
	eventually(t, "only what is for the other receiver is left", func() bool {
		return s.column("SELECT count(*) FROM enrich_delivery")[0] == "20"
	})
	for _, path := range []string{"/api/v1/intel/status", "/metrics"} {
		resp, err := http.Get("http://" + address + path)
		require.NoError(t, err)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.NoError(t, resp.Body.Close())
		require.NotContains(t, string(text), "s3cr3t")
		want := `"readers":{"` + up.URL + `":0,"` + down.URL + `":20}`
		if up.URL > down.URL {
			want = `"readers":{"` + down.URL + `":20,"` + up.URL + `":0}`
		}
		if path == "/metrics" {
			want = `enrich_reader="` + down.URL + `",`
		}
		require.Contains(t, string(text), want)
	}
	p.signal(syscall.SIGKILL)
	p.code()

	down.set(false)
	s.exec("DELETE FROM enrich_turn") // as if the turn of the killed process were over
	p = s.start(args...)
	eventually(t, "the other receiver has all events", func() bool {
		for _, id := range ids {
			if !down.has(id) {
				return false
			}
		}
		return true
	})
	eventually(t, "nothing is left", func() bool { return s.column("SELECT count(*) FROM enrich_delivery")[0] == "0" })
	require.Equal(t, []string{"0"}, s.column("SELECT count(*) FROM enrich_outbox"), "without a bus nothing is kept for it")
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())

	add()
	p = s.start(append(args, "-once")...)
	require.Equal(t, exitOK, p.code(), p.output())
	require.True(t, up.has(ids[20]) && down.has(ids[20]), p.output())

	id := ids[0].String()
	r := s.tool(t, append([]string{"enrich", id, "-force"}, args[2:]...)...)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, []string{"2"}, s.column("SELECT count(*) FROM enrich_delivery"), "for the daemon")
}

func TestWebhookFlags(t *testing.T) {
	s := newSite(t, upstream.Options{})
	secret := secretFile(t)
	for args, want := range map[string]string{
		"-webhook https://example.org/":                                                    "there are 1 -webhook and 0 -webhook-secret-file",
		"-webhook-secret-file " + secret:                                                   "-webhook-secret-file needs a -webhook",
		"-webhook http://127.0.0.1/ -webhook-secret-file " + secret:                        "internal receivers are not allowed",
		"-webhook ftp://example.org/ -webhook-secret-file " + secret:                       "must be like https://",
		"-webhook https://example.org/ -webhook-secret-file /nowhere/x":                    "/nowhere/x: no such file",
		"-webhook https://e.org/a -webhook https://e.org/a -webhook-secret-file " + secret: "number 2 is there already",
	} {
		r := s.tool(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
}
