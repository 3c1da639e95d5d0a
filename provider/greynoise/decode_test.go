package greynoise

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/decodetest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

var (
	addr = netip.MustParseAddr("71.6.135.131")
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// response returns an answer that arrived at noon.
func response(status int, header http.Header, body []byte) *rest.Response {
	return &rest.Response{Provider: Name, At: noon, Status: status, Header: header, Body: body}
}

func TestFindings(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status  int
		body    string
		known   bool
		verdict provider.Verdict
		attrs   map[string]any
	}{
		"benign": {200, `{"ip":"71.6.135.131","noise":true,"riot":false,"classification":"benign","name":"Shodan.io","link":"https://viz.greynoise.io/ip/71.6.135.131","last_seen":"2021-05-10","message":"Success"}`,
			true, provider.Benign, map[string]any{
				"classification": "benign", "name": "Shodan.io", "tags": []string{}, "noise": true, "riot": false,
				"link": "https://viz.greynoise.io/ip/71.6.135.131", "last_seen": "2021-05-10",
			}},
		"malicious": {200, `{"ip":"71.6.135.131","noise":true,"riot":true,"classification":" Malicious "}`,
			true, provider.Malicious, map[string]any{"classification": "malicious", "tags": []string{}, "noise": true, "riot": true}},
		"suspicious, with tags": {200, `{"noise":true,"classification":"suspicious","tags":["b",7,"a",null,["c"],true,"b"]}`,
			true, provider.Suspicious, map[string]any{"classification": "suspicious", "tags": []string{"b", "a", "b"}, "noise": true}},
		"some other classification": {200, `{"noise":true,"classification":"weird"}`,
			true, provider.Unknown, map[string]any{"classification": "weird", "tags": []string{}, "noise": true}},
		"riot is no innocence": {200, `{"noise":false,"riot":true,"name":"Cloudflare"}`,
			true, provider.Unknown, map[string]any{"classification": "unknown", "name": "Cloudflare", "tags": []string{}, "noise": false, "riot": true}},
		"neither noise nor riot": {200, `{"ip":"71.6.135.131","noise":false,"riot":false}`,
			false, provider.Unknown, map[string]any{"classification": "unknown", "tags": []string{}, "noise": false, "riot": false}},
		"odd types": {200, `{"noise":"true","riot":0,"classification":null,"name":7,"tags":"one"}`,
			true, provider.Unknown, map[string]any{"classification": "unknown", "name": "7", "tags": []string{"one"}, "noise": true, "riot": false}},
		"not observed": {404, `{"ip":"71.6.135.131","noise":false,"riot":false,"message":"IP not observed scanning the internet."}`,
			false, provider.Unknown, map[string]any{"classification": "unknown", "tags": []string{}, "noise": false, "riot": false}},
		"not observed and yet classified": {404, `{"noise":false,"riot":true,"classification":"malicious"}`,
			false, provider.Unknown, map[string]any{"classification": "unknown", "tags": []string{}, "noise": false, "riot": true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := decode(addr, response(tt.status, nil, []byte(tt.body)))
			require.NoError(t, err)
			require.Equal(t, tt.known, f.Known)
			require.Equal(t, tt.verdict, f.Verdict)
			require.Equal(t, tt.attrs, f.Attrs)
			if tt.status == http.StatusNotFound {
				require.Equal(t, `{"message":"not seen"}`, string(f.Raw))
			} else {
				require.JSONEq(t, tt.body, string(f.Raw))
			}
			require.Equal(t, 72*time.Hour, f.TTL)
			require.Equal(t, noon, f.ObservedAt)
		})
	}
}

