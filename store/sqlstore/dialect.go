package sqlstore

import (
	"net/url"
	"strings"
	"time"
)

// Dialect is a kind of database. The zero value is none.
type Dialect uint8

// The dialects.
const (
	// SQLite is SQLite 3.35 or later.
	SQLite Dialect = iota + 1
)

// dialect is how one kind of database differs from the others.
type dialect struct {
	name  string // directory of the migrations
	begin string // begins a transaction that writes, holding the lock at once
	view  string // begins a transaction that only reads
	// local says that statements take no network, so that those inside a
	// transaction need not be watched for the end of the context.
	local bool
	// exists counts the tables of a given name.
	exists string
	// text returns a column's value as text, as it is stored.
	text func(column string) string
	// time returns what to bind for a time of DECNET's tables.
	time func(time.Time) any
	// upsert ends an INSERT so that it updates the given columns of a row with
	// the same key instead; without columns it leaves that row alone.
	upsert func(key string, columns []string) string
	// busy tells that an error with this code passes by itself, and poison that
	// it is due to the values of one statement.
	busy, poison func(code int) bool
}

func (d Dialect) dialect() *dialect {
	if d == SQLite {
		return &sqlite
	}
	return nil
}

var sqlite = dialect{
	name:   "sqlite",
	begin:  "BEGIN IMMEDIATE",
	view:   "BEGIN",
	local:  true,
	exists: "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view') AND name = ?",
	text:   func(column string) string { return "CAST(" + column + " AS TEXT)" },
	time:   func(t time.Time) any { return formatTime(t) },
	upsert: func(key string, columns []string) string {
		if len(columns) == 0 {
			return " ON CONFLICT (" + key + ") DO NOTHING"
		}
		sets := make([]string, len(columns))
		for i, c := range columns {
			sets[i] = c + " = excluded." + c
		}
		return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sets, ", ")
	},
	// Result codes: https://www.sqlite.org/rescode.html. The low byte is the
	// primary code.
	busy: func(code int) bool {
		switch code & 0xff {
		case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
			return true
		}
		return false
	},
	poison: func(code int) bool {
		switch code & 0xff {
		case 18, 19, 20, 25: // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE
			return true
		}
		return false
	},
}

// SQLiteDSN returns the data source name of a database file for the drivers
// modernc.org/sqlite and github.com/ncruces/go-sqlite3, which both run the
// pragmas in it on every connection they open: wait up to 10 s for a lock,
// write-ahead logging with a checkpoint every 32 MiB, so that few transactions
// pay for one, synchronous as DECNET sets it, foreign keys enforced,
// transactions that take the write lock when they begin. The path may be
// relative. It is used as it is, also if it holds characters that mean
// something in a URI.
func SQLiteDSN(path string) string {
	escaped := (&url.URL{Path: path}).EscapedPath()
	return "file:" + escaped +
		"?_pragma=busy_timeout(10000)" +
		"&_pragma=journal_mode(WAL)" +
		"&_pragma=wal_autocheckpoint(8192)" +
		"&_pragma=synchronous(NORMAL)" +
		"&_pragma=foreign_keys(ON)" +
		"&_txlock=immediate"
}
