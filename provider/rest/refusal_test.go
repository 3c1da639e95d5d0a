package rest

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

const page = "<!DOCTYPE html><title>Just a moment</title>" + canary

const cloudflare = `{"title":"Error 1006: Access denied","status":403,"cloudflare_error":true,"error_code":1006,"message":"no"}`

func TestARefusalOfTheKeyIsTheServicesOwn(t *testing.T) {
	t.Parallel()
	const keyed, keyless, declared = "keyed", "keyless", "declared"
	for name, tt := range map[string]struct {
		who, kind, body string
		want401, want   error
	}{
		"its own words":                 {keyed, "application/json", `{"message":"forbidden"}`, provider.ErrUnauthorized, provider.ErrUnauthorized},
		"its own words, without key":    {keyless, "application/json", `{"message":"forbidden"}`, provider.ErrUnauthorized, provider.ErrUnauthorized},
		"the form it has":               {declared, "", `{"message":"forbidden"}`, provider.ErrUnauthorized, provider.ErrUnauthorized},
		"another form":                  {declared, "application/json", `{"error":"forbidden"}`, provider.ErrUnauthorized, provider.ErrUnavailable},
		"no object":                     {declared, "application/json", `["message"]`, provider.ErrUnavailable, provider.ErrUnavailable},
		"null":                          {keyed, "application/json", `null`, provider.ErrUnavailable, provider.ErrUnavailable},
		"a content delivery network":    {keyed, "text/plain", "error code: 1020", provider.ErrUnavailable, provider.ErrUnavailable},
		"the same in JSON":              {keyed, "application/json", cloudflare, provider.ErrUnavailable, provider.ErrUnavailable},
		"the same in the service's own": {declared, "application/problem+json", cloudflare, provider.ErrUnavailable, provider.ErrUnavailable},
		"plain words":                   {keyed, "text/plain", "RBAC: access denied", provider.ErrUnavailable, provider.ErrUnavailable},
		"no words":                      {keyed, "", ``, provider.ErrUnavailable, provider.ErrUnavailable},
		"a page":                        {keyed, "text/html; charset=UTF-8", page, provider.ErrUnavailable, provider.ErrUnavailable},
		"a page, without key":           {keyless, "text/html", page, provider.ErrUnavailable, provider.ErrUnavailable},
		"a page that is called JSON":    {keyed, "application/json", "\xef\xbb\xbf \n" + page, provider.ErrUnavailable, provider.ErrUnavailable},
		"a page by its type only":       {keyed, "Text/HTML", "", provider.ErrUnavailable, provider.ErrUnavailable},
		"an XHTML page":                 {keyed, "application/xhtml+xml", `<?xml version="1.0"?>` + canary, provider.ErrUnavailable, provider.ErrUnavailable},
		"plain words, without key":      {keyless, "text/plain", "blocked by policy " + canary, provider.ErrUnavailable, provider.ErrUnavailable},
		"no words, and nobody's key":    {keyless, "", ``, provider.ErrUnavailable, provider.ErrUnavailable},
	} {
		for _, status := range []int{401, 402, 403} {
			url := serve(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				w.Header().Set("Retry-After", "7")
				w.WriteHeader(status)
				_, _ = w.Write([]byte(tt.body))
			})
			o := Options{BaseURL: url}
			if tt.who != keyless {
				o.Key = Key{Header: "Key", Func: func() string { return secret }}
			}
			if tt.who == declared {
				o.Key.Refusal = []string{"errors", "message"}
			}
			r, err := client(t, o).Do(t.Context(), Request{})
			require.NoError(t, err)
			e := r.StatusError()
			want := tt.want
			if status == 401 {
				want = tt.want401
			}
			require.Equal(t, want, e.Kind, "%s: %v", name, e)
			require.Equal(t, status, e.StatusCode)
			require.NotZero(t, e.RetryAfter)
			requireSafe(t, e)
			if want == provider.ErrUnavailable {
				require.NotContains(t, e.Error(), "key", name)
			}
		}
	}
}

