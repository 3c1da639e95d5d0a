package threatfox

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/decodetest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

var (
	addr = netip.MustParseAddr("139.180.203.104")
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// response returns an answer that arrived at noon.
func response(status int, header http.Header, body []byte) *rest.Response {
	return &rest.Response{Provider: Name, At: noon, Status: status, Header: header, Body: body}
}

func decodeText(addr netip.Addr, status int, body string) (provider.Finding, error) {
	return decode(addr, response(status, nil, []byte(body)))
}

func TestListed(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/search_ioc_200_docs_example.json")
	require.NoError(t, err)
	f, err := decodeText(addr, 200, string(body))
	require.NoError(t, err)
	require.True(t, f.Known)
	require.Equal(t, provider.Suspicious, f.Verdict, "it was last seen in 2020")
	require.Equal(t, map[string]any{
		"listed":           true,
		"threat_types":     []string{"botnet_cc"},
		"ioc_types":        []string{"ip:port"},
		"malware_families": []string{"win.cobalt_strike"},
		"confidence":       int64(75),
		"first_seen":       "2020-12-06T09:10:23Z",
		"last_seen":        "2020-12-06T09:10:23Z",
	}, f.Attrs)
	require.JSONEq(t, string(body), `{"query_status":"ok","data":`+string(f.Raw)+`}`)
	require.Equal(t, noon, f.ObservedAt)
	require.Zero(t, f.TTL)
}

func TestOnlyRowsAboutTheAddressAreKept(t *testing.T) {
	t.Parallel()
	f, err := decodeText(addr, 200, `{"query_status":"ok","data":[
		{"ioc":"139.180.203.104:443","ioc_type":"ip:port","threat_type":"botnet_cc","malware":"win.b","malware_printable":"B","confidence_level":50},
		{"ioc":"139.180.203.1040:443","ioc_type":"ip:port","threat_type":"foreign","malware":"x","confidence_level":100},
		{"ioc":"http://139.180.203.104:8080/a","ioc_type":"url","threat_type":"payload_delivery","malware":"elf.a","malware_printable":null,"confidence_level":"75"},
		{"ioc":"139.180.203.104:80","ioc_type":"ip:port","threat_type":"botnet_cc","malware":"win.b","malware_printable":"B","confidence_level":null},
		{"ioc":"http://evil.test/139.180.203.104","ioc_type":"url","threat_type":"foreign","confidence_level":100},
		7
	]}`)
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"listed":           true,
		"threat_types":     []string{"botnet_cc", "payload_delivery"},
		"ioc_types":        []string{"ip:port", "url"},
		"malware_families": []string{"elf.a", "win.b"},
		"confidence":       int64(75),
	}, f.Attrs)
	var kept []map[string]any
	require.NoError(t, json.Unmarshal(f.Raw, &kept))
	require.Len(t, kept, 3)
}

func TestWeakIndicatorsAreSuspicious(t *testing.T) {
	t.Parallel()
	row := func(more string) string {
		return `{"ioc":"139.180.203.104:443","ioc_type":"ip:port","malware":"win.b"` + more + `}`
	}
	strong := row(`,"confidence_level":50,"first_seen":"2026-06-01 00:00:00 UTC","last_seen":null,"is_compromised":false`)
	for name, tt := range map[string]struct {
		rows string
		want provider.Verdict
	}{
		"nothing but the row":        {row(""), provider.Malicious},
		"strong":                     {strong, provider.Malicious},
		"old":                        {row(`,"confidence_level":100,"first_seen":"2020-01-01 00:00:00 UTC","last_seen":"2020-02-01 00:00:00 UTC"`), provider.Suspicious},
		"old, but seen again":        {row(`,"confidence_level":100,"first_seen":"2020-01-01 00:00:00 UTC","last_seen":"2026-11-01T00:00:00Z"`), provider.Malicious},
		"180 days":                   {row(`,"first_seen":"2026-05-27 12:00:00 UTC"`), provider.Malicious},
		"a second more":              {row(`,"first_seen":"2026-05-27 11:59:59"`), provider.Suspicious},
		"no confidence in it":        {row(`,"confidence_level":0`), provider.Suspicious},
		"little confidence, as text": {row(`,"confidence_level":"49"`), provider.Suspicious},
		"compromised":                {row(`,"confidence_level":100,"is_compromised":true`), provider.Suspicious},
		"compromised, as a number":   {row(`,"is_compromised":1`), provider.Suspicious},
		"weak ones for three reasons": {
			row(`,"confidence_level":0`) + "," + row(`,"is_compromised":true`) + "," + row(`,"last_seen":"2020-01-01 00:00:00"`),
			provider.Suspicious,
		},
		"a strong one among weak ones": {row(`,"confidence_level":0`) + "," + strong, provider.Malicious},
	} {
		f, err := decodeText(addr, 200, `{"query_status":"ok","data":[`+tt.rows+`]}`)
		require.NoError(t, err, name)
		require.True(t, f.Known, name)
		require.Equal(t, tt.want, f.Verdict, name)
	}
	f, err := decodeText(addr, 200, `{"query_status":"ok","data":[`+strong+","+
		row(`,"confidence_level":10,"first_seen":"2020-01-01 00:00:00 UTC","last_seen":"2026-11-02 03:04:05 UTC","is_compromised":true`)+`]}`)
	require.NoError(t, err)
	require.Equal(t, int64(50), f.Attrs["confidence"])
	require.Equal(t, "2020-01-01T00:00:00Z", f.Attrs["first_seen"])
	require.Equal(t, "2026-11-02T03:04:05Z", f.Attrs["last_seen"])
	require.Equal(t, true, f.Attrs["is_compromised"])
}

