package integration

import (
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

func TestMigrateLeavesDECNETAlone(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "decnet.db"))
	_, err := db.Exec(decnetSchema)
	require.NoError(t, err)
	const theirs = "SELECT coalesce(sql, name) FROM sqlite_master WHERE tbl_name NOT LIKE 'enrich%' ORDER BY name"
	before := column[string](t, db, theirs)
	s := newStore(t, db)
	require.Equal(t, before, column[string](t, db, theirs))
	require.NoError(t, s.Migrate(t.Context()), "again")
	require.Equal(t, before, column[string](t, db, theirs))
	for _, text := range column[string](t, db, "SELECT sql FROM sqlite_master WHERE tbl_name LIKE 'enrich%' AND sql IS NOT NULL") {
		require.NotContains(t, text, "REFERENCES")
		require.NotContains(t, text, "TRIGGER")
	}
}

func TestUninstallLeavesDECNETAsItWas(t *testing.T) {
	s, db := openStore(t)
	require.NoError(t, s.Save(t.Context(), claimed(t, s, 3)...))
	attackers, intel := contents(t, db, "attackers"), contents(t, db, "attacker_intel")
	require.Len(t, intel, 3)
	require.NoError(t, s.Uninstall(t.Context()))
	require.Empty(t, column[string](t, db, "SELECT name FROM sqlite_master WHERE name LIKE '%enrich%'"))
	require.Equal(t, attackers, contents(t, db, "attackers"))
	require.Equal(t, intel, contents(t, db, "attacker_intel"))
	require.NoError(t, s.Uninstall(t.Context()), "again")

	// Installed again, the store finds what it left.
	require.NoError(t, s.Migrate(t.Context()))
	c, err := s.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 10})
	require.NoError(t, err)
	require.Empty(t, c.Records)
	page, err := s.List(t.Context(), store.ListRequest{Limit: 10, Enriched: true})
	require.NoError(t, err)
	require.Len(t, page.Records, 3)
}

func TestNewerTablesAreRefused(t *testing.T) {
	s, db := openStore(t)
	_, err := db.Exec("INSERT INTO enrich_migrations (version, applied_at) VALUES (99, 0)")
	require.NoError(t, err)
	err = s.Migrate(t.Context())
	require.ErrorIs(t, err, store.ErrSchema)
	require.ErrorContains(t, err, "version 99")
}

func TestTablesOfAnOldDECNETAreRefused(t *testing.T) {
	for what, text := range map[string]string{
		"column": strings.Replace(decnetSchema, "greynoise_name VARCHAR(128),", "", 1),
		"unique": strings.Replace(decnetSchema, "UNIQUE INDEX ix_attacker_intel_attacker_uuid", "INDEX ix", 1),
		"time":   strings.ReplaceAll(decnetSchema, "updated_at", "changed_at"),
	} {
		require.NotEqual(t, decnetSchema, text)
		db := open(t, filepath.Join(t.TempDir(), "decnet.db"))
		_, err := db.Exec(text)
		require.NoError(t, err)
		s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
		require.NoError(t, err)
		require.ErrorIs(t, s.Migrate(t.Context()), store.ErrSchema, what)
		require.Empty(t, column[string](t, db, "SELECT name FROM sqlite_master WHERE name LIKE 'enrich%'"))
	}
}

func TestHandlesMigrateTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enrich.db")
	var wg sync.WaitGroup
	for range 8 {
		s, err := sqlstore.New(open(t, path), sqlstore.Options{Dialect: sqlstore.SQLite})
		require.NoError(t, err)
		wg.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, []int{1}, column[int](t, open(t, path), "SELECT version FROM enrich_migrations"))
}

// TestEveryConnectionIsSetUp looks at several connections at once.
func TestEveryConnectionIsSetUp(t *testing.T) {
	db := open(t, filepath.Join(t.TempDir(), "what? #1%.db"))
	for range 4 {
		conn, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer conn.Close()
		for pragma, want := range map[string]string{
			"journal_mode": "wal", "synchronous": "1", "busy_timeout": "10000", "foreign_keys": "1",
		} {
			var got string
			require.NoError(t, conn.QueryRowContext(t.Context(), "PRAGMA "+pragma).Scan(&got))
			require.Equal(t, want, got, pragma)
		}
	}
	file := column[string](t, db, "SELECT file FROM pragma_database_list")
	require.True(t, slices.ContainsFunc(file, func(f string) bool { return strings.HasSuffix(f, "/what? #1%.db") }), file)
}