func TestA401CanBeAboutTheKeyWithoutWords(t *testing.T) {
	t.Parallel()
	challenge := http.Header{"Www-Authenticate": {"Bearer"}}
	for status, want := range map[int]error{401: provider.ErrUnauthorized, 403: provider.ErrUnavailable} {
		require.Equal(t, want, (&Response{Status: status, Header: challenge}).StatusError().Kind)
		require.Equal(t, provider.ErrUnavailable, (&Response{Status: status, Header: challenge, Body: []byte(page)}).StatusError().Kind)
	}
}

func TestAPageIsAnOutageWhateverItsStatus(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]error{
		200: provider.ErrUnavailable, 206: provider.ErrUnavailable, 302: provider.ErrUnavailable, 400: provider.ErrUnavailable,
		404: provider.ErrUnavailable, 451: provider.ErrUnavailable, 500: provider.ErrUnavailable, 429: provider.ErrRateLimited,
	} {
		e := (&Response{Status: status, Body: []byte(page)}).StatusError()
		require.Equal(t, want, e.Kind, status)
		requireSafe(t, e)
	}
}

// TestNoJSONIsAnOutage: what is no JSON was not said by the service about an address.
func TestNoJSONIsAnOutage(t *testing.T) {
	t.Parallel()
	html := http.Header{"Content-Type": {"text/html"}}
	for _, tt := range []struct {
		header http.Header
		body   string
		want   error
	}{
		{nil, page, provider.ErrUnavailable},
		{nil, "blocked by policy " + canary, provider.ErrUnavailable},
		{nil, " ", provider.ErrUnavailable},
		{nil, cloudflare[:len(cloudflare)-1], provider.ErrUnavailable},
		{html, "{", provider.ErrUnavailable},
		{nil, `{"score":`, provider.ErrBadResponse},
		{nil, `["` + canary, provider.ErrBadResponse},
		{nil, `[]`, provider.ErrBadResponse},
		{nil, `7`, provider.ErrBadResponse},
		{html, `{"score":7}`, nil},
	} {
		for _, status := range []int{200, 404} {
			var v struct{ Score Int }
			err := (&Response{Status: status, Header: tt.header, Body: []byte(tt.body)}).Decode(&v)
			require.Equal(t, tt.want, provider.Kind(err), "%s: %v", tt.body, err)
			if err != nil {
				requireSafe(t, err)
			}
			if tt.want == provider.ErrUnavailable {
				require.ErrorContains(t, err, "something in between answered")
			}
		}
	}
}

func TestAPageThatIsTooLongIsAnOutage(t *testing.T) {
	t.Parallel()
	for kind, want := range map[string]error{"text/html": provider.ErrUnavailable, "application/json": provider.ErrBadResponse} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", kind)
			_, _ = w.Write([]byte(page))
		})
		_, err := ask(t.Context(), client(t, Options{BaseURL: url, MaxBody: 10}))
		require.Equal(t, want, provider.Kind(err), kind)
		require.ErrorContains(t, err, "larger than 10 bytes")
	}
}

func TestARedirectNamesTheNewOrigin(t *testing.T) {
	t.Parallel()
	for location, want := range map[string]string{
		"": "redirects are not followed",
		"https://api.new.example/v4/" + secret + "?key=" + secret: "redirects are not followed: the service has moved to https://api.new.example; configure its new URL",
		"http://u:" + secret + "@new.example:8443/#" + secret:     "redirects are not followed: the service has moved to http://new.example:8443; configure its new URL",
		"//new.example/x":            "redirects are not followed: the service has moved to https://new.example; configure its new URL",
		"/v4?key=" + secret:          "redirects are not followed: the service has moved to another path of the same origin; configure its new URL",
		"https://new\u00e9.example/": "redirects are not followed",
		"https://%zz/":               "redirects are not followed",
	} {
		for _, status := range []int{301, 302, 307, 308} {
			e := (&Response{Provider: "test", Status: status, Header: http.Header{"Location": {location}}, Body: []byte(page)}).StatusError()
			require.Equal(t, provider.ErrUnavailable, e.Kind)
			require.EqualError(t, e.Err, want, location)
			requireSafe(t, e)
		}
	}
}

