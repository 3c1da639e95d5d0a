package feodo

import (
	"encoding/json"
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/internal/sources"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// row is one server of the list.
type row struct {
	fields
	raw json.RawMessage
}

type fields struct {
	IPAddress  rest.String `json:"ip_address"`
	Port       rest.Int    `json:"port"`
	Status     rest.String `json:"status"`
	Malware    rest.String `json:"malware"`
	Country    rest.String `json:"country"`
	ASNumber   rest.Int    `json:"as_number"`
	ASName     rest.String `json:"as_name"`
	FirstSeen  rest.String `json:"first_seen"`
	LastOnline rest.String `json:"last_online"`
}

func (r *row) online() bool { return sources.IsOnline(r.Status.Value) }

// newRow returns the server that a row of the list is about. Members that are
// missing, or of an unexpected type, are as if they were absent.
func newRow(_ string, fields []string) ([]row, bool) {
	if len(fields) == 0 { // no object, so it has no address either
		return nil, true
	}
	r := row{raw: json.RawMessage(fields[0])}
	_ = json.Unmarshal(r.raw, &r.fields)
	return []row{r}, true
}

// finding returns what rows, those of addr, say.
func finding(addr netip.Addr, rows []row, loadedAt time.Time) provider.Finding {
	f := provider.Finding{
		Provider:   Name,
		Addr:       addr,
		Attrs:      map[string]any{"listed": len(rows) > 0},
		ObservedAt: loadedAt,
	}
	if len(rows) == 0 {
		return f
	}
	first := &rows[max(slices.IndexFunc(rows, func(r row) bool { return r.online() }), 0)]
	f.Known, f.Verdict = sources.Feodo{Listed: true, Online: first.online()}.Meaning()
	f.Attrs["status"] = "offline"
	if first.online() {
		f.Attrs["status"] = "online"
	}
	f.Raw = rest.Raw(first.raw)
	f.Attrs["ports"] = ports(rows)
	first.Malware.Set(f.Attrs, "malware_family")
	first.Country.Set(f.Attrs, "country")
	first.ASNumber.Set(f.Attrs, "as_number")
	first.ASName.Set(f.Attrs, "as_name")
	first.FirstSeen.Set(f.Attrs, "first_seen")
	first.LastOnline.Set(f.Attrs, "last_online")
	return f
}

// ports returns the distinct ports of rows in ascending order, at most
// rest.MaxList of them. It is never nil.
func ports(rows []row) []int64 {
	list := []int64{}
	for _, r := range rows {
		if r.Port.OK && r.Port.Value > 0 && r.Port.Value <= 65535 {
			list = append(list, r.Port.Value)
		}
	}
	slices.Sort(list)
	list = slices.Compact(list)
	return list[:min(len(list), rest.MaxList)]
}
