package integration

import (
	"database/sql"
	"fmt"
	"io/fs"
	"net/url"
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

func TestMigrateLeavesDECNETAlone(t *testing.T) { onEach(t, testMigrateLeavesDECNETAlone) }

func testMigrateLeavesDECNETAlone(t *testing.T, on *database) {
	db := on.makeDECNET(t)
	before := on.schema(t, db)
	s := on.newStore(t, db)
	require.Equal(t, before, on.schema(t, db))
	require.NoError(t, s.Migrate(t.Context()), "again")
	require.Equal(t, before, on.schema(t, db))
	files, err := sqlstore.Migrations(on.Dialect)
	require.NoError(t, err)
	for _, name := range column[string](t, db, "SELECT version FROM enrich_migrations") {
		names, err := fs.Glob(files, "000"+name+"_*.sql")
		require.NoError(t, err)
		require.Len(t, names, 1)
		text, err := fs.ReadFile(files, names[0])
		require.NoError(t, err)
		require.NotContains(t, strings.ToUpper(string(text)), "REFERENCES ")
		require.NotContains(t, strings.ToUpper(string(text)), "TRIGGER")
	}
}

// makeDECNET returns a database that DECNET made.
func (on *database) makeDECNET(tb testing.TB) *sql.DB {
	db := on.open(tb, on.create(tb))
	for _, text := range decnetSchema(on) {
		_, err := db.Exec(text)
		require.NoError(tb, err)
	}
	return db
}

// schema describes DECNET's tables.
func (on *database) schema(t *testing.T, db *sql.DB) (all []string) {
	switch on {
	case onSQLite:
		return column[string](t, db, "SELECT coalesce(sql, name) FROM sqlite_master WHERE tbl_name NOT LIKE 'enrich%' ORDER BY name")
	case onPostgres:
		for _, table := range []string{"attackers", "attacker_intel"} {
			all = append(all, column[string](t, db, "SELECT indexdef FROM pg_indexes WHERE tablename = $1 ORDER BY 1", table)...)
			all = append(all, column[string](t, db, `SELECT column_name || data_type || is_nullable FROM information_schema.columns
				WHERE table_name = $1 ORDER BY ordinal_position`, table)...)
			all = append(all, column[string](t, db, `SELECT conname || pg_get_constraintdef(oid) FROM pg_constraint
				WHERE conrelid = CAST($1 AS regclass) ORDER BY 1`, table)...)
			all = append(all, column[string](t, db, "SELECT tgname FROM pg_trigger WHERE tgrelid = CAST($1 AS regclass) AND NOT tgisinternal", table)...)
		}
	case onMySQL:
		for _, table := range []string{"attackers", "attacker_intel"} {
			all = append(all, texts(t, db, "SHOW CREATE TABLE "+table)[0]["Create Table"])
		}
		all = append(all, fmt.Sprint(texts(t, db, "SHOW TRIGGERS"))) // information_schema.triggers waits for the locks in all databases
	}
	require.NotEmpty(t, all)
	return all
}

// ours lists our own tables.
func (on *database) ours(t *testing.T, db *sql.DB) []string {
	switch on {
	case onSQLite:
		return column[string](t, db, "SELECT name FROM sqlite_master WHERE name LIKE '%enrich%'")
	case onPostgres:
		return column[string](t, db, "SELECT relname FROM pg_class WHERE relname LIKE '%enrich%'")
	}
	return column[string](t, db, "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name LIKE '%enrich%'")
}

func TestUninstallLeavesDECNETAsItWas(t *testing.T) { onEach(t, testUninstallLeavesDECNETAsItWas) }

func testUninstallLeavesDECNETAsItWas(t *testing.T, on *database) {
	s, db := on.openStore(t)
	require.NoError(t, s.Save(t.Context(), claimed(t, s, 3)...))
	attackers, intel := contents(t, db, "attackers"), contents(t, db, "attacker_intel")
	require.Len(t, intel, 3)
	require.NoError(t, s.Uninstall(t.Context()))
	require.Empty(t, on.ours(t, db))
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

func TestUninstallLeavesOthersTables(t *testing.T) { onEach(t, testUninstallLeavesOthersTables) }

func testUninstallLeavesOthersTables(t *testing.T, on *database) {
	s, db := on.openStore(t)
	_, err := db.Exec("CREATE TABLE enrich_campaigns (name VARCHAR(9))")
	require.NoError(t, err)
	require.NoError(t, s.Uninstall(t.Context()))
	require.Equal(t, []string{"enrich_campaigns"}, on.ours(t, db))
}

func TestValidateLooksAtEveryTable(t *testing.T) { onEach(t, testValidateLooksAtEveryTable) }

func testValidateLooksAtEveryTable(t *testing.T, on *database) {
	s, db := on.openStore(t)
	query := "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'enrich%'"
	if on != onSQLite {
		query = "SELECT table_name FROM information_schema.tables WHERE table_name LIKE 'enrich%' AND table_schema = " +
			map[*database]string{onPostgres: "current_schema()", onMySQL: "DATABASE()"}[on]
	}
	tables := column[string](t, db, query)
	require.Len(t, tables, 11)
	for _, table := range tables {
		_, err := db.Exec("ALTER TABLE " + table + " RENAME TO away")
		require.NoError(t, err)
		err = s.Validate(t.Context())
		require.ErrorIs(t, err, store.ErrSchema, table)
		switch table {
		case "enrich_migrations": // without which nothing is known about the others
		case "enrich_position", "enrich_delivery": // which a program of before does not create
		default:
			require.ErrorContains(t, err, "table "+table)
		}
		_, err = db.Exec("ALTER TABLE away RENAME TO " + table)
		require.NoError(t, err)
	}
	require.NoError(t, s.Validate(t.Context()))
	_, err := db.Exec("ALTER TABLE enrich_turn RENAME COLUMN until_at TO ends_at")
	require.NoError(t, err)
	require.ErrorContains(t, s.Validate(t.Context()), "table enrich_turn")
}

func TestNewerTablesAreRefused(t *testing.T) { onEach(t, testNewerTablesAreRefused) }

func testNewerTablesAreRefused(t *testing.T, on *database) {
	s, db := on.openStore(t)
	_, err := db.Exec("INSERT INTO enrich_migrations (version, applied_at) VALUES (99, 0)")
	require.NoError(t, err)
	err = s.Migrate(t.Context())
	require.ErrorIs(t, err, store.ErrSchema)
	require.ErrorContains(t, err, "version 99")
}

func TestTablesOfAnOldDECNETAreRefused(t *testing.T) { onEach(t, testTablesOfAnOldDECNETAreRefused) }

func testTablesOfAnOldDECNETAreRefused(t *testing.T, on *database) {
	for what, change := range map[string][2]string{
		"column": {"greynoise_name VARCHAR(128),", ""},
		"unique": {"UNIQUE INDEX ix_attacker_intel_attacker_uuid", "INDEX ix"},
		"time":   {"updated_at", "changed_at"},
	} {
		db := on.open(t, on.create(t))
		for _, text := range decnetSchema(on) {
			_, err := db.Exec(strings.ReplaceAll(text, change[0], change[1]))
			require.NoError(t, err)
		}
		s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
		require.NoError(t, err)
		require.ErrorIs(t, s.Validate(t.Context()), store.ErrSchema, what)
		_, err = s.Plan(t.Context())
		require.ErrorIs(t, err, store.ErrSchema, what)
		require.ErrorIs(t, s.Migrate(t.Context()), store.ErrSchema, what)
		require.Empty(t, on.ours(t, db))
	}
}

func TestHandlesMigrateTogether(t *testing.T) { onEach(t, testHandlesMigrateTogether) }

func testHandlesMigrateTogether(t *testing.T, on *database) {
	dsn := on.create(t)
	var wg sync.WaitGroup
	for range 8 {
		s, err := sqlstore.New(on.open(t, dsn), sqlstore.Options{Dialect: on.Dialect})
		require.NoError(t, err)
		wg.Go(func() {
			if err := s.Migrate(t.Context()); err != nil {
				t.Errorf("Migrate: %v", err)
			}
		})
	}
	wg.Wait()
	on.migrated(t, on.open(t, dsn))
}

// migrated fails the test unless every migration was recorded once.
func (on *database) migrated(t *testing.T, db *sql.DB) {
	t.Helper()
	require.Equal(t, []int{1, 2, 3}, column[int](t, db, "SELECT version FROM enrich_migrations ORDER BY version"))
}

func TestPlanSaysWhatMigrateDoes(t *testing.T) { onEach(t, testPlanSaysWhatMigrateDoes) }

func testPlanSaysWhatMigrateDoes(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
	require.NoError(t, err)
	require.ErrorContains(t, s.Validate(t.Context()), "call Migrate")
	plan, err := s.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, on.ours(t, db), "a plan changes nothing")
	for _, text := range plan {
		_, err := db.Exec(text)
		require.NoError(t, err, text)
	}
	require.NoError(t, s.Validate(t.Context()))
	on.migrated(t, db)
	plan, err = s.Plan(t.Context())
	require.NoError(t, err)
	require.Empty(t, plan)

	other := on.open(t, on.create(t))
	on.newStore(t, other)
	require.ElementsMatch(t, on.ours(t, other), on.ours(t, db))
	require.Equal(t, on.collations(t, other), on.collations(t, db))
}

// collations returns the collations of the columns that hold UUIDs.
func (on *database) collations(t *testing.T, db *sql.DB) []map[string]string {
	if on != onMySQL {
		return nil
	}
	return texts(t, db, `SELECT table_name, column_name, collation_name FROM information_schema.columns
		WHERE table_schema = DATABASE() AND column_name IN ('uuid', 'attacker_uuid') ORDER BY 1, 2`)
}

// TestPlanLooksAtWhatIsThere: a plan to make one of DECNET's tables does not
// overlook that the other one is unfit.
func TestPlanLooksAtWhatIsThere(t *testing.T) { onEach(t, testPlanLooksAtWhatIsThere) }

func testPlanLooksAtWhatIsThere(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	_, err := db.Exec("CREATE TABLE attackers (uuid VARCHAR(64) NOT NULL PRIMARY KEY)")
	require.NoError(t, err)
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
	require.NoError(t, err)
	_, err = s.Plan(t.Context())
	require.ErrorIs(t, err, store.ErrSchema)
	require.ErrorContains(t, err, "the table attackers belongs to another application")
	require.ErrorIs(t, s.Migrate(t.Context()), store.ErrSchema)
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

// TestOtherCollationsAreFollowed is about tables that DECNET made with another
// character set or collation than ours: without ours following it, every lookup
// of an attacker would be a scan.
func TestOtherCollationsAreFollowed(t *testing.T) {
	for _, collation := range []string{"", "utf8mb4_unicode_ci", "latin1_swedish_ci", "utf8mb4_bin"} { // the first is the server's own
		db := onMySQL.makeDECNETIn(t, collation)
		s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.MySQL})
		require.NoError(t, err)
		statements, err := s.Plan(t.Context())
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		planned := onMySQL.makeDECNETIn(t, collation)
		for _, text := range statements {
			_, err := planned.Exec(text)
			require.NoError(t, err, text)
		}
		require.Equal(t, onMySQL.collations(t, db), onMySQL.collations(t, planned))
		plan := texts(t, db, "EXPLAIN SELECT a.ip FROM enrich_ledger l LEFT JOIN attackers a ON a.uuid = l.attacker_uuid")
		// MySQL 9 describes in words what others put into a table.
		require.Regexp(t, `type:eq_ref|Single-row index lookup on a`, fmt.Sprint(plan), collation)
		_, err = s.List(t.Context(), store.ListRequest{Limit: 1, Text: "気"})
		require.NoError(t, err, "%s: a text that the character set lacks", collation)
	}
}

