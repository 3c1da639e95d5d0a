package main

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

var client = http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// get returns the status and the body of an answer over HTTP.
func get(t *testing.T, url string) (int, map[string]any) {
	t.Helper()
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	var body map[string]any
	require.NoError(t, json.Unmarshal(text, &body), string(text))
	require.NotContains(t, string(text), secret)
	return resp.StatusCode, body
}

// freePort returns an address of this machine that nobody listens on.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	return l.Addr().String()
}

// TestEventToVerdict runs the daemon where DECNET runs: attackers come from its
// database and its bus, and what is learnt goes there.
func TestEventToVerdict(t *testing.T) {
	s := newSite(t, upstream.Options{})
	schema := s.column("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name")
	defer s.startBus()()
	address := freePort(t)
	b := s.connect()
	health := listenTo(t, b, intel.TopicHealth)
	p := s.start("-poll-interval", "1h", "-listen", address)
	line := p.until("enriching")
	require.Equal(t, "INFO", line["level"])
	require.Equal(t, "enrich", health.next()["worker"])
	_, body := get(t, "http://"+address+"/healthz")
	require.Equal(t, "ok", body["status"])
	eventually(t, "it is ready", func() bool {
		status, _ := get(t, "http://"+address+"/readyz")
		return status == http.StatusOK
	})

	ear := listenTo(t, b, intel.TopicEnriched)
	id, ip := uuid.New(), notorious(s.up, 1)
	url := "http://" + address + "/api/v1/attackers/" + id.String() + "/intel"
	status, body := get(t, url)
	require.Equal(t, http.StatusNotFound, status)
	require.Equal(t, "No intel cached for this attacker", body["detail"])
	s.profile(id, ip)
	observed(t, b, ip)
	payload := ear.enriched(id)
	require.Equal(t, ip, payload["attacker_ip"])
	require.Equal(t, "malicious", payload["aggregate_verdict"])
	require.Equal(t, true, payload["threatfox_listed"])

	status, body = get(t, url)
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, "malicious", body["aggregate_verdict"])
	for _, key := range []string{"greynoise_classification", "abuseipdb_score", "feodo_listed", "threatfox_threat_types"} {
		require.Equal(t, payload[key], body[key], key)
	}
	require.Equal(t, []string{"malicious"}, s.column("SELECT aggregate_verdict FROM attacker_intel WHERE attacker_uuid = ?", id.String()))
	status, body = get(t, "http://"+address+"/api/v1/intel/status")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, true, body["running"])
	require.Len(t, body["providers"], 4)
	require.EqualValues(t, 0, body["backlog"].(map[string]any)["due"])

	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.NotNil(t, p.logged("stopped"))
	require.Equal(t, schema, s.column("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL AND name NOT LIKE '%enrich_%' ORDER BY name"),
		"DECNET's tables are as they were")
	for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.ThreatFox} {
		require.Equal(t, 1, s.up.Calls(source), source)
	}
}

func TestWithoutBus(t *testing.T) {
	for name, env := range map[string]map[string]string{
		"none":   {"DECNET_BUS_ENABLED": "false"},
		"down":   {}, // nobody listens on the socket
		"memory": {"DECNET_BUS_TYPE": "fake"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			maps.Copy(s.env, env)
			p := s.start("-poll-interval", "50ms")
			p.until("enriching")
			s.profile(uuid.New(), notorious(s.up, 1))
			eventually(t, "the attacker has a verdict", func() bool {
				return len(s.column("SELECT 1 FROM attacker_intel WHERE aggregate_verdict = 'malicious'")) == 1
			})
			p.signal(os.Interrupt)
			require.Equal(t, exitOK, p.code(), p.output())
		})
	}
}

