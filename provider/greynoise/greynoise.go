// Package greynoise asks the community service of GreyNoise which addresses
// scan the whole internet (https://docs.greynoise.io/reference/getcommunityip).
//
// # What its findings say
//
//	answer                              Known   Verdict
//	classification malicious            true    malicious
//	classification suspicious           true    suspicious
//	classification benign               true    benign
//	any other classification            true    unknown
//	not seen scanning (404)             false   unknown
//
// Attributes: classification ("unknown" where the service gives none), name,
// tags (never nil), noise, riot, link and last_seen (a date). The service's riot
// flag, a common business service, is kept as an attribute and judged by
// nobody: false says nothing, and true proves no innocence. Raw is the body.
//
// # Quota
//
// The free allowance is some 25 lookups a week, whether or not the address is
// known. Once it is spent, Lookup returns [provider.ErrQuotaExhausted] with what
// the service says about it as its Usage.
package greynoise

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Name is the provider's name.
const Name = "greynoise"

// TTL is how long findings stay fresh: so long because the service looks back
// over 90 days and allows so few lookups.
const TTL = 72 * time.Hour

// Options configure a [Provider]. The zero value asks the real service without
// a key.
type Options struct {
	// Key is the API key, conventionally from DECNET_GREYNOISE_API_KEY. Without
	// one the service answers all the same, but less often.
	Key string
	// Quotas are the allowances of the account's plan, and a ceiling. Nil means
	// those of the community plan, 25 calls a week, or what the service reports
	// instead; an empty slice that is not nil means none.
	Quotas []provider.Quota
	// BaseURL is an origin (scheme, host and port) to ask in place of
	// https://api.greynoise.io.
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
	key, keyErr := rest.Key(o.Key, "DECNET_GREYNOISE_API_KEY", false)
	client, err := rest.New(rest.Options{
		Provider: Name, Origin: "https://api.greynoise.io", BaseURL: o.BaseURL, Transport: o.Transport,
	})
	limits := provider.Limits{IPv4Only: true, Quotas: slices.Clone(o.Quotas), Assumed: o.Quotas == nil}
	if limits.Assumed {
		limits.Quotas = []provider.Quota{{Calls: 25, Window: provider.Week}}
	}
	if err := rest.ConfigError(Name, keyErr, err, limits.Validate()); err != nil {
		return nil, err
	}
	p := &Provider{client: client, limits: limits, now: o.Now}
	if key != "" {
		p.header = http.Header{"Key": {key}}
	}
	if p.now == nil {
		p.now = time.Now
	}
	return p, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits says that only IPv4 addresses are known and which quotas there are. The
// service publishes no limit on concurrency or rate.
func (p *Provider) Limits() provider.Limits { return p.limits }

// Lookup implements [provider.Provider] with one request.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr, err := rest.Admit(Name, addr)
	if err != nil {
		return provider.Finding{}, err
	}
	if !addr.Is4() {
		return provider.Finding{}, &provider.Error{Provider: Name, Kind: provider.ErrUnsupported, Err: errIPv6}
	}
	resp, err := p.client.Do(ctx, rest.Request{Path: "/v3/community/" + addr.String(), Header: p.header})
	if err != nil {
		return provider.Finding{}, err
	}
	return decode(addr, resp, p.now().UTC())
}
