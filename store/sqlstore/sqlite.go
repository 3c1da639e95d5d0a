package sqlstore

import (
	"net/url"
	"strconv"
)

var sqlite = dialect{
	name:  "sqlite",
	title: "SQLite",
	home:  "a database file",
	// A value keeps its own type, whatever the column's.
	columnsOf: "SELECT name, '' FROM pragma_table_info(?)",
	local:     true,
	rows:      1,
	only:      true,
	like:      "GLOB",
	rest:      "*",
	exists:    "SELECT count(*) FROM sqlite_master WHERE type IN ('table', 'view', 'index') AND name = ?",
	unique: `SELECT count(*) FROM pragma_index_list('attacker_intel') i WHERE i."unique" = 1 AND i.partial = 0
		AND (SELECT group_concat(name) FROM pragma_index_info(i.name)) = 'attacker_uuid'`,
	columns: `SELECT name, type, "notnull", dflt_value IS NOT NULL FROM pragma_table_info('attacker_intel')`,
	ownColumns: `SELECT m.name, c.name, c.type, c."notnull" = 0 AND c.pk = 0 FROM sqlite_master m JOIN pragma_table_info(m.name) c
		WHERE m.type = 'table' AND m.name LIKE 'enrich!_%' ESCAPE '!'`,
	// A single INTEGER PRIMARY KEY has no index.
	ownIndexes: `SELECT m.name, i.name, (SELECT group_concat(name) FROM (SELECT name FROM pragma_index_info(i.name) ORDER BY seqno)), i."unique"
		FROM sqlite_master m JOIN pragma_index_list(m.name) i WHERE m.type = 'table' AND m.name LIKE 'enrich!_%' ESCAPE '!'
		UNION ALL SELECT m.name, '', (SELECT group_concat(name) FROM (SELECT name FROM pragma_table_info(m.name) WHERE pk > 0 ORDER BY pk)), 1
		FROM sqlite_master m WHERE m.type = 'table' AND m.name LIKE 'enrich!_%' ESCAPE '!'
			AND EXISTS (SELECT 1 FROM pragma_table_info(m.name) WHERE pk > 0)`,
	leadIndex: "SELECT count(*) FROM pragma_index_list('attackers') i JOIN pragma_index_info(i.name) c WHERE c.seqno = 0 AND c.name = 'updated_at'",
	wholeDDL:  true,
	mark:      `"`,
	char:      "TEXT",
	text:      func(column string) string { return "CAST(" + column + " AS TEXT)" },
	tie:       "rowid",
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
	advice: func(code string) string {
		switch n, _ := strconv.Atoi(code); n & 0xff {
		case 8: // SQLITE_READONLY
			return "let the user of this program write the file and its directory: chown or chmod them"
		case 13: // SQLITE_FULL
			return "make room on the disk"
		case 14: // SQLITE_CANTOPEN
			return "let the user of this program read and write the file and its directory"
		}
		return ""
	},
}

// SQLiteDSN returns the data source name of a database file for the drivers
// modernc.org/sqlite and github.com/ncruces/go-sqlite3, which both run the
// pragmas in it on every connection they open: wait up to 10 s for a lock,
// write-ahead logging with a checkpoint by a commit when the log has 32 MiB, should
// those of the store not suffice, synchronous as DECNET sets it, foreign keys enforced,
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
