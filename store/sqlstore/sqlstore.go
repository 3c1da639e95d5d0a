// Package sqlstore keeps records in a SQL database, through a *sql.DB that the
// caller opens and closes with a driver of the caller's choice. It imports no
// driver; examples/sqlite is a short program that uses it with one.
//
// # Tables
//
// Attackers are the rows of DECNET's table attackers, and what was learnt about
// them goes to its table attacker_intel, which other programs may read and
// write too. [Store.Migrate] creates both where they are absent and never
// alters them where they are not. Schedules, leases, budgets, the outbox and
// everything else live in tables whose names begin with enrich_;
// [Store.Uninstall] drops those and leaves DECNET's as they are.
//
// An attacker that somebody else inserts, moves to another address or sees
// again is noticed by the next [Store.Claim], through attackers.updated_at.
// What has no usable updated_at is found by a sweep over all attackers, 600 a
// second: among a million within half an hour, as long as somebody claims every
// minute, and later in proportion where a worker's PollInterval is longer. A row
// of attacker_intel that somebody else wrote is adopted: its findings count until
// they expire, and are replaced like any other.
//
// # Other columns
//
// Columns of attacker_intel that this package does not know are left alone,
// except those named after a provider that is not one of DECNET's four: of a
// provider shodan, the attribute score goes to shodan_score where the table has
// it, the raw answer to shodan_raw and the time of the answer to
// shodan_queried_at. A column of text, numbers, booleans or JSON lists takes what
// fits its type and is null otherwise; the ledger keeps everything, and nothing is
// read from such columns. A new row gives a column that must not be null and has
// no default what says nothing: 0, false, empty text, [] or {}. Columns are
// looked at before the first save, after one that failed and by [Store.Migrate].
//
// # Many workers
//
// Any number of workers on any number of machines share a database. A claim
// passes over rows that another one is looking at, leases run on the database's
// clock, and budgets and the outbox are common to all. One claim at a time looks
// for what is new in attackers; the others go on with what is known to be due.
//
// A transaction that fails because of a deadlock, a serialization failure or a
// lost connection is tried again, with growing pauses.
//
// # PostgreSQL
//
// Any driver will do that leaves the placeholders to the database and sends several
// commands without arguments at once, such as the one in
// github.com/jackc/pgx/v5/stdlib. A pooler in transaction mode, like PgBouncer, keeps
// no prepared statements: with pgx, add default_query_exec_mode=exec to the URL. The
// tables belong to the current schema. Each transaction begins with settings of its own
// that make the planner go by indexes, for a plan made while the tables are small to
// serve when they are not.
//
// # MySQL and MariaDB
//
// The driver is github.com/go-sql-driver/mysql. Times are in UTC whatever its
// parameter loc says, and interpolateParams=true saves a round trip for each
// statement. All tables must be InnoDB's. A connection over which the store has written
// keeps innodb_lock_wait_timeout = 1, or 0, and lock_wait_timeout = 3; give the store a *sql.DB
// of its own if other code is to wait longer. Where DECNET's tables keep times to the
// second, so do we. MySQL keeps JSON in a form of its own: a raw answer in
// attacker_intel comes back with its keys sorted and its numbers as doubles have
// them, while MariaDB returns the text it was given.
//
// # SQLite
//
// One database file serves several processes on one machine. Every connection
// has to wait for locks rather than to fail, and the database should be in WAL
// mode; [SQLiteDSN] returns a data source name that says all this to the
// drivers modernc.org/sqlite and github.com/ncruces/go-sqlite3. Transactions
// that write take the lock for it as they begin, whatever the data source name
// says, and are tried again when the database was busy all the same. Use a file:
// a database in memory belongs to a single connection.
package sqlstore

import (
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/store"
)

// Options configure a [Store]. Dialect is required.
type Options struct {
	// Dialect is the kind of database.
	Dialect Dialect
	// Now is the store's own clock, on which leases run. The default is the
	// database's clock, and [time.Now] for SQLite.
	Now func() time.Time
	// Code returns the database's own code for an error of the driver, and false
	// for any other error: for SQLite a result code, primary or extended, for
	// PostgreSQL the SQLSTATE, for MySQL the error number; numbers in decimal.
	// The default knows the errors of modernc.org/sqlite,
	// github.com/ncruces/go-sqlite3, github.com/jackc/pgx, github.com/lib/pq and
	// github.com/go-sql-driver/mysql; other drivers need a function of their
	// own. Without the code the store reports a database that is only busy as
	// one that failed.
	Code func(error) (code string, ok bool)
	// Log says, at Error, which attackers' records were found damaged and begun
	// anew. Nil means [slog.Default].
	Log *slog.Logger
}

// Store is a [store.Store] in a database. It also implements [store.Registrar],
// [store.Positions], [store.Answers], [store.Outbox], [store.QuotaLedger],
// [store.Lister], [store.ByAddress], [store.Statistician] and [store.Migrator]. Its
// methods are safe for concurrent use.
//
// An error names what was being done and wraps the driver's; its text holds no
// value that was read or written. While the database is busy, methods try again
// until their context is done; while it cannot be reached, for half a minute.
// After a commit whose outcome was lost with the connection, Save may report
// that a lease was lost although the update was stored.
type Store struct {
	db    *sql.DB
	d     *dialect
	now   func() time.Time // nil for the default
	code  func(error) (string, bool)
	log   *slog.Logger
	intel atomic.Pointer[intelWriter] // nil until attacker_intel was looked at
	texts sync.Map                    // statements with numbered placeholders, by the same without
	local *local

	outbox // for the bus
}

var _ interface {
	store.Store
	store.Registrar
	store.Positions
	store.Answers
	store.Outbox
	store.QuotaLedger
	store.Lister
	store.ByAddress
	store.Counter
	store.Statistician
	store.Migrator
} = (*Store)(nil)

// New returns a store in db, which stays the caller's to close, after the last
// use of the store. It does no I/O: call [Store.Migrate] next. It returns an
// error if an option makes no sense.
func New(db *sql.DB, o Options) (*Store, error) {
	var errs []error
	if db == nil {
		errs = append(errs, errors.New("sqlstore: no database; pass an open *sql.DB"))
	}
	d := o.Dialect.dialect()
	if d == nil {
		errs = append(errs, fmt.Errorf("sqlstore: Options.Dialect is %d, which is no dialect; set it to sqlstore.SQLite, PostgreSQL or MySQL", o.Dialect))
	}
	if len(errs) > 0 {
		return nil, errors.Join(errs...)
	}
	if o.Code == nil {
		o.Code = code
	}
	if o.Log == nil {
		o.Log = slog.Default()
	}
	s := &Store{db: db, d: d, now: o.Now, code: o.Code, log: o.Log, local: newLocal()}
	s.outbox = outbox{s: s, turn: "outbox", table: "enrich_outbox", key: "event_id"}
	return s, nil
}

// localTime returns the time by the program's clock or the caller's.
func (s *Store) localTime() time.Time {
	if s.now != nil {
		return s.now()
	}
	return time.Now()
}
