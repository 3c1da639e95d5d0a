package sqlstore

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// intelWriter makes the statements that write attacker_intel. A statement
// writes the columns of some of the providers; which those are is mostly the
// same from one save to the next, so the texts are kept.
type intelWriter struct {
	dialect *dialect
	texts   sync.Map // of a statementKey: *intelStatement
}

// statementKey says what a statement does: to which columns, and whether it
// adds a row where there is none.
type statementKey struct {
	providers string // sorted names, separated by commas
	insert    bool
}

type intelStatement struct {
	text    string
	columns []*store.Column
}

// statement returns the statement that writes the columns of the named
// providers. Names without columns are ignored.
func (w *intelWriter) statement(names []string, insert bool) *intelStatement {
	names = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return !hasColumns(name) })
	slices.Sort(names)
	names = slices.Compact(names)
	key := statementKey{strings.Join(names, ","), insert}
	if st, ok := w.texts.Load(key); ok {
		return st.(*intelStatement)
	}
	st := w.build(names, insert)
	w.texts.Store(key, st)
	return st
}

// common are the columns that every statement writes, before those of the
// providers.
var common = []string{"attacker_ip", "schema_version", "aggregate_verdict", "cached_at", "expires_at"}

func (w *intelWriter) build(names []string, insert bool) *intelStatement {
	st := new(intelStatement)
	columns := slices.Clone(common)
	var absent, defaults []string // columns that must not be null, of other providers
	for i := range store.Columns {
		c := &store.Columns[i]
		switch {
		case slices.Contains(names, c.Provider):
			st.columns = append(st.columns, c)
			columns = append(columns, c.Name)
		case c.Kind == store.List:
			absent, defaults = append(absent, c.Name), append(defaults, "'[]'")
		case c.Kind == store.Raw:
			absent, defaults = append(absent, c.Name), append(defaults, "'{}'")
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
		strings.Join(slices.Concat(columns, []string{"attacker_uuid", "uuid"}, absent), ", ") + ") VALUES (" +
		strings.Join(append(values, defaults...), ", ") + ")" +
		w.dialect.upsert("attacker_uuid", columns)
	return st
}

// write brings the row of attacker_intel in line with the record r, of which
// the findings of the named providers have changed. The row is added if it is
// absent and one of them holds a finding.
func (w *intelWriter) write(t *tx, r *row, rec *store.Record, names []string) error {
	insert := rec.Revision > 0 && slices.ContainsFunc(names, func(name string) bool {
		e := rec.Entry(name)
		return e != nil && e.Finding != nil
	})
	st := w.statement(names, insert)
	cached := rec.CachedAt
	if cached.IsZero() {
		cached = time.UnixMicro(t.clock)
	}
	var expires any // nil keeps what the row has
	if at := rec.ExpiresAt(); !at.IsZero() {
		expires = w.dialect.time(at)
	} else if insert {
		expires = w.dialect.time(cached)
	}
	args := make([]any, 0, len(common)+len(st.columns)+2)
	args = append(args, store.CleanText(rec.IP), store.RowVersion, verdictText(&rec.Decision), w.dialect.time(cached), expires)
	for _, c := range st.columns {
		var f *provider.Finding
		if e := rec.Entry(c.Provider); e != nil {
			f = e.Finding
		}
		args = append(args, w.bind(c.Value(f)))
	}
	args = append(args, r.uuid)
	if insert {
		args = append(args, store.RowID(r.id).String())
	}
	return t.exec("write a row of attacker_intel", st.text, args...)
}

// bind returns what to bind for a column's value.
func (w *intelWriter) bind(v any) any {
	switch v := v.(type) {
	case json.RawMessage:
		return cleanJSON(v)
	case time.Time:
		return w.dialect.time(v)
	case bool:
		if v {
			return int64(1)
		}
		return int64(0)
	}
	return v
}