// TestRowsOfDECNETAreFresh: what "decnet enrich" has learnt is not asked again.
func TestRowsOfDECNETAreFresh(t *testing.T) {
	s := newSite(t, upstream.Options{})
	now := time.Now()
	for n := range 50 {
		id, ip := uuid.New(), notorious(s.up, n)
		s.profile(id, ip)
		s.exec(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version,
			greynoise_classification, greynoise_tags, greynoise_raw, greynoise_queried_at,
			abuseipdb_score, abuseipdb_categories, abuseipdb_raw, abuseipdb_queried_at,
			feodo_raw, feodo_queried_at, feodo_listed,
			threatfox_threat_types, threatfox_ioc_types, threatfox_malware_families, threatfox_raw, threatfox_queried_at, threatfox_listed,
			aggregate_verdict, cached_at, expires_at)
			VALUES (?, ?, ?, 1, 'benign', '[]', '{}', ?, 0, '[]', '{}', ?, '{}', ?, 0, '[]', '[]', '[]', '{}', ?, 0, 'benign', ?, ?)`,
			strings.ReplaceAll(uuid.NewString(), "-", ""), id.String(), ip,
			sqlalchemy(now), sqlalchemy(now), sqlalchemy(now), sqlalchemy(now), sqlalchemy(now), sqlalchemy(now.Add(time.Hour)))
	}
	const rows = "SELECT group_concat(attacker_uuid || greynoise_classification || cached_at || expires_at) FROM attacker_intel"
	before := s.column(rows)
	p := s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, before, s.column(rows))
	require.Zero(t, s.up.Calls(upstream.GreyNoise)+s.up.Calls(upstream.AbuseIPDB)+s.up.Calls(upstream.ThreatFox))
}

func TestOnce(t *testing.T) {
	const attackers = 200
	s := newSite(t, upstream.Options{})
	defer s.startBus()()
	ear := listenTo(t, s.connect(), intel.TopicEnriched)
	for n := range attackers {
		s.profile(uuid.New(), notorious(s.up, n))
	}
	p := s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.NotNil(t, p.logged("done"))
	require.Len(t, s.column(`SELECT attacker_ip FROM attacker_intel WHERE aggregate_verdict = 'malicious' AND
		greynoise_queried_at IS NOT NULL AND abuseipdb_queried_at IS NOT NULL AND feodo_listed AND threatfox_listed`), attackers)
	told := map[any]bool{}
	for len(told) < attackers {
		told[ear.next()["attacker_uuid"]] = true
	}
	require.Equal(t, []string{"0"}, s.column("SELECT count(*) FROM enrich_outbox"))

	// Now everything is fresh.
	s.up.ResetCalls()
	p = s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Zero(t, s.up.Calls(upstream.GreyNoise)+s.up.Calls(upstream.AbuseIPDB)+s.up.Calls(upstream.ThreatFox))
}

// TestSIGTERMFinishesLookups: what is being asked when the program is told to
// stop is saved.
func TestSIGTERMFinishesLookups(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says string
	}{
		"daemon": {nil, "stopped"},
		"once":   {[]string{"-once"}, "stopped; the next run does what is left"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			s.env["DECNET_BUS_ENABLED"] = "false"
			s.up.Delay(upstream.ThreatFox, 300*time.Millisecond)
			s.profile(uuid.New(), notorious(s.up, 1))
			p := s.start(c.args...)
			eventually(t, "a lookup is under way", func() bool { return s.up.Calls(upstream.ThreatFox) == 1 })
			p.signal(syscall.SIGTERM)
			require.Equal(t, exitOK, p.code(), p.output())
			require.NotNil(t, p.logged(c.says), p.output())
			require.Equal(t, []string{"1"}, s.column("SELECT threatfox_listed FROM attacker_intel"))
		})
	}
}

func TestSecondSignal(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.up.Fail(upstream.ThreatFox, upstream.Hang)
	s.profile(uuid.New(), notorious(s.up, 1))
	p := s.start()
	eventually(t, "a lookup is under way", func() bool { return s.up.Calls(upstream.ThreatFox) == 1 })
	p.signal(syscall.SIGTERM)
	p.until("stopping")
	p.signal(syscall.SIGTERM)
	require.Equal(t, 128+int(syscall.SIGTERM), p.code())
	require.Nil(t, p.logged("stopped"))
}

func TestCommandOnTheBusStops(t *testing.T) {
	s := newSite(t, upstream.Options{})
	defer s.startBus()()
	b := s.connect()
	health := listenTo(t, b, intel.TopicHealth)
	address := freePort(t)
	p := s.start("-listen", address)
	health.next()
	eventually(t, "it has stopped", func() bool { // it may not have subscribed yet
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: json.RawMessage(`{"action":"stop"}`)}))
		return p.logged("stopped") != nil
	})
	require.Equal(t, exitOK, p.code(), p.output())
}

// TestWithoutProviders: with an empty list of providers the daemon stays up, is
// alive and ready, and sends nothing to anybody.
func TestWithoutProviders(t *testing.T) {
	s := newSite(t, upstream.Options{})
	defer s.startBus()()
	socket, address := filepath.Join(filepath.Dir(s.file), "notify.sock"), freePort(t)
	manager := newSystemd(t, socket)
	s.env["DECNET_INTEL_PROVIDERS"] = ""
	s.env["NOTIFY_SOCKET"], s.env["WATCHDOG_USEC"] = socket, "400000"
	ip := notorious(s.up, 1)
	s.profile(uuid.New(), ip)
	b := s.connect()
	health := listenTo(t, b, intel.TopicHealth)
	p := s.start("-poll-interval", "10ms", "-listen", address)
	health.next()
	p.until("no provider is queried: DECNET_INTEL_PROVIDERS is set and empty; remove it to query all")
	observed(t, b, ip)
	for range 3 {
		manager.until("WATCHDOG=1")
	}
	status, body := get(t, "http://"+address+"/readyz")
	require.Equal(t, http.StatusOK, status, body)
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.Zero(t, s.calls(), "lookups and downloads")
	require.Empty(t, s.column("SELECT uuid FROM attacker_intel"))

	delete(s.env, "NOTIFY_SOCKET")
	p = s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Zero(t, s.calls(), "lookups and downloads")

	delete(s.env, "DECNET_INTEL_PROVIDERS")
	p = s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, 4, s.calls(), "once the variable is not set, all are queried")
}

func TestDisabled(t *testing.T) {
	s := newSite(t, upstream.Options{})
	socket := filepath.Join(filepath.Dir(s.file), "notify.sock")
	manager := newSystemd(t, socket)
	s.env["DECNET_INTEL_ENABLED"], s.env["NOTIFY_SOCKET"] = "false", socket
	p := s.start()
	require.Equal(t, exitOK, p.code(), p.output())
	manager.until("READY=1")
	require.Equal(t, "STOPPING=1", manager.next())
	require.Contains(t, p.output(), "DECNET_INTEL_ENABLED")
	require.Zero(t, s.calls())
}

// TestDatabaseServerIsDown: it is waited for, until somebody says stop.
func TestDatabaseServerIsDown(t *testing.T) {
	for i := range engines {
		eng := &engines[i]
		if eng.port == "" {
			continue
		}
		t.Run(eng.title, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			s.env["DECNET_DB_URL"] = eng.schemes[0] + "://me:" + secret + "@127.0.0.1:1/decnet"
			address := freePort(t)
			p := s.start("-listen", address)
			p.until(versionLine())
			status, _ := get(t, "http://"+address+"/healthz")
			require.Equal(t, http.StatusOK, status)
			status, _ = get(t, "http://"+address+"/readyz")
			require.Equal(t, http.StatusServiceUnavailable, status)
			p.signal(syscall.SIGTERM)
			require.Equal(t, exitOK, p.code(), p.output())
			require.Nil(t, p.logged("enriching"))
		})
	}
}

func TestStartFailures(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer taken.Close()
	for name, c := range map[string]struct {
		env  map[string]string
		args []string
		want string
	}{
		"port in use":     {nil, []string{"-listen", taken.Addr().String()}, "choose another address with -listen"},
		"no directory":    {map[string]string{"DECNET_DB_URL": "sqlite:///nowhere/x.db"}, nil, "make its directory"},
		"no database":     {map[string]string{"DECNET_DB_URL": "sqlite:///etc/hosts"}, nil, "prepare SQLite /etc/hosts"},
		"once, no file":   {map[string]string{"DECNET_DB_URL": "sqlite:///etc/hosts"}, []string{"-once"}, "/etc/hosts"},
		"systemd is gone": {map[string]string{"NOTIFY_SOCKET": "/nowhere/notify"}, nil, "NOTIFY_SOCKET"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, upstream.Options{})
			maps.Copy(s.env, c.env)
			p := s.start(c.args...)
			require.Equal(t, exitFailed, p.code(), p.output())
			require.Contains(t, p.output(), c.want)
		})
	}
}

func TestOneAtATime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		running, most := 0, 0
		f := oneAtATime(func(context.Context) (any, error) {
			running++
			most = max(most, running)
			time.Sleep(4 * time.Second)
			running--
			return "status", nil
		})
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		var calls sync.WaitGroup
		var served, late atomic.Int64
		for range 5 {
			calls.Go(func() {
				switch s, err := f(ctx); {
				case err == nil && s == "status":
					served.Add(1)
				case errors.Is(err, context.DeadlineExceeded):
					late.Add(1)
				}
			})
		}
		calls.Wait()
		require.Equal(t, 1, most)
		require.EqualValues(t, 3, served.Load())
		require.EqualValues(t, 2, late.Load())
	})
}
