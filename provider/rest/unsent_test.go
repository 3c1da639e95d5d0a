package rest

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// TestUnsent: an error says whether the service can have received the request.
func TestUnsent(t *testing.T) {
	t.Parallel()
	tlsServer := httptest.NewUnstartedServer(http.NotFoundHandler())
	tlsServer.Config.ErrorLog = discardLog()
	tlsServer.StartTLS()
	t.Cleanup(tlsServer.Close)
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	plain := serve(t, func(w http.ResponseWriter, r *http.Request) {})
	hangUp := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if conn, _, err := w.(http.Hijacker).Hijack(); err == nil {
			_ = conn.Close()
		}
	})
	proxy := serve(t, func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusForbidden) })
	dialing := func(dial func(context.Context, string, string) (net.Conn, error)) http.RoundTripper {
		return &http.Transport{DialContext: dial}
	}
	through := func(proxy string) http.RoundTripper {
		u, err := url.Parse(proxy)
		require.NoError(t, err)
		return &http.Transport{Proxy: http.ProxyURL(u)}
	}
	for name, c := range map[string]struct {
		url       string
		transport http.RoundTripper
		unsent    bool
	}{
		"nobody there": {"http://" + closed.Addr().String(), nil, true},
		"no DNS": {"https://upstream.example", dialing(func(context.Context, string, string) (net.Conn, error) {
			return nil, &net.DNSError{Err: "no such host", Name: "upstream.example", IsNotFound: true}
		}), true},
		"any failure to connect": {"https://upstream.example", dialing(func(context.Context, string, string) (net.Conn, error) {
			return nil, errors.New("oops")
		}), true},
		"untrusted certificate": {tlsServer.URL, nil, true},
		"no TLS there":          {"https" + plain[len("http"):], nil, true},
		"proxy refuses":         {"https://upstream.example", through(proxy), true},
		"no proxy there":        {"https://upstream.example", through("http://" + closed.Addr().String()), true},
		"connection closed":     {hangUp, nil, false},
		"a transport without traces, no DNS": {"https://upstream.example", tripper(func(*http.Request) (*http.Response, error) {
			return nil, &net.DNSError{Err: "no such host", IsNotFound: true}
		}), true},
		"a transport without traces, in doubt": {"https://upstream.example", tripper(func(*http.Request) (*http.Response, error) {
			return nil, errors.New("oops")
		}), false},
		"no answer": {"https://upstream.example", tripper(func(*http.Request) (*http.Response, error) { return nil, nil }), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := ask(t.Context(), client(t, Options{BaseURL: c.url, Transport: c.transport}))
			e, ok := errors.AsType[*provider.Error](err)
			require.True(t, ok, err)
			require.Equal(t, c.unsent, e.Unsent, err)
			requireSafe(t, err)
		})
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = ask(ended, client(t, Options{}))
	require.True(t, provider.Unsent(err), "nothing was begun")

	dials, stop := context.WithCancel(t.Context())
	_, err = ask(dials, client(t, Options{Transport: dialing(func(ctx context.Context, _, _ string) (net.Conn, error) {
		stop()
		<-ctx.Done()
		return nil, ctx.Err()
	})}))
	require.True(t, provider.Unsent(err), "it did not get a connection in time")

	_, err = client(t, Options{}).Admit(netip.MustParseAddr("10.0.0.1"))
	require.True(t, provider.Unsent(err))
}
