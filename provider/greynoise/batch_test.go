package greynoise

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/decodetest"
	"github.com/decnet/enrich/provider"
)

// many starts a service with one answer to every question about many addresses, and
// returns a provider of it.
func many(t *testing.T, key *string, answer func(w http.ResponseWriter, r *http.Request)) *Provider {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(answer))
	t.Cleanup(server.Close)
	p, err := New(Options{KeyFunc: func() string { return *key }, BaseURL: server.URL, Batch: true})
	require.NoError(t, err)
	return p
}

func TestBatch(t *testing.T) {
	key, asked := "k3y", ""
	p := many(t, &key, func(w http.ResponseWriter, r *http.Request) {
		var question struct{ IPs []string }
		require.NoError(t, json.NewDecoder(r.Body).Decode(&question))
		require.Equal(t, []string{"71.6.135.131", "45.155.205.233", "45.155.205.234", "45.155.205.235"}, question.IPs)
		asked = r.Method + " " + r.RequestURI + " " + r.Header.Get("key")
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write([]byte(`{"data":[
			{"ip":"45.155.205.233","business_service_intelligence":{"found":null,"trust_level":""},"internet_scanner_intelligence":{"found":true,"classification":"suspicious"}},
			{"ip":"71.6.135.131","business_service_intelligence":{"found":true,"trust_level":"1"},"internet_scanner_intelligence":{"found":false,"classification":""}},
			{"ip":"45.155.205.234","business_service_intelligence":{"found":false},"internet_scanner_intelligence":{"found":false}},
			{"ip":"9.9.9.9","internet_scanner_intelligence":{"found":true,"classification":"malicious"}}
		],"request_metadata":{"restricted_fields":["business_service_intelligence"],"ips_not_found":["45.155.205.235"]}}`))
	})
	require.Equal(t, 1000, p.Batch())
	found, err := p.LookupBatch(t.Context(), []netip.Addr{
		netip.MustParseAddr("::ffff:71.6.135.131"), netip.MustParseAddr("45.155.205.233"),
		netip.MustParseAddr("45.155.205.234"), netip.MustParseAddr("45.155.205.235"),
	})
	require.NoError(t, err)
	require.Equal(t, "POST /v3/ip?quick=true k3y", asked)
	for i, want := range []struct {
		known   bool
		verdict provider.Verdict
		raw     string
		attrs   map[string]any
	}{
		{true, provider.Unknown, `{"ip":"71.6.135.131","noise":false,"riot":true}`,
			map[string]any{"classification": "unknown", "tags": []string{}, "noise": false, "riot": true}},
		{true, provider.Suspicious, `{"classification":"suspicious","ip":"45.155.205.233","noise":true}`,
			map[string]any{"classification": "suspicious", "tags": []string{}, "noise": true}},
		{false, provider.Unknown, notSeen, map[string]any{"classification": "unknown", "tags": []string{}, "noise": false, "riot": false}},
		{false, provider.Unknown, notSeen, map[string]any{"classification": "unknown", "tags": []string{}, "noise": false}},
	} {
		f := found[i]
		require.Equal(t, want.known, f.Known, i)
		require.Equal(t, want.verdict, f.Verdict, i)
		require.Equal(t, want.attrs, f.Attrs, i)
		require.JSONEq(t, want.raw, string(f.Raw), i)
		require.Equal(t, TTL, f.TTL)
	}
	require.Len(t, found, 4)
}

// TestBatchRefused: a key that is refused is not tried again, and another one is.
func TestBatchRefused(t *testing.T) {
	for _, status := range []int{401, 402, 403, 404} {
		key := "one"
		p := many(t, &key, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(status)
			_, _ = w.Write([]byte(`{"message":"no"}`))
		})
		found, err := p.LookupBatch(t.Context(), []netip.Addr{addr})
		require.NoError(t, err)
		require.Empty(t, found)
		require.Equal(t, 1, p.Batch())
		key = "two"
		require.Equal(t, 1000, p.Batch())
		key = ""
		require.Equal(t, 1, p.Batch(), "without a key")
	}
}

