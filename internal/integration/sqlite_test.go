package integration

import (
	"database/sql"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/store/sqlstore"
)

func TestMain(m *testing.M) {
	runChild()
	goleak.VerifyTestMain(m)
}

// open returns a pool of connections to a database file.
func open(tb testing.TB, path string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(sqliteDriver, sqlstore.SQLiteDSN(path))
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

// newStore returns a store in db, which it migrates.
func newStore(tb testing.TB, db *sql.DB) *sqlstore.Store {
	tb.Helper()
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(tb, err)
	require.NoError(tb, s.Migrate(tb.Context()))
	return s
}

// openStore returns a store in a new database, and the database.
func openStore(tb testing.TB) (*sqlstore.Store, *sql.DB) {
	tb.Helper()
	db := open(tb, filepath.Join(tb.TempDir(), "enrich.db"))
	return newStore(tb, db), db
}

// column returns the values of a query's only column.
func column[T any](tb testing.TB, db *sql.DB, query string, args ...any) (values []T) {
	tb.Helper()
	rows, err := db.Query(query, args...)
	require.NoError(tb, err)
	defer rows.Close()
	for rows.Next() {
		var v T
		require.NoError(tb, rows.Scan(&v))
		values = append(values, v)
	}
	require.NoError(tb, rows.Err())
	return values
}

// TestCheckpoint: what is written in bulk gets into the database file though no commit
// puts it there.
func TestCheckpoint(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "enrich.db")
	db := open(t, path)
	db.SetMaxOpenConns(1)
	_, err := db.Exec("PRAGMA wal_autocheckpoint = 0")
	require.NoError(t, err)
	s := newStore(t, db)
	size := func() int64 {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return info.Size()
	}
	small := size()
	all := crowd(3000)
	require.NoError(t, s.Observe(t.Context(), all[:100]...))
	require.Equal(t, small, size(), "a checkpoint after little")
	require.NoError(t, s.Observe(t.Context(), all...))
	require.NoError(t, s.Observe(t.Context(), all[:1]...))
	require.Greater(t, size(), int64(500_000))
}