func TestErrors(t *testing.T) {
	t.Parallel()
	retry := http.Header{"Retry-After": {"30"}}
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		"another address":    {200, nil, `{"ip":"1.2.3.4","noise":true,"classification":"malicious"}`, "bad response (HTTP 200): the answer is about another address"},
		"nothing said":       {200, nil, `{"ip":"71.6.135.131","message":"Success"}`, "bad response (HTTP 200): no noise, no riot and no classification"},
		"null":               {200, nil, `null`, "bad response (HTTP 200): no noise, no riot and no classification"},
		"list":               {200, nil, `[]`, "bad response (HTTP 200): the body is JSON of an unexpected shape"},
		"web page":           {200, nil, `<html>canary-77aa`, "unavailable (HTTP 200): the body is a web page, not JSON; something in between answered in place of the service"},
		"404 as a page":      {404, nil, `<html>canary-77aa`, "unavailable (HTTP 404): the body is a web page, not JSON; something in between answered in place of the service"},
		"404 as text":        {404, nil, `default backend - 404`, "unavailable (HTTP 404): the body is text, not JSON; something in between answered in place of the service"},
		"404 of a proxy":     {404, nil, `{"message":"canary-77aa"}`, "bad response (HTTP 404): not found, but not as the service says it: no boolean noise"},
		"404 with noise":     {404, nil, `{"noise":true}`, "bad response (HTTP 404): not found, and yet seen scanning"},
		"not routable":       {400, nil, `{"message":"Request is not a valid routable IPv4 address"}`, "address not supported (HTTP 400): the service takes the address for one that is not routed"},
		"bad request":        {400, nil, `{"message":"canary-77aa"}`, "bad response (HTTP 400): unexpected status"},
		"bad key":            {401, nil, `{"message":"canary-77aa"}`, "unauthorized (HTTP 401): the key is missing, wrong or revoked"},
		"week spent":         {429, nil, `{"plan":"Community","rate_limit":"25-W","message":"x"}`, "quota exhausted (HTTP 429): the allowance of this week is spent"},
		"day spent":          {429, retry, `{"rate-limit":"100-lookups/day"}`, "quota exhausted (HTTP 429): the allowance of this day is spent (retry after 30s)"},
		"month spent":        {429, nil, `{"rate-limit":"50/month"}`, "quota exhausted (HTTP 429): the allowance of this month is spent"},
		"odd allowance":      {429, nil, `{"rate-limit":"canary-77aa"}`, "quota exhausted (HTTP 429)"},
		"asked too fast":     {429, retry, `{"message":"canary-77aa"}`, "rate limited (HTTP 429) (retry after 30s)"},
		"limited by a proxy": {429, retry, `<html>canary-77aa`, "rate limited (HTTP 429) (retry after 30s)"},
		"down":               {500, nil, `{"message":"Encountered error while performing request"}`, "unavailable (HTTP 500)"},
		"redirect":           {302, nil, ``, "unavailable (HTTP 302): redirects are not followed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := decode(addr, response(tt.status, tt.header, []byte(tt.body)))
			require.EqualError(t, err, "greynoise: "+tt.want)
			decodetest.Check(t, Name, addr, f, err, []byte(tt.body))
		})
	}
}

func FuzzDecode(f *testing.F) {
	decodetest.Samples(f, func(status int, body []byte) {
		f.Add(status, body)
		f.Add(200, body)
	})
	f.Add(200, []byte(`{"ip":"71.6.135.131","noise":true,"classification":"malicious","noise":"canary-77aa"}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got, err := decode(addr, response(status, nil, body))
		decodetest.Check(t, Name, addr, got, err, body)
		if got.Verdict == provider.Malicious {
			var object map[string]any
			require.NoError(t, json.Unmarshal(body, &object))
			said := false
			for name, v := range object {
				s, _ := v.(string)
				said = said || strings.EqualFold(name, "classification") && strings.EqualFold(strings.TrimSpace(s), "malicious")
			}
			require.True(t, said && status == 200)
		}
	})
}

func TestAllowance(t *testing.T) {
	for text, want := range map[string]*provider.Usage{
		"25-W":             {Limit: 25, Window: provider.Week},
		"100-D":            {Limit: 100, Window: provider.Day},
		"100-lookups/day":  {Limit: 100, Window: provider.Day},
		"50/month":         {Limit: 50, Window: provider.Month},
		"many-W":           {Window: provider.Week},
		"-1-W":             {Window: provider.Week},
		"99999999999999-W": {Window: provider.Week},
		"25":               nil,
		"W":                nil, // no number, and no separator
		"":                 nil,
		"25-Y":             nil,
	} {
		got, _ := allowance(text)
		require.Equal(t, want, got, text)
	}
}
