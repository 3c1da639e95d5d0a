package integration

import (
	"context"
	"database/sql"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

func TestDamagedSchemaIsNamed(t *testing.T) { onEachAtOnce(t, testDamagedSchemaIsNamed) }

// Whatever is missing of our tables, Validate, Plan and Migrate name it and say how
// to repair it.
func testDamagedSchemaIsNamed(t *testing.T, on *database) {
	s, db := on.openStore(t)
	for _, c := range []struct{ damage, undo, names string }{
		{on.dropIndex("enrich_ledger", "enrich_ledger_ready"), "CREATE INDEX enrich_ledger_ready ON enrich_ledger (last_seen DESC, attacker_uuid, due_at)", "enrich_ledger_ready"},
		{on.dropIndex("enrich_outbox", "enrich_outbox_attacker"), "CREATE INDEX enrich_outbox_attacker ON enrich_outbox (attacker_uuid, seq)", ""},
		{"ALTER TABLE enrich_ledger RENAME COLUMN verdict TO guilt", "ALTER TABLE enrich_ledger RENAME COLUMN guilt TO verdict", "table enrich_ledger: the column verdict is missing"},
		{"ALTER TABLE enrich_queue RENAME TO away", "ALTER TABLE away RENAME TO enrich_queue", "enrich_queue"},
		{on.retype("enrich_turn", "until_at", "INTEGER"), on.retype("enrich_turn", "until_at", "BIGINT"), "until_at"},
	} {
		if c.damage == "" {
			continue
		}
		t.Run(c.damage, func(t *testing.T) {
			execute(t, db, c.damage)
			if c.names != "" {
				for what, err := range map[string]error{"Validate": s.Validate(t.Context()), "Migrate": s.Migrate(t.Context()), "Plan": planError(t, s)} {
					require.ErrorIs(t, err, store.ErrSchema, what)
					require.ErrorContains(t, err, c.names, what)
				}
				execute(t, db, on.undone(c.undo))
			} else {
				require.ErrorIs(t, s.Validate(t.Context()), store.ErrSchema)
			}
			require.NoError(t, s.Migrate(t.Context()))
			require.NoError(t, s.Validate(t.Context()))
		})
	}
}

func planError(t *testing.T, s *sqlstore.Store) error {
	_, err := s.Plan(t.Context())
	return err
}

func execute(t *testing.T, db *sql.DB, text string) {
	t.Helper()
	_, err := db.Exec(text)
	require.NoError(t, err, text)
}

func (on *database) dropIndex(table, index string) string {
	if on == onMySQL {
		return "DROP INDEX " + index + " ON " + table
	}
	return "DROP INDEX " + index
}

// undone completes the statement that creates an index.
func (on *database) undone(text string) string {
	const partial = "CREATE INDEX enrich_ledger_ready ON enrich_ledger (last_seen"
	if len(text) < len(partial) || text[:len(partial)] != partial {
		return text
	}
	if on == onMySQL {
		return "CREATE INDEX enrich_ledger_ready ON enrich_ledger (state, last_seen DESC, attacker_uuid, due_at)"
	}
	return text + " WHERE state = 1"
}

// retype changes the type of a column, where that can be done.
func (on *database) retype(table, column, kind string) string {
	switch on {
	case onPostgres:
		return fmt.Sprintf("ALTER TABLE %s ALTER COLUMN %s TYPE %s", table, column, kind)
	case onMySQL:
		return fmt.Sprintf("ALTER TABLE %s MODIFY %s %s NOT NULL", table, column, kind)
	}
	return ""
}

func TestMissingKeyIsNamed(t *testing.T) { onEachAtOnce(t, testMissingKeyIsNamed) }

func testMissingKeyIsNamed(t *testing.T, on *database) {
	s, db := on.openStore(t)
	switch on {
	case onSQLite:
		execute(t, db, "ALTER TABLE enrich_queue RENAME TO away")
		execute(t, db, "CREATE TABLE enrich_queue AS SELECT * FROM away")
	case onPostgres:
		execute(t, db, "ALTER TABLE enrich_queue DROP CONSTRAINT enrich_queue_pkey")
	case onMySQL:
		execute(t, db, "ALTER TABLE enrich_queue DROP PRIMARY KEY")
	}
	err := s.Migrate(t.Context())
	require.ErrorIs(t, err, store.ErrSchema)
	require.ErrorContains(t, err, "table enrich_queue: the key (attacker_uuid,queue) is missing")
}

func TestMissingCursorIsRepaired(t *testing.T) { onEachAtOnce(t, testMissingCursorIsRepaired) }

// A missing row of enrich_cursor, as after a partial restore, is added and logged:
// a claim does not wait for it.
func testMissingCursorIsRepaired(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	var log logtest.Log
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	for i, where := range []string{"name = 'lead'", "name = 'trail'", "name = 'past'", "name = 'sweep'", "name = 'ledger'", "name = 'queues'", "1 = 1"} {
		id := uuid.New()
		require.NoError(t, s.Observe(t.Context(), store.Attacker{ID: id, IP: fmt.Sprint("45.9.1.", i)}))
		execute(t, db, "DELETE FROM enrich_cursor WHERE "+where)
		require.ErrorIs(t, s.Validate(t.Context()), store.ErrSchema)
		plan, err := s.Plan(t.Context())
		require.NoError(t, err)
		require.NotEmpty(t, plan)
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		found := false
		for range 3 {
			c, err := s.Claim(ctx, store.ClaimRequest{
				Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 10,
				Grants: map[string]store.Grant{"a": {Calls: 1}}, Providers: []string{"a"},
			})
			require.NoError(t, err, where)
			for _, r := range c.Records {
				found = found || r.ID == id
			}
		}
		cancel()
		require.True(t, found, where)
		if where == "name = 'queues'" { // which only a claim of waiting attackers needs
			require.NoError(t, s.Migrate(t.Context()))
		}
		require.NoError(t, s.Validate(t.Context()), where)
	}
	require.Contains(t, log.String(), "rows of enrich_cursor were missing")
	require.Contains(t, log.String(), "missing=lead")
}

func TestUninstallKilledHalfway(t *testing.T) { onEachAtOnce(t, testUninstallKilledHalfway) }

// After an Uninstall that was killed, which only MySQL cannot undo, Migrate says
// what to do, and a second Uninstall completes.
func testUninstallKilledHalfway(t *testing.T, on *database) {
	s, db := on.openStore(t)
	for _, table := range []string{"enrich_ledger", "enrich_queue", "enrich_address"} {
		execute(t, db, "DROP TABLE "+table)
		err := s.Migrate(t.Context())
		require.ErrorIs(t, err, store.ErrSchema)
		require.ErrorContains(t, err, table)
		require.ErrorContains(t, err, "call Uninstall again")
	}
	require.NoError(t, s.Uninstall(t.Context()))
	require.NoError(t, s.Migrate(t.Context()))
	require.NoError(t, s.Validate(t.Context()))
}

func TestHeldMigrationLockIsLogged(t *testing.T) { onEachAtOnce(t, testHeldMigrationLockIsLogged) }

func testHeldMigrationLockIsLogged(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	on.newStore(t, db)
	holder, err := db.Conn(t.Context())
	require.NoError(t, err)
	defer holder.Close()
	for _, text := range map[*database][]string{
		onSQLite:   {"BEGIN IMMEDIATE"},
		onPostgres: {"BEGIN", "SELECT pg_advisory_xact_lock(hashtextextended('enrich ' || current_schema(), 0))"},
		onMySQL:    {"DO GET_LOCK(CONCAT('enrich ', SHA2(DATABASE(), 224)), 5)"},
	}[on] {
		_, err := holder.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	var log logtest.Log
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	started := time.Now()
	require.ErrorIs(t, s.Migrate(ctx), context.DeadlineExceeded)
	require.Less(t, time.Since(started), 5*time.Second, "it stops when it is told to")
	require.Contains(t, log.String(), "waiting for another process")
	if on == onSQLite {
		_, err = holder.ExecContext(t.Context(), "ROLLBACK")
		require.NoError(t, err)
	}
}
