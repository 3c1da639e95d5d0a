package sqlstore

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the SQL files that [Store.Migrate] runs for a dialect, for
// those who run them by other means. In this order: attackers.sql and
// attacker_intel.sql create DECNET's tables, and enrich_migrations.sql one of our
// own, each where it is absent; the numbered files create and change our other
// tables; enrich_ledger_ip.sql, enrich_outbox_attacker.sql and, for PostgreSQL,
// enrich_address_text.sql create an index, and enrich_position.sql and
// enrich_delivery.sql a table, where it is absent. Whoever
// runs a numbered file adds a row to enrich_migrations with its number as version,
// and as applied_at the time in microseconds since 1970; a file whose number is
// there is not run again. On MySQL, columns of ours named
// attacker_uuid are then given the collation of attackers.uuid if theirs is
// another; [Store.Plan] has the statements. Migrations returns an error for a
// value that is no dialect.
func Migrations(d Dialect) (fs.FS, error) {
	known := d.dialect()
	if known == nil {
		return nil, fmt.Errorf("sqlstore: %d is no dialect", d)
	}
	return fs.Sub(migrations, "migrations/"+known.name)
}

// migration is a file with statements.
type migration struct {
	version int    // of our own tables afterwards; 0 if it creates the table or index of its name
	name    string // of the file, without what it ends in
	text    string
}

// DECNET's tables, in the order in which they can be created.
var decnetTables = []string{"attackers", "attacker_intel"}

// ownTables are all of our own.
var ownTables = []string{
	"enrich_ledger", "enrich_queue", "enrich_address", "enrich_raw", "enrich_outbox", "enrich_cursor", "enrich_quota", "enrich_turn",
	"enrich_delivery", "enrich_position", "enrich_migrations",
}

// Migrate implements [store.Migrator]. The tables attackers and attacker_intel
// are created if they are absent; if they are there, they are left as they are,
// and an error that wraps [store.ErrSchema] names what they lack. Any number of
// processes may call Migrate at the same time: one does the work, and the others
// wait for it. In the end Migrate does what [Store.Validate] does.
func (s *Store) Migrate(ctx context.Context) error {
	return s.guarded(ctx, func(t *tx) error {
		theirs, ours, err := t.plan()
		if err != nil {
			return err
		}
		if err := t.run(theirs); err != nil {
			return err
		}
		if err := t.checkDECNET(decnetTables); err != nil {
			return err
		}
		if err := t.run(ours); err != nil {
			return err
		}
		if _, err := t.repairCursors(); err != nil {
			return err
		}
		advice, err := t.advice()
		if err != nil {
			return err
		}
		for _, text := range advice {
			s.log.Warn(text)
		}
		return t.checkOurs()
	})
}

// Plan returns the statements that [Store.Migrate] would run now, in order, and
// runs none of them. It returns an error that wraps [store.ErrSchema] if Migrate
// would.
func (s *Store) Plan(ctx context.Context) (statements []string, err error) {
	err = s.read(ctx, func(t *tx) error {
		if err := t.readClock(); err != nil {
			return err
		}
		theirs, ours, err := t.plan()
		if err != nil {
			return err
		}
		statements = nil
		for _, st := range slices.Concat(theirs, ours) {
			statements = append(statements, st.text)
		}
		var there []string
		for _, table := range decnetTables {
			if !slices.ContainsFunc(theirs, func(st statement) bool { return st.file == table }) {
				there = append(there, table)
			}
		}
		if err := t.checkDECNET(there); err != nil { // what DECNET has made by then cannot be looked at now
			return err
		}
		if len(ours) > 0 {
			return nil
		}
		missing, err := t.missingCursors()
		statements = append(statements, t.addCursors(missing)...)
		if err != nil {
			return err
		}
		return t.checkOurs()
	})
	return statements, err
}

// Validate returns an error that wraps [store.ErrSchema] unless the tables are
// of the version that this program needs, and complete: columns with their types,
// keys, indexes, and rows that must be there. The error says how to repair what is
// wrong. Validate changes nothing.
func (s *Store) Validate(ctx context.Context) error {
	return s.read(ctx, func(t *tx) error {
		missing, err := t.missing()
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			return fmt.Errorf("%w: the tables are older than this program, or absent; call Migrate", store.ErrSchema)
		}
		if err := t.checkOwners(); err != nil {
			return err
		}
		if err := t.checkDECNET(decnetTables); err != nil {
			return err
		}
		if err := t.checkOurs(); err != nil {
			return err
		}
		cursors, err := t.missingCursors()
		if err == nil && len(cursors) > 0 {
			err = fmt.Errorf("%w: table enrich_cursor lacks the rows %s; Migrate adds them", store.ErrSchema, strings.Join(cursors, ", "))
		}
		return err
	})
}

// statement is a part of what a migration does.
type statement struct{ file, text string }

