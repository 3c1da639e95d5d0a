// Package abuseipdb queries AbuseIPDB, whose users report abusive addresses
// (https://docs.abuseipdb.com/#check-endpoint).
//
// # What its findings say
//
//	answer                              Known   Verdict
//	score 75 to 100                     true    malicious
//	score 25 to 74                      true    suspicious
//	score 0 to 24, whitelisted          true    benign
//	score 0 to 24                       true    unknown
//	no reports in the last days         false   unknown
//
// An address without reports is never benign, whitelisted or not.
//
// Attributes: score (0 to 100), categories (integers, never nil; their meaning
// is at https://www.abuseipdb.com/categories), and where the service has them
// total_reports, distinct_users, is_tor, is_whitelisted, usage_type,
// country_code, isp, domain, hostnames and last_reported_at (RFC 3339). Raw is
// the answer's data object.
//
// # Quota
//
// A free account may make 1,000 calls a day. Every answer says what the plan
// allows and what is left of it; this is the Usage of findings and errors. Once
// nothing is left, Lookup returns [provider.ErrQuotaExhausted].
package abuseipdb

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Name is the provider's name.
const Name = "abuseipdb"

// DefaultMaxAgeDays is how far back reports count unless the options say
// otherwise.
const DefaultMaxAgeDays = 30

// Options configure a [Provider]. KeyFunc is required.
type Options struct {
	// KeyFunc returns the API key, conventionally from DECNET_ABUSEIPDB_API_KEY;
	// see [rest.Key].
	KeyFunc func() string
	// MaxAgeDays is how many days back reports count: 1 to 365. Zero means
	// DefaultMaxAgeDays.
	MaxAgeDays int
	// Quotas are the allowances of the account's plan, and a ceiling. Nil means
	// those of a free account, 1,000 calls a day, or what the service reports
	// instead; an empty slice that is not nil means none.
	Quotas []provider.Quota
	// BaseURL is a URL to query in place of https://api.abuseipdb.com/api/v2/check,
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
	days   string
	limits provider.Limits
}

// maxBody leaves room for the many reports on a notorious address.
const maxBody = 8 << 20

// New returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New(o Options) (*Provider, error) {
	client, err := rest.New(rest.Options{
		Provider: Name, URL: "https://api.abuseipdb.com/api/v2/check", BaseURL: o.BaseURL,
		Key:       rest.Key{Header: "Key", Func: o.KeyFunc, Required: true, Name: "DECNET_ABUSEIPDB_API_KEY", Refusal: []string{"errors"}},
		Transport: o.Transport, MaxBody: maxBody, Now: o.Now,
	})
	if o.MaxAgeDays == 0 {
		o.MaxAgeDays = DefaultMaxAgeDays
	}
	var daysErr error
	if o.MaxAgeDays < 1 || o.MaxAgeDays > 365 {
		daysErr = fmt.Errorf("MaxAgeDays is %d; it must be between 1 and 365", o.MaxAgeDays)
	}
	limits := provider.Limits{Quotas: slices.Clone(o.Quotas), Assumed: o.Quotas == nil}
	if limits.Assumed {
		limits.Quotas = []provider.Quota{{Calls: 1000, Window: provider.Day}}
	}
	if err := rest.ConfigError(Name, err, daysErr, limits.Validate()); err != nil {
		return nil, err
	}
	return &Provider{client: client, days: strconv.Itoa(o.MaxAgeDays), limits: limits}, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits returns the quotas. The service knows IPv4 and IPv6 and
// publishes no limit on concurrency or rate.
func (p *Provider) Limits() provider.Limits { return p.limits }

// Profile says that anybody may report, and that the terms forbid republishing.
func (*Provider) Profile() provider.Profile {
	return provider.Profile{Confidence: 0.7, NoRepublish: true}
}

// Lookup implements [provider.Provider] with one request.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr, err := p.client.Admit(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	// Without the parameter verbose, whatever its value, the answer lacks the
	// reports and so the categories.
	query := url.Values{"ipAddress": {addr.String()}, "maxAgeInDays": {p.days}, "verbose": {"1"}}
	resp, err := p.client.Do(ctx, rest.Request{Query: query})
	if err != nil {
		return provider.Finding{}, err
	}
	return decode(addr, resp)
}

// Account implements [provider.Accounted].
func (p *Provider) Account() string { return p.client.Account() }
