package feodo_test

import (
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
	require.Equal(t, 1, p.Stats().Entries)
	require.Equal(t, now.UTC(), p.Stats().LoadedAt)
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
