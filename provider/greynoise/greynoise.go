// Package greynoise queries the community service of GreyNoise, which knows the
// addresses that scan the whole internet
// (https://docs.greynoise.io/reference/getcommunityip).
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
// With [Options].Batch, the worker asks about as many as a thousand addresses in one
// call (POST /v3/ip?quick=true), if the key is entitled to it. Such findings mean the
// same. They lack name, link and last_seen, and Raw is in the form of the community
// service.
//
// Attributes: classification ("unknown" where the service gives none), name,
// tags (never nil), noise, riot, link and last_seen (a date). The service's riot
// flag marks a common business service. It does not affect the verdict: false
// says nothing, and true proves no innocence. Raw is the body.
//
// # Quota
//
// The free allowance is some 25 lookups a week, whether or not the address is
// known. Once it is spent, Lookup returns [provider.ErrQuotaExhausted]; its Usage
// is what the service reports. A call about a thousand addresses counts as one search:
// that is how the service documents the same question in v2. It says nothing of v3; if
// it counts otherwise, its refusal stops the calls.
package greynoise

import (
	"context"
	"net/http"
	"net/netip"
	"slices"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Name is the provider's name.
const Name = "greynoise"

// TTL is how long findings stay fresh. It is long because the service looks back
// over 90 days and allows few lookups.
const TTL = 72 * time.Hour

// Options configure a [Provider]. The zero value queries the real service without
// a key.
type Options struct {
	// KeyFunc returns the API key, conventionally from DECNET_GREYNOISE_API_KEY;
	// see [rest.Key]. With nil, or without a key, the service allows fewer calls.
	KeyFunc func() string
	// Quotas are the allowances of the account's plan, and a ceiling. Nil means
	// those of the community plan, 25 calls a week, or what the service reports
	// instead; an empty slice that is not nil means none.
	Quotas []provider.Quota
	// Batch lets the worker ask about many addresses at a time, in calls that are spread
	// evenly over the quota's window. It needs a key. A key that the service refuses this
	// to is used for single lookups from then on; the attempt costs one call of the quota
	// for each key and process.
	Batch bool
	// BaseURL is a URL to query in place of https://api.greynoise.io/v3/community,
	// or only another origin (scheme, host and port) for it. With Batch, a URL has to end
	// in /community, which is replaced by /ip.
	BaseURL string
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// key is how the service is given its key and refuses it. All errors of it that are
// known have a message; how it words the refusal of a key is not known.
func (o *Options) key() rest.Key {
	return rest.Key{Header: "key", Func: o.KeyFunc, Name: "DECNET_GREYNOISE_API_KEY", Refusal: []string{"message", "error"}}
}

// Provider implements [provider.Provider], [provider.Limited] and [provider.Batcher].
// It is safe for concurrent use.
type Provider struct {
	client  *rest.Client
	many    *rest.Client // asks about many addresses; nil without Options.Batch
	limits  provider.Limits
	refused atomic.Pointer[string] // the account that many is refused to; nil if none is
}

// New returns a provider. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New(o Options) (*Provider, error) {
	client, err := rest.New(rest.Options{
		Provider: Name, URL: "https://api.greynoise.io/v3/community", BaseURL: o.BaseURL,
		Key:       o.key(),
		Transport: o.Transport, Now: o.Now,
	})
	p := &Provider{client: client}
	var manyErr error
	if o.Batch && err == nil {
		p.many, manyErr = newMany(o)
	}
	limits := provider.Limits{IPv4Only: true, Quotas: slices.Clone(o.Quotas), Assumed: o.Quotas == nil}
	if limits.Assumed {
		limits.Quotas = []provider.Quota{{Calls: 25, Window: provider.Week}}
	}
	if err := rest.ConfigError(Name, err, manyErr, limits.Validate()); err != nil {
		return nil, err
	}
	p.limits = limits
	return p, nil
}

// Name returns [Name].
func (*Provider) Name() string { return Name }

// Limits returns the quotas, and that only IPv4 addresses are known. The service
// publishes no limit on concurrency or rate.
func (p *Provider) Limits() provider.Limits { return p.limits }

// Profile says that the service reports what its own sensors see.
func (*Provider) Profile() provider.Profile { return provider.Profile{Confidence: 0.8} }

// Lookup implements [provider.Provider] with one request.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr, err := p.admit(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	resp, err := p.client.Do(ctx, rest.Request{Path: "/" + addr.String()})
	if err != nil {
		return provider.Finding{}, err
	}
	return decode(addr, resp)
}

// admit returns the form in which an address is sent.
func (p *Provider) admit(addr netip.Addr) (netip.Addr, error) {
	addr, err := p.client.Admit(addr)
	if err == nil && !addr.Is4() {
		err = &provider.Error{Provider: Name, Kind: provider.ErrUnsupported, Err: errIPv6}
	}
	return addr, err
}

// Account implements [provider.Accounted].
func (p *Provider) Account() string { return p.client.Account() }
