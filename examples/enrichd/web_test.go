package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// fetch sends a GET with headers and returns the status and the body.
func fetch(t *testing.T, url string, headers ...string) *http.Response {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := client.Do(r)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

// TestWeb runs the daemon with a token in a file: it guards all of /api, lets the
// daemon listen everywhere, and changes arrive live.
func TestWeb(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	const token = "a-token-that-is-long-enough"
	s.env["DECNET_INTEL_TOKEN_FILE"] = filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(s.env["DECNET_INTEL_TOKEN_FILE"], []byte(token+"\n"), 0o600))
	_, port, _ := strings.Cut(freePort(t), ":")
	p := s.start("-poll-interval", "50ms", "-listen", "0.0.0.0:"+port, "-host", "enrich.example", "-cors", "https://decnet.example")
	p.until("enriching")
	url := "http://127.0.0.1:" + port
	require.Equal(t, 401, fetch(t, url+"/api/v1/intel/status").StatusCode)
	require.Equal(t, 401, fetch(t, url+"/api/v1/intel/events").StatusCode)
	auth := []string{"Authorization", "Bearer " + token}
	require.Equal(t, 200, fetch(t, url+"/api/v1/intel/status", auth...).StatusCode)
	require.Equal(t, 200, fetch(t, url+"/healthz").StatusCode)
	require.Equal(t, 421, fetch(t, url+"/healthz", "Host", "evil.example").StatusCode)
	require.Equal(t, 200, fetch(t, url+"/healthz", "Host", "enrich.example").StatusCode)
	require.Equal(t, "https://decnet.example", fetch(t, url+"/api/v1/intel/status", append(auth, "Origin", "https://decnet.example")...).Header.Get("Access-Control-Allow-Origin"))

	events := bufio.NewScanner(fetch(t, url+"/api/v1/intel/events", auth...).Body)
	require.True(t, events.Scan()) // it is connected
	id := uuid.New()
	s.profile(id, notorious(s.up, 1))
	for events.Scan() {
		if data, ok := strings.CutPrefix(events.Text(), "data: "); ok {
			require.Contains(t, data, id.String())
			break
		}
	}
	var x intel.Explanation
	eventually(t, "the attacker is explained", func() bool {
		resp := fetch(t, url+"/api/v1/attackers/"+id.String()+"/intel/explain", auth...)
		return resp.StatusCode == 200 && json.NewDecoder(resp.Body).Decode(&x) == nil && x.Revision > 0
	})
	require.Equal(t, "malicious", x.Verdict.String())
	require.Len(t, x.Sources, 4)
	p.signal(syscall.SIGTERM) // with a live client
	require.Equal(t, exitOK, p.code(), p.output())
	require.NotContains(t, p.output(), token)
}

func TestWebMisuse(t *testing.T) {
	for args, want := range map[string]string{
		"-cors decnet.example":         "it is not an origin",
		"-cors *":                      "it is not an origin",
		"-cors https://a.example/path": "it is not an origin",
		"-host http://a.example":       "it is not a host name",
	} {
		r := runWith(t, nil, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
	r := runWith(t, map[string]string{"DECNET_INTEL_TOKEN": "two words", "DECNET_INTEL_PROVIDERS": "feodo"})
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "DECNET_INTEL_TOKEN has characters")
	require.NotContains(t, r.stderr, "two words")
}

func TestExplainCommand(t *testing.T) {
	s, bad, _, private := newTool(t)
	r := s.tool(t, "explain", bad.String())
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stdout, "attacker "+bad.String()+", address 45.9.0.1\nmalicious: ")
	require.Contains(t, r.stdout, "fingerprint strongest/")
	require.Regexp(t, `(?m)^threatfox: malicious, \d+ seconds? old; decides$`, r.stdout)
	require.Contains(t, r.stdout, "  malware_family: AsyncRAT\n")

	var x intel.Explanation
	s.toolJSON(t, &x, "explain", "45.9.0.1", "-raw")
	require.Equal(t, bad, x.AttackerUUID)
	require.False(t, x.Outdated)
	require.NotEmpty(t, x.Sources[0].Raw)
	s.toolJSON(t, &x, "explain", private.String(), "-policy", "weighted")
	require.Contains(t, x.Sources[0].NotApplicable, "private")
	var both []intel.Explanation
	s.toolJSON(t, &both, "explain", bad.String(), private.String())
	require.Len(t, both, 2)

	r = s.tool(t, "explain", uuid.NewString())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "there is no attacker")
	require.Equal(t, exitFailed, s.tool(t, "explain", "192.0.2.77").code)
	for _, args := range [][]string{{"explain"}, {"explain", "someone"}} {
		require.Equal(t, exitUsage, s.tool(t, args...).code)
	}
}

// TestDashboard: the daemon serves the dashboard, and with a token asks for it.
func TestDashboard(t *testing.T) {
	s, bad, _, _ := newTool(t)
	const token = "a-token-that-is-long-enough"
	for _, s.env["DECNET_INTEL_TOKEN"] = range []string{"", token} {
		address := freePort(t)
		p := s.start("-listen", address)
		p.until("enriching")
		url := "http://" + address
		headers := []string{"X", "y"}
		if s.env["DECNET_INTEL_TOKEN"] != "" {
			resp := fetch(t, url+"/attackers/"+bad.String())
			require.Equal(t, 401, resp.StatusCode)
			require.Contains(t, resp.Header.Values("WWW-Authenticate")[1], "Basic")
			headers = []string{"Authorization", "Basic " + base64.StdEncoding.EncodeToString([]byte("x:"+token))}
		}
		text := func(path string, headers ...string) string {
			resp := fetch(t, url+path, headers...)
			body, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, 200, resp.StatusCode, string(body))
			return string(body)
		}
		require.Contains(t, text("/", headers...), bad.String())
		require.Contains(t, text("/attackers/"+bad.String(), headers...), "<intel-panel")
		require.Contains(t, text("/metrics", headers...), `enrich_provider_state`)
		require.Contains(t, text("/intel-panel.js"), "customElements.define")
		p.signal(syscall.SIGTERM)
		require.Equal(t, exitOK, p.code(), p.output())
	}
}
