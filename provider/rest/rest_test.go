package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

const (
	secret = "sesame-5d0c"
	canary = "canary-77aa"
)

type tripper func(*http.Request) (*http.Response, error)

func (f tripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func client(t *testing.T, o Options) *Client {
	t.Helper()
	o.Provider = "test"
	if o.URL == "" {
		o.URL = "https://upstream.example"
	}
	c, err := New(o)
	require.NoError(t, err)
	return c
}

// ask sends a request that carries a secret wherever one could be.
func ask(ctx context.Context, c *Client) (*Response, error) {
	return c.Do(ctx, Request{Path: "/" + secret, Query: url.Values{"q": {secret}}, Header: http.Header{"Key": {secret}}})
}

func requireSafe(t *testing.T, err error) {
	t.Helper()
	require.NotContains(t, err.Error(), secret)
	require.NotContains(t, err.Error(), canary)
}

func serve(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	s.Config.ErrorLog = nil
	return s.URL
}

func TestRequestNamesNobody(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	at := serve(t, func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(`{}`))
	})
	c := client(t, Options{BaseURL: at + "/"})
	r, err := c.Do(t.Context(), Request{
		Path: "/a/b", Query: url.Values{"ip": {"2a00::1"}}, Header: http.Header{"auth-key": {"k"}, "User-Agent": {"me"}}, Body: []byte(`{"q":1}`),
	})
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, r.Status)
	require.Equal(t, "POST", got.Method)
	require.Equal(t, "/a/b?ip=2a00%3A%3A1", got.RequestURI)
	require.JSONEq(t, `{"q":1}`, string(body))
	require.Equal(t, http.Header{
		"User-Agent":      {userAgent},
		"Accept":          {"application/json"},
		"Accept-Encoding": {"gzip"},
		"Content-Type":    {"application/json"},
		"Content-Length":  {"7"},
		"Auth-Key":        {"k"},
	}, got.Header)
}

func TestRedirectIsNotFollowed(t *testing.T) {
	t.Parallel()
	followed := false
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/elsewhere" {
			followed = true
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	})
	r, err := ask(t.Context(), client(t, Options{BaseURL: url}))
	require.NoError(t, err)
	require.False(t, followed)
	require.ErrorIs(t, r.StatusError(), provider.ErrUnavailable)
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b)
	_ = z.Close()
	return out.Bytes()
}

func TestBody(t *testing.T) {
	t.Parallel()
	const limit = 1000
	text := func(n int) []byte { return []byte(canary + strings.Repeat("x", n-len(canary))) }
	for _, tt := range []struct {
		name     string
		encoding string
		status   int
		body     []byte
		want     []byte
		kind     error
	}{
		{"plain", "", 200, text(20), text(20), nil},
		{"empty", "", 200, nil, nil, nil},
		{"gzip", "gzip", 200, zip(text(20)), text(20), nil},
		{"gzip by its old name", "X-GZIP", 200, zip(text(20)), text(20), nil},
		{"gzip of nothing", "gzip", 304, nil, nil, nil},
		{"at the limit", "", 200, text(limit), text(limit), nil},
		{"at the limit, compressed", "gzip", 200, zip(text(limit)), text(limit), nil},
		{"over the limit", "", 200, text(limit + 1), nil, provider.ErrBadResponse},
		{"over the limit, compressed", "gzip", 200, zip(text(limit + 1)), nil, provider.ErrBadResponse},
		{"bomb", "gzip", 200, zip(make([]byte, 1<<20)), nil, provider.ErrBadResponse},
		{"compressed bytes over the limit", "gzip", 200, bytes.Repeat(zip(nil), 100), nil, provider.ErrBadResponse},
		{"not gzip", "gzip", 200, text(20), nil, provider.ErrBadResponse},
		{"gzip cut short", "gzip", 200, zip(text(200))[:30], nil, provider.ErrBadResponse},
		{"unknown encoding", "br", 200, text(20), nil, provider.ErrBadResponse},
		{"unreadable with an error status", "gzip", 429, text(20), nil, nil},
		{"too large with an error status", "", 503, text(limit + 1), nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if tt.encoding != "" {
					w.Header().Set("Content-Encoding", tt.encoding)
				}
				w.WriteHeader(tt.status)
				_, _ = w.Write(tt.body)
			})
			r, err := ask(t.Context(), client(t, Options{BaseURL: url, MaxBody: limit}))
			if tt.kind != nil {
				require.ErrorIs(t, err, tt.kind)
				requireSafe(t, err)
				return
			}
			require.NoError(t, err)
			require.Equal(t, tt.status, r.Status)
			require.Equal(t, string(tt.want), string(r.Body))
		})
	}
}

