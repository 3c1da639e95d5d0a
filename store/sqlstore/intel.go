package sqlstore

import (
	"cmp"
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// intelWriter makes the statements that write attacker_intel. A statement
// writes the columns of some of the providers; which those are is mostly the
// same from one save to the next, so the texts are kept.
type intelWriter struct {
	dialect *dialect
	foreign []foreignColumn
	texts   sync.Map // of a statementKey: *intelStatement
}

// intelWriter returns what writes attacker_intel as it was when it was first
// looked at, or first after a failure.
func (t *tx) intelWriter() (*intelWriter, error) {
	if w := t.s.intel.Load(); w != nil {
		return w, nil
	}
	all, err := t.foreignColumns()
	if err != nil {
		return nil, err
	}
	w := &intelWriter{dialect: t.s.d, foreign: all}
	t.s.intel.Store(w)
	return w, nil
}

// statementKey says what a statement does: to which columns, and whether it
// adds a row where there is none.
type statementKey struct {
	providers string // sorted names, separated by commas
	others    string // as many, that foreign columns may belong to instead
	insert    bool
}

// intelStatement is a statement, and whose columns it writes. One that adds rows
// is in three parts, see tx.insert.
type intelStatement struct {
	text, values, tail string
	columns            []column
}

// statement returns the statement that writes the columns of those providers
// whose names are in changed. Names without columns are ignored. The entries are
// all that the record has.
func (w *intelWriter) statement(changed []string, entries []store.Entry, insert bool) *intelStatement {
	names := slices.DeleteFunc(slices.Clone(changed), func(name string) bool { return !hasColumns(name) && !w.fills(name) })
	slices.Sort(names)
	names = slices.Compact(names)
	var others []string
	for i := range entries {
		if name := entries[i].Provider; !slices.Contains(names, name) && w.fills(name) {
			others = append(others, name)
		}
	}
	key := statementKey{strings.Join(names, ","), strings.Join(others, ","), insert}
	if st, ok := w.texts.Load(key); ok {
		return st.(*intelStatement)
	}
	st := w.build(names, others, insert)
	w.texts.Store(key, st)
	return st
}

// fills reports whether findings of the named provider fill foreign columns.
func (w *intelWriter) fills(name string) bool {
	return slices.ContainsFunc(w.foreign, func(c foreignColumn) bool {
		_, ok := c.of(name)
		return ok
	})
}

// common are the columns that every statement writes, before those of the
// providers.
var common = []string{"attacker_ip", "schema_version", "aggregate_verdict", "cached_at", "expires_at"}

func (w *intelWriter) build(names, others []string, insert bool) *intelStatement {
	st := new(intelStatement)
	columns := slices.Clone(common)
	var absent, defaults []string // columns that must not be null, of other providers
	for i := range decnet.Columns {
		c := &decnet.Columns[i]
		switch {
		case slices.Contains(names, c.Provider):
			st.columns = append(st.columns, column{Column: *c})
			columns = append(columns, c.Name)
		case c.Kind == decnet.List, c.Kind == decnet.Raw:
			absent, defaults = append(absent, c.Name), append(defaults, neutrals[c.Kind].literal)
		}
	}
	for i := range w.foreign {
		c := &w.foreign[i]
		quoted := w.dialect.quote(c.name)
		if filled, ok := c.filledBy(names, others); ok {
			st.columns = append(st.columns, filled)
			columns = append(columns, quoted)
		} else if literal, ok := c.required(); ok {
			absent, defaults = append(absent, quoted), append(defaults, literal)
		}
	}
	if !insert {
		for i, c := range columns {
			columns[i] = c + " = ?"
			if c == "expires_at" {
				columns[i] = c + " = COALESCE(?, expires_at)"
			}
		}
		st.text = "UPDATE attacker_intel SET " + strings.Join(columns, ", ") + " WHERE attacker_uuid = ?"
		return st
	}
	values := slices.Repeat([]string{"?"}, len(columns)+2)
	st.text = "INSERT INTO attacker_intel (" +
		strings.Join(slices.Concat(columns, []string{"attacker_uuid", "uuid"}, absent), ", ") + ")"
	st.values = "(" + strings.Join(append(values, defaults...), ", ") + ")"
	st.tail = w.dialect.upsert("attacker_uuid", columns)
	return st
}

// write brings the rows of attacker_intel in line with the records of which
// findings or verdicts have changed. A row is added if it is absent and one of
// what changed is a finding.
func (t *tx) writeIntel(all []*merged) error {
	w, err := t.intelWriter()
	if err == nil {
		err = w.write(t, all)
	}
	if err != nil { // maybe because the table is another than before
		t.s.intel.Store(nil)
	}
	return err
}

func (w *intelWriter) write(t *tx, all []*merged) error {
	inserts := make(map[*intelStatement][][]any)
	var order []*intelStatement
	for _, m := range all {
		if len(m.changed) == 0 && !m.decided {
			continue
		}
		insert := m.rec.Revision > 0 && slices.ContainsFunc(m.changed, func(name string) bool {
			e := m.rec.Entry(name)
			return e != nil && e.Finding != nil
		})
		st := w.statement(m.changed, m.rec.Entries, insert)
		args := w.args(t, m, st)
		if !insert {
			if err := t.exec("write a row of attacker_intel", st.text, args...); err != nil {
				return err
			}
			continue
		}
		if inserts[st] == nil {
			order = append(order, st)
		}
		inserts[st] = append(inserts[st], append(args, decnet.RowID(m.id).String()))
	}
	for _, st := range order {
		if err := t.insert("write rows of attacker_intel", st.text, st.values, st.tail, inserts[st]); err != nil {
			return err
		}
	}
	return nil
}

// args returns the values of the statement's columns for a record, and the UUID
// of its attacker.
func (w *intelWriter) args(t *tx, m *merged, st *intelStatement) []any {
	rec := &m.rec
	cached := rec.CachedAt
	if cached.IsZero() {
		cached = time.UnixMicro(t.clock)
	}
	var expires any // nil keeps what the row has
	if at := cmp.Or(m.expires, decnet.ExpiresAt(rec)); !at.IsZero() {
		expires = w.dialect.time(at)
	} else if st.values != "" {
		expires = w.dialect.time(cached)
	}
	args := make([]any, 0, len(common)+len(st.columns)+2)
	args = append(args, t.plain("", w.dialect.cut(decnet.CleanText(rec.IP))), decnet.RowVersion, verdictText(&rec.Decision), w.dialect.time(cached), expires)
	for i := range st.columns {
		c := &st.columns[i]
		var f *provider.Finding
		if e := rec.Entry(c.Provider); e != nil {
			f = e.Finding
		}
		if t.care[c.Provider] >= withoutAttributes && c.Attr != "" {
			f = nil
		}
		switch v := c.value(f).(type) {
		case string:
			args = append(args, t.plain(c.Provider, v))
		case json.RawMessage:
			if c.Kind == decnet.Raw {
				args = append(args, t.raw(c.Provider, v))
			} else {
				args = append(args, t.json(c.Provider, string(v)))
			}
		case time.Time:
			args = append(args, w.dialect.time(v))
		default:
			args = append(args, v)
		}
	}
	return append(args, m.uuid)
}
