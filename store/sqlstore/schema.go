package sqlstore

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/decnet/enrich/store"
)

// table is one of our own tables, as the migrations create it or as it is there.
type table struct {
	columns map[string]tableColumn
	keys    []string // the columns of the primary key and of unique constraints, with commas
	indexes map[string]tableIndex
}

type tableColumn struct {
	kind     string // as the catalog of the database has it
	nullable bool
}

type tableIndex struct {
	columns string // with commas
	create  string // the statement that creates it; empty if the index was read from the database
}

var (
	createTable = regexp.MustCompile(`(?s)^CREATE TABLE (?:IF NOT EXISTS )?(\w+) \((.*)\)[^)]*$`)
	createIndex = regexp.MustCompile(`^CREATE INDEX (?:IF NOT EXISTS )?(\w+) ON (\w+) \(((?:[^()]|\(\d+\))*)\)`)
	renamed     = regexp.MustCompile(`ALTER TABLE (\w+) RENAME COLUMN (\w+) TO (\w+)`)
	inlineIndex = regexp.MustCompile(`^KEY (\w+) \(([^)]*)\)`)
	primaryKey  = regexp.MustCompile(`^PRIMARY KEY \(([^)]*)\)`)
	columnLine  = regexp.MustCompile(`^(\w+)\s+(\w+(?:\(\d+\))?)(.*)$`)
	lineComment = regexp.MustCompile(`(?m)\s*--.*$`)
	listComma   = regexp.MustCompile(`,\n`)
)

// wanted returns our tables as the migrations create them, by name.
func (d *dialect) wanted() (map[string]*table, error) {
	all, err := d.migrations()
	if err != nil {
		return nil, err
	}
	tables := make(map[string]*table)
	for _, m := range all {
		if slices.Contains(decnetTables, m.name) {
			continue
		}
		for _, text := range m.statements() {
			text = strings.TrimSpace(lineComment.ReplaceAllString(text, ""))
			if parts := createTable.FindStringSubmatch(text); parts != nil {
				tables[parts[1]] = d.parseTable(parts[1], parts[2])
			} else if parts := createIndex.FindStringSubmatch(text); parts != nil {
				tables[parts[2]].indexes[parts[1]] = tableIndex{bareColumns(parts[3]), strings.Join(strings.Fields(text), " ")}
			} else if parts := renamed.FindStringSubmatch(text); parts != nil {
				columns := tables[parts[1]].columns
				columns[parts[3]] = columns[parts[2]]
				delete(columns, parts[2])
			}
		}
	}
	return tables, nil
}

// parseTable reads what is between the parentheses of CREATE TABLE.
func (d *dialect) parseTable(name, text string) *table {
	t := &table{columns: make(map[string]tableColumn), indexes: make(map[string]tableIndex)}
	for _, line := range listComma.Split(text, -1) {
		line = strings.TrimSpace(line)
		if parts := primaryKey.FindStringSubmatch(line); parts != nil {
			t.keys = append(t.keys, bareColumns(parts[1]))
		} else if parts := inlineIndex.FindStringSubmatch(line); parts != nil {
			t.indexes[parts[1]] = tableIndex{bareColumns(parts[2]), "CREATE INDEX " + parts[1] + " ON " + name + " (" + parts[2] + ")"}
		} else if parts := columnLine.FindStringSubmatch(line); parts != nil {
			isKey := strings.Contains(parts[3], "PRIMARY KEY")
			if isKey || strings.Contains(parts[3], "UNIQUE") {
				t.keys = append(t.keys, parts[1])
			}
			kind := strings.ToLower(parts[2])
			if kind == "integer" && d.name == "mysql" {
				kind = "int"
			}
			t.columns[parts[1]] = tableColumn{kind, !isKey && !strings.Contains(parts[3], "NOT NULL")}
		}
	}
	return t
}

// bareColumns returns a list of columns without their directions and spaces.
func bareColumns(list string) string {
	var names []string
	for column := range strings.SplitSeq(list, ",") {
		name, _, _ := strings.Cut(strings.Fields(column)[0], "(") // without the length of a prefix
		names = append(names, name)
	}
	return strings.Join(names, ",")
}

// present returns our tables as they are there, by name.
func (t *tx) present() (map[string]*table, error) {
	tables := make(map[string]*table)
	at := func(name string) *table {
		if tables[name] == nil {
			tables[name] = &table{columns: make(map[string]tableColumn), indexes: make(map[string]tableIndex)}
		}
		return tables[name]
	}
	err := t.query("look at the columns of our tables", t.s.d.ownColumns, nil, func(scan func(...any) error) error {
		var (
			table, column, kind string
			nullable            bool
		)
		err := scan(&table, &column, &kind, &nullable)
		at(table).columns[column] = tableColumn{strings.ToLower(kind), nullable}
		return err
	})
	if err != nil {
		return nil, err
	}
	err = t.query("look at the indexes of our tables", t.s.d.ownIndexes, nil, func(scan func(...any) error) error {
		var (
			table, index, columns string
			unique                bool
		)
		err := scan(&table, &index, &columns, &unique)
		at(table).indexes[index] = tableIndex{columns: columns}
		if unique {
			at(table).keys = append(at(table).keys, columns)
		}
		return err
	})
	return tables, err
}

