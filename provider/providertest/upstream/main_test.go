package upstream_test

import (
	"encoding/json"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addr  = netip.MustParseAddr("45.155.205.233")
	other = netip.MustParseAddr("193.32.162.7")
	six   = netip.MustParseAddr("2a0e:97c0::1")
)

// start starts a server that ends with the test.
func start(tb testing.TB, o upstream.Options) *upstream.Server {
	tb.Helper()
	s, err := upstream.Start(o)
	require.NoError(tb, err)
	tb.Cleanup(s.Close)
	return s
}

// newClient returns a client with connections of its own.
func newClient(tb testing.TB) *http.Client {
	transport := &http.Transport{MaxIdleConnsPerHost: 64}
	tb.Cleanup(transport.CloseIdleConnections)
	return &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
}

// request makes the request a provider would make of the service about addr.
func request(tb testing.TB, s *upstream.Server, source upstream.Source, addr netip.Addr) *http.Request {
	tb.Helper()
	method, path, body := http.MethodGet, "", ""
	switch source {
	case upstream.GreyNoise:
		path = "/v3/community/" + addr.String()
	case upstream.AbuseIPDB:
		path = "/api/v2/check?ipAddress=" + addr.String() + "&maxAgeInDays=90&verbose"
	case upstream.ThreatFox:
		method, path, body = http.MethodPost, "/api/v1/", `{"query":"search_ioc","search_term":"`+addr.String()+`"}`
	case upstream.Feodo:
		path = "/downloads/ipblocklist.json"
	case upstream.Custom:
		path = "/custom"
	}
	r, err := http.NewRequestWithContext(tb.Context(), method, s.URL()+path, strings.NewReader(body))
	require.NoError(tb, err)
	r.Header.Set("Accept", "application/json")
	switch source {
	case upstream.AbuseIPDB:
		r.Header.Set("Key", "k")
	case upstream.ThreatFox:
		r.Header.Set("Auth-Key", "k")
	}
	return r
}

// answer is a response with its body read.
type answer struct {
	*http.Response
	body string
}

func do(tb testing.TB, client *http.Client, r *http.Request) answer {
	tb.Helper()
	resp, err := client.Do(r)
	require.NoError(tb, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(tb, err)
	return answer{resp, string(body)}
}

func ask(tb testing.TB, s *upstream.Server, source upstream.Source, addr netip.Addr) answer {
	tb.Helper()
	return do(tb, newClient(tb), request(tb, s, source, addr))
}

func (a answer) json(tb testing.TB) map[string]any {
	tb.Helper()
	var v map[string]any
	require.NoError(tb, json.Unmarshal([]byte(a.body), &v), a.body)
	return v
}
