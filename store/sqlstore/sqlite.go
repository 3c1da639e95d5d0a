package sqlstore

import (
	"net/url"
	"strconv"
)

var sqlite = dialect{
	name:   "sqlite",
	title:  "SQLite",
	local:  true,
	rows:   1,
	only:   true,
	exists: "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view', 'index') AND name = ?",
	unique: `SELECT count(*) FROM pragma_index_list('attacker_intel') i WHERE i."unique" = 1 AND i.partial = 0
		AND (SELECT group_concat(name) FROM pragma_index_info(i.name)) = 'attacker_uuid'`,
	columns: `SELECT name, type, "notnull", dflt_value IS NOT NULL FROM pragma_table_info('attacker_intel')`,
	mark:    `"`,
	char:    "TEXT",
	text:    func(column string) string { return "CAST(" + column + " AS TEXT)" },
	tie:     "rowid",
	tieOf: func(op string) string {
		start := "-9223372036854775808"
		if op == "<" {
			start = "9223372036854775807"
		}
		return "coalesce((SELECT rowid FROM attackers WHERE uuid = ?), " + start + ")"
	},
	// Text that is no time is compared when the row is updated.
	seenOtherwise: "CAST(strftime('%s', a.last_seen) AS INTEGER) <> l.last_seen / 1000000",
	upsert:        onConflict,
	// Result codes: https://www.sqlite.org/rescode.html. The low byte is the
	// primary code.
	class: func(code string) class {
		n, _ := strconv.Atoi(code)
		switch n & 0xff {
		case 5, 6: // SQLITE_BUSY, SQLITE_LOCKED
			return busy
		case 18, 19, 20, 25: // SQLITE_TOOBIG, SQLITE_CONSTRAINT, SQLITE_MISMATCH, SQLITE_RANGE
			return poison
		}
		return fatal
	},
	quotes: func(string) bool { return false },
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
