package rest_test

import (
	"net/http"
	"net/netip"
	"testing"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/rest"
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
		Source: upstream.Custom, Handler: http.HandlerFunc(answerHosts),
		Known: netip.MustParseAddr("45.155.205.233"), Unknown: netip.MustParseAddr("193.32.162.7"),
	})
}
