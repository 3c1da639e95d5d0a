// Package threatfox queries ThreatFox of abuse.ch, which lists indicators of
// compromise (https://threatfox.abuse.ch/api).
//
// # What its findings say
//
//	answer                              Known   Verdict
//	an indicator on this very host      true    malicious
//	only weak indicators on this host   true    suspicious
//	no result                           false   none
//	only indicators on other hosts      false   none
//
// The service searches for a part of a text: a search for 1.2.3.4 also finds
// 1.2.3.40 and hosts whose name contains the address. These do not count. Only
// indicators of the form address:port and URLs count, if their host is the
// address.
//
// An indicator is weak if it is older than 180 days, has a confidence below 50, or
// says that the host is somebody else's and was compromised.
//
// Attributes: listed, threat_types, ioc_types and malware_families (never nil,
// sorted), and where the indicators have them confidence (0 to 100, the greatest),
// first_seen and last_seen (the earliest and the latest time, RFC 3339), and
// is_compromised (whether one of them says so). Raw is the array of indicators that
// count, and empty if there are none.
//
// The service publishes no quota.
package threatfox

import (
	"context"
	"encoding/json"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Name is the provider's name.
const Name = "threatfox"

// Options configure a [Provider]. KeyFunc is required.
type Options struct {
	// KeyFunc returns the Auth-Key of abuse.ch (https://auth.abuse.ch),
	// conventionally from DECNET_THREATFOX_API_KEY; see [rest.Key].
	KeyFunc func() string
	// Quotas are allowances to keep within. The service publishes none and asks
	// for fair use.
	Quotas []provider.Quota
	// BaseURL is a URL to query in place of https://threatfox-api.abuse.ch/api/v1/,
	// or only another origin (scheme, host and port) for it.
	BaseURL string
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Provider implements [provider.Provider] and [provider.Limited]. It is safe
// for concurrent use.
type Provider struct {
	client *rest.Client
	limits provider.Limits
}

// New returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New(o Options) (*Provider, error) {
	client, err := rest.New(rest.Options{
		Provider: Name, URL: "https://threatfox-api.abuse.ch/api/v1/", BaseURL: o.BaseURL,
		Key:       rest.Key{Header: "Auth-Key", Func: o.KeyFunc, Required: true, Name: "DECNET_THREATFOX_API_KEY", Refusal: []string{"query_status"}},
		Transport: o.Transport, Now: o.Now,
	})
	limits := provider.Limits{Quotas: slices.Clone(o.Quotas)}
	if err := rest.ConfigError(Name, err, limits.Validate()); err != nil {
		return nil, err
	}
	return &Provider{client: client, limits: limits}, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits returns the configured quotas. The service knows IPv4 and IPv6 and
// publishes no limit of its own.
func (p *Provider) Limits() provider.Limits { return p.limits }

// Profile says that analysts verify what is reported, and that the service
// shares its owner with Feodo Tracker.
func (*Provider) Profile() provider.Profile {
	return provider.Profile{Confidence: 0.9, Group: "abuse_ch", Rank: provider.RankVerified}
}

// query is the body of a request.
type query struct {
	Query      string `json:"query"`
	SearchTerm string `json:"search_term"`
	// ExactMatch would compare with the whole indicator, port included.
	ExactMatch bool `json:"exact_match"`
}

// Lookup implements [provider.Provider] with one request.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr, err := p.client.Admit(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	body, _ := json.Marshal(query{Query: "search_ioc", SearchTerm: addr.String()}) // always fits
	resp, err := p.client.Do(ctx, rest.Request{Body: body})
	if err != nil {
		return provider.Finding{}, err
	}
	return decode(addr, resp)
}

// Account implements [provider.Accounted].
func (p *Provider) Account() string { return p.client.Account() }
