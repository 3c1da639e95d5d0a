package abuseipdb_test

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// keyed returns a KeyFunc.
func keyed(key string) func() string { return func() string { return key } }

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed(at.Key), BaseURL: at.BaseURL, Transport: at.Transport})
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		Source: upstream.AbuseIPDB,
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := abuseipdb.New(abuseipdb.Options{MaxAgeDays: 366, BaseURL: "a.test/v2"})
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorContains(t, err, "DECNET_ABUSEIPDB_API_KEY")
	require.ErrorContains(t, err, "MaxAgeDays is 366")
	require.ErrorContains(t, err, "BaseURL")

	_, err = abuseipdb.New(abuseipdb.Options{KeyFunc: keyed("k"), MaxAgeDays: -1})
	require.ErrorIs(t, err, provider.ErrConfig)
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		_, _ = w.Write([]byte(`{"data":{"abuseConfidenceScore":0}}`))
	}))
	t.Cleanup(server.Close)
	for days, want := range map[int]string{0: "30", 365: "365"} {
		p, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed(" k3y\n"), MaxAgeDays: days, BaseURL: server.URL})
		require.NoError(t, err)
		_, err = p.Lookup(t.Context(), netip.MustParseAddr("2a0e:97c0::1"))
		require.NoError(t, err)
		require.Equal(t, "/api/v2/check?ipAddress=2a0e%3A97c0%3A%3A1&maxAgeInDays="+want+"&verbose=1", got.RequestURI)
		require.Equal(t, http.MethodGet, got.Method)
		require.Equal(t, "k3y", got.Header.Get("Key"))
		require.Equal(t, "application/json", got.Header.Get("Accept"))
	}
}

func TestNamesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was made") }))
	t.Cleanup(server.Close)
	p, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed("k"), BaseURL: server.URL})
	require.NoError(t, err)
	_, err = p.Lookup(t.Context(), netip.MustParseAddr("192.168.0.1"))
	require.ErrorIs(t, err, provider.ErrUnsupported)
}

func TestQuotas(t *testing.T) {
	t.Parallel()
	own := []provider.Quota{{Calls: 3000, Window: provider.Day}, {Calls: 10, Window: time.Second}}
	for _, c := range []struct{ given, want []provider.Quota }{
		{nil, []provider.Quota{{Calls: 1000, Window: provider.Day}}},
		{[]provider.Quota{}, []provider.Quota{}},
		{own, own},
	} {
		p, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed("k"), Quotas: c.given})
		require.NoError(t, err)
		require.Equal(t, provider.Limits{Quotas: c.want, Assumed: c.given == nil}, p.Limits())
	}
	_, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed("k"), Quotas: []provider.Quota{{Calls: -1, Window: provider.Day}}})
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorContains(t, err, "-1 calls")
}

// TestUsage hands on what every answer says about the plan.
func TestUsage(t *testing.T) {
	t.Parallel()
	up, err := upstream.Start(upstream.Options{Quotas: map[upstream.Source][]upstream.Quota{
		upstream.AbuseIPDB: {{Calls: 2, Window: provider.Day}},
	}})
	require.NoError(t, err)
	t.Cleanup(up.Close)
	p, err := abuseipdb.New(abuseipdb.Options{KeyFunc: keyed("k"), BaseURL: up.URL()})
	require.NoError(t, err)
	for _, left := range []int{1, 0} {
		f, err := p.Lookup(t.Context(), netip.MustParseAddr("45.155.205.233"))
		require.NoError(t, err)
		require.Equal(t, &provider.Usage{Limit: 2, Remaining: left, Window: provider.Day}, f.Usage)
	}
	_, err = p.Lookup(t.Context(), netip.MustParseAddr("45.155.205.233"))
	require.ErrorIs(t, err, provider.ErrQuotaExhausted)
	e, ok := errors.AsType[*provider.Error](err)
	require.True(t, ok)
	require.Equal(t, 2, e.Usage.Limit)
	require.Zero(t, e.Usage.Remaining)
	require.WithinDuration(t, time.Now().Add(provider.Day), e.Usage.Reset, time.Minute)
}