// TestOtherModesAreBorne is about servers that read statements in another way
// than by default.
func TestOtherModesAreBorne(t *testing.T) {
	dsn := onMySQL.create(t) + "&sql_mode=" + url.QueryEscape("'ANSI,NO_BACKSLASH_ESCAPES,TRADITIONAL'")
	db := onMySQL.open(t, dsn)
	s := onMySQL.newStore(t, db)
	updates := claimed(t, s, 3)
	updates[0].Entries[0].Finding.Attrs["text"] = `a \ and a "quote"`
	require.NoError(t, s.Save(t.Context(), updates...))
	rec, err := s.Get(t.Context(), updates[0].ID)
	require.NoError(t, err)
	require.Equal(t, updates[0].Entries[0].Finding.Attrs, rec.Entries[0].Finding.Attrs)
	page, err := s.List(t.Context(), store.ListRequest{Limit: 10, Text: rec.IP})
	require.NoError(t, err)
	require.NotEmpty(t, page.Records)
	require.NoError(t, s.Uninstall(t.Context()))
	require.Empty(t, onMySQL.ours(t, db))
}

// makeDECNETIn is makeDECNET with tables of another collation, if it names one.
func (on *database) makeDECNETIn(t *testing.T, collation string) *sql.DB {
	db := on.open(t, on.create(t))
	for _, text := range decnetSchema(on) {
		charset, _, given := strings.Cut(collation, "_")
		if given && strings.Contains(text, "CREATE TABLE") {
			text += " DEFAULT CHARACTER SET " + charset + " COLLATE " + collation
		}
		_, err := db.Exec(text)
		require.NoError(t, err)
	}
	return db
}
