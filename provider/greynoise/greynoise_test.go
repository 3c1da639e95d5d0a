package greynoise_test

import (
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// keyed returns a KeyFunc.
func keyed(key string) func() string { return func() string { return key } }

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := greynoise.New(greynoise.Options{KeyFunc: keyed(at.Key), BaseURL: at.BaseURL, Transport: at.Transport})
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		Source: upstream.GreyNoise,
	})
}

// The same about many addresses at a time, with and without a key that is entitled.
func TestConformanceBatch(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := greynoise.New(greynoise.Options{KeyFunc: keyed(at.Key), BaseURL: at.BaseURL, Transport: at.Transport, Batch: true})
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		Source: upstream.GreyNoise,
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := greynoise.New(greynoise.Options{KeyFunc: keyed("sesame\n5d0c"), BaseURL: "api.greynoise.io"})
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorContains(t, err, "Key")
	require.ErrorContains(t, err, "BaseURL")
	require.NotContains(t, err.Error(), "sesame")
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got []*http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r)
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"ip":"71.6.135.131","noise":false,"riot":false}`))
	}))
	t.Cleanup(server.Close)
	now := time.Date(2026, 11, 23, 13, 0, 0, 0, time.FixedZone("CET", 3600))
	for _, key := range []string{"", " k3y "} {
		p, err := greynoise.New(greynoise.Options{KeyFunc: keyed(key), BaseURL: server.URL, Now: func() time.Time { return now }})
		require.NoError(t, err)
		f, err := p.Lookup(t.Context(), netip.MustParseAddr("::ffff:71.6.135.131"))
		require.NoError(t, err)
		require.Equal(t, now.UTC(), f.ObservedAt)
		require.Equal(t, netip.MustParseAddr("71.6.135.131"), f.Addr)
	}
	require.Len(t, got, 2)
	require.Equal(t, "GET /v3/community/71.6.135.131", got[0].Method+" "+got[0].RequestURI)
	require.NotContains(t, got[0].Header, "Key")
	require.Equal(t, "k3y", got[1].Header.Get("key"))
}

func TestAsksOnlyAboutPublicIPv4(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was made") }))
	t.Cleanup(server.Close)
	p, err := greynoise.New(greynoise.Options{BaseURL: server.URL})
	require.NoError(t, err)
	require.True(t, p.Limits().IPv4Only)
	for _, addr := range []netip.Addr{{}, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("2a0e:97c0::1")} {
		_, err := p.Lookup(t.Context(), addr)
		require.ErrorIs(t, err, provider.ErrUnsupported)
	}
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	own := []provider.Quota{{Calls: 100, Window: provider.Day}}
	for _, c := range []struct{ given, want []provider.Quota }{
		{nil, []provider.Quota{{Calls: 25, Window: provider.Week}}},
		{[]provider.Quota{}, []provider.Quota{}},
		{own, own},
	} {
		p, err := greynoise.New(greynoise.Options{Quotas: c.given})
		require.NoError(t, err)
		require.Equal(t, provider.Limits{IPv4Only: true, Quotas: c.want, Assumed: c.given == nil}, p.Limits())
	}
}
