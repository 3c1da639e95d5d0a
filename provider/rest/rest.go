package rest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"time"

	"github.com/decnet/enrich/provider"
)

const (
	userAgent      = "Mozilla/5.0 (compatible)"
	defaultMaxBody = 1 << 20
	defaultTimeout = 10 * time.Second
)

// Options configure a [Client]. Provider and URL are required.
type Options struct {
	// Provider is the provider's name, for findings and errors.
	Provider string
	// URL is where the service is: scheme, host, port, and the part of the path
	// and the query that all requests have in common.
	URL string
	// BaseURL is what the operator configured to be used in place of URL; empty
	// for nothing. If it has neither a path nor a query, those of URL are kept.
	BaseURL string
	// Key is how the service is given its API key.
	Key Key
	// Transport carries the requests. Nil means one that the whole process
	// shares, which uses the proxy that the environment names.
	Transport http.RoundTripper
	// MaxBody is the greatest size of a body in bytes, compressed or not. Zero
	// means 1 MiB.
	MaxBody int64
	// Timeout limits a request whose context has no deadline, the body included.
	// Zero means 10 s.
	Timeout time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Client queries one service. It is safe for concurrent use.
type Client struct {
	name      string
	endpoint  endpoint
	key       Key
	transport http.RoundTripper
	maxBody   int64
	timeout   time.Duration
	now       func() time.Time
}

// New returns a client. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong. A key that is
// required but missing, or that no header can hold, is among them.
func New(o Options) (*Client, error) {
	c := &Client{
		name:      o.Provider,
		key:       o.Key,
		transport: o.Transport,
		maxBody:   o.MaxBody,
		timeout:   o.Timeout,
		now:       o.Now,
	}
	var urlErr, headerErr error
	c.endpoint, urlErr = newEndpoint(o.URL, o.BaseURL)
	_, keyErr := c.key.get()
	if o.Key.Func != nil && o.Key.Header == "" {
		headerErr = errors.New("Key.Header is missing")
	}
	if err := ConfigError(o.Provider, provider.ValidateName(o.Provider), urlErr, keyErr, headerErr); err != nil {
		return nil, err
	}
	if c.transport == nil {
		c.transport = shared()
	}
	if c.maxBody == 0 {
		c.maxBody = defaultMaxBody
	}
	if c.timeout == 0 {
		c.timeout = defaultTimeout
	}
	if c.now == nil {
		c.now = time.Now
	}
	return c, nil
}

// Admit returns the [provider.Canonical] form of addr, or an error that wraps
// [provider.ErrUnsupported] if addr must not be sent to anyone outside. The
// worker has checked that already; this is the last check. A provider that asks
// a service of the operator's own network does without.
func (c *Client) Admit(addr netip.Addr) (netip.Addr, error) {
	addr = provider.Canonical(addr)
	if !(provider.Guard{}).Allows(addr) {
		e := c.fail(provider.ErrUnsupported, 0, errors.New("not a public address; nothing was sent"))
		e.Unsent = true
		return netip.Addr{}, e
	}
	return addr, nil
}

// Request is one request: a GET, or a POST if it has a Body. The zero value is
// a GET of the client's URL.
type Request struct {
	Path   string      // appended to the client's URL; escaped, with a leading slash
	Query  url.Values  // added to the query of the client's URL
	Header http.Header // sent beside the key; not modified
	Body   []byte      // JSON; nil for none
}

// Do sends a request and returns the answer, whatever its status. The error is a
// [*provider.Error] of one of these kinds:
//
//   - [provider.ErrUnavailable]: there was no answer. If the context ended, the
//     error wraps its error.
//   - [provider.ErrBadResponse]: the body is too large or wrongly compressed, and
//     does not say that it is a web page.
//   - [provider.ErrConfig]: the key is missing or malformed; nothing was sent.
//
// Its Unsent tells whether the service certainly did not receive the request: the
// host name was not resolved, no connection was made, or a proxy or TLS refused
// it.
func (c *Client) Do(ctx context.Context, request Request) (answer *Response, failed error) {
	var d delivery
	defer d.mark(&failed)
	if err := ctx.Err(); err != nil {
		return nil, c.fail(provider.ErrUnavailable, 0, fmt.Errorf("nothing was sent: %w", err))
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	req, err := c.request(d.watch(ctx), request)
	if err != nil {
		return nil, c.fail(provider.ErrConfig, 0, err)
	}
	proxy, err := proxyFor(c.transport, req)
	if err != nil {
		return nil, c.fail(provider.ErrUnavailable, 0, err)
	}
	d.begun = true
	resp, err := c.transport.RoundTrip(req)
	if d.err = err; err != nil {
		return nil, c.fail(provider.ErrUnavailable, 0, explainVia(ctx, err, proxy, req.URL.Scheme))
	}
	if resp == nil || resp.Body == nil {
		return nil, c.fail(provider.ErrUnavailable, 0, errors.New("the transport returned no answer"))
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusProxyAuthRequired { // only a proxy answers that
		return nil, c.fail(provider.ErrUnavailable, 0, &proxyError{cmp.Or(proxy, unnamed), answered(resp.StatusCode)})
	}
	body, err := readBody(ctx, resp, c.maxBody)
	r := &Response{
		Provider: c.name, At: c.now().UTC(), Status: resp.StatusCode, Header: resp.Header, Body: body,
		keyless: c.key.Header == "" || req.Header.Get(c.key.Header) == "", refusal: c.key.Refusal,
	}
	if req.URL.Scheme == "http" {
		r.proxy = proxy
	}
	switch {
	case err == nil:
	case ctx.Err() == nil && resp.StatusCode >= http.StatusBadRequest:
		r.Body = nil
	case errors.Is(err, errBody):
		return nil, r.BadResponse(err)
	default:
		return nil, c.fail(provider.ErrUnavailable, resp.StatusCode, err)
	}
	return r, nil
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	key, err := c.key.get()
	if err != nil {
		return nil, err
	}
	method := http.MethodGet
	if r.Body != nil {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(ctx, method, c.endpoint.url(r.Path, r.Query.Encode()), bytes.NewReader(r.Body))
	if err != nil { // its text has the URL
		return nil, errors.New("the path of the request is not escaped")
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if key != "" {
		req.Header.Set(c.key.Header, key)
	}
	req.Header.Set("User-Agent", userAgent)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
		// Every request only reads. Present but empty, this header is not sent
		// and lets net/http use a new connection if a pooled one turns out to be
		// dead.
		req.Header["Idempotency-Key"] = []string{}
	}
	return req, nil
}

func (c *Client) fail(kind error, status int, err error) *provider.Error {
	return &provider.Error{Provider: c.name, Kind: kind, StatusCode: status, Err: err}
}
