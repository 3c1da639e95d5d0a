// Package rest is for providers over an HTTP API: one request, one
// answer, read whole and within a limit, and errors that are safe to show.
//
// It says nothing about who is asking, follows no redirect, keeps no cookie and
// never retries. No error it makes holds a key, a header, a path, a query or
// any part of a body.
package rest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/decnet/enrich/provider"
)

// UserAgent is sent with every request. It names nobody.
const UserAgent = "Mozilla/5.0 (compatible)"

// Defaults of [Options].
const (
	DefaultMaxBody = 1 << 20
	DefaultTimeout = 10 * time.Second
)

// Options configure a [Client].
type Options struct {
	// Provider is the name that errors carry. Required.
	Provider string
	// Origin is where the service is: scheme, host and port. Required.
	Origin string
	// BaseURL is another origin to use in place of Origin; empty for none.
	BaseURL string
	// Transport carries the requests. Nil means one that the whole process
	// shares.
	Transport http.RoundTripper
	// MaxBody is the greatest size of a body in bytes, before as well as after
	// decompression. Zero means DefaultMaxBody.
	MaxBody int64
	// Timeout is for requests whose context has no deadline, body included.
	// Zero means DefaultTimeout.
	Timeout time.Duration
}

// Client talks to one service. It is safe for concurrent use.
type Client struct {
	name      string
	origin    string
	transport http.RoundTripper
	maxBody   int64
	timeout   time.Duration
}

// New returns a client. It returns an error if BaseURL is not an origin.
func New(o Options) (*Client, error) {
	c := &Client{
		name:      o.Provider,
		transport: o.Transport,
		maxBody:   o.MaxBody,
		timeout:   o.Timeout,
	}
	if o.BaseURL == "" {
		o.BaseURL = o.Origin
	}
	var err error
	if c.origin, err = origin(o.BaseURL); err != nil {
		return nil, err
	}
	if c.transport == nil {
		c.transport = shared()
	}
	if c.maxBody == 0 {
		c.maxBody = DefaultMaxBody
	}
	if c.timeout == 0 {
		c.timeout = DefaultTimeout
	}
	return c, nil
}

// Request is what to ask. The zero Method means GET.
type Request struct {
	Method string
	Path   string // escaped, with a leading slash
	Query  string // encoded, without the question mark
	Header http.Header
	Body   []byte // JSON; nil for none
}

// Response is an answer, read to its end.
type Response struct {
	Status int
	Header http.Header
	// Body is decompressed. It is nil if the status is that of an error and the
	// body could not be read: the status says enough.
	Body []byte
}

// Do sends r and returns the answer, whatever its status. The error is a
// [*provider.Error]: [provider.ErrUnavailable] if there was no answer, wrapping
// the context's error if that is why, and [provider.ErrBadResponse] if the body
// is too large or not encoded as it says.
func (c *Client) Do(ctx context.Context, r Request) (*Response, error) {
	if err := ctx.Err(); err != nil {
		return nil, c.fail(provider.ErrUnavailable, 0, fmt.Errorf("nothing was asked: %w", err))
	}
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	req, err := c.request(ctx, r)
	if err != nil {
		return nil, c.fail(provider.ErrConfig, 0, err)
	}
	resp, err := c.transport.RoundTrip(req)
	if err != nil {
		return nil, c.fail(provider.ErrUnavailable, 0, explain(ctx, err))
	}
	if resp == nil || resp.Body == nil {
		return nil, c.fail(provider.ErrUnavailable, 0, errors.New("the transport returned no answer"))
	}
	defer resp.Body.Close()
	body, err := readBody(ctx, resp, c.maxBody)
	switch {
	case err == nil:
	case ctx.Err() == nil && resp.StatusCode >= http.StatusBadRequest:
		body = nil
	case errors.Is(err, errBody):
		return nil, c.fail(provider.ErrBadResponse, resp.StatusCode, err)
	default:
		return nil, c.fail(provider.ErrUnavailable, resp.StatusCode, err)
	}
	return &Response{Status: resp.StatusCode, Header: resp.Header, Body: body}, nil
}

func (c *Client) request(ctx context.Context, r Request) (*http.Request, error) {
	url := c.origin + r.Path
	if r.Query != "" {
		url += "?" + r.Query
	}
	if r.Method == "" {
		r.Method = http.MethodGet
	}
	req, err := http.NewRequestWithContext(ctx, r.Method, url, bytes.NewReader(r.Body))
	if err != nil { // its text has the URL
		return nil, errors.New("request cannot be made")
	}
	for name, values := range r.Header {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	req.Header.Set("User-Agent", UserAgent)
	req.Header.Set("Accept", "application/json")
	req.Header.Set("Accept-Encoding", "gzip")
	if r.Body != nil {
		req.Header.Set("Content-Type", "application/json")
		// Every request only reads. Present but empty, this is not sent and lets
		// net/http use a new connection if a pooled one turns out to be dead.
		req.Header["Idempotency-Key"] = []string{}
	}
	return req, nil
}

func (c *Client) fail(kind error, status int, err error) *provider.Error {
	return &provider.Error{Provider: c.name, Kind: kind, StatusCode: status, Err: err}
}

// Admit returns addr in the form to be sent, or an error that wraps
// [provider.ErrUnsupported] if it is not an address to name to anyone outside.
// The caller has seen to that already; this is the last door.
func Admit(name string, addr netip.Addr) (netip.Addr, error) {
	addr = provider.Canonical(addr)
	if !(provider.Guard{}).Allows(addr) {
		return netip.Addr{}, &provider.Error{Provider: name, Kind: provider.ErrUnsupported, Err: errors.New("not a public address; nothing was sent")}
	}
	return addr, nil
}
