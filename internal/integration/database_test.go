package integration

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	_ "github.com/jackc/pgx/v5/stdlib"
	_ "github.com/ncruces/go-sqlite3/driver"
	"github.com/stretchr/testify/require"
	_ "modernc.org/sqlite"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
	"github.com/decnet/enrich/store/storetest"
)

// database is a kind of database that tests run on.
type database struct {
	sqlstore.Dialect
	driver string
	server string // where it listens, if it is a server
	admin  string // data source name of a database that is always there
}

// Where the servers are, if not on their standard ports.
var (
	postgresAddr = cmp.Or(os.Getenv("ENRICH_POSTGRES_ADDR"), "127.0.0.1:5432")
	mysqlAddr    = cmp.Or(os.Getenv("ENRICH_MYSQL_ADDR"), "127.0.0.1:3306")
)

// restart is a command that restarts the server under test, for tests that do so
// if there is one.
var restart = os.Getenv("ENRICH_TEST_RESTART")

// sqliteDriver is the driver of SQLite under test: "sqlite" is modernc.org/sqlite,
// "sqlite3" is github.com/ncruces/go-sqlite3. ENRICH_TEST_SQLITE_DRIVER chooses.
var sqliteDriver = cmp.Or(os.Getenv("ENRICH_TEST_SQLITE_DRIVER"), "sqlite")

var (
	onSQLite   = &database{Dialect: sqlstore.SQLite, driver: sqliteDriver}
	onPostgres = &database{
		Dialect: sqlstore.PostgreSQL, driver: "pgx", server: postgresAddr,
		admin: "postgres://postgres@" + postgresAddr + "/postgres?sslmode=disable",
	}
	onMySQL = &database{
		Dialect: sqlstore.MySQL, driver: "mysql", server: mysqlAddr,
		admin: "root@tcp(" + mysqlAddr + ")/mysql?interpolateParams=true",
	}
	databases = []*database{onSQLite, onPostgres, onMySQL}
)

// onEach runs a test on every kind of database.
func onEach(t *testing.T, test func(t *testing.T, d *database)) {
	for _, d := range databases {
		t.Run(d.String(), func(t *testing.T) { test(t, d) })
	}
}

// onEachAtOnce does so on all at the same time, for a test that mostly waits.
func onEachAtOnce(t *testing.T, test func(t *testing.T, d *database)) {
	onEach(t, func(t *testing.T, d *database) {
		t.Parallel()
		test(t, d)
	})
}

// onServersAtOnce does so on those that are servers.
func onServersAtOnce(t *testing.T, test func(t *testing.T, d *database)) {
	for _, d := range []*database{onPostgres, onMySQL} {
		t.Run(d.String(), func(t *testing.T) {
			t.Parallel()
			test(t, d)
		})
	}
}

// need skips the test if the database's server is not there, or fails it if it
// has to be.
func (on *database) need(tb testing.TB) {
	tb.Helper()
	if on.server == "" {
		return
	}
	conn, err := net.DialTimeout("tcp", on.server, 5*time.Second)
	if err == nil {
		require.NoError(tb, conn.Close())
		return
	}
	if os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" {
		tb.Fatalf("no %v server at %s: %v", on, on.server, err)
	}
	tb.Skipf("no %v server at %s: %v", on, on.server, err)
}

// create makes an empty database, which is dropped after the test, and returns
// its data source name.
func (on *database) create(tb testing.TB) string {
	tb.Helper()
	on.need(tb)
	if on.server == "" {
		return sqlstore.SQLiteDSN(filepath.Join(tb.TempDir(), "enrich.db"))
	}
	name := "enrich_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	admin := on.admin
	if on == onMySQL {
		admin += "&lock_wait_timeout=60" // by default a day
	}
	run := func(text string) {
		db, err := sql.Open(on.driver, admin)
		require.NoError(tb, err)
		defer db.Close()
		_, err = db.ExecContext(context.Background(), text)
		require.NoError(tb, err)
	}
	run("CREATE DATABASE " + name)
	if _, test := tb.(*testing.T); test && on == onPostgres && restart == "" { // it measures nothing, and the server does not crash
		run("ALTER DATABASE " + name + " SET synchronous_commit = off")
	}
	if on == onPostgres {
		tb.Cleanup(func() { run("DROP DATABASE " + name + " WITH (FORCE)") })
		return strings.Replace(on.admin, "/postgres?", "/"+name+"?", 1)
	}
	tb.Cleanup(func() { run("DROP DATABASE " + name) })
	return strings.Replace(on.admin, "/mysql?", "/"+name+"?", 1)
}

