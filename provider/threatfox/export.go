package threatfox

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/abusech"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/rest"
)

// ExportOptions configure an [Export].
type ExportOptions struct {
	// KeyFunc returns the Auth-Key, which is a part of the URL. It is called once.
	// It is required unless Sources are given.
	KeyFunc func() string
	// Sources replace where the export is downloaded from: URLs or files. Default:
	// the service's own, with the key.
	Sources []feed.Source
	// Dir is the directory where the list is kept across restarts; see
	// [feed.Options]. Empty: nowhere.
	Dir string
	// ReadOnly says that nothing is downloaded and nothing written; see
	// [feed.Options].
	ReadOnly bool
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// exportInterval is the time between two downloads. The export is made every five
// minutes.
const exportInterval = time.Hour

// Export answers like a [Provider], and under its name, from the export of all
// indicators that is downloaded as a whole
// (https://threatfox.abuse.ch/export). Nobody outside learns which addresses are
// looked up. It implements [provider.Provider] and [provider.Listing], and is
// safe for concurrent use.
type Export struct {
	*feed.Feed[[]json.RawMessage]
}

// exportColumns are those of the export that matter, in the order of exported.
var exportColumns = []string{
	"ioc_value", "ioc_type", "threat_type", "fk_malware", "malware_printable", "first_seen_utc", "last_seen_utc",
	"confidence_level", "is_compromised", "reference", "reporter",
}

// exported is a row of the export in the form of an indicator of the API.
type exported struct {
	IOC         string `json:"ioc,omitempty"`
	IOCType     string `json:"ioc_type"`
	ThreatType  string `json:"threat_type,omitempty"`
	Malware     string `json:"malware,omitempty"`
	Printable   string `json:"malware_printable,omitempty"`
	FirstSeen   string `json:"first_seen,omitempty"`
	LastSeen    string `json:"last_seen,omitempty"`
	Confidence  string `json:"confidence_level,omitempty"`
	Compromised *bool  `json:"is_compromised,omitempty"`
	Reference   string `json:"reference,omitempty"`
	Reporter    string `json:"reporter,omitempty"`
}

// NewExport returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func NewExport(o ExportOptions) (*Export, error) {
	if len(o.Sources) == 0 {
		key := ""
		if o.KeyFunc != nil {
			key = strings.TrimSpace(o.KeyFunc())
		}
		if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || r > '~' || strings.ContainsRune("/?#%", r) }) {
			return nil, rest.ConfigError(Name, errors.New("the export needs an Auth-Key, as the service gave it (DECNET_THREATFOX_API_KEY)"))
		}
		o.Sources = []feed.Source{{URL: "https://threatfox-api.abuse.ch/v2/files/exports/" + key + "/full.csv.zip", Syntax: feed.CSV}}
	}
	f, err := feed.New(feed.Options[[]json.RawMessage]{
		Provider:  Name,
		Sources:   o.Sources,
		Format:    feed.Format{Address: exportColumns[:1], Fields: exportColumns},
		Row:       exportRow,
		Merge:     func(a, b []json.RawMessage) []json.RawMessage { return append(a, b...) },
		Refusal:   abusech.Refusal,
		MaxBody:   2 * feed.DefaultMaxBody, // with all domains and hashes
		Interval:  exportInterval,
		Cadence:   24 * time.Hour,
		Dir:       o.Dir,
		ReadOnly:  o.ReadOnly,
		Transport: o.Transport,
		Now:       o.Now,
	})
	if err != nil {
		return nil, err
	}
	return &Export{f}, nil
}

// exportRow returns an indicator of an address. A list of nothing but addresses
// says nothing else about them.
func exportRow(_ string, fields []string) ([]json.RawMessage, bool) {
	r := exported{IOCType: "ip:port"}
	if len(fields) == len(exportColumns) {
		r = exported{
			IOC: fields[0], IOCType: fields[1], ThreatType: fields[2], Malware: fields[3], Printable: fields[4],
			FirstSeen: fields[5], LastSeen: fields[6], Confidence: fields[7], Reference: fields[9], Reporter: fields[10],
		}
		switch strings.ToLower(fields[8]) {
		case "true":
			r.Compromised = new(true)
		case "false":
			r.Compromised = new(false)
		}
	}
	if r.IOCType != "ip:port" {
		return nil, false
	}
	raw, err := json.Marshal(r)
	return []json.RawMessage{raw}, err == nil
}

// Profile is that of the search.
func (*Export) Profile() provider.Profile { return (*Provider)(nil).Profile() }

// Limits returns the zero value: a lookup is one in memory.
func (*Export) Limits() provider.Limits { return provider.Limits{} }

// List implements [provider.Listing].
func (e *Export) List() provider.ListStatus { return e.Status() }

// Lookup implements [provider.Provider]. It never waits: until the export is
// loaded it fails.
func (e *Export) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr = provider.Canonical(addr)
	if !addr.IsValid() {
		return provider.Finding{}, &provider.Error{Provider: Name, Kind: provider.ErrUnsupported}
	}
	if err := ctx.Err(); err != nil {
		return provider.Finding{}, &provider.Error{Provider: Name, Kind: provider.ErrUnavailable, Err: err}
	}
	a, err := e.Feed.Lookup(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	rows := make([]row, len(a.Value))
	for i, raw := range a.Value {
		_ = json.Unmarshal(raw, &rows[i]) // it was made here
	}
	return finding(addr, rows, a.Value, a.LoadedAt), nil
}

var _ interface {
	provider.Provider
	provider.Listing
} = (*Export)(nil)