func TestAByteOrderMarkIsIgnored(t *testing.T) {
	t.Parallel()
	body := []byte("\xef\xbb\xbf" + `{"score":7}`)
	var v struct{ Score Int }
	require.NoError(t, Decode(body, &v))
	require.Equal(t, int64(7), v.Score.Value)
	require.Equal(t, `{"score":7}`, string(Raw(body)))
	require.EqualError(t, Decode([]byte("\xef\xbb\xbf"), &v), "the body is empty")
}

// through returns a client that goes through a proxy.
func through(t *testing.T, proxy, target string, hook bool) *Client {
	t.Helper()
	u, err := url.Parse(proxy)
	require.NoError(t, err)
	u.User = url.UserPassword("me", secret)
	transport := &http.Transport{Proxy: http.ProxyURL(u)}
	if hook {
		transport.OnProxyConnectResponse = proxyRefused
	}
	t.Cleanup(transport.CloseIdleConnections)
	return client(t, Options{BaseURL: target, Transport: transport, Key: Key{Header: "Key", Func: func() string { return secret }}})
}

func TestAProxyThatRefuses(t *testing.T) {
	t.Parallel()
	for status, want := range map[int]string{
		407: "answered 407 Proxy Authentication Required: it requires a user name and a password",
		403: "answered 403 Forbidden",
		502: "answered 502 Bad Gateway",
	} {
		proxy := serve(t, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/html")
			w.WriteHeader(status)
			_, _ = w.Write([]byte(page))
		})
		for _, hook := range []bool{false, true} {
			_, err := ask(t.Context(), through(t, proxy, "https://upstream.example", hook))
			require.EqualError(t, err, "test: unavailable: the proxy "+proxy+" "+want+"; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
			require.ErrorIs(t, err, provider.ErrUnavailable)
		}
		// Without encryption, the proxy's answer takes the place of the service's.
		r, err := ask(t.Context(), through(t, proxy, "http://upstream.example", true))
		if err == nil {
			err = r.StatusError()
		}
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorContains(t, err, "proxy "+proxy)
		require.ErrorContains(t, err, want[len("answered "):len("answered ")+3])
		requireSafe(t, err)
	}
}

func TestAProxyThatIsNotThere(t *testing.T) {
	t.Parallel()
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, closed.Close())
	for proxy, want := range map[string]string{
		"http://" + closed.Addr().String():   "cannot connect: connection refused",
		"http://proxy.invalid:3128":          "no such host",
		"socks5://" + closed.Addr().String(): "connection refused",
	} {
		for _, target := range []string{"https://upstream.example", "http://upstream.example"} {
			_, err := ask(t.Context(), through(t, proxy, target, true))
			require.ErrorIs(t, err, provider.ErrUnavailable)
			require.ErrorContains(t, err, "the proxy "+proxy+" cannot be used")
			require.ErrorContains(t, err, want)
			requireSafe(t, err)
		}
	}
}

