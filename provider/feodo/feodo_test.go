package feodo_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

var c2 = netip.MustParseAddr("45.155.205.233")

// keyed returns a KeyFunc.
func keyed(key string) func() string { return func() string { return key } }

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := feodo.New(feodo.Options{KeyFunc: keyed(at.Key), BaseURL: at.BaseURL, Transport: at.Transport})
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		Source: upstream.Feodo,
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := feodo.New(feodo.Options{KeyFunc: keyed("sesame 5d0c"), BaseURL: "a.test", Interval: time.Minute})
	require.ErrorIs(t, err, provider.ErrConfig)
	for _, option := range []string{"Key", "BaseURL", "Interval"} {
		require.ErrorContains(t, err, option)
	}
	require.NotContains(t, err.Error(), "sesame")
}

func TestLookup(t *testing.T) {
	t.Parallel()
	server, err := upstream.Start(upstream.Options{FeodoValidators: true, Feodo: []upstream.FeodoRow{
		{Addr: c2, Port: 443, Malware: "QakBot"},
	}})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	now := time.Date(2026, 11, 23, 13, 0, 0, 0, time.FixedZone("CET", 3600))
	loaded := now.UTC()
	p, err := feodo.New(feodo.Options{KeyFunc: keyed(" k3y\n"), BaseURL: server.URL(), Now: func() time.Time { return now }})
	require.NoError(t, err)
	require.Zero(t, p.Limits())

	f, err := p.Lookup(t.Context(), netip.MustParseAddr("::ffff:45.155.205.233"))
	require.NoError(t, err)
	require.Equal(t, c2, f.Addr)
	require.Equal(t, provider.Malicious, f.Verdict)
	require.Equal(t, loaded, f.ObservedAt)

	now = now.Add(10 * time.Minute)
	for _, addr := range []string{"193.32.162.7", "2a0e:97c0::1", "10.0.0.1"} {
		f, err = p.Lookup(t.Context(), netip.MustParseAddr(addr))
		require.NoError(t, err)
		require.False(t, f.Known)
		require.Equal(t, loaded, f.ObservedAt)
	}
	_, err = p.Lookup(t.Context(), netip.Addr{})
	require.ErrorIs(t, err, provider.ErrUnsupported)

	requests := server.Requests(upstream.Feodo)
	require.Len(t, requests, 1)
	require.Equal(t, "GET /downloads/ipblocklist.json", requests[0].Method+" "+requests[0].URI)
	require.Equal(t, "k3y", requests[0].Header.Get("Auth-Key"))

	now = now.Add(time.Hour)
	require.NoError(t, p.Refresh(t.Context()))
	requests = server.Requests(upstream.Feodo)
	require.NotEmpty(t, requests[len(requests)-1].Header.Get("If-None-Match"))
	require.Equal(t, 1, p.List().Rows)
	require.Equal(t, now.UTC(), p.List().LoadedAt)
}

func TestEmptyList(t *testing.T) {
	t.Parallel()
	server, err := upstream.Start(upstream.Options{Feodo: []upstream.FeodoRow{}})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	p, err := feodo.New(feodo.Options{BaseURL: server.URL()})
	require.NoError(t, err)
	for range 3 {
		f, err := p.Lookup(t.Context(), c2)
		require.NoError(t, err)
		require.Equal(t, map[string]any{"listed": false}, f.Attrs)
		require.Equal(t, provider.None, f.Verdict)
		require.Empty(t, f.Raw)
	}
	require.Equal(t, 1, server.Calls(upstream.Feodo))
	require.NotContains(t, server.Requests(upstream.Feodo)[0].Header, "Auth-Key")
}

// Only an array replaces the list.
func TestWhatIsNoArray(t *testing.T) {
	t.Parallel()
	const rows = `[{"ip_address":"45.155.205.233","status":"online"},{"ip_address":"45.0.0.8","status":"online"}]`
	for body, want := range map[string]string{
		`[]`: "", "\ufeff[]\n": "", `[{"ip_address":"45.0.0.7"}]`: "",
		`{"error":"blocked by policy","data":[]}`:  "a JSON object, not a JSON array",
		`{"query_status":"maintenance","data":[]}`: "a JSON object, not a JSON array",
		`{"data":[{"ip_address":"45.0.0.7"}]}`:     "a JSON object, not a JSON array",
		"# Service temporarily unavailable":        "lines of text, not a JSON array",
		"; maintenance":                            "lines of text, not a JSON array",
		"#":                                        "lines of text, not a JSON array",
		"\ufeff":                                   "the list is empty",
		"null":                                     "lines of text, not a JSON array",
		"45.0.0.7\n":                               "lines of text, not a JSON array",
		"ExitNode x":                               "a list of exit nodes, not a JSON array",
		"ip_address,port\n45.0.0.7,443\n":          "CSV, not a JSON array",
		`{"ip_address":"45.0.0.7"}` + "\n" + `{"a":1}`: "JSON lines, not a JSON array",
		"[]\n<html>":               "JSON that breaks off or is malformed",
		`[{"msg":"rate limited"}]`: "no row has an address",
	} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			now, answer := time.Now(), rows
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(answer)) }))
			defer server.Close()
			p, err := feodo.New(feodo.Options{BaseURL: server.URL, Now: func() time.Time { return now }})
			require.NoError(t, err)
			require.NoError(t, p.Refresh(t.Context()))
			now, answer = now.Add(2*time.Hour), body
			err = p.Refresh(t.Context())
			f, missing := p.Lookup(t.Context(), c2)
			require.NoError(t, missing)
			if want == "" {
				require.NoError(t, err)
				require.False(t, f.Known)
				return
			}
			require.ErrorIs(t, err, provider.ErrBadResponse)
			require.ErrorContains(t, err, want)
			require.Equal(t, provider.Malicious, f.Verdict)
		})
	}
}

func TestRefusedDownloads(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status     int
		kind, body string
		want       error
	}{
		"challenge":           {403, "text/html", "<!DOCTYPE html>", provider.ErrUnavailable},
		"nothing said":        {403, "", "", provider.ErrUnavailable},
		"limited":             {402, "application/json", `{"query_status":"ratelimited","msg":"slow down"}`, provider.ErrRateLimited},
		"limited in capitals": {402, "application/json", `{"query_status":"RateLimited"}`, provider.ErrRateLimited},
		"limited with a 200":  {200, "application/json", `{"query_status":"rate_limited"}`, provider.ErrRateLimited},
		"a key is required":   {401, "application/json", `{"query_status":"no_api_key"}`, provider.ErrUnauthorized},
		"no key":              {401, "application/json", `{"error":"Unauthorized"}`, provider.ErrUnauthorized},
		"something else":      {200, "application/json", `{"query_status":"ok"}`, provider.ErrBadResponse},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Content-Type", tt.kind)
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			p, err := feodo.New(feodo.Options{BaseURL: server.URL})
			require.NoError(t, err)
			_, err = p.Lookup(t.Context(), c2)
			require.Equal(t, tt.want, provider.Kind(err), "%v", err)
		})
	}
}
