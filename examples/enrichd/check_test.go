package main

import (
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// table returns the rows that a check printed, by what they are about.
func table(t *testing.T, stdout string) map[string][2]string {
	t.Helper()
	rows := map[string][2]string{}
	for line := range strings.Lines(stdout) {
		what, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		result, detail, ok := strings.Cut(strings.TrimSpace(rest), " ")
		require.True(t, ok, line)
		rows[what] = [2]string{result, strings.TrimSpace(detail)}
	}
	return rows
}

// pinged answers GreyNoise's /ping: with 401 unless the key is right.
func pinged(right string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case r.URL.Path != "/ping":
			http.NotFound(w, r)
		case r.Header.Get("Key") != right:
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"message":"unauthorized"}`))
		default:
			_, _ = w.Write([]byte(`{"message":"pong"}`))
		}
	})
}

func TestCheck(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret + "greynoise")})
	defer s.startBus()()
	before := s.column("SELECT group_concat(name) FROM sqlite_master")
	r := runWith(t, s.env, "-check", "-listen", freePort(t))
	require.Equal(t, exitOK, r.code, r.stdout)
	require.Empty(t, r.stderr)
	rows := table(t, r.stdout)
	require.Equal(t, [2]string{"ok", "asks greynoise, abuseipdb, feodo, threatfox"}, rows["configuration"])
	require.Equal(t, [2]string{"ok", "SQLite " + s.file + ": made by DECNET; the first start will add tables named enrich_*"}, rows["database"])
	require.Equal(t, [2]string{"ok", "UNIX socket " + s.socket}, rows["bus"])
	require.Equal(t, "ok", rows["http"][0])
	require.Equal(t, [2]string{"ok", "the key is accepted"}, rows["greynoise"])
	require.Equal(t, [2]string{"note", "reachable; whether it accepts the key, only a lookup can tell"}, rows["abuseipdb"])
	require.Equal(t, "note", rows["threatfox"][0])
	require.Equal(t, [2]string{"ok", "reachable; it needs no key"}, rows["feodo"])
	require.Len(t, rows, 8+11, "with the built-in lists")
	require.NotContains(t, r.stdout, secret)

	require.Zero(t, s.calls(), "lookups")
	require.Equal(t, before, s.column("SELECT group_concat(name) FROM sqlite_master"))

	// As a process, and after a run.
	p := s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	p = s.start("-check")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Contains(t, p.output(), s.file+": prepared")
}

func TestCheckFails(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged("another")})
	gone := newSite(t, upstream.Options{})
	gone.up.Close()
	guarded := serveNATS(t, server.Options{Username: "me", Password: "another"})
	for name, c := range map[string]struct {
		env     map[string]string
		what    string
		details string
	}{
		"key":      {nil, "greynoise", "the key is refused (HTTP 401); correct DECNET_GREYNOISE_API_KEY"},
		"bus":      {map[string]string{"DECNET_BUS_SOCKET": s.file + "/bus.sock"}, "bus", "not a directory"},
		"service":  {map[string]string{"DECNET_FEODO_URL": gone.up.URL()}, "feodo", "cannot be reached"},
		"nats":     {map[string]string{"DECNET_BUS_TYPE": "nats", "DECNET_NATS_URL": "nats://me:" + secret + "@" + strings.TrimPrefix(guarded.ClientURL(), "nats://")}, "bus", "Authorization"},
		"database": {map[string]string{"DECNET_DB_URL": "sqlite:///nowhere/x.db"}, "database", "no such file or directory"},
	} {
		t.Run(name, func(t *testing.T) {
			env := maps.Clone(s.env)
			maps.Copy(env, c.env)
			r := runWith(t, env, "-check")
			require.Equal(t, exitFailed, r.code)
			require.Equal(t, "FAILED", table(t, r.stdout)[c.what][0], r.stdout)
			require.Contains(t, table(t, r.stdout)[c.what][1], c.details)
			require.NotContains(t, r.stdout, secret)
		})
	}
}

// TestCheckMeetsAPage: a page from somebody in between says nothing about the key.
func TestCheckMeetsAPage(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		w.WriteHeader(http.StatusForbidden)
		_, _ = w.Write([]byte("<!DOCTYPE html>blocked"))
	})})
	r := runWith(t, s.env, "-check")
	details := table(t, r.stdout)["greynoise"][1]
	require.Contains(t, details, "the service fails", r.stdout)
	require.NotContains(t, details, "correct")
}

// TestCheckWithoutBus: a bus that is not there yet is worth a note, for the
// daemon works without one.
func TestCheckWithoutBus(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret + "greynoise")})
	stale := filepath.Join(t.TempDir(), "bus.sock")
	require.NoError(t, os.WriteFile(stale, nil, 0o600)) // as one that nobody listens on
	for want, env := range map[string]map[string]string{
		s.socket + ": connect: no such file or directory": nil,
		stale + ": connect: connection refused":           {"DECNET_BUS_SOCKET": stale},
		"nats://127.0.0.1:1: cannot connect":              {"DECNET_BUS_TYPE": "nats", "DECNET_NATS_URL": "nats://me:" + secret + "@127.0.0.1:1"},
	} {
		env, more := maps.Clone(s.env), env
		maps.Copy(env, more)
		r := runWith(t, env, "-check", "-listen", "")
		require.Equal(t, exitOK, r.code, r.stdout)
		row := table(t, r.stdout)["bus"]
		require.Equal(t, "note", row[0])
		require.Contains(t, row[1], want)
		require.Contains(t, row[1], "until it is there the database is looked at every 1m0s")
		require.NotContains(t, r.stdout, secret)
	}
}

// TestCheckWithoutProviders: -check says that no provider is queried, and why,
// and queries none.
func TestCheckWithoutProviders(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret + "greynoise")})
	defer s.startBus()()
	s.env["DECNET_INTEL_PROVIDERS"] = ""
	r := runWith(t, s.env, "-check", "-listen", "")
	require.Equal(t, exitOK, r.code, r.stdout)
	rows := table(t, r.stdout)
	require.Equal(t, [2]string{"note", "no provider is queried: DECNET_INTEL_PROVIDERS is set and empty; remove it to query all"}, rows["configuration"])
	require.Len(t, rows, 4, r.stdout)
	require.Zero(t, s.calls()+s.up.Calls(upstream.Custom))
}

// TestCheckOfPings: what the answers of GreyNoise's /ping mean.
func TestCheckOfPings(t *testing.T) {
	for status, want := range map[int]string{
		200: checkOK, 401: checkFailed, 403: checkFailed, 404: checkNote, 429: checkNote, 302: checkFailed, 500: checkFailed, 503: checkFailed,
	} {
		s := newSite(t, upstream.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", "/elsewhere")
			w.WriteHeader(status)
		})})
		c, err := readConfig(options{}, setting(s.env))
		require.NoError(t, err)
		require.Equal(t, want, c.sources[0].check(t.Context()).result, status)
		require.Equal(t, 1, s.up.Calls(upstream.Custom), "redirects are not followed")
	}
}

// TestCheckOfLittle: nothing is set, and nothing is there.
func TestCheckOfLittle(t *testing.T) {
	s := newSite(t, upstream.Options{})
	env := map[string]string{"DECNET_BUS_ENABLED": "no", "DECNET_DB_URL": "sqlite://" + filepath.Join(t.TempDir(), "enrich.db"), "DECNET_INTEL_ENABLED": "false"}
	for _, name := range known() {
		env["DECNET_"+strings.ToUpper(name)+"_URL"] = s.up.URL()
	}
	r := runWith(t, env, "-check", "-listen", "", "-create")
	require.Equal(t, exitOK, r.code, r.stdout)
	require.Contains(t, r.stdout, "enrichd does nothing: DECNET_INTEL_ENABLED says so")
	require.Contains(t, r.stdout, "leaving out abuseipdb: DECNET_ABUSEIPDB_API_KEY is not set")
	require.Contains(t, r.stdout, "leaving out threatfox: DECNET_THREATFOX_API_KEY is not set")
	rows := table(t, r.stdout)
	require.Equal(t, [2]string{"ok", "off; the database is looked at every 1m0s"}, rows["bus"])
	require.Equal(t, [2]string{"ok", "off"}, rows["http"])
	require.Equal(t, [2]string{"note", "reachable; without a key it answers only a few lookups a week"}, rows["greynoise"])
	require.NoFileExists(t, strings.TrimPrefix(env["DECNET_DB_URL"], "sqlite://"))
	require.Zero(t, s.calls())
}

// TestKeysAreTold: to the services, and to nobody else, whatever they answer.
func TestKeysAreTold(t *testing.T) {
	for _, failure := range []upstream.Failure{upstream.Unauthorized, upstream.HTML, upstream.ServerError, upstream.Reset, upstream.RateLimited} {
		s := newSite(t, upstream.Options{})
		for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.Feodo, upstream.ThreatFox} {
			s.up.Fail(source, failure)
		}
		s.env["DECNET_BUS_TYPE"], s.env["DECNET_NATS_URL"] = "nats", "nats://me:"+secret+"bus@127.0.0.1:1"
		s.profile(uuid.New(), notorious(s.up, 1))
		p := s.start("-log-level", "debug")
		eventually(t, "it has asked", func() bool {
			return s.up.Calls(upstream.GreyNoise) > 0 && s.up.Calls(upstream.AbuseIPDB) > 0 && s.up.Calls(upstream.ThreatFox) > 0
		})
		p.signal(os.Interrupt)
		require.Equal(t, exitOK, p.code(), p.output())
		require.Equal(t, secret+"abuseipdb", s.up.Requests(upstream.AbuseIPDB)[0].Header.Get("Key"))
		for _, text := range s.column("SELECT group_concat(quote(name)) FROM sqlite_master") {
			require.NotContains(t, text, secret)
		}
		b, err := os.ReadFile(s.file)
		require.NoError(t, err)
		require.NotContains(t, string(b), secret)
	} // start looks for secrets in everything that was printed
}
