package sqlstore

import "strings"

// session sets, beside the limit for rows, that for tables and the isolation. One SET of
// several variables spares a round trip; the two servers spell the last one differently.
const session = ", lock_wait_timeout = 3" + committed

const (
	committed  = " /*M! , @@tx_isolation = 'READ-COMMITTED' */ /*!80000 , @@transaction_isolation = 'READ-COMMITTED' */"
	repeatable = " /*M! , @@tx_isolation = 'REPEATABLE-READ' */ /*!80000 , @@transaction_isolation = 'REPEATABLE-READ' */"
)

var mysql = dialect{
	name:      "mysql",
	title:     "MySQL",
	home:      "a database",
	columnsOf: "SELECT column_name, data_type FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name = ?",
	// The limits stay with the connection.
	begin: []string{"SET SESSION innodb_lock_wait_timeout = 1" + session, "START TRANSACTION"},
	// MySQL's limit is a second at least; MariaDB's may be none.
	brief:   []string{"SET SESSION innodb_lock_wait_timeout = /*M! 0 */ /*!80000 1 */" + session, "START TRANSACTION"},
	patient: []string{"SET TRANSACTION ISOLATION LEVEL READ COMMITTED", "START TRANSACTION"},
	view:    []string{"SET SESSION lock_wait_timeout = 3" + repeatable, "START TRANSACTION READ ONLY"},
	lock:    " FOR UPDATE",
	skip:    " FOR UPDATE SKIP LOCKED",
	rows:    128,
	like:    "LIKE",
	rest:    "%",
	clock:   "TIMESTAMPDIFF(MICROSECOND, '1970-01-01', UTC_TIMESTAMP(6))",
	exists: `SELECT count(*) FROM (
		SELECT table_name AS name FROM information_schema.tables WHERE table_schema = DATABASE()
		UNION ALL SELECT index_name FROM information_schema.statistics WHERE table_schema = DATABASE()) AS present WHERE name = ?`,
	unique: `SELECT count(*) FROM (SELECT max(column_name) AS name FROM information_schema.statistics
		WHERE table_schema = DATABASE() AND table_name = 'attacker_intel' AND non_unique = 0
		GROUP BY index_name HAVING count(*) = 1) AS found WHERE name = 'attacker_uuid'`,
	newCollation: "SELECT COLLATION(CONVERT('' USING utf8mb4))",
	// MariaDB's JSON is text that is checked. A text without a length of its own is
	// measured in bytes.
	columns: `SELECT column_name,
		CASE WHEN column_name IN (SELECT constraint_name FROM information_schema.check_constraints WHERE constraint_schema = DATABASE()
				AND check_clause = CONCAT('json_valid(', CHAR(96), constraint_name, CHAR(96), ')')) THEN 'json'
			WHEN data_type = 'tinytext' THEN 'text(63)' WHEN data_type = 'text' THEN 'text(16383)'
			WHEN data_type IN ('mediumtext', 'longtext') THEN 'text' ELSE column_type END,
		is_nullable = 'NO', column_default IS NOT NULL OR extra LIKE '%auto_increment%'
		FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = 'attacker_intel' AND coalesce(generation_expression, '') = ''`,
	ownColumns: `SELECT table_name, column_name, CASE data_type WHEN 'varchar' THEN CONCAT(data_type, '(', character_maximum_length, ')')
			ELSE data_type END, is_nullable = 'YES'
		FROM information_schema.columns WHERE table_schema = DATABASE() AND table_name LIKE 'enrich!_%' ESCAPE '!'`,
	ownIndexes: `SELECT table_name, index_name, GROUP_CONCAT(column_name ORDER BY seq_in_index), MAX(non_unique) = 0
		FROM information_schema.statistics WHERE table_schema = DATABASE() AND table_name LIKE 'enrich!_%' ESCAPE '!'
		GROUP BY table_name, index_name`,
	leadIndex: `SELECT count(*) FROM information_schema.statistics
		WHERE table_schema = DATABASE() AND table_name = 'attackers' AND seq_in_index = 1 AND column_name = 'updated_at'`,
	// The privileges of roles are not listed.
	mayCreate: `SELECT coalesce(CURRENT_ROLE(), 'NONE') NOT IN ('', 'NONE') OR EXISTS (SELECT 1 FROM (
			SELECT grantee, privilege_type, '%' AS pattern FROM information_schema.user_privileges
			UNION ALL SELECT grantee, privilege_type, table_schema FROM information_schema.schema_privileges) AS held
		WHERE privilege_type = 'CREATE' AND DATABASE() LIKE pattern
			AND grantee = CONCAT(CHAR(39), REPLACE(CURRENT_USER(), '@', CONCAT(CHAR(39), '@', CHAR(39))), CHAR(39)))`,
	mark: "`",
	collation: `SELECT collation_name FROM information_schema.columns
		WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?`,
	// The name of a lock has up to 64 characters; MySQL 9 has no MD5.
	guard:         "SELECT GET_LOCK(CONCAT('enrich ', SHA2(DATABASE(), 224)), 5)",
	unguard:       "SELECT RELEASE_LOCK(CONCAT('enrich ', SHA2(DATABASE(), 224)))",
	char:          "CHAR",
	text:          func(column string) string { return "CAST(" + column + " AS CHAR)" },
	tie:           "uuid",
	tieOf:         itself,
	seenOtherwise: "a.last_seen <> TIMESTAMPADD(MICROSECOND, l.last_seen, '1970-01-01')",
	upsert: func(key string, columns []string) string {
		if len(columns) == 0 {
			first, _, _ := strings.Cut(key, ",")
			return " ON DUPLICATE KEY UPDATE " + first + " = " + first
		}
		sets := make([]string, len(columns))
		for i, c := range columns {
			sets[i] = c + " = VALUES(" + c + ")"
		}
		return " ON DUPLICATE KEY UPDATE " + strings.Join(sets, ", ")
	},
	zoned:   true,
	inside:  "1568",
	second:  true,
	maxText: 255,
	// Codes: "Server Error Message Reference" of the MySQL manual, and "MariaDB
	// Error Codes".
	class: func(code string) class {
		switch code {
		case "1213": // deadlock
			return busy
		case "1205": // lock wait timeout
			return locked
		case "1040", "1053", "1077", "1079", "1080", "1927", "1203", "4031", // too many connections, shutdown, connection killed or idle
			"1317", "1969", "3024", // statement killed, or took longer than the server allows
			"1290", "1792", "1836": // the server is read only: it is no longer the primary
			return lost
		case "1062", "1216", "1217", "1451", "1452", "1557", "1761", "1762": // duplicate key, foreign keys
			return race
		case "1048", "1118", "1153", "1263", "1264", "1265", "1292", "1300", "1364", "1366", "1406", "1411", "1441", "1644",
			"1690", "3140", "3141", "3144", "3157", "3819", "3854", "3903", "3988", "4025", "4038":
			// null, sizes, ranges, conversions, bad character strings, errors raised by triggers, JSON, constraints
			return poison
		}
		return fatal
	},
	quotes: func(code string) bool {
		switch code {
		case "1021", "1040", "1044", "1045", "1046", "1049", "1053", "1054", "1114", "1142", "1146", "1205", "1213", "1290",
			"1317", "1927", "1969", "3024":
			return false
		}
		return true
	},
	advice: func(code string) string {
		switch code {
		case "1044", "1142", "1143", "1227":
			return "the user lacks a privilege: GRANT SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP ON the database TO the user"
		case "1290", "1792", "1836":
			return "the server or the transaction is read only: connect to the primary"
		}
		return ""
	},
}