// TestAProxyIsNamedWheneverNoAnswerCame: it may be to blame, or what is behind it.
func TestAProxyIsNamedWheneverNoAnswerCame(t *testing.T) {
	t.Parallel()
	says := func(answer string, hang bool) string {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Read(make([]byte, 1000))
				_, _ = c.Write([]byte(answer))
				if !hang {
					_ = c.(*net.TCPConn).CloseWrite()
				}
				_, _ = io.Copy(io.Discard, c) // until the client goes
				_ = c.Close()
			}
		}()
		return l.Addr().String()
	}
	silent, closing := says("", true), says("", false)
	ssh, plain := says("SSH-2.0-"+secret+"\r\n", false), says("HTTP/1.1 400 Bad\r\n\r\n", false)
	const connected = "HTTP/1.1 200 OK\r\n\r\n"
	for proxy, want := range map[string]string{
		"http://" + silent:                 "no answer in time: context deadline exceeded",
		"https://" + silent:                "no answer in time: context deadline exceeded",
		"socks5://" + silent:               "no answer in time: context deadline exceeded",
		"http://" + closing:                "answer cut off: unexpected EOF",
		"http://" + says(connected, false): "answer cut off: unexpected EOF",
		"http://" + ssh:                    "what answered does not speak HTTP",
		"https://" + ssh:                   "the server does not speak TLS",
		"https://" + plain:                 "the server does not speak TLS",
	} {
		ctx, cancel := t.Context(), context.CancelFunc(func() {})
		if strings.Contains(proxy, silent) {
			ctx, cancel = context.WithTimeout(ctx, 100*time.Millisecond)
		}
		for _, hook := range []bool{false, true} {
			_, err := ask(ctx, through(t, proxy, "https://upstream.example", hook))
			require.ErrorIs(t, err, provider.ErrUnavailable)
			require.ErrorContains(t, err, "the proxy "+proxy)
			require.ErrorContains(t, err, want)
			require.NotContains(t, err.Error(), "(*")
			requireSafe(t, err)
			if ctx.Err() != nil {
				require.ErrorIs(t, err, context.DeadlineExceeded)
				break // the other request would not even begin
			}
		}
		cancel()
	}
}

// TestAProxyOfSOCKSThatRefuses is told apart, with what it answered.
func TestAProxyOfSOCKSThatRefuses(t *testing.T) {
	t.Parallel()
	for answer, want := range map[string]string{
		"\x05\xff":                         " answered: no acceptable authentication methods",
		"\x05\x00\x05\x02\x00\x01":         " answered: connection not allowed by ruleset",
		"\x05\x00\x05\x04\x00\x01secret":   " answered: host unreachable",
		"SSH-2.0-" + secret:                " answered: unexpected protocol version 83",
		"\x05\x00":                         " cannot be used; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY: answer cut off",
		"\x05\x00\x05\x77\x00" + secret:    " answered: unknown code: 119",
		"\x05\x00SSH-2.0-" + secret + "\n": " answered: unexpected protocol version 83",
	} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		require.NoError(t, err)
		t.Cleanup(func() { _ = l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				_, _ = c.Write([]byte(answer))
				_ = c.(*net.TCPConn).CloseWrite()
				_, _ = io.Copy(io.Discard, c) // until the client goes
				_ = c.Close()
			}
		}()
		proxy := "socks5://" + l.Addr().String()
		_, err = ask(t.Context(), through(t, proxy, "https://upstream.example", true))
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorContains(t, err, "the proxy "+proxy+want)
		require.True(t, provider.Unsent(err))
		requireSafe(t, err)
	}
}

// wrapped hides what kind of transport it is.
type wrapped struct{ http.RoundTripper }

// TestAProxyBehindAnotherTransport is not taken for the service.
func TestAProxyBehindAnotherTransport(t *testing.T) {
	t.Parallel()
	refusing := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusForbidden) })
	for proxy, want := range map[string]string{
		"http://proxy.invalid:3128": "cannot be used; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY: no such host", refusing: "answered 403 Forbidden", "socks5://proxy.invalid:1080": "cannot be used; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY: no such host",
	} {
		to, err := url.Parse(proxy)
		require.NoError(t, err)
		_, err = ask(t.Context(), client(t, Options{BaseURL: "https://upstream.example", Transport: wrapped{&http.Transport{Proxy: http.ProxyURL(to)}}}))
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.ErrorContains(t, err, "the proxy in between "+want)
		require.True(t, provider.Unsent(err))
		requireSafe(t, err)
	}
}

func TestAProxySettingThatIsNoURL(t *testing.T) {
	t.Parallel()
	transport := &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return nil, errors.New(secret) }}
	_, err := ask(t.Context(), client(t, Options{Transport: transport}))
	require.EqualError(t, err, "test: unavailable: the proxy setting is not a URL; check HTTPS_PROXY, HTTP_PROXY and NO_PROXY")
}

func TestSharedTransportAsksProxiesWhatTheySay(t *testing.T) {
	t.Parallel()
	require.NotNil(t, shared().(*http.Transport).OnProxyConnectResponse)
}