func TestByteOrderMark(t *testing.T) {
	t.Parallel()
	f, err := decodeText(addr, 200, "\xef\xbb\xbf"+`{"query_status":"ok","data":[{"ioc":"139.180.203.104:443","ioc_type":"ip:port"}]}`)
	require.NoError(t, err)
	require.Equal(t, provider.Malicious, f.Verdict)
}

func TestNotListed(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		`{"query_status":"no_result","data":"Your search did not yield any results"}`,
		`{"query_status":"no_result"}`,
		`{"query_status":"ok","data":[]}`,
		`{"query_status":"ok","data":[{"ioc":"139.180.203.10:443","ioc_type":"ip:port"}]}`,
	} {
		f, err := decodeText(addr, 200, body)
		require.NoError(t, err, body)
		require.False(t, f.Known)
		require.Equal(t, provider.None, f.Verdict)
		require.Equal(t, map[string]any{
			"listed": false, "threat_types": []string{}, "ioc_types": []string{}, "malware_families": []string{},
		}, f.Attrs)
		require.Empty(t, f.Raw)
	}
}

func TestHost(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("%41", 200)
	for _, tt := range []struct{ kind, ioc, want string }{
		{"ip:port", "139.180.203.104:443", "139.180.203.104"},
		{"ip:port", " 139.180.203.104:443 ", "139.180.203.104"},
		{"ip:port", "139.180.203.104", "139.180.203.104"},
		{"ip:port", "2a02:cf40:1::5:40669", "2a02:cf40:1::5"},
		{"ip:port", "2a02:cf40::5:443", "2a02:cf40::5"},
		{"ip:port", "[2a02:cf40::5]:443", "2a02:cf40::5"},
		{"ip:port", "[::ffff:139.180.203.104]:443", "139.180.203.104"},
		{"ip:port", "139.180.203.104:443:1", ""},
		{"ip:port", "x139.180.203.104:443", ""},
		{"ip:port", "139.180.203.104/24:443", ""},
		{"ip:port", "", ""},
		{"url", "http://139.180.203.104/a?b#c", "139.180.203.104"},
		{"url", "https://user:pass@139.180.203.104:8443", "139.180.203.104"},
		{"url", "http://[2a02:cf40::5]:80/x", "2a02:cf40::5"},
		{"url", "http://139.180.203.104/" + long, "139.180.203.104"},
		{"url", "http://139.180.203.104.evil.test/", ""},
		{"url", "http://evil.test/http://139.180.203.104/", ""},
		{"url", "http://139.180.203.104@evil.test/", ""},
		{"url", "139.180.203.104", ""},
		{"url", "http://%zz/", ""},
		{"domain", "139.180.203.104.evil.test", ""},
		{"ip", "139.180.203.104", "139.180.203.104"},
		{"", "139.180.203.104", "139.180.203.104"},
		{"md5_hash", "139180203104", ""},
	} {
		var r row
		b, err := json.Marshal(map[string]string{"ioc": tt.ioc, "ioc_type": tt.kind})
		require.NoError(t, err)
		require.NoError(t, json.Unmarshal(b, &r))
		var want netip.Addr
		if tt.want != "" {
			want = netip.MustParseAddr(tt.want)
		}
		require.Equal(t, want, r.host(), "%s %s", tt.kind, tt.ioc)
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
		"no key":                   {401, nil, `{"error":"Unauthorized"}`, "unauthorized (HTTP 401): the key is missing, wrong or revoked"},
		"unknown key":              {403, nil, `{"query_status":"unknown_auth_key"}`, "unauthorized (HTTP 403): the key is missing, wrong or revoked"},
		"unknown key with a 200":   {200, nil, `{"query_status":"unknown_auth_key","data":"canary-77aa"}`, "unauthorized (HTTP 200): the key is missing, wrong or revoked"},
		"limited with a 200":       {200, retry, `{"query_status":"rate_limited"}`, "rate limited (HTTP 200) (retry after 30s)"},
		"limited, as it was seen":  {402, retry, `{"query_status":"ratelimited","msg":"canary-77aa"}`, "rate limited (HTTP 402) (retry after 30s)"},
		"the same with a 200":      {200, nil, `{"query_status":"ratelimited"}`, "rate limited (HTTP 200)"},
		"challenge of a CDN":       {403, nil, `<!DOCTYPE html>canary-77aa`, "unavailable (HTTP 403): something in between answered in place of the service"},
		"limited":                  {429, retry, ``, "rate limited (HTTP 429) (retry after 30s)"},
		"refused term":             {200, nil, `{"query_status":"illegal_search_term","data":"canary-77aa"}`, "address not supported (HTTP 200): the service does not search for this address"},
		"some other status":        {200, nil, `{"query_status":"canary-77aa"}`, "bad response (HTTP 200): no query_status that is known"},
		"no status":                {200, nil, `{}`, "bad response (HTTP 200): no query_status that is known"},
		"null":                     {200, nil, `null`, "bad response (HTTP 200): no query_status that is known"},
		"list":                     {200, nil, `[]`, "bad response (HTTP 200): the body is JSON of an unexpected shape"},
		"sentence instead of rows": {200, nil, `{"query_status":"ok","data":"canary-77aa"}`, "bad response (HTTP 200): no data array"},
		"null instead of rows":     {200, nil, `{"query_status":"ok","data":null}`, "bad response (HTTP 200): no data array"},
		"no rows":                  {200, nil, `{"query_status":"ok"}`, "bad response (HTTP 200): no data array"},
		"rows of another kind":     {200, nil, `{"query_status":"ok","data":[{"ioc":"1.2.3.4:5","ioc_type":"ip:port"},"canary-77aa"]}`, "bad response (HTTP 200): rows that are no indicators"},
		"rows without indicator":   {200, nil, `{"query_status":"ok","data":[{"ioc":null}]}`, "bad response (HTTP 200): rows that are no indicators"},
		"web page":                 {200, nil, `<html>canary-77aa`, "unavailable (HTTP 200): the body is a web page, not JSON; something in between answered in place of the service"},
		"down":                     {502, nil, `<html>canary-77aa`, "unavailable (HTTP 502)"},
		"down, but it says ok":     {500, nil, `{"query_status":"ok","data":[{"ioc":"139.180.203.104:443","ioc_type":"ip:port"}]}`, "unavailable (HTTP 500)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := decode(addr, response(tt.status, tt.header, []byte(tt.body)))
			require.EqualError(t, err, "threatfox: "+tt.want)
			decodetest.Check(t, Name, addr, f, err, []byte(tt.body))
		})
	}
}

