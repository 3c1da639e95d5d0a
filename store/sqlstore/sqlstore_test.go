package sqlstore_test

import (
	"database/sql"
	"database/sql/driver"
	"io/fs"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store/sqlstore"
)

// noDriver is a connector that must not be used.
type noDriver struct{ driver.Connector }

func TestNewDoesNoIO(t *testing.T) {
	s, err := sqlstore.New(sql.OpenDB(noDriver{}), sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	require.NotNil(t, s)
}

func TestNewNamesEveryProblem(t *testing.T) {
	_, err := sqlstore.New(nil, sqlstore.Options{})
	require.ErrorContains(t, err, "no database")
	require.ErrorContains(t, err, "Options.Dialect is 0")

	_, err = sqlstore.New(sql.OpenDB(noDriver{}), sqlstore.Options{Dialect: 99})
	require.ErrorContains(t, err, "Options.Dialect is 99")
}

func TestSQLiteDSNEscapesPath(t *testing.T) {
	for path, want := range map[string]string{
		"enrich.db":       "file:enrich.db?",
		"/var/lib/a b.db": "file:/var/lib/a%20b.db?",
		"what?#%41.db":    "file:what%3F%23%2541.db?",
	} {
		dsn := sqlstore.SQLiteDSN(path)
		require.True(t, strings.HasPrefix(dsn, want), "%q for %q", dsn, path)
	}
}

func TestMigrationsAreFiles(t *testing.T) {
	for _, dialect := range []sqlstore.Dialect{sqlstore.SQLite, sqlstore.PostgreSQL, sqlstore.MySQL} {
		files, err := sqlstore.Migrations(dialect)
		require.NoError(t, err)
		names, err := fs.Glob(files, "*.sql")
		require.NoError(t, err)
		if dialect == sqlstore.PostgreSQL { // where the key does not serve
			require.Equal(t, "enrich_address_text.sql", names[5])
			names = slices.Delete(names, 5, 6)
		}
		require.Equal(t, []string{"0001_enrich.sql", "0002_turn.sql", "0003_packed.sql", "attacker_intel.sql", "attackers.sql", "enrich_delivery.sql", "enrich_ledger_ip.sql", "enrich_migrations.sql", "enrich_outbox_attacker.sql", "enrich_position.sql"}, names)
	}
	_, err := sqlstore.Migrations(0)
	require.ErrorContains(t, err, "no dialect")
}