// open returns a pool of connections to a database that create made.
func (on *database) open(tb testing.TB, dsn string) *sql.DB {
	tb.Helper()
	db, err := sql.Open(on.driver, dsn)
	require.NoError(tb, err)
	db.SetMaxOpenConns(24) // several tests and their processes share a server
	db.SetMaxIdleConns(24)
	tb.Cleanup(func() { require.NoError(tb, db.Close()) })
	return db
}

// newStore returns a store in db, which it migrates.
func (on *database) newStore(tb testing.TB, db *sql.DB) *sqlstore.Store {
	tb.Helper()
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
	require.NoError(tb, err)
	require.NoError(tb, s.Migrate(tb.Context()))
	return s
}

// openStore returns a store in a new database, and the database.
func (on *database) openStore(tb testing.TB) (*sqlstore.Store, *sql.DB) {
	tb.Helper()
	db := on.open(tb, on.create(tb))
	return on.newStore(tb, db), db
}

// placed returns a statement with the placeholders that the database wants.
func (on *database) placed(text string) string {
	if on != onPostgres {
		return text
	}
	for n := 1; strings.Contains(text, "?"); n++ {
		text = strings.Replace(text, "?", fmt.Sprint("$", n), 1)
	}
	return text
}

// harness makes stores, each through a pool of its own. Making a database takes
// a server so long that those of earlier checks are emptied and used again.
func (on *database) harness(t *testing.T) storetest.Harness {
	var (
		dsns sync.Map // of *sqlstore.Store: string
		free = make(chan string, 100)
	)
	at := func(tb testing.TB, dsn string) store.Store {
		s := on.newStore(tb, on.open(tb, dsn))
		dsns.Store(s, dsn)
		return s
	}
	return storetest.Harness{
		New: func(tb testing.TB) store.Store {
			if on.server == "" {
				return at(tb, on.create(tb))
			}
			var dsn string
			select {
			case dsn = <-free:
				on.empty(tb, dsn)
			default:
				dsn = on.create(t)
			}
			tb.Cleanup(func() { free <- dsn })
			return at(tb, dsn)
		},
		Reopen: func(tb testing.TB, s store.Store) store.Store {
			dsn, _ := dsns.Load(s)
			return at(tb, dsn.(string))
		},
		Shift: func(tb testing.TB, s store.Store, by time.Duration) {
			dsn, _ := dsns.Load(s)
			db := on.open(tb, dsn.(string))
			for _, text := range []string{
				"UPDATE enrich_ledger SET wake_at = wake_at + %d WHERE state = 2", "UPDATE enrich_turn SET until_at = until_at + %d",
				"UPDATE enrich_outbox SET saved_at = saved_at + %d", "UPDATE enrich_cursor SET moved_at = moved_at + %d",
			} {
				_, err := db.ExecContext(tb.Context(), fmt.Sprintf(text, by.Microseconds()))
				require.NoError(tb, err)
			}
		},
	}
}

// empty makes a database be as it was when it was made.
func (on *database) empty(tb testing.TB, dsn string) {
	db := on.open(tb, dsn)
	for _, text := range []string{
		"DELETE FROM attacker_intel", "DELETE FROM attackers", "DELETE FROM enrich_ledger", "DELETE FROM enrich_queue",
		"DELETE FROM enrich_address", "DELETE FROM enrich_raw", "DELETE FROM enrich_outbox", "DELETE FROM enrich_delivery", "DELETE FROM enrich_quota",
		"UPDATE enrich_cursor SET at = '', uuid = '', moved_at = 0", "DELETE FROM enrich_turn",
	} {
		_, err := db.ExecContext(tb.Context(), text)
		require.NoError(tb, err)
	}
}

func TestStoreConforms(t *testing.T) {
	onEachAtOnce(t, func(t *testing.T, d *database) { storetest.Run(t, d.harness(t)) })
	t.Run("other driver of SQLite", func(t *testing.T) {
		t.Parallel()
		other := &database{Dialect: sqlstore.SQLite, driver: "sqlite3"}
		if sqliteDriver == other.driver {
			other.driver = "sqlite"
		}
		storetest.Run(t, other.harness(t))
	})
}
