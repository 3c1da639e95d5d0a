package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// TestBesideAnOlderVersion lets enrichd of an earlier version and of this one work
// on one PostgreSQL and one bus at the same time, kills one of each, and expects
// every attacker enriched and every event published. ENRICH_TEST_OLDER is the
// earlier program; without it the test is skipped.
func TestBesideAnOlderVersion(t *testing.T) {
	older := os.Getenv("ENRICH_TEST_OLDER")
	if older == "" {
		t.Skip("ENRICH_TEST_OLDER does not name an enrichd of an earlier version")
	}
	ours := filepath.Join(t.TempDir(), "enrichd")
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", ours, "../../examples/enrichd").CombinedOutput()
	require.NoError(t, err, string(out))

	up, err := upstream.Start(upstream.Options{Keep: -1})
	require.NoError(t, err)
	t.Cleanup(up.Close)
	dsn := onPostgres.create(t)
	path, heard := socket(t, intel.TopicEnriched)
	start := func(program string) *exec.Cmd {
		var log bytes.Buffer
		cmd := exec.CommandContext(t.Context(), program, "-poll-interval", "200ms", "-listen", "")
		cmd.Env = append(os.Environ(), "DECNET_DB_TYPE=postgres", "DECNET_DB_URL="+dsn, "DECNET_BUS_SOCKET="+path,
			"DECNET_GREYNOISE_API_KEY=a", "DECNET_ABUSEIPDB_API_KEY=b", "DECNET_THREATFOX_API_KEY=c",
			"DECNET_GREYNOISE_QUOTA=none", "DECNET_ABUSEIPDB_QUOTA=none", "DECNET_THREATFOX_QUOTA=none",
			"DECNET_GREYNOISE_URL="+up.URL(), "DECNET_ABUSEIPDB_URL="+up.URL(), "DECNET_FEODO_URL="+up.URL(), "DECNET_THREATFOX_URL="+up.URL())
		cmd.Stderr = &log
		require.NoError(t, cmd.Start())
		t.Cleanup(func() {
			_ = cmd.Process.Kill() // it may have ended
			_ = cmd.Wait()         // it was killed
			if t.Failed() {
				t.Logf("%s\n%.5000s", program, log.String())
			}
		})
		return cmd
	}
	kill := func(cmd *exec.Cmd) {
		_ = cmd.Process.Kill() // one that refuses tables of a later version has ended
		_ = cmd.Wait()         // it was killed
	}

	// The earlier version makes the tables and is in the middle of its work when
	// this one comes.
	db := onPostgres.open(t, dsn)
	setUp := exec.CommandContext(t.Context(), older, "-once", "-listen", "")
	setUp.Env = append(os.Environ(), "DECNET_DB_TYPE=postgres", "DECNET_DB_URL="+dsn, "DECNET_BUS_ENABLED=false")
	out, err = setUp.CombinedOutput()
	require.NoError(t, err, string(out))
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: onPostgres.Dialect})
	require.NoError(t, err)
	f := &fleet{TB: t, on: onPostgres, db: db, store: s, up: up, attackers: crowd(size(t, "ENRICH_TEST_ATTACKERS", 3000)), events: make(map[string]map[string]int)}
	f.insert(f.attackers[:len(f.attackers)/2])
	old := start(older)
	f.wait(100)
	young := start(ours)
	f.wait(len(f.attackers) / 4)
	f.insert(f.attackers[len(f.attackers)/2:])
	f.wait(len(f.attackers) / 2)
	kill(old)
	start(older)
	f.wait(len(f.attackers) * 5 / 8)
	kill(young)
	start(ours)

	events := make(map[string]map[string]bool) // by attacker: the IDs
	for limit := time.After(3 * time.Minute); ; {
		select {
		case ev := <-heard:
			payload, err := intel.ParseEnriched(ev.Payload)
			if err != nil || payload.EventID == "" { // it finds out whether the bus works
				continue
			}
			id := payload.AttackerUUID.String()
			if events[id] == nil {
				events[id] = make(map[string]bool)
			}
			events[id][payload.EventID] = true
			continue
		case <-time.After(time.Second):
		case <-limit:
			require.FailNow(t, "something is left to do")
		}
		if f.unanswered() == "" && f.count("SELECT count(*) FROM enrich_outbox") == 0 {
			break
		}
	}
	missing := 0
	for _, a := range f.attackers {
		rec, err := s.Get(t.Context(), a.ID)
		require.NoError(t, err)
		missing += int(rec.Revision) - len(events[a.ID.String()])
	}
	t.Logf("%d attackers, %d events missing", len(f.attackers), missing)
	require.Zero(t, missing)
}

// insert adds attackers as DECNET does, whatever the version of our own tables.
func (f *fleet) insert(attackers []store.Attacker) {
	f.Helper()
	for _, a := range attackers {
		_, err := f.db.ExecContext(f.Context(), f.on.placed("INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at) VALUES (?, ?, ?, ?, ?)"),
			a.ID.String(), a.IP, a.FirstSeen, a.LastSeen, time.Now().UTC())
		require.NoError(f, err)
	}
}
