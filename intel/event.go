package intel

import (
	"encoding/json"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// The topics a worker subscribes to and publishes on. They are DECNET's.
const (
	// TopicObserved and TopicScored announce that an attacker may be due.
	TopicObserved = "attacker.observed"
	TopicScored   = "attacker.scored"
	// TopicEnriched carries one event per update that stored a finding.
	TopicEnriched = "attacker.intel.enriched"
	// TopicHealth carries a worker's sign of life.
	TopicHealth = "system.enrich.health"
	// TopicControl carries commands: {"action":"stop"} stops a worker.
	TopicControl = "system.enrich.control"
)

const (
	typeEnriched = "intel.enriched"
	typeHealth   = "health"
)

// announcement is what an enriched event says beyond the record.
type announcement struct {
	providers []string // configured
	answered  []string // with a new finding
	pending   []string // still to answer
	changed   bool     // the verdict
}

// maxAttrsEnd is where the attributes of custom providers have to end in a
// payload, so that a bus can carry it with what follows them.
const maxAttrsEnd = bus.MaxPayload - 16<<10

// enrichedEvent returns the event that announces a record. All of the keys
// that DECNET's consumers know are always present. The attributes of a custom
// provider for which there is no room are left out; the record has them.
func enrichedEvent(r *store.Record, a announcement, at time.Time) *bus.Event {
	id := store.EventID(r.ID, r.Revision, at)
	b := make([]byte, 0, 768)
	b = append(b, `{"attacker_uuid":"`...)
	b = append(b, r.ID.String()...)
	b = append(b, `","attacker_ip":`...)
	b = appendString(b, r.IP)
	b = append(b, `,"aggregate_verdict":`...)
	b = appendValue(b, nilIfEmpty(r.Decision.Verdict.String()))
	b = append(b, `,"providers":`...)
	b = appendStrings(b, a.providers)
	for i := range decnet.Columns {
		c := &decnet.Columns[i]
		if c.Kind == decnet.Raw || c.Kind == decnet.Time {
			continue
		}
		b = appendKey(b, "", c.Name)
		b = appendColumn(b, c, finding(r, c.Provider))
	}
	for i := range r.Entries {
		if e := &r.Entries[i]; e.Finding != nil && slices.Contains(a.providers, e.Provider) && !hasColumns(e.Provider) {
			if longer := appendAttrs(b, e.Provider, e.Finding.Attrs); len(longer) <= maxAttrsEnd {
				b = longer
			}
		}
	}
	b = append(b, `,"event_id":"`...)
	b = append(b, id...)
	b = append(b, `","revision":`...)
	b = strconv.AppendUint(b, r.Revision, 10)
	b = append(b, `,"answered":`...)
	b = appendStrings(b, a.answered)
	b = append(b, `,"pending":`...)
	b = appendStrings(b, a.pending)
	b = append(b, `,"changed":`...)
	b = strconv.AppendBool(b, a.changed)
	b = append(b, '}')
	return &bus.Event{ID: id, Topic: TopicEnriched, Type: typeEnriched, Time: at, Payload: b}
}

// appendColumn appends what a column holds. Plain lists are written as they are,
// everything else goes through [decnet.Column.Value].
func appendColumn(b []byte, c *decnet.Column, f *provider.Finding) []byte {
	if c.Kind == decnet.List {
		if f == nil {
			return append(b, "[]"...)
		}
		switch list := f.Attrs[c.Attr].(type) {
		case []string:
			return appendStrings(b, list)
		case []int64:
			return appendValue(b, list)
		}
	}
	return appendValue(b, c.Value(f))
}

func finding(r *store.Record, name string) *provider.Finding {
	if e := r.Entry(name); e != nil {
		return e.Finding
	}
	return nil
}

func nilIfEmpty(s string) any {
	if s == "" {
		return nil
	}
	return s
}

func appendAttrs(b []byte, prefix string, attrs map[string]any) []byte {
	names := make([]string, 0, len(attrs))
	for name := range attrs {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		b = appendKey(b, prefix, name)
		b = appendValue(b, attrs[name])
	}
	return b
}

// appendKey appends a comma and the key prefix_name; both parts are plain
// names that need no escaping.
func appendKey(b []byte, prefix, name string) []byte {
	b = append(b, ',', '"')
	if prefix != "" {
		b = append(append(b, prefix...), '_')
	}
	b = append(b, name...)
	return append(b, '"', ':')
}

// appendValue appends an attribute or column value as JSON.
func appendValue(b []byte, v any) []byte {
	switch v := v.(type) {
	case string:
		return appendString(b, v)
	case bool:
		return strconv.AppendBool(b, v)
	case int64:
		return strconv.AppendInt(b, v, 10)
	case float64:
		if !math.IsNaN(v) && !math.IsInf(v, 0) {
			return strconv.AppendFloat(b, v, 'g', -1, 64)
		}
	case []string:
		return appendStrings(b, v)
	case []int64:
		return jsontext.AppendList(b, v, jsontext.AppendInt)
	case json.RawMessage:
		return append(b, v...)
	}
	return append(b, "null"...)
}

// appendString appends s, as a store would keep it, as a JSON string.
func appendString(b []byte, s string) []byte { return jsontext.AppendString(b, decnet.CleanText(s)) }

func appendStrings(b []byte, list []string) []byte { return jsontext.AppendList(b, list, appendString) }
