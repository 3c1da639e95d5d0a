package main

import (
	"cmp"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/natsbus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
)

// serveNATS starts a NATS server inside the test.
func serveNATS(tb testing.TB, o server.Options) *server.Server {
	tb.Helper()
	o.Host, o.Port, o.NoLog, o.NoSigs = "127.0.0.1", server.RANDOM_PORT, true, true
	s, err := server.NewServer(&o)
	require.NoError(tb, err)
	go s.Start()
	require.True(tb, s.ReadyForConnections(wait))
	tb.Cleanup(func() {
		s.Shutdown()
		s.WaitForShutdown()
	})
	return s
}

// startNATS starts a NATS server and returns a client of it.
func startNATS(tb testing.TB) (url string, b bus.Bus) {
	tb.Helper()
	s := serveNATS(tb, server.Options{})
	client, err := natsbus.New(natsbus.Options{URL: s.ClientURL(), Buffer: 1 << 16})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, client.Close()) })
	return s.ClientURL(), client
}

// newDatabase returns the URL of an empty database, which is dropped after the
// test.
func newDatabase(tb testing.TB, eng *engine) string {
	tb.Helper()
	if eng.port == "" {
		return "sqlite://" + filepath.Join(tb.TempDir(), "enrich.db")
	}
	address := serverOf(eng)
	needServer(tb, address)
	user, params := map[string]string{"PostgreSQL": "postgres", "MySQL": "root"}[eng.title], map[string]string{"PostgreSQL": "?sslmode=disable"}[eng.title]
	url := func(name string) string { return eng.schemes[0] + "://" + user + "@" + address + "/" + name + params }
	admin, err := parseDatabaseURL(url(eng.schemes[0]))
	require.NoError(tb, err)
	db, err := eng.open(admin)
	require.NoError(tb, err)
	name := "enrich_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	_, err = db.Exec("CREATE DATABASE " + name)
	require.NoError(tb, err)
	tb.Cleanup(func() {
		force := map[string]string{"PostgreSQL": " WITH (FORCE)"}[eng.title] // connections may linger
		if eng.title == "MySQL" {
			db.SetMaxOpenConns(1)
			_, err = db.Exec("SET lock_wait_timeout = 60") // by default a day
			require.NoError(tb, err)
		}
		_, err := db.Exec("DROP DATABASE " + name + force)
		require.NoError(tb, err)
		require.NoError(tb, db.Close())
	})
	return url(name)
}

// TestFleet: workers that share a database and a bus share the work.
func TestFleet(t *testing.T) {
	for i := range engines {
		t.Run(engines[i].title, func(t *testing.T) { fleet(t, &engines[i], 500) })
	}
}

// BenchmarkFleet measures how long two workers take for one attacker of many,
// from the first event to the last.
func BenchmarkFleet(b *testing.B) {
	for i := range engines {
		b.Run(engines[i].title, func(b *testing.B) { fleet(b, &engines[i], b.N) })
	}
}

// fleet runs two workers while a number of attackers come as events, and
// requires that each provider was called once about each of them, and that each
// of their records was announced under an ID of its own.
func fleet(tb testing.TB, eng *engine, attackers int) {
	up, err := upstream.Start(upstream.Options{Keep: -1})
	require.NoError(tb, err)
	tb.Cleanup(up.Close)
	s := &site{TB: tb, up: up, file: filepath.Join(tb.TempDir(), "none")}
	s.env = map[string]string{"DECNET_BUS_TYPE": "nats", "DECNET_DB_URL": newDatabase(tb, eng)}
	s.useServices()
	var client bus.Bus
	s.env["DECNET_NATS_URL"], client = startNATS(tb)
	sub, err := client.Subscribe(tb.Context(), intel.TopicEnriched)
	require.NoError(tb, err)
	workers := []*process{s.start("-poll-interval", "1h", "-create"), s.start("-poll-interval", "1h", "-create")}
	for _, p := range workers {
		p.until("enriching")
	}
	c, err := readConfig(options{}, setting(s.env))
	require.NoError(tb, err)
	db, records, err := c.database.open(quiet)
	require.NoError(tb, err)
	defer db.Close()

	var sending sync.WaitGroup
	defer sending.Wait()
	ids := make([]uuid.UUID, attackers)
	for n := range ids {
		ids[n] = uuid.New()
	}
	started := time.Now()
	sending.Go(func() {
		for n, id := range ids {
			err := records.Observe(tb.Context(), store.Attacker{ID: id, IP: distinct(n).String()})
			if err == nil {
				err = client.Publish(tb.Context(), bus.Event{Topic: intel.TopicObserved})
			}
			if err != nil {
				tb.Errorf("an attacker cannot come: %v", err)
				return
			}
		}
	})
	told := map[string]map[string]string{} // payloads by event and attacker
	complete := map[string]bool{}
	for timeout := time.After(wait + time.Duration(attackers)*20*time.Millisecond); len(complete) < attackers; {
		select {
		case ev, open := <-sub.Events():
			require.True(tb, open, sub.Err())
			var p struct {
				ID       string   `json:"event_id"`
				Attacker string   `json:"attacker_uuid"`
				Pending  []string `json:"pending"`
			}
			require.NoError(tb, json.Unmarshal(ev.Payload, &p))
			require.Equal(tb, ev.ID, p.ID)
			if told[p.Attacker] == nil {
				told[p.Attacker] = map[string]string{}
			}
			if before, again := told[p.Attacker][p.ID]; again {
				require.Equal(tb, before, string(ev.Payload), "one ID, two events")
			}
			told[p.Attacker][p.ID] = string(ev.Payload)
			if len(p.Pending) == 0 {
				complete[p.Attacker] = true
			}
		case <-timeout:
			require.FailNow(tb, "not in time", "%d of %d attackers", len(complete), attackers)
		}
	}
	took := time.Since(started)
	if b, ok := tb.(*testing.B); ok {
		b.ReportMetric(float64(attackers)/took.Seconds(), "attackers/s")
	}
	for n, id := range ids {
		for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.ThreatFox} {
			require.Equal(tb, 1, up.CallsFor(source, distinct(n)), "%v about attacker %d", source, n)
		}
		rec, err := records.Get(tb.Context(), id)
		require.NoError(tb, err)
		require.Len(tb, rec.Entries, 4)
		events := told[id.String()]
		require.Len(tb, events, int(rec.Revision), "as many events as revisions")
		require.Contains(tb, events, store.EventID(id, rec.Revision, rec.CachedAt))
	}
	for _, p := range workers {
		p.signal(syscall.SIGTERM)
		require.Equal(tb, exitOK, p.code(), p.output())
	}
}

// distinct returns the n-th of many addresses.
func distinct(n int) netip.Addr {
	n = 45<<24 + n*257
	return netip.AddrFrom4([4]byte{byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
}

// serverOf returns the address of the server that an engine's tests use.
func serverOf(eng *engine) string {
	name := map[string]string{"PostgreSQL": "ENRICH_POSTGRES_ADDR", "MySQL": "ENRICH_MYSQL_ADDR"}[eng.title]
	return cmp.Or(os.Getenv(name), net.JoinHostPort("127.0.0.1", eng.port))
}

// needServer skips the test if there is no server at an address.
func needServer(tb testing.TB, address string) {
	tb.Helper()
	conn, err := net.DialTimeout("tcp", address, 5*time.Second)
	if err == nil {
		require.NoError(tb, conn.Close())
		return
	}
	if os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" {
		tb.Fatalf("no server at %s: %v", address, err)
	}
	tb.Skipf("no server at %s: %v", address, err)
}
