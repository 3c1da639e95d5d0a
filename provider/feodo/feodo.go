// Package feodo looks addresses up in the Feodo Tracker list of abuse.ch:
// servers that command botnets (https://feodotracker.abuse.ch/blocklist). The
// list is downloaded as a whole, so nobody outside learns which addresses are
// looked up. The first lookup loads it if no Refresh has.
//
// # What its findings say
//
//	the list has                        Known   Verdict
//	a server that is online             true    malicious
//	only servers that are offline       true    suspicious
//	nothing about the address           false   none
//
// A server that is offline is history: its address has often been reassigned.
// The list is short and may be empty. Only a JSON array replaces it.
//
// Attributes: listed, and for a listed address malware_family, status (online
// or offline), ports, and where the list has them country, as_number, as_name,
// first_seen and last_online; all but ports are those of an online server
// where there is one. Raw is that server's row.
package feodo

import (
	"context"
	"net/http"
	"net/netip"
	"time"

	"github.com/decnet/enrich/internal/abusech"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/rest"
)

// Name is the provider's name.
const Name = "feodo"

// Options configure a [Provider]. The zero value downloads the real list once
// an hour.
type Options struct {
	// KeyFunc returns an Auth-Key of abuse.ch; see [rest.Key]. The list is
	// published without one, so nil is fine.
	KeyFunc func() string
	// Interval is the time from one download of the list to the next, at least
	// [feed.MinInterval]. Zero means [feed.DefaultInterval].
	Interval time.Duration
	// BaseURL is a URL to download from in place of
	// https://feodotracker.abuse.ch/downloads/ipblocklist.json, or only another
	// origin (scheme, host and port) for it. The list there is a JSON array, too.
	BaseURL string
	// Dir is the directory where the list is kept across restarts; see
	// [feed.Options]. Empty: nowhere.
	Dir string
	// ReadOnly is as in [feed.Options].
	ReadOnly bool
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Provider implements [provider.Provider], [provider.Limited] and
// [provider.Listing]. It is safe for concurrent use.
type Provider struct {
	feed *feed.Feed[[]row]
}

// New returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New(o Options) (*Provider, error) {
	f, err := feed.New(feed.Options[[]row]{
		Provider: Name,
		Sources: []feed.Source{{
			URL:     "https://feodotracker.abuse.ch/downloads/ipblocklist.json",
			BaseURL: o.BaseURL,
			Syntax:  feed.JSONArray,
			Key:     rest.Key{Header: "Auth-Key", Func: o.KeyFunc, Refusal: []string{"query_status"}},
		}},
		Format:     feed.Format{Address: []string{"ip_address"}, Fields: []string{"*"}},
		Row:        newRow,
		Merge:      func(a, b []row) []row { return append(a, b...) },
		Refusal:    abusech.Refusal,
		MayBeEmpty: true,
		Transport:  o.Transport,
		Interval:   o.Interval,
		Dir:        o.Dir,
		ReadOnly:   o.ReadOnly,
		Now:        o.Now,
	})
	if err != nil {
		return nil, err
	}
	return &Provider{feed: f}, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits returns the zero value: a lookup is one in memory.
func (*Provider) Limits() provider.Limits { return provider.Limits{} }

// Profile says that the list is verified, and shares its owner with ThreatFox.
func (*Provider) Profile() provider.Profile {
	return provider.Profile{Confidence: 0.95, Group: "abuse_ch", Rank: provider.RankVerified}
}

// Refresh implements [provider.Refresher].
func (p *Provider) Refresh(ctx context.Context) error { return p.feed.Refresh(ctx) }

// List implements [provider.Listing]. An empty list is not an error. If it stays
// empty, the publisher may have abandoned it.
func (p *Provider) List() provider.ListStatus { return p.feed.Status() }

// Changed implements [provider.Listing].
func (p *Provider) Changed(since uint64) ([]netip.Prefix, uint64) { return p.feed.Changed(since) }

// Settled implements [provider.Listing].
func (p *Provider) Settled(version uint64) { p.feed.Settled(version) }

// Lookup implements [provider.Provider]. It makes no request unless the list was
// never loaded; it then waits for it until ctx ends.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr = provider.Canonical(addr)
	if !addr.IsValid() {
		return provider.Finding{}, &provider.Error{Provider: Name, Kind: provider.ErrUnsupported}
	}
	if err := ctx.Err(); err != nil {
		return provider.Finding{}, &provider.Error{Provider: Name, Kind: provider.ErrUnavailable, Err: err}
	}
	if !p.feed.Status().Loaded {
		if err := p.feed.Refresh(ctx); err != nil && !p.feed.Status().Loaded {
			return provider.Finding{}, err
		}
	}
	a, err := p.feed.Lookup(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	return finding(addr, a.Value, a.LoadedAt), nil
}

var _ provider.Listing = (*Provider)(nil)
