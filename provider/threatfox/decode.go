package threatfox

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

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
	IOC        rest.String `json:"ioc"`
	IOCType    rest.String `json:"ioc_type"`
	ThreatType rest.String `json:"threat_type"`
	Malware    rest.String `json:"malware"`
	Printable  rest.String `json:"malware_printable"`
	Confidence rest.Int    `json:"confidence_level"`
}

// decode turns an answer about addr into a finding.
func decode(addr netip.Addr, r *rest.Response) (provider.Finding, error) {
	var a answer
	err := rest.Decode(r.Body, &a)
	if refused := refusal(a.Status.Value, r); refused != nil {
		return provider.Finding{}, refused
	}
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

// refusal returns the error that an answer means by its query_status, which
// comes with any HTTP status, or by the latter. It is nil for an answer that is
// none.
func refusal(status string, r *rest.Response) error {
	e := r.StatusError()
	switch status {
	case "unknown_auth_key", "unauthorized", "no_api_key", "missing_auth_key":
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the key is missing, wrong or revoked")
	case "rate_limited":
		e.Kind, e.Err = provider.ErrRateLimited, nil
	case "illegal_search_term":
		e.Kind, e.Err = provider.ErrUnsupported, errors.New("the service does not search for this address")
	default:
		if r.Status == http.StatusOK {
			return nil
		}
	}
	return e
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
		switch err := json.Unmarshal(raw, &r); {
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
	for _, r := range rows {
		threats = append(threats, r.ThreatType.Value)
		iocs = append(iocs, r.IOCType.Value)
		if r.Printable.Value == "" {
			r.Printable = r.Malware
		}
		families = append(families, r.Printable.Value)
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
	f.Known, f.Verdict = sources.ThreatFox{Listed: len(rows) > 0}.Meaning()
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
