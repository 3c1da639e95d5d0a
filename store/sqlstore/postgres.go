package sqlstore

import "strings"

// byIndex is for every transaction. Whatever is done often needs some rows that an
// index leads to in order, however many there are. The planner does not see that
// while tables are small or were not analyzed yet, and a prepared statement keeps
// the plan that it made then.
const byIndex = "; SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off; SET LOCAL enable_hashjoin = off" +
	"; SET LOCAL enable_mergejoin = off; SET LOCAL jit = off"

var postgres = dialect{
	name:      "postgres",
	title:     "PostgreSQL",
	home:      "a schema (search_path) or a database",
	columnsOf: "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = current_schema() AND table_name = ?",
	begin:     []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + byIndex + "; SET LOCAL lock_timeout = '1s'"},
	brief:     []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + byIndex + "; SET LOCAL lock_timeout = '100ms'"},
	patient:   []string{"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE" + byIndex},
	view:      []string{"BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY" + byIndex + "; SET LOCAL lock_timeout = '1s'"},
	numbered:  true,
	arrays:    true,
	lock:      " FOR UPDATE",
	skip:      " FOR UPDATE SKIP LOCKED",
	rows:      128,
	clock:     "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT)",
	only:      true,
	like:      "LIKE",
	rest:      "%",
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
	ownColumns: `SELECT table_name, column_name, data_type, is_nullable = 'YES' FROM information_schema.columns
		WHERE table_schema = current_schema() AND table_name LIKE 'enrich\_%'`,
	ownIndexes: `SELECT t.relname, i.relname, string_agg(a.attname, ',' ORDER BY k.n), bool_and(x.indisunique) FROM pg_index x
		JOIN pg_class i ON i.oid = x.indexrelid JOIN pg_class t ON t.oid = x.indrelid JOIN pg_namespace s ON s.oid = t.relnamespace
		CROSS JOIN LATERAL unnest(x.indkey) WITH ORDINALITY AS k (attnum, n)
		JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = k.attnum
		WHERE s.nspname = current_schema() AND t.relname LIKE 'enrich\_%' AND x.indisvalid GROUP BY t.relname, i.relname`,
	leadIndex: `SELECT count(*) FROM pg_index i JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[0]
		WHERE i.indrelid = CAST('attackers' AS regclass) AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'updated_at'`,
	wholeDDL:      true,
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
		case "40001", "40P01": // serialization_failure, deadlock_detected
			return busy
		case "55P03": // lock_not_available
			return locked
		case "57P01", "57P02", "57P03", "53300", // admin_shutdown, crash_shutdown, cannot_connect_now, too_many_connections
			"57014", "25P03", "25P04", "57P05", // query_canceled, and timeouts of idle sessions and of transactions
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
	advice: func(code string) string {
		switch code {
		case "42501": // insufficient_privilege
			return "the role lacks a privilege: GRANT USAGE, CREATE ON SCHEMA the_schema TO the_role; " +
				"GRANT SELECT, INSERT, UPDATE, DELETE ON attackers, attacker_intel TO the_role"
		case "3F000": // invalid_schema_name
			return "search_path names no schema that exists: correct it in the URL, or with ALTER ROLE the_role SET search_path"
		case "25006": // read_only_sql_transaction
			return "the server is read only: connect to the primary"
		case "42P05", "26000": // duplicate_prepared_statement, invalid_sql_statement_name
			return "a pooler such as PgBouncer in transaction mode does not keep prepared statements: " +
				"add default_query_exec_mode=exec to the URL, or set max_prepared_statements in PgBouncer 1.21 or later"
		}
		return ""
	},
}