func TestManyRowsMakeABoundedFinding(t *testing.T) {
	t.Parallel()
	var rows []string
	for i := range 3000 {
		name := strings.Repeat("x", 300) + strconv.Itoa(i)
		rows = append(rows, `{"ioc":"139.180.203.104:1","ioc_type":"ip:port","threat_type":"`+strconv.Itoa(i)+name+`","malware":"`+strconv.Itoa(i)+name+`"}`)
	}
	f, err := decodeText(addr, 200, `{"query_status":"ok","data":[`+strings.Join(rows, ",")+`]}`)
	require.NoError(t, err)
	require.NoError(t, f.Validate())
	require.Len(t, f.Attrs["threat_types"], rest.MaxList)
	require.Less(t, len(f.Raw), 100)
}

func FuzzDecode(f *testing.F) {
	decodetest.Samples(f, func(status int, body []byte) {
		f.Add(status, body)
		f.Add(200, body)
	})
	f.Add(200, []byte(`{"query_status":"ok","data":[{"ioc":"http://139.180.203.104:80/canary-77aa","ioc_type":"url","confidence_level":"9"},[]]}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got, err := decodeText(addr, status, string(body))
		decodetest.Check(t, Name, addr, got, err, body)
		if err == nil {
			require.Equal(t, 200, status)
			require.Equal(t, got.Known, got.Verdict >= provider.Suspicious)
			require.Equal(t, got.Known, got.Attrs["listed"])
		}
		if got.Known {
			require.True(t, says(body))
		}
	})
}

// says reports whether some string in body has the address in it, in one of
// its spellings.
func says(body []byte) bool {
	var v any
	if json.Unmarshal(body, &v) != nil {
		return false
	}
	var in func(v any) bool
	in = func(v any) bool {
		switch v := v.(type) {
		case string:
			return strings.Contains(v, "139.180.203.104") || strings.Contains(strings.ToLower(v), "8bb4:cb68")
		case []any:
			if slices.ContainsFunc(v, in) {
				return true
			}
		case map[string]any:
			for _, v := range v {
				if in(v) {
					return true
				}
			}
		}
		return false
	}
	return in(v)
}
