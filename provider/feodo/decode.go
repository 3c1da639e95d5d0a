package feodo

import (
	"encoding/json"
	"errors"
	"net/netip"
	"slices"
	"strings"
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

// decode indexes a list by address, the rows of each address with those that
// are online first. Rows without an address are left out, but a list that has
// no others is refused.
func decode(body []byte) (map[netip.Addr][]row, error) {
	var all []json.RawMessage
	if err := rest.Decode(body, &all); err != nil {
		return nil, err
	}
	if all == nil {
		return nil, errors.New("null is no list")
	}
	list := make(map[netip.Addr][]row, len(all))
	for _, raw := range all {
		r := row{raw: raw}
		if json.Unmarshal(raw, &r.fields) != nil {
			continue
		}
		addr, err := provider.ParseAddr(strings.TrimSpace(r.IPAddress.Value))
		if err != nil {
			continue
		}
		list[addr] = append(list[addr], r)
	}
	if len(list) == 0 && len(all) > 0 {
		return nil, errors.New("a list without an address in it")
	}
	for _, rows := range list {
		slices.SortStableFunc(rows, func(a, b row) int {
			switch {
			case a.online() == b.online():
				return 0
			case a.online():
				return -1
			}
			return 1
		})
	}
	return list, nil
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
	first := &rows[0]
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
