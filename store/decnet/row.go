// Package decnet has what is particular to DECNET about a record: the columns of
// its table attacker_intel, what each of them holds, and a record as its row in
// that table. Stores beside DECNET, the HTTP API and the payload of events go by it.
package decnet

import (
	"cmp"
	"encoding/json"
	"math"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// RowVersion is the value of the column schema_version.
const RowVersion = 1

// Kind is the type of a [Column]'s values.
type Kind uint8

// The kinds of columns, with the Go type that [Column.Value] returns.
const (
	Text  Kind = iota // string, or nil
	Int               // int64, or nil
	Bool              // bool, or nil
	List              // json.RawMessage holding an array, never nil
	Raw               // json.RawMessage, never nil
	Time              // time.Time in UTC, or nil
	Float             // float64, or nil
)

// Column is a column of the table attacker_intel that is filled from the
// finding of one provider. The table is DECNET's: see the schema of its
// AttackerIntel model.
type Column struct {
	Name     string // in the table: the provider's name, an underscore, the attribute's
	Provider string // whose finding fills it
	Attr     string // attribute the value comes from; empty for Raw and Time
	Kind     Kind
	// Max is the greatest number of characters of a Text, which is cut to it, and
	// the greatest Int, as in math.MaxInt16. Zero means no limit for a Text, and
	// math.MaxInt32 for an Int.
	Max int
}

// Columns are the provider columns of attacker_intel in table order. It must
// not be modified.
var Columns = []Column{
	{"greynoise_classification", "greynoise", "classification", Text, 32},
	{"greynoise_name", "greynoise", "name", Text, 128},
	{"greynoise_tags", "greynoise", "tags", List, 0},
	{"greynoise_raw", "greynoise", "", Raw, 0},
	{"greynoise_queried_at", "greynoise", "", Time, 0},
	{"abuseipdb_score", "abuseipdb", "score", Int, 0},
	{"abuseipdb_categories", "abuseipdb", "categories", List, 0},
	{"abuseipdb_raw", "abuseipdb", "", Raw, 0},
	{"abuseipdb_queried_at", "abuseipdb", "", Time, 0},
	{"feodo_listed", "feodo", "listed", Bool, 0},
	{"feodo_malware_family", "feodo", "malware_family", Text, 64},
	{"feodo_raw", "feodo", "", Raw, 0},
	{"feodo_queried_at", "feodo", "", Time, 0},
	{"threatfox_listed", "threatfox", "listed", Bool, 0},
	{"threatfox_threat_types", "threatfox", "threat_types", List, 0},
	{"threatfox_ioc_types", "threatfox", "ioc_types", List, 0},
	{"threatfox_malware_families", "threatfox", "malware_families", List, 0},
	{"threatfox_raw", "threatfox", "", Raw, 0},
	{"threatfox_queried_at", "threatfox", "", Time, 0},
}

// Value returns what the column holds for the given finding, which may be nil.
// Text is made storable everywhere (see [CleanText]) and cut to the column. An
// attribute of another type than the column's counts as absent, except that a
// Float may be given as an integer; so does a number beyond the column's range,
// which of a Float is that of single precision.
func (c *Column) Value(f *provider.Finding) any {
	switch c.Kind {
	case Raw:
		if f == nil || len(f.Raw) == 0 {
			return json.RawMessage("{}")
		}
		return f.Raw
	case Time:
		if f == nil {
			return nil
		}
		return f.ObservedAt.UTC()
	}
	var attr any
	if f != nil {
		attr = f.Attrs[c.Attr]
	}
	switch c.Kind {
	case List:
		return listJSON(attr)
	case Text:
		if s, ok := attr.(string); ok {
			return cut(CleanText(s), cmp.Or(c.Max, math.MaxInt))
		}
	case Int:
		most := int64(cmp.Or(c.Max, math.MaxInt32))
		if n, ok := attr.(int64); ok && n <= most && n >= -most-1 {
			return n
		}
	case Float:
		x, ok := attr.(float64)
		if n, isInt := attr.(int64); isInt {
			x, ok = float64(n), true
		}
		if ok && math.Abs(x) <= math.MaxFloat32 { // and a number at all
			return x
		}
	case Bool:
		if b, ok := attr.(bool); ok {
			return b
		}
	}
	return nil
}

func listJSON(attr any) json.RawMessage {
	switch list := attr.(type) {
	case []string:
		clean := make([]string, len(list))
		for i, s := range list {
			clean[i] = CleanText(s)
		}
		b, _ := json.Marshal(clean) // strings always marshal
		return b
	case []int64:
		if list != nil {
			b, _ := json.Marshal(list) // integers always marshal
			return b
		}
	}
	return json.RawMessage("[]")
}

// CleanText returns s as every database can store it: valid UTF-8, with
// U+FFFD for what is not, and without NUL characters, which PostgreSQL refuses.
func CleanText(s string) string { return jsontext.Clean(s) }

// cut returns the first n characters of s.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for i := range s {
		if n == 0 {
			return s[:i]
		}
		n--
	}
	return s
}

// ExpiresAt returns the earliest expiry of a finding in the record, and the
// zero time if none has one. Findings of providers that do not apply, which are never
// replaced, do not count. See [store.Update] for what a store prefers.
func ExpiresAt(r *store.Record) time.Time {
	var first time.Time
	for _, e := range r.Entries {
		if e.Finding == nil || e.Expires.IsZero() || e.State == store.NotApplicable {
			continue
		}
		if first.IsZero() || e.Expires.Before(first) {
			first = e.Expires
		}
	}
	return first
}

// RowID returns the primary key that we give to the attacker's row in
// attacker_intel, a UUID derived from the attacker's, so that writing a row
// twice gives the same row.
func RowID(attacker uuid.UUID) uuid.UUID {
	return uuid.NewSHA1(attacker, []byte("attacker_intel"))
}

// RowJSON returns the record as its row in attacker_intel would read: a JSON
// object with the column names as keys, in table order, and times in RFC 3339.
// The key is that of r.Row, or else [RowID]; before the first finding the times
// are those of r.Row.
func RowJSON(r *store.Record) json.RawMessage {
	b := make([]byte, 0, 1024)
	field := func(name string, v any) {
		if t, ok := v.(time.Time); ok && t.IsZero() {
			v = nil
		}
		value, err := json.Marshal(v)
		if err != nil { // a year that RFC 3339 cannot tell, a Raw that is not JSON
			value = []byte("null")
		}
		b = append(b, ',', '"')
		b = append(b, name...)
		b = append(b, '"', ':')
		b = append(b, value...)
	}
	cached, expires := r.CachedAt, ExpiresAt(r)
	if r.CachedAt.Before(r.Row.CachedAt.Add(time.Second)) { // as the row says; some tables keep no fractions
		cached, expires = cmp.Or(r.CachedAt, r.Row.CachedAt), r.Row.ExpiresAt
	}
	field("uuid", cmp.Or(r.Row.UUID, RowID(r.ID).String()))
	field("attacker_uuid", r.ID)
	field("attacker_ip", CleanText(r.IP))
	field("schema_version", RowVersion)
	for i := range Columns {
		c := &Columns[i]
		var f *provider.Finding
		if e := r.Entry(c.Provider); e != nil {
			f = e.Finding
		}
		field(c.Name, c.Value(f))
	}
	field("aggregate_verdict", r.Decision.Verdict)
	field("cached_at", cached.UTC())
	field("expires_at", expires.UTC())
	b[0] = '{'
	b = append(b, '}')
	return b
}
