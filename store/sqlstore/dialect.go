package sqlstore

import (
	"strings"
	"time"
	"unicode/utf8"
)

// Dialect is a kind of database. The zero value is none.
type Dialect uint8

// The dialects.
const (
	// SQLite is SQLite 3.38 or later.
	SQLite Dialect = iota + 1
	// PostgreSQL is PostgreSQL 13 or later.
	PostgreSQL
	// MySQL is MariaDB 10.8 or later, and MySQL 8.0.16 or later, of which 9.7 was
	// tried.
	MySQL
)

// String returns the name of the dialect.
func (d Dialect) String() string {
	if known := d.dialect(); known != nil {
		return known.title
	}
	return "no dialect"
}

func (d Dialect) dialect() *dialect {
	switch d {
	case SQLite:
		return &sqlite
	case PostgreSQL:
		return &postgres
	case MySQL:
		return &mysql
	}
	return nil
}

// dialect is how one kind of database differs from the others.
type dialect struct {
	name      string // directory of the migrations
	title     string // for people
	home      string // what separates applications, for people
	columnsOf string // lists the columns of a table: name, type

	// begin begins a transaction that writes. A statement in it fails, as locked, after
	// it has waited for a second for a row.
	begin   []string
	brief   []string // begin for a transaction that waits for a moment only, or not at all
	patient []string // begin for a transaction that waits for locks
	view    []string // begin a transaction that only reads, and sees one state
	// local says that the database runs inside the process, see the file local.go,
	// which begins transactions itself; and that a transaction that writes is
	// alone, so that nothing has to be locked.
	local    bool
	numbered bool   // placeholders are $1, $2, …
	arrays   bool   // a list of texts is given as one array, which takes less planning
	lock     string // ends a SELECT whose rows are to be written, or
	skip     string // the same, leaving out those that another transaction has locked
	rows     int    // how many rows a statement adds at most
	clock    string // expression of the database's time in microseconds; empty for the program's
	// only says that an UPDATE may choose its rows by a subquery with a limit,
	// rather than by a limit of its own.
	only bool

	exists string // counts the tables and indexes of a given name
	unique string // counts the unique indexes on attacker_intel.attacker_uuid alone
	// columns lists the columns of attacker_intel that are not computed: name,
	// type, 1 if it must not be null, 1 if it has a default.
	columns string
	// ownColumns lists the columns of our tables: table, column, type, whether it
	// may be null; ownIndexes their indexes and keys: table, name, columns with
	// commas, whether it is unique.
	ownColumns, ownIndexes string
	// leadIndex counts the indexes of attackers that begin with updated_at.
	leadIndex string
	// mayCreate tells whether the user may create tables, where that cannot be tried.
	mayCreate string
	// wholeDDL says that a transaction may create tables, and undoes that.
	wholeDDL bool
	mark     string // stands before and after a name
	// collation reads the collation of a column of a table, where it matters, and
	// newCollation the one that attackers.uuid gets if we create the table.
	collation, newCollation string
	// guard and unguard keep others from migrating meanwhile. Without unguard the
	// guard ends with the transaction; without guard none is needed.
	guard, unguard string

	// like compares a text with a pattern, by an index, and rest ends a pattern that
	// says what the text begins with.
	like, rest string

	char string // the type that a text of any length is cast to
	// text returns a column's value as text that sorts and compares as it does.
	text func(column string) string
	// tie is the column that orders rows of attackers with the same updated_at:
	// what an index on updated_at alone goes on with, or the key. tieOf is its
	// value, as SQL, for the row with a given UUID; if that is gone, one with
	// which no row is left out by a comparison with ">" or with "<".
	tie   string
	tieOf func(op string) string
	// sortTie is run before such rows are read, if it is not empty: whether to sort
	// them depends on how many there are.
	sortTie string
	// seenOtherwise holds for a row whose last_seen is not the ledger's.
	seenOtherwise string
	// upsert ends an INSERT so that it updates the given columns of a row with
	// the same key instead; without columns it leaves that row alone.
	upsert func(key string, columns []string) string
	// second says that DECNET's tables keep times to the second.
	second bool
	// maxText is the greatest length of a text of DECNET's tables that has no
	// length of its own; 0 for any.
	maxText int

	// zoned says that the driver converts times to another zone.
	zoned bool
	// inside is the code of the error that a transaction begins within another.
	inside string
	// class tells from the database's code of an error what to do about it, and
	// quotes whether its text may quote values.
	class  func(code string) class
	quotes func(code string) bool
	// advice says what to do about an error that only an operator can do something
	// about; empty for others.
	advice func(code string) string
}

// class is a kind of failure.
type class uint8

const (
	fatal  class = iota // none of the following
	busy                // passes by itself: the transaction may be tried again
	locked              // another transaction kept its lock for too long; may pass like busy
	lost                // the connection, or the whole database for now
	race                // maybe another transaction came first: worth another try
	poison              // due to the values of a statement
)

// onConflict is the upsert of SQLite and PostgreSQL.
func onConflict(key string, columns []string) string {
	if len(columns) == 0 {
		return " ON CONFLICT (" + key + ") DO NOTHING"
	}
	sets := make([]string, len(columns))
	for i, c := range columns {
		sets[i] = c + " = excluded." + c
	}
	return " ON CONFLICT (" + key + ") DO UPDATE SET " + strings.Join(sets, ", ")
}

// moment returns what reads a column of DECNET's times. MySQL's driver would take
// them for times in the zone of its parameter loc, and they are in UTC.
func (d *dialect) moment(column string) string {
	if d.zoned {
		return d.text(column)
	}
	return column
}

// itself is tieOf where tie is the UUID.
func itself(string) string { return "?" }

// quote returns a name as it stands in a statement.
func (d *dialect) quote(name string) string {
	return d.mark + strings.ReplaceAll(name, d.mark, d.mark+d.mark) + d.mark
}

// stored returns a time as DECNET's tables keep it.
func (d *dialect) stored(t time.Time) time.Time {
	if d.second {
		return clamp(t).Truncate(time.Second)
	}
	return clamp(t)
}

// time returns what to bind for a time of attacker_intel.
func (d *dialect) time(t time.Time) string { return formatTime(d.stored(t)) }

// cut returns a text as it fits into a column of DECNET's tables.
func (d *dialect) cut(text string) string {
	if d.maxText == 0 || len(text) <= d.maxText {
		return text
	}
	n := d.maxText
	for n > 0 && !utf8.RuneStart(text[n]) {
		n--
	}
	return text[:n]
}