// checkOurs returns an error that names everything in which our own tables are not
// as the migrations leave them, and says how to repair it.
func (t *tx) checkOurs() error {
	wanted, err := t.s.d.wanted()
	if err != nil {
		return err
	}
	present, err := t.present()
	if err != nil {
		return err
	}
	var problems []string
	note := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	lost := false // something that only a backup has
	for _, own := range ownTables {
		want, have := wanted[own], present[own]
		if have == nil {
			note("table %s is missing", own)
			lost = true
			continue
		}
		for _, name := range slices.Sorted(maps.Keys(want.columns)) {
			column, there := have.columns[name]
			switch w := want.columns[name]; {
			case !there:
				note("table %s: the column %s is missing", own, name)
			case column.kind != w.kind:
				note("table %s: the column %s has the type %s; it must be %s", own, name, column.kind, w.kind)
			case column.nullable && !w.nullable:
				note("table %s: the column %s may be null; it must not", own, name)
			case !column.nullable && w.nullable:
				note("table %s: the column %s must not be null; it has to allow that", own, name)
			default:
				continue
			}
			lost = true
		}
		for _, key := range want.keys {
			if !slices.Contains(have.keys, key) {
				note("table %s: the key (%s) is missing", own, key)
				lost = true
			}
		}
		for _, name := range slices.Sorted(maps.Keys(want.indexes)) {
			if index := want.indexes[name]; have.indexes[name].columns != index.columns {
				note("table %s: the index %s is missing, or on other columns; create it with: %s", own, name, index.create)
			}
		}
	}
	if len(problems) == 0 {
		return nil
	}
	if lost {
		problems = append(problems, "an Uninstall or a restore was not completed, or somebody changed the tables; "+
			"restore all tables named enrich_* from a backup, or call Uninstall, which drops them, and then Migrate; DECNET's own tables stay as they are")
	}
	return fmt.Errorf("%w: %s", store.ErrSchema, strings.Join(problems, "; "))
}

// checkVersion returns an error if our tables are not all those that the version
// they claim to have consists of. Migrate could not go on with them.
func (t *tx) checkVersion() error {
	all, err := t.s.d.migrations()
	if err != nil {
		return err
	}
	at, err := t.version()
	if err != nil {
		return err
	}
	var there, gone []string
	for _, m := range all {
		if m.version == 0 {
			continue
		}
		for _, text := range m.statements() {
			parts := createTable.FindStringSubmatch(strings.TrimSpace(lineComment.ReplaceAllString(text, "")))
			if parts == nil {
				continue
			}
			exists, err := t.exists(parts[1])
			switch {
			case err != nil:
				return err
			case exists && m.version > at:
				there = append(there, parts[1])
			case !exists && m.version <= at:
				gone = append(gone, parts[1])
			}
		}
	}
	const repair = "; an Uninstall or a restore was not completed: restore all tables named enrich_* from a backup, or call Uninstall again, " +
		"which drops them, and then Migrate; DECNET's own tables stay as they are"
	switch {
	case len(gone) > 0:
		return fmt.Errorf("%w: missing: %s%s", store.ErrSchema, strings.Join(gone, ", "), repair)
	case len(there) > 0 && t.s.d.wholeDDL:
		return fmt.Errorf("%w: enrich_migrations does not name the version of %s%s", store.ErrSchema, strings.Join(there, ", "), repair)
	}
	return nil
}

// cursorNames are the rows of enrich_cursor.
var cursorNames = []string{"lead", "trail", "past", "sweep", "ledger", "queues"}

// missingCursors returns the rows that enrich_cursor lacks, as after a restore that
// was not completed.
func (t *tx) missingCursors() (missing []string, err error) {
	missing = slices.Clone(cursorNames)
	err = t.query("look for the cursors", "SELECT name FROM enrich_cursor", nil, func(scan func(...any) error) error {
		var name string
		err := scan(&name)
		missing = slices.DeleteFunc(missing, func(other string) bool { return other == name })
		return err
	})
	return missing, err
}

// addCursors returns the statements that add rows to enrich_cursor. All attackers
// are read again, which changes nothing about those that are known.
func (t *tx) addCursors(names []string) (all []string) {
	for _, name := range names {
		all = append(all, "INSERT INTO enrich_cursor (name, at, uuid, moved_at) VALUES ('"+name+"', '', '', 0)")
	}
	if slices.ContainsFunc(names, func(name string) bool { return slices.Contains([]string{"lead", "trail", "past"}, name) }) {
		all = append(all, "UPDATE enrich_cursor SET at = '', uuid = '' WHERE name IN ('lead', 'trail', 'past')")
	}
	return all
}

// repairCursors adds what enrich_cursor lacks, and reports whether that was
// anything.
func (t *tx) repairCursors() (repaired bool, err error) {
	missing, err := t.missingCursors()
	if err != nil || len(missing) == 0 {
		return false, err
	}
	t.s.log.Warn("rows of enrich_cursor were missing and are added; was a backup restored in part?", "missing", strings.Join(missing, ", "))
	for _, text := range t.addCursors(missing) {
		if err := t.exec("add rows to enrich_cursor", text); err != nil {
			return false, err
		}
	}
	return true, nil
}