func TestReadsNoMoreThanTheLimit(t *testing.T) {
	t.Parallel()
	read := 0
	c := client(t, Options{MaxBody: 1000, Transport: tripper(func(*http.Request) (*http.Response, error) {
		endless := readerFunc(func(p []byte) (int, error) { read += len(p); return len(p), nil })
		return &http.Response{StatusCode: 200, Body: io.NopCloser(endless)}, nil
	})})
	_, err := ask(t.Context(), c)
	require.ErrorIs(t, err, provider.ErrBadResponse)
	require.LessOrEqual(t, read, 1001)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTransportFailures(t *testing.T) {
	t.Parallel()
	url := "https://upstream.example/" + secret
	for name, tt := range map[string]struct {
		err  error
		want string
	}{
		"URL":            {errors.New("Get " + url + ": oops"), "the request failed; the reason is not shown, because it may quote the request"},
		"no such host":   {&net.DNSError{Name: secret, Err: "no such host", IsNotFound: true}, "no such host"},
		"DNS timeout":    {&net.DNSError{Name: secret, IsTimeout: true}, "timed out looking up the host name"},
		"DNS":            {&net.DNSError{Name: secret}, "cannot look up the host name"},
		"refused":        {&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}, "cannot connect: connection refused"},
		"reset":          {&net.OpError{Op: "read", Err: syscall.ECONNRESET}, "connection broken: connection reset by peer"},
		"cut off":        {io.ErrUnexpectedEOF, "answer cut off: unexpected EOF"},
		"no reason":      {&net.OpError{Op: "read", Err: errors.New(secret)}, "the request failed; the reason is not shown, because it may quote the request"},
		"socket timeout": {&net.OpError{Op: "read", Err: timeoutError{}}, "timed out: i/o timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := client(t, Options{Transport: tripper(func(*http.Request) (*http.Response, error) { return nil, tt.err })})
			_, err := ask(t.Context(), before)
			require.EqualError(t, err, "test: unavailable: "+tt.want)
			require.ErrorIs(t, err, provider.ErrUnavailable)

			during := client(t, Options{Transport: tripper(func(*http.Request) (*http.Response, error) {
				body := readerFunc(func([]byte) (int, error) { return 0, tt.err })
				return &http.Response{StatusCode: 200, Body: io.NopCloser(body)}, nil
			})})
			_, err = ask(t.Context(), during)
			require.EqualError(t, err, "test: unavailable (HTTP 200): "+tt.want)
		})
	}
}

type timeoutError struct{}

func (timeoutError) Error() string   { return secret }
func (timeoutError) Timeout() bool   { return true }
func (timeoutError) Temporary() bool { return true }

func TestTransportWithoutAnAnswer(t *testing.T) {
	t.Parallel()
	for _, resp := range []*http.Response{nil, {StatusCode: 200}} {
		c := client(t, Options{Transport: tripper(func(*http.Request) (*http.Response, error) { return resp, nil })})
		_, err := ask(t.Context(), c)
		require.ErrorIs(t, err, provider.ErrUnavailable)
	}
}

func TestRealTransportFailures(t *testing.T) {
	t.Parallel()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = discardLog()
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for name, tt := range map[string]struct{ url, want string }{
		"untrusted certificate": {tlsServer.URL, "certificate not accepted"},
		"nobody there":          {"http://" + closed.Addr().String(), "cannot connect"},
		"answer cut off": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = w.Write([]byte(canary))
		}), "answer cut off"},
		"no HTTP": {serve(t, func(w http.ResponseWriter, r *http.Request) {
			conn, _, err := w.(http.Hijacker).Hijack()
			if err == nil {
				_, _ = conn.Write([]byte(canary + " " + canary + "\r\n\r\n"))
				_ = conn.Close()
			}
		}), "what answered does not speak HTTP"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ask(t.Context(), client(t, Options{BaseURL: tt.url}))
			require.ErrorIs(t, err, provider.ErrUnavailable)
			require.ErrorContains(t, err, tt.want)
			requireSafe(t, err)
		})
	}
}

func TestCancel(t *testing.T) {
	t.Parallel()
	t.Run("before the request", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		c := client(t, Options{Transport: tripper(func(*http.Request) (*http.Response, error) {
			t.Error("a request was made")
			return nil, io.EOF
		})})
		_, err := ask(ctx, c)
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("before the answer", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		url := serve(t, func(w http.ResponseWriter, r *http.Request) { cancel(); <-r.Context().Done() })
		_, err := ask(ctx, client(t, Options{BaseURL: url}))
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
	})
	t.Run("during the body, whatever the status", func(t *testing.T) {
		t.Parallel()
		ctx, cancel := context.WithCancel(t.Context())
		url := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusTooManyRequests)
			_ = http.NewResponseController(w).Flush()
			cancel()
			<-r.Context().Done()
		})
		_, err := ask(ctx, client(t, Options{BaseURL: url}))
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorIs(t, err, context.Canceled)
	})
}

func TestDeadline(t *testing.T) {
	t.Parallel()
	hang := tripper(func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	})
	for name, tt := range map[string]struct {
		option, ctx, want time.Duration
	}{
		"default":     {0, 0, defaultTimeout},
		"option":      {time.Minute, 0, time.Minute},
		"the context": {time.Second, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				ctx := t.Context()
				if tt.ctx > 0 {
					var cancel context.CancelFunc
					ctx, cancel = context.WithTimeout(ctx, tt.ctx)
					defer cancel()
				}
				start := time.Now()
				_, err := ask(ctx, client(t, Options{Transport: hang, Timeout: tt.option}))
				require.ErrorIs(t, err, context.DeadlineExceeded)
				require.ErrorIs(t, err, provider.ErrUnavailable)
				require.Equal(t, tt.want, time.Since(start))
			})
		})
	}
}

func TestSharedTransport(t *testing.T) {
	t.Parallel()
	a, b := client(t, Options{}), client(t, Options{})
	require.Same(t, a.transport, b.transport)
	require.GreaterOrEqual(t, a.transport.(*http.Transport).MaxIdleConnsPerHost, 64)
}

func TestAdmit(t *testing.T) {
	t.Parallel()
	c := client(t, Options{})
	for _, text := range []string{"10.1.2.3", "127.0.0.1", "192.0.2.1", "fe80::1", "::ffff:192.168.0.1", "64:ff9b::10.0.0.1"} {
		_, err := c.Admit(netip.MustParseAddr(text))
		require.ErrorIs(t, err, provider.ErrUnsupported, text)
	}
	_, err := c.Admit(netip.Addr{})
	require.ErrorIs(t, err, provider.ErrUnsupported)
	addr, err := c.Admit(netip.MustParseAddr("::ffff:8.8.8.8"))
	require.NoError(t, err)
	require.Equal(t, netip.MustParseAddr("8.8.8.8"), addr)
}