// plan returns the statements that bring the tables up to date: those that create
// DECNET's and those that are about ours.
func (t *tx) plan() (theirs, ours []statement, err error) {
	if err := t.checkOwners(); err != nil {
		return nil, nil, err
	}
	missing, err := t.missing()
	if err != nil {
		return nil, nil, err
	}
	if err := t.checkVersion(); err != nil {
		return nil, nil, err
	}
	for _, m := range missing {
		var all []statement
		for _, text := range m.statements() {
			all = append(all, statement{m.name, text})
		}
		switch {
		case slices.Contains(decnetTables, m.name):
			theirs = append(theirs, all...)
			continue
		case m.version > 0:
			all = append(all, statement{m.name, fmt.Sprintf(
				"INSERT INTO enrich_migrations (version, applied_at) VALUES (%d, %d)", m.version, t.clock)})
		}
		ours = append(ours, all...)
	}
	collate, err := t.collate()
	return theirs, append(ours, collate...), err
}

func (t *tx) run(all []statement) error {
	for _, st := range all {
		if err := t.exec("run the migration "+st.file, st.text); err != nil {
			return err
		}
	}
	return nil
}

// guarded runs f in a transaction while nobody else runs one.
func (s *Store) guarded(ctx context.Context, f func(*tx) error) error {
	slow := time.AfterFunc(time.Second, func() {
		s.log.Info("waiting for another process that migrates the tables, or that writes to the database")
	})
	defer slow.Stop()
	within := func(t *tx) error {
		if err := t.readClock(); err != nil {
			return err
		}
		for held := s.d.guard == ""; !held; {
			var got *int
			if _, err := t.one("wait for others to migrate", s.d.guard, nil, &got); err != nil {
				return err
			}
			held = got != nil && *got == 1
			if err := ctx.Err(); err != nil {
				return fmt.Errorf("sqlstore: wait for others to migrate: %w", err)
			}
		}
		slow.Stop()
		err := f(t)
		if s.d.unguard != "" {
			t.ctx = context.WithoutCancel(ctx)
			if _, unguarded := t.one("let others migrate", s.d.unguard, nil, new(*int)); err == nil {
				err = unguarded
			}
		}
		return err
	}
	return s.retry(ctx, math.MaxInt, func() error { return s.attempt(ctx, migrating, within) })
}

// missing returns the migrations that the database lacks.
func (t *tx) missing() (missing []migration, err error) {
	all, err := t.s.d.migrations()
	if err != nil {
		return nil, err
	}
	at, err := t.version()
	if err != nil {
		return nil, err
	}
	if newest := slices.MaxFunc(all, func(a, b migration) int { return a.version - b.version }).version; at > newest {
		return nil, fmt.Errorf("%w: the tables are of version %d and this program knows versions up to %d; use a newer program",
			store.ErrSchema, at, newest)
	}
	for _, m := range all {
		if m.version > at {
			missing = append(missing, m)
		}
		if m.version > 0 {
			continue
		}
		there, err := t.exists(m.name)
		if err != nil {
			return nil, err
		}
		if !there {
			missing = append(missing, m)
		}
	}
	return missing, nil
}

// version returns the version of the tables, 0 if there are none.
func (t *tx) version() (int, error) {
	there, err := t.exists("enrich_migrations")
	if err != nil || !there {
		return 0, err
	}
	var at *int
	if _, err := t.one("read the version of the tables", "SELECT max(version) FROM enrich_migrations", nil, &at); err != nil {
		return 0, err
	}
	if at == nil {
		return 0, nil
	}
	return *at, nil
}

// exists reports whether there is a table or index of that name.
func (t *tx) exists(name string) (bool, error) {
	var n int
	_, err := t.one("look for "+name, t.s.d.exists, []any{name}, &n)
	return n > 0, err
}

// checkDECNET runs statements that use what we need of the given tables of
// DECNET's and change nothing.
func (t *tx) checkDECNET(tables []string) error {
	for _, table := range tables {
		if err := t.checkTable(table); err != nil {
			return fmt.Errorf("%w: table %s is not as this program needs it; upgrade DECNET: %w", store.ErrSchema, table, err)
		}
	}
	if slices.Contains(tables, "attacker_intel") {
		return t.checkForeign()
	}
	return nil
}

// checkOwners returns an error if a table with the name of one of DECNET's lacks even
// the columns that it has in every version, or has them with types that DECNET's never
// had: it is another application's.
func (t *tx) checkOwners() error {
	for _, table := range decnetTables {
		always := map[string][]string{"uuid": texts, "ip": texts, "first_seen": times, "last_seen": times}
		if table == "attacker_intel" {
			always = map[string][]string{"uuid": texts, "attacker_uuid": texts}
		}
		there, kinds := false, make(map[string]string)
		err := t.query("look at the columns of "+table, t.s.d.columnsOf, []any{table}, func(scan func(...any) error) error {
			var name, kind string
			err := scan(&name, &kind)
			there, kinds[strings.ToLower(name)] = true, strings.ToLower(kind)
			return err
		})
		if err != nil {
			return err
		}
		var reasons []string
		for _, name := range slices.Sorted(maps.Keys(always)) {
			kind, has := kinds[name]
			switch {
			case !there: // checkTable says what is wrong
			case !has:
				reasons = append(reasons, "it has no column "+name)
			case kind != "" && !slices.ContainsFunc(always[name], func(part string) bool { return strings.Contains(kind, part) }):
				reasons = append(reasons, "its column "+name+" has the type "+kind)
			}
		}
		if len(reasons) > 0 {
			return fmt.Errorf("%w: the table %s belongs to another application, as %s; give this program %s of its own",
				store.ErrSchema, table, strings.Join(reasons, ", "), t.s.d.home)
		}
	}
	return nil
}

