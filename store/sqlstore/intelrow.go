package sqlstore

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/internal/sources"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// columnProviders are the providers that attacker_intel has columns of, sorted.
var columnProviders = func() (names []string) {
	for i := range decnet.Columns {
		names = append(names, decnet.Columns[i].Provider)
	}
	slices.Sort(names)
	return slices.Compact(names)
}()

// hasColumns reports whether attacker_intel has columns of the named provider.
func hasColumns(name string) bool { return slices.Contains(columnProviders, name) }

// rawColumns are the columns of raw answers in the order of columnProviders.
var rawColumns = strings.Join(columnsOf(decnet.Raw), ", ")

// timeColumns are the columns of times in the order of columnProviders, as they are
// read.
func (d *dialect) timeColumns() string {
	names := columnsOf(decnet.Time)
	for i, name := range names {
		names[i] = d.moment(name)
	}
	return strings.Join(names, ", ")
}

// columnsOf returns the columns of a kind that every provider has one of, in the
// order of columnProviders.
func columnsOf(kind decnet.Kind) (names []string) {
	for _, name := range columnProviders {
		for i := range decnet.Columns {
			if c := &decnet.Columns[i]; c.Provider == name && c.Kind == kind {
				names = append(names, c.Name)
			}
		}
	}
	return names
}

// intelRow is a row of attacker_intel, read.
type intelRow struct {
	key      string // its own UUID
	uuid     string // the attacker's
	ip       any
	values   []any // of decnet.Columns
	verdict  any
	cachedAt timestamp
	expires  timestamp
}

// intelColumns are what intelRow.scan reads.
func (d *dialect) intelColumns() string {
	names := []string{"i.uuid", "i.attacker_uuid", "i.attacker_ip"}
	for i := range decnet.Columns {
		name := "i." + decnet.Columns[i].Name
		if decnet.Columns[i].Kind == decnet.Time {
			name = d.moment(name)
		}
		names = append(names, name)
	}
	return strings.Join(append(names, "i.aggregate_verdict", d.moment("i.cached_at"), d.moment("i.expires_at")), ", ")
}

func (r *intelRow) scan(scan func(...any) error) error {
	r.values = make([]any, len(decnet.Columns))
	dest := []any{&r.key, &r.uuid, &r.ip}
	for i := range r.values {
		dest = append(dest, &r.values[i])
	}
	return scan(append(dest, &r.verdict, &r.cachedAt, &r.expires)...)
}

// intelRows returns the rows of attacker_intel about the given attackers, by
// attacker.
func (t *tx) intelRows(uuids []string) (map[string]*intelRow, error) {
	rows := make(map[string]*intelRow)
	err := t.queryAmong("read rows of attacker_intel", "SELECT "+t.s.d.intelColumns()+" FROM attacker_intel i WHERE i.attacker_uuid",
		uuids, "", func(scan func(...any) error) error {
			r := new(intelRow)
			if err := r.scan(scan); err != nil {
				return err
			}
			rows[r.uuid] = r
			return nil
		})
	return rows, err
}

// row returns what the row says about itself.
func (r *intelRow) row() store.Row {
	return store.Row{UUID: r.key, CachedAt: r.cachedAt.Time, ExpiresAt: r.expires.Time}
}

// queriedAt returns when the named provider answered, and zero if it did not.
func (r *intelRow) queriedAt(name string) time.Time {
	for i := range decnet.Columns {
		if c := &decnet.Columns[i]; c.Provider == name && c.Kind == decnet.Time {
			var t timestamp
			_ = t.Scan(r.values[i]) // never fails
			return t.Time
		}
	}
	return time.Time{}
}

// entries returns a fresh entry for each provider that answered, in order of
// name.
func (r *intelRow) entries() []store.Entry {
	addr, _ := provider.ParseAddr(asText(r.ip)) // the zero Addr is no attacker's
	var entries []store.Entry
	for _, name := range columnProviders {
		at := r.queriedAt(name)
		if at.IsZero() {
			continue
		}
		f := &provider.Finding{Provider: name, Addr: addr, Attrs: make(map[string]any), ObservedAt: at}
		if ttl := r.expires.Sub(at); ttl > 0 && !r.expires.IsZero() {
			f.TTL = ttl
		}
		for i := range decnet.Columns {
			if c := &decnet.Columns[i]; c.Provider == name {
				r.fill(f, c, r.values[i])
			}
		}
		sources.Judge(f)
		entries = append(entries, store.Entry{Provider: name, State: store.Fresh, Finding: f, Expires: r.expires.Time})
	}
	return entries
}

// fill puts the value of a column into a finding.
func (r *intelRow) fill(f *provider.Finding, c *decnet.Column, value any) {
	if value == nil {
		return
	}
	switch c.Kind {
	case decnet.Text:
		f.Attrs[c.Attr] = asText(value)
	case decnet.Int:
		if n, ok := asInt(value); ok {
			f.Attrs[c.Attr] = n
		}
	case decnet.Bool:
		if n, ok := asInt(value); ok {
			f.Attrs[c.Attr] = n != 0
		}
	case decnet.List:
		if c.Attr == "categories" { // the one list of numbers
			f.Attrs[c.Attr] = asList[int64](asText(value))
		} else {
			f.Attrs[c.Attr] = asList[string](asText(value))
		}
	case decnet.Raw:
		f.Raw = asRaw(asText(value))
	}
}

// record returns the record that a row makes by itself: its first revision, unless there
// are no entries.
func (r *intelRow) record() (entries []store.Entry, decision aggregate.Decision) {
	if entries = r.entries(); len(entries) > 0 {
		decision.Verdict, _ = provider.ParseVerdict(asText(r.verdict)) // another text is no opinion
	}
	return entries, decision
}

// Values of DECNET's tables as a driver returns them.

func asText(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func asInt(v any) (int64, bool) {
	switch v := v.(type) {
	case int64:
		return v, true
	case bool:
		if v {
			return 1, true
		}
		return 0, true
	}
	n, err := strconv.ParseInt(asText(v), 10, 64)
	return n, err == nil
}

// asList decodes a JSON array of strings or of integers; anything else is an
// empty list.
func asList[T string | int64](text string) []T {
	var list []T
	if json.Unmarshal([]byte(text), &list) != nil || list == nil {
		return []T{}
	}
	return list
}

// asRaw returns the content of a Raw column, which is {} when there is nothing.
func asRaw(text string) json.RawMessage {
	if text == "" || text == "{}" || !json.Valid([]byte(text)) {
		return nil
	}
	return json.RawMessage(text)
}
