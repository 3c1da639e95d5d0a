package integration

import (
	"context"
	"database/sql"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// consumer drops the events whose ID it remembers, and keeps the last verdict about
// each attacker.
type consumer struct {
	known    map[string]bool
	verdicts map[uuid.UUID]string
	dropped  int
}

// enrichAs queries a provider about the attackers that gives a verdict, and hands
// the events to the consumer. It returns the revisions.
func (c *consumer) enrichAs(t *testing.T, s *sqlstore.Store, verdict provider.Verdict, attackers []store.Attacker) (revisions []uint64) {
	t.Helper()
	oracle := provider.Func{ID: "oracle", Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		return provider.Finding{Provider: "oracle", Addr: addr, Known: true, Verdict: verdict, TTL: time.Hour}, nil
	}}
	mb := membus.New(membus.Options{})
	defer func() { require.NoError(t, mb.Close()) }()
	sub, err := mb.Subscribe(t.Context(), intel.TopicEnriched)
	require.NoError(t, err)
	w, err := intel.NewWorker(intel.Config{Store: s, Bus: mb, Providers: []intel.Provider{oracle}, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	for _, a := range attackers {
		rec, err := w.Enrich(t.Context(), a.ID, intel.Force())
		require.NoError(t, err)
		require.Equal(t, verdict, rec.Decision.Verdict)
		revisions = append(revisions, rec.Revision)
		select {
		case ev := <-sub.Events():
			e, err := intel.ParseEnriched(ev.Payload)
			require.NoError(t, err)
			require.Equal(t, ev.ID, e.EventID)
			if c.known[ev.ID] {
				c.dropped++
				continue
			}
			c.known[ev.ID] = true
			c.verdicts[a.ID] = e.Verdict.String()
		case <-time.After(30 * time.Second):
			require.FailNow(t, "no event")
		}
	}
	return revisions
}

func (c *consumer) expect(t *testing.T, verdict provider.Verdict, attackers []store.Attacker) {
	t.Helper()
	require.Zero(t, c.dropped, "events with an ID that the consumer remembers")
	for _, a := range attackers {
		require.Equal(t, verdict.String(), c.verdicts[a.ID])
	}
}

// TestRestoredBackup: after a backup was restored, records reach revisions again that
// consumers remember. The events about them have new IDs.
func TestRestoredBackup(t *testing.T) {
	onEach(t, func(t *testing.T, on *database) {
		dsn := on.create(t)
		path := filepath.Join(t.TempDir(), "enrich.db")
		if on == onSQLite {
			dsn = sqlstore.SQLiteDSN(path)
		}
		open := func() (*sqlstore.Store, *sql.DB) {
			db, err := sql.Open(on.driver, dsn)
			require.NoError(t, err)
			return on.newStore(t, db), db
		}
		s, db := open()
		attackers := crowd(5)
		require.NoError(t, s.Observe(t.Context(), attackers...))
		c := &consumer{known: make(map[string]bool), verdicts: make(map[uuid.UUID]string)}
		require.Equal(t, []uint64{1, 1, 1, 1, 1}, c.enrichAs(t, s, provider.Malicious, attackers))
		restore := backUp(t, on, db, path)
		s, db = open()
		require.Equal(t, []uint64{2, 2, 2, 2, 2}, c.enrichAs(t, s, provider.Suspicious, attackers))
		c.expect(t, provider.Suspicious, attackers)

		restore(db)
		s, db = open()
		defer func() { require.NoError(t, db.Close()) }()
		for _, a := range attackers {
			rec, err := s.Get(t.Context(), a.ID)
			require.NoError(t, err)
			require.EqualValues(t, 1, rec.Revision)
			require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		}
		require.Equal(t, []uint64{2, 2, 2, 2, 2}, c.enrichAs(t, s, provider.Benign, attackers))
		c.expect(t, provider.Benign, attackers)
	})
}

// backUp closes the database and copies it: the file of SQLite, and the tables of a
// server. The function that it returns puts the copy in place of what is there then.
func backUp(t *testing.T, on *database, db *sql.DB, path string) (restore func(*sql.DB)) {
	if on == onSQLite {
		require.NoError(t, db.Close()) // which writes the log into the file
		require.NoFileExists(t, path+"-wal")
		content, err := os.ReadFile(path)
		require.NoError(t, err)
		return func(db *sql.DB) {
			require.NoError(t, db.Close())
			require.NoError(t, os.WriteFile(path, content, 0o600))
		}
	}
	run := func(db *sql.DB, text string) {
		_, err := db.Exec(text)
		require.NoError(t, err, text)
	}
	tables := []string{"attacker_intel", "attackers", "enrich_ledger", "enrich_cursor"}
	for _, table := range tables {
		run(db, "CREATE TABLE saved_"+table+" AS SELECT * FROM "+table)
	}
	require.NoError(t, db.Close())
	return func(db *sql.DB) {
		for _, table := range tables {
			run(db, "DELETE FROM "+table)
		}
		for i := range tables {
			table := tables[(i+1)%len(tables)]
			run(db, "INSERT INTO "+table+" SELECT * FROM saved_"+table)
		}
		require.NoError(t, db.Close())
	}
}