func TestBatchErrors(t *testing.T) {
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"nothing said":    {200, `{}`, "bad response (HTTP 200): it mentions none of the addresses"},
		"no list":         {200, `{"data":{}}`, "bad response (HTTP 200): the body is JSON of an unexpected shape"},
		"no address":      {200, `{"data":[{"internet_scanner_intelligence":{"found":true}}]}`, "bad response (HTTP 200): an element of data has no address"},
		"nothing about":   {200, `{"data":[{"ip":"71.6.135.131"}]}`, "bad response (HTTP 200): an element of data does not say whether the address was found"},
		"element is text": {200, `{"data":["canary-77aa"]}`, "bad response (HTTP 200): the body is JSON of an unexpected shape"},
		"week spent":      {429, `{"rate_limit":"25-W"}`, "quota exhausted (HTTP 429): the allowance of this week is spent"},
		"page":            {403, `<html>canary-77aa`, "unavailable (HTTP 403): something in between answered in place of the service"},
		"bad request":     {400, `{"message":"canary-77aa"}`, "bad response (HTTP 400): unexpected status"},
	} {
		t.Run(name, func(t *testing.T) {
			key := "k3y"
			p := many(t, &key, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			})
			_, err := p.LookupBatch(t.Context(), []netip.Addr{addr})
			require.EqualError(t, err, "greynoise: "+tt.want)
			require.Equal(t, 1000, p.Batch(), "that is no refusal of the key")
		})
	}
}

// TestBatchLeavesOut: what the answer does not mention was not looked up, which is not
// the same as not seen.
func TestBatchLeavesOut(t *testing.T) {
	key := "k3y"
	p := many(t, &key, func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"data":[],"request_metadata":{"ips_not_found":["45.155.205.233"],"invalid_ips":["45.155.205.234"]}}`))
	})
	found, err := p.LookupBatch(t.Context(), []netip.Addr{
		addr, netip.MustParseAddr("45.155.205.233"), netip.MustParseAddr("45.155.205.234"),
	})
	require.NoError(t, err)
	require.Len(t, found, 1)
	require.Equal(t, netip.MustParseAddr("45.155.205.233"), found[0].Addr)
	require.False(t, found[0].Known)
}

// TestBatchNoneFound: an account without anything to show may get null.
func TestBatchNoneFound(t *testing.T) {
	said, err := decodeMany([]byte(`{"data":null,"request_metadata":{"ips_not_found":["71.6.135.131"]}}`))
	require.NoError(t, err)
	f := said[addr].finding(addr, noon)
	require.False(t, f.Known)
	require.Equal(t, provider.Unknown, f.Verdict)
}

func TestBatchURL(t *testing.T) {
	for base, want := range map[string]string{
		"":                                   "",
		"https://proxy.example":              "",
		"https://proxy.example/gn/community": "",
		"https://proxy.example/gn/":          "BaseURL does not end in /community",
	} {
		_, err := New(Options{BaseURL: base, Batch: true})
		if want == "" {
			require.NoError(t, err, base)
			continue
		}
		require.ErrorIs(t, err, provider.ErrConfig)
		require.ErrorContains(t, err, want)
	}
	p, err := New(Options{})
	require.NoError(t, err)
	_, err = p.LookupBatch(t.Context(), []netip.Addr{addr})
	require.ErrorIs(t, err, provider.ErrConfig)
}

func FuzzDecodeMany(f *testing.F) {
	sample, err := os.ReadFile("testdata/many/206_quick.json")
	require.NoError(f, err)
	f.Add(sample)
	f.Add([]byte(`{"data":[{"ip":"71.6.135.131","internet_scanner_intelligence":{"found":true,"classification":"malicious"}}]}`))
	f.Add([]byte(`{"data":null,"request_metadata":{}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		said, err := decodeMany(body)
		if err != nil {
			require.Empty(t, decodetest.Leak(err, body))
			return
		}
		for addr, of := range said {
			decodetest.Check(t, Name, addr, of.finding(addr, noon), nil, body)
		}
		decodetest.Check(t, Name, addr, said[addr].finding(addr, noon), nil, body)
	})
}
