package threatfox_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/threatfox"
)

// keyed returns a KeyFunc.
func keyed(key string) func() string { return func() string { return key } }

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, at providertest.Endpoint) provider.Provider {
			p, err := threatfox.New(threatfox.Options{KeyFunc: keyed(at.Key), BaseURL: at.BaseURL, Transport: at.Transport})
			if err != nil {
				tb.Fatal(err)
			}
			return p
		},
		Source: upstream.ThreatFox,
	})
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := threatfox.New(threatfox.Options{BaseURL: "a.test"})
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorContains(t, err, "DECNET_THREATFOX_API_KEY")
	require.ErrorContains(t, err, "BaseURL")
}

func TestRequest(t *testing.T) {
	t.Parallel()
	var got *http.Request
	var body []byte
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r
		body, _ = io.ReadAll(r.Body)
		_, _ = w.Write([]byte(`{"query_status":"no_result","data":"nothing"}`))
	}))
	t.Cleanup(server.Close)
	p, err := threatfox.New(threatfox.Options{KeyFunc: keyed(" k3y\n"), BaseURL: server.URL})
	require.NoError(t, err)
	_, err = p.Lookup(t.Context(), netip.MustParseAddr("2A0E:97C0::1"))
	require.NoError(t, err)
	require.Equal(t, "POST /api/v1/", got.Method+" "+got.RequestURI)
	require.Equal(t, "k3y", got.Header.Get("Auth-Key"))
	require.Equal(t, "application/json", got.Header.Get("Content-Type"))
	require.NotContains(t, got.Header, "Idempotency-Key")
	require.JSONEq(t, `{"query":"search_ioc","search_term":"2a0e:97c0::1","exact_match":false}`, string(body))
}

func TestNamesNoPrivateAddress(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("a request was made") }))
	t.Cleanup(server.Close)
	p, err := threatfox.New(threatfox.Options{KeyFunc: keyed("k"), BaseURL: server.URL})
	require.NoError(t, err)
	require.Zero(t, p.Limits())
	_, err = p.Lookup(t.Context(), netip.MustParseAddr("fd00::1"))
	require.ErrorIs(t, err, provider.ErrUnsupported)
}

// Asked about an address, the service also finds longer ones that begin with
// it.
func TestForeignHostsDoNotCount(t *testing.T) {
	t.Parallel()
	server, err := upstream.Start(upstream.Options{})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	asked, longer := netip.MustParseAddr("45.155.205.23"), netip.MustParseAddr("45.155.205.233")
	server.SetProfile(asked, upstream.Unseen)
	server.SetThreatFox(longer, upstream.ThreatFoxRow{Malware: "win.qakbot", Printable: "QakBot"})
	p, err := threatfox.New(threatfox.Options{KeyFunc: keyed("k"), BaseURL: server.URL()})
	require.NoError(t, err)
	f, err := p.Lookup(t.Context(), longer)
	require.NoError(t, err)
	require.True(t, f.Known)
	f, err = p.Lookup(t.Context(), asked)
	require.NoError(t, err)
	require.False(t, f.Known)
	require.Equal(t, provider.None, f.Verdict)
}
