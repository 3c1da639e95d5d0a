// Package threatfox asks ThreatFox of abuse.ch whether an address is an
// indicator of compromise (https://threatfox.abuse.ch/api).
//
// # What its findings say
//
//	answer                              Known   Verdict
//	an indicator on this very host      true    malicious
//	no result                           false   none
//	only indicators on other hosts      false   none
//
// The service searches for parts of words: asked for 1.2.3.4 it also finds
// 1.2.3.40 and hosts that merely have the address in their name. Those are
// dropped. What counts are indicators of the form address:port and URLs whose
// host is the address.
//
// Attributes: listed, threat_types, ioc_types and malware_families (never nil,
// sorted), and confidence (0 to 100, the greatest). Raw is the array of
// indicators that count, and empty if there are none.
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

// Options configure a [Provider]. Key is required.
type Options struct {
	// Key is the Auth-Key of abuse.ch (https://auth.abuse.ch), conventionally
	// from DECNET_THREATFOX_API_KEY.
	Key string
	// Quotas are allowances to keep within. The service publishes none and asks
	// for fair use.
	Quotas []provider.Quota
	// BaseURL is an origin (scheme, host and port) to ask in place of
	// https://threatfox-api.abuse.ch.
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
	header http.Header
	limits provider.Limits
	now    func() time.Time
}

// New returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New(o Options) (*Provider, error) {
	key, keyErr := rest.Key(o.Key, "DECNET_THREATFOX_API_KEY", true)
	client, err := rest.New(rest.Options{
		Provider: Name, Origin: "https://threatfox-api.abuse.ch", BaseURL: o.BaseURL, Transport: o.Transport,
	})
	limits := provider.Limits{Quotas: slices.Clone(o.Quotas)}
	if err := rest.ConfigError(Name, keyErr, err, limits.Validate()); err != nil {
		return nil, err
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Provider{client: client, header: http.Header{"Auth-Key": {key}}, limits: limits, now: o.Now}, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits says which quotas were configured. The service knows IPv4 and IPv6 and
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
	addr, err := rest.Admit(Name, addr)
	if err != nil {
		return provider.Finding{}, err
	}
	body, _ := json.Marshal(query{Query: "search_ioc", SearchTerm: addr.String()}) // always fits
	resp, err := p.client.Do(ctx, rest.Request{Method: http.MethodPost, Path: "/api/v1/", Header: p.header, Body: body})
	if err != nil {
		return provider.Finding{}, err
	}
	return decode(addr, resp, p.now().UTC())
}
