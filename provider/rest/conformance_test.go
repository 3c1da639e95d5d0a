package rest_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/rest"
	"github.com/decnet/enrich/provider/threatfox"
)

// TestExampleConforms runs the suite on the provider of the example.
func TestExampleConforms(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			h, err := newHosts(rest.Options{
				BaseURL: at.BaseURL, Transport: at.Transport, Key: rest.Key{Func: func() string { return at.Key }},
			})
			if err != nil {
				tb.Fatal(err)
			}
			return h
		},
		Source: upstream.Custom, Handler: http.HandlerFunc(answerHosts), Refusal: `{"error":"wrong key"}`,
		Known: netip.MustParseAddr("45.155.205.233"), Unknown: netip.MustParseAddr("193.32.162.7"),
	})
}

// TestOnlyAServiceRefusesItsKey: each provider knows how its service refuses.
func TestOnlyAServiceRefusesItsKey(t *testing.T) {
	t.Parallel()
	var status int
	var body string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = w.Write([]byte(body))
	}))
	t.Cleanup(server.Close)
	key := func() string { return "k" }
	for name, own := range map[string]string{
		abuseipdb.Name: `{"errors":[{"detail":"no","status":403}]}`,
		greynoise.Name: `{"message":"no"}`,
		threatfox.Name: `{"query_status":"unknown_auth_key"}`,
		feodo.Name:     `{"query_status":"unknown_auth_key"}`,
	} {
		ask := func() error {
			var p provider.Provider
			var err error
			switch name {
			case abuseipdb.Name:
				p, err = abuseipdb.New(abuseipdb.Options{BaseURL: server.URL, KeyFunc: key})
			case greynoise.Name:
				p, err = greynoise.New(greynoise.Options{BaseURL: server.URL, KeyFunc: key})
			case threatfox.Name:
				p, err = threatfox.New(threatfox.Options{BaseURL: server.URL, KeyFunc: key})
			default:
				p, err = feodo.New(feodo.Options{BaseURL: server.URL, KeyFunc: key})
			}
			require.NoError(t, err)
			if r, ok := provider.As[provider.Refresher](p); ok {
				return r.Refresh(context.Background())
			}
			_, err = p.Lookup(context.Background(), netip.MustParseAddr("45.155.205.233"))
			return err
		}
		status, body = 403, own
		require.Equal(t, provider.ErrUnauthorized, provider.Kind(ask()), name)
		for _, body = range []string{
			``, `RBAC: access denied`, `error code: 1020`, `{"title":"Access denied"}`, `{"cloudflare_error":true,"error_code":1006}`,
		} {
			err := ask()
			require.Equal(t, provider.ErrUnavailable, provider.Kind(err), "%s: %s: %v", name, body, err)
		}
		status, body = 401, `{"a form":"that is not known"}`
		require.Equal(t, provider.ErrUnauthorized, provider.Kind(ask()), name)
	}
}
