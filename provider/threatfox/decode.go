package threatfox

import (
	"cmp"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/abusech"
	"github.com/decnet/enrich/internal/sources"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// answer is the body of every answer, errors included.
type answer struct {
	Status rest.String     `json:"query_status"`
	Data   json.RawMessage `json:"data"` // an array if the status is ok, and else a sentence
}

// row is one indicator.
type row struct {
	IOC         rest.String `json:"ioc"`
	IOCType     rest.String `json:"ioc_type"`
	ThreatType  rest.String `json:"threat_type"`
	Malware     rest.String `json:"malware"`
	Printable   rest.String `json:"malware_printable"`
	Confidence  rest.Int    `json:"confidence_level"`
	Compromised rest.Bool   `json:"is_compromised"`
}

// decode turns an answer about addr into a finding.
func decode(addr netip.Addr, r *rest.Response) (provider.Finding, error) {
	if err := abusech.Refusal(r); err != nil {
		return provider.Finding{}, err
	}
	if r.Status != http.StatusOK {
		return provider.Finding{}, r.StatusError()
	}
	var a answer
	err := rest.Decode(r.Body, &a)
	var rows []row
	var raws []json.RawMessage
	switch {
	case err != nil:
	case a.Status.Value == "ok":
		rows, raws, err = about(addr, a.Data)
	case a.Status.Value != "no_result" && a.Status.Value != "no_results":
		err = errors.New("no query_status that is known")
	}
	if err != nil {
		return provider.Finding{}, r.BadResponse(err)
	}
	return finding(addr, rows, raws, r.At), nil
}

// about returns those rows of data whose host is addr, read and as they came.
// It fails if it finds none and there were some that it could not read.
func about(addr netip.Addr, data []byte) (rows []row, raws []json.RawMessage, err error) {
	var all []json.RawMessage
	if len(data) == 0 || data[0] != '[' {
		return nil, nil, errors.New("no data array")
	}
	if err := rest.Decode(data, &all); err != nil {
		return nil, nil, err
	}
	unreadable := false
	for _, raw := range all {
		var r row
		switch err := rest.Decode(raw, &r); {
		case err != nil || !r.IOC.OK:
			unreadable = true
		case r.host() == addr:
			rows, raws = append(rows, r), append(raws, raw)
		}
	}
	if unreadable && len(rows) == 0 {
		return nil, nil, errors.New("rows that are no indicators")
	}
	return rows, raws, nil
}

// host returns the address that the indicator is about, and the zero Addr if
// it is about none.
func (r *row) host() netip.Addr {
	host := strings.TrimSpace(r.IOC.Value)
	switch r.IOCType.Value {
	case "ip:port":
		// The last colon, because IPv6 addresses come without brackets too.
		if i := strings.LastIndexByte(host, ':'); i >= 0 {
			host = host[:i]
		}
	case "url":
		_, rest, _ := strings.Cut(host, "://")
		if i := strings.IndexAny(rest, "/?#"); i >= 0 {
			rest = rest[:i] // the path may be cut anywhere, also inside an escape
		}
		u, err := url.Parse("//" + rest)
		if err != nil {
			return netip.Addr{}
		}
		host = u.Hostname()
	}
	if h, ok := strings.CutPrefix(host, "["); ok {
		host = strings.TrimSuffix(h, "]")
	}
	addr, _ := provider.ParseAddr(host) // a name is no address
	return addr
}

func finding(addr netip.Addr, rows []row, raws []json.RawMessage, now time.Time) provider.Finding {
	var threats, iocs, families []string
	var confidence rest.Int
	var first, last time.Time
	var compromised rest.Bool
	meaning := sources.ThreatFox{Listed: len(rows) > 0}
	for i, r := range rows {
		says := sources.ReadIndicator(raws[i])
		meaning.Strong = meaning.Strong || says.Strong(now)
		for _, at := range []time.Time{says.FirstSeen, says.LastSeen} {
			if at.IsZero() {
				continue
			}
			if first.IsZero() || at.Before(first) {
				first = at
			}
			if at.After(last) {
				last = at
			}
		}
		if r.Compromised.OK {
			compromised = rest.Bool{Value: compromised.Value || r.Compromised.Value, OK: true}
		}
		threats = append(threats, r.ThreatType.Value)
		iocs = append(iocs, r.IOCType.Value)
		families = append(families, cmp.Or(r.Malware.Value, r.Printable.Value)) // as DECNET's consumers know them
		if c := r.Confidence; c.OK && (!confidence.OK || c.Value > confidence.Value) {
			confidence = c
		}
	}
	f := provider.Finding{
		Provider: Name,
		Addr:     addr,
		Attrs: map[string]any{
			"listed":           len(rows) > 0,
			"threat_types":     distinct(threats),
			"ioc_types":        distinct(iocs),
			"malware_families": distinct(families),
		},
		ObservedAt: now,
	}
	confidence.Set(f.Attrs, "confidence")
	compromised.Set(f.Attrs, "is_compromised")
	if !last.IsZero() {
		f.Attrs["first_seen"], f.Attrs["last_seen"] = first.Format(time.RFC3339), last.Format(time.RFC3339)
	}
	f.Known, f.Verdict = meaning.Meaning()
	if f.Known {
		raw, _ := json.Marshal(raws) // they were part of valid JSON
		f.Raw = rest.Raw(raw)
	}
	return f
}

// distinct returns the different strings of list in order, without the empty
// one, and at most rest.MaxList of them. It is never nil.
func distinct(list []string) []string {
	slices.Sort(list)
	list = slices.DeleteFunc(slices.Compact(list), func(s string) bool { return s == "" })
	return append([]string{}, list[:min(len(list), rest.MaxList)]...)
}
