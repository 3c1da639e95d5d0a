package sqlstore

import (
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/decnet"
)

// foreignColumn is a column of attacker_intel that this program does not know:
// DECNET or an operator has added it. If it is named after a provider that is not
// one of DECNET's four, that provider's findings fill it. Otherwise it is left
// alone, but a new row needs a value if it has no default and must not be null.
type foreignColumn struct {
	name      string
	kind      decnet.Kind
	max       int  // as in decnet.Column
	neutral   bool // there is a value of its type that says nothing
	fills     bool // findings may fill it
	notNull   bool
	defaulted bool // the database has a value for it
}

// neutrals are the values that say nothing: as a literal, and to bind.
var neutrals = map[decnet.Kind]struct {
	literal string
	value   any
}{
	decnet.Text:  {"''", ""},
	decnet.Int:   {"0", int64(0)},
	decnet.Float: {"0", float64(0)},
	decnet.Bool:  {"FALSE", false},
	decnet.List:  {"'[]'", nil}, // never null
	decnet.Raw:   {"'{}'", nil},
}

// foreignColumns reads the columns of attacker_intel that are not in
// decnet.Columns nor common to all rows.
func (t *tx) foreignColumns() (all []foreignColumn, err error) {
	ours := append([]string{"uuid", "attacker_uuid"}, common...)
	for i := range decnet.Columns {
		ours = append(ours, decnet.Columns[i].Name)
	}
	err = t.query("look at the columns of attacker_intel", t.s.d.columns, nil, func(scan func(...any) error) error {
		var (
			name, typ          string
			notNull, defaulted int
		)
		err := scan(&name, &typ, &notNull, &defaulted)
		if !slices.Contains(ours, strings.ToLower(name)) {
			all = append(all, newForeignColumn(name, typ, notNull != 0, defaulted != 0))
		}
		return err
	})
	return all, err
}

// foreignProviders returns the names of providers, not among DECNET's four, whose
// raw answers attacker_intel has a column for, and another one for their age.
func (t *tx) foreignProviders() (names []string, err error) {
	w, err := t.intelWriter()
	if err != nil {
		return nil, err
	}
	for i := range w.foreign {
		c := &w.foreign[i]
		name, _ := strings.CutSuffix(c.name, "_raw")
		if c.kind == decnet.Raw && slices.ContainsFunc(w.foreign, func(c foreignColumn) bool {
			return c.name == name+"_queried_at" && c.kind == decnet.Time && c.fills
		}) {
			names = append(names, name)
		}
	}
	return names, nil
}

// newForeignColumn returns the column of the given type, spelled as in CREATE
// TABLE or in the information schema.
func newForeignColumn(name, typ string, notNull, defaulted bool) foreignColumn {
	c := foreignColumn{name: name, notNull: notNull, defaulted: defaulted, neutral: true, fills: true}
	typ, unsigned := strings.CutSuffix(strings.ToLower(typ), " unsigned")
	base, length, _ := strings.Cut(typ, "(")
	n, _ := strconv.Atoi(strings.TrimSuffix(length, ")")) // 0: none, or not only one number
	switch strings.TrimSpace(base) {
	case "char", "varchar", "character", "character varying", "text", "clob":
		c.kind, c.max = decnet.Text, n
		if n == 0 && strings.HasSuffix(name, "_raw") {
			c.kind = decnet.Raw
		}
	case "tinyint":
		c.kind, c.max = decnet.Int, math.MaxInt8
		if n == 1 { // what MySQL makes of BOOLEAN
			c.kind, c.max = decnet.Bool, 0
		}
	case "smallint":
		c.kind, c.max = decnet.Int, math.MaxInt16
	case "mediumint":
		c.kind, c.max = decnet.Int, 1<<23-1
	case "int", "integer":
		c.kind, c.max = decnet.Int, math.MaxInt32
	case "bigint":
		c.kind, c.max = decnet.Int, math.MaxInt
	case "float", "real", "double", "double precision":
		c.kind = decnet.Float
	case "decimal", "numeric": // of which no one knows what fits
		c.kind, c.fills = decnet.Float, false
	case "bool", "boolean":
		c.kind = decnet.Bool
	case "json", "jsonb":
		c.kind = decnet.List
		if strings.HasSuffix(name, "_raw") {
			c.kind = decnet.Raw
		}
	case "datetime", "timestamp", "timestamp without time zone":
		c.kind, c.neutral, c.fills = decnet.Time, false, !notNull
	default:
		c.neutral, c.fills = false, false
	}
	c.fills = c.fills && !unsigned
	return c
}

// required returns the literal that a new row gives to the column, and false if
// it need not give any.
func (c *foreignColumn) required() (literal string, ok bool) {
	return neutrals[c.kind].literal, c.notNull && !c.defaulted && c.neutral
}

// unusable reports whether no row can be added because of the column.
func (c *foreignColumn) unusable() bool { return c.notNull && !c.defaulted && !c.neutral }

// of returns the column as one that the named provider's findings fill, and false
// if it is none.
func (c *foreignColumn) of(name string) (column, bool) {
	attr, ok := strings.CutPrefix(c.name, name+"_")
	if !ok || attr == "" || !c.fills || hasColumns(name) {
		return column{}, false
	}
	kind := c.kind
	switch {
	case attr == "raw" && kind == decnet.Raw, attr == "queried_at" && kind == decnet.Time:
		attr = ""
	case kind == decnet.Raw: // an attribute whose name only ends like that
		kind = decnet.List
	case kind == decnet.Time:
		return column{}, false
	}
	return column{decnet.Column{Name: c.name, Provider: name, Attr: attr, Kind: kind, Max: c.max}, true, c.notNull}, true
}

// filledBy returns the column as one that one of the named providers fills, and
// false if it is none or one of the others does: the one with the longest name.
func (c *foreignColumn) filledBy(names, others []string) (filled column, ok bool) {
	for i, name := range slices.Concat(names, others) {
		if is, fits := c.of(name); fits && len(name) > len(filled.Provider) {
			filled, ok = is, i < len(names)
		}
	}
	return filled, ok
}

// column is a column that a statement fills from a finding.
type column struct {
	decnet.Column
	foreign bool
	notNull bool // if it is foreign; what fills others is never null where it must not be
}

// value returns what the column holds for the given finding, which may be nil.
// In a foreign column, what does not fit is null, or neutral if it must not be.
func (c *column) value(f *provider.Finding) any {
	v := c.Value(f)
	switch {
	case !c.foreign:
	case v == nil && c.notNull:
		return neutrals[c.Kind].value
	case c.Kind == decnet.List && !c.notNull && !hasList(f, c.Attr):
		return nil
	}
	return v
}

func hasList(f *provider.Finding, attr string) bool {
	if f == nil {
		return false
	}
	switch f.Attrs[attr].(type) {
	case []string, []int64:
		return true
	}
	return false
}