// What the names of types of texts and of times hold. A type of the database's user may
// be any.
var (
	texts = []string{"char", "text", "enum", "user-defined"}
	times = []string{"datetime", "timestamp", "user-defined"}
)

func (t *tx) checkTable(table string) error {
	columns := "uuid, ip, first_seen, last_seen, updated_at"
	if table == "attacker_intel" {
		columns = "uuid, attacker_uuid, " + strings.Join(common, ", ")
		for _, c := range decnet.Columns {
			columns += ", " + c.Name
		}
	}
	err := t.query("look at the table "+table, "SELECT "+columns+" FROM "+table+" WHERE 1 = 0", nil, nil)
	if err != nil || table != "attacker_intel" {
		return err
	}
	var unique int
	_, err = t.one("look for the key of attacker_intel", t.s.d.unique, nil, &unique)
	if err == nil && unique == 0 {
		err = errors.New("sqlstore: attacker_intel.attacker_uuid is not unique")
	}
	return err
}

// checkForeign looks for columns that keep us from adding rows to
// attacker_intel.
func (t *tx) checkForeign() error {
	t.s.intel.Store(nil) // the table may have changed
	foreign, err := t.foreignColumns()
	if err != nil {
		return err
	}
	for i := range foreign {
		if c := &foreign[i]; c.unusable() {
			return fmt.Errorf("%w: attacker_intel.%s must not be null and has no default, and its type has no value that says nothing; "+
				"give it a default or let it be null", store.ErrSchema, c.name)
		}
	}
	return nil
}

// collate returns the statements that give our columns of UUIDs the collation of
// attackers.uuid, if that matters: only then are indexes of use when tables are
// joined.
func (t *tx) collate() (all []statement, err error) {
	if t.s.d.collation == "" {
		return nil, nil
	}
	have := "utf8mb4_bin" // as the migrations say
	if _, err := t.one("read a collation", t.s.d.collation, []any{"enrich_ledger", "attacker_uuid"}, &have); err != nil {
		return nil, err
	}
	var want string
	found, err := t.one("read a collation", t.s.d.collation, []any{"attackers", "uuid"}, &want)
	if err == nil && !found {
		_, err = t.one("read a collation", t.s.d.newCollation, nil, &want)
	}
	if err != nil || want == have {
		return nil, err
	}
	charset, _, _ := strings.Cut(want, "_")
	// The last one is the one that is looked at.
	for _, table := range []string{"enrich_queue", "enrich_address", "enrich_raw", "enrich_ledger"} {
		all = append(all, statement{"to the collation of attackers.uuid",
			"ALTER TABLE " + table + " MODIFY attacker_uuid VARCHAR(64) CHARACTER SET " + charset + " COLLATE " + want + " NOT NULL"})
	}
	return all, nil
}

// Uninstall drops our own tables, which are named enrich_*, with all schedules,
// budgets and unpublished events. Other tables stay as they are, DECNET's and
// whatever else has such a name. Nothing may use the store until [Store.Migrate]
// was called again.
func (s *Store) Uninstall(ctx context.Context) error {
	return s.guarded(ctx, func(t *tx) error {
		for _, table := range ownTables {
			if err := t.exec("drop "+table, "DROP TABLE IF EXISTS "+table); err != nil {
				return err
			}
		}
		return nil
	})
}

// migrations returns the files in the order in which they are to be run.
func (d *dialect) migrations() (all []migration, err error) {
	dir := "migrations/" + d.name
	entries, err := migrations.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("sqlstore: read migrations: %w", err)
	}
	for _, e := range entries {
		b, err := migrations.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return nil, fmt.Errorf("sqlstore: read migration %s: %w", e.Name(), err)
		}
		number, _, _ := strings.Cut(e.Name(), "_")
		m := migration{name: strings.TrimSuffix(e.Name(), ".sql"), text: string(b)}
		m.version, _ = strconv.Atoi(number) // otherwise it is named after a table or index
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b migration) int { return a.place() - b.place() })
	return all, nil
}

// place orders files: tables without a version, versions, indexes.
func (m migration) place() int {
	tables := append(slices.Clone(decnetTables), "enrich_migrations")
	switch i := slices.Index(tables, m.name); {
	case i >= 0:
		return i - len(tables)
	case m.version > 0:
		return m.version
	}
	return math.MaxInt
}

// statements returns the statements of a file. Each ends with a semicolon at the
// end of a line; comments stand on lines of their own or hold no such semicolon.
func (m migration) statements() (all []string) {
	for text := range strings.SplitSeq(m.text, ";\n") {
		if text = strings.TrimSpace(text); text != "" {
			all = append(all, text)
		}
	}
	return all
}
