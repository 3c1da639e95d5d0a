package sqlstore

import "strings"

// byIndex is for every transaction. Whatever is done often needs some rows that an
// index leads to in order, however many there are. The planner does not see that
// while tables are small or were not analyzed yet, and a prepared statement keeps
// the plan that it made then.
const byIndex = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off" +
	"; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"

var postgres = dialect{
	name:     "postgres",
	title:    "PostgreSQL",
	begin:    []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + byIndex},
	view:     []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + byIndex},
	numbered: true,
	arrays:   true,
	lock:     " FOR UPDATE",
	skip:     " FOR UPDATE SKIP LOCKED",
	rows:     128,
	clock:    "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
	only:     true,
	exists: `SELECT count(*) FROM (
		SELECT table_name AS name FROM information_schema.tables WHERE table_schema = current_schema()
		UNION ALL SELECT indexname FROM pg_indexes WHERE schemaname = current_schema()) AS present WHERE name = ?`,
	unique: `SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = CAST('attacker_intel' AS regclass) AND i.indisunique AND i.indpred IS NULL
		AND i.indnkeyatts = 1 AND a.attname = 'attacker_uuid'`,
	columns: `SELECT column_name, data_type || coalesce('(' || character_maximum_length || ')', ''),
		CASE is_nullable WHEN 'NO' THEN 1 ELSE 0 END, CASE WHEN column_default IS NULL AND is_identity = 'NO' THEN 0 ELSE 1 END
		FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name = 'attacker_intel' AND is_generated = 'NEVER'`,
	mark:          `"`,
	guard:         "SELECT 1 FROM pg_advisory_xact_lock(hashtextextended('enrich ' || current_schema(), 0))",
	char:          "TEXT",
	text:          func(column string) string { return "to_char(" + column + ", 'YYYY-MM-DD HH24:MI:SS.US')" },
	tie:           "uuid",
	sortTie:       "SET LOCAL enable_sort = on",
	tieOf:         itself,
	seenOtherwise: "a.last_seen <> TIMESTAMP '1970-01-01' + l.last_seen * INTERVAL '1 microsecond'",
	upsert:        onConflict,
	// Codes: appendix A of the manual, "PostgreSQL Error Codes". The first two
	// characters are the class.
	class: func(code string) class {
		switch code {
		case "40001", "40P01", "55P03": // serialization_failure, deadlock_detected, lock_not_available
			return busy
		case "57P01", "57P02", "57P03", "53300", // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
			"25006": // read_only_sql_transaction: connected to a server that is no longer the primary
			return lost
		case "23503", "23505": // foreign_key_violation, unique_violation
			return race
		}
		switch {
		case strings.HasPrefix(code, "08"): // connection exceptions
			return lost
		case strings.HasPrefix(code, "22"), strings.HasPrefix(code, "23"), // data exceptions, integrity constraint violations
			strings.HasPrefix(code, "54"), strings.HasPrefix(code, "P0"): // program limits exceeded, errors raised by triggers
			return poison
		}
		return fatal
	},
	quotes: func(code string) bool {
		switch code[:min(2, len(code))] {
		case "08", "25", "28", "3D", "3F", "40", "42", "53", "55", "57", "58", "XX":
			return false
		}
		return true
	},
}
