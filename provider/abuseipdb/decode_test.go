package abuseipdb

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
	addr = netip.MustParseAddr("118.25.6.39")
	noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
)

// response returns an answer that arrived at noon.
func response(status int, header http.Header, body []byte) *rest.Response {
	return &rest.Response{Provider: Name, At: noon, Status: status, Header: header, Body: body}
}

func TestVerdicts(t *testing.T) {
	t.Parallel()
	for data, want := range map[string]struct {
		known   bool
		verdict provider.Verdict
		score   int64
	}{
		`{"abuseConfidenceScore":100,"totalReports":1}`:                           {true, provider.Malicious, 100},
		`{"abuseConfidenceScore":75,"totalReports":9}`:                            {true, provider.Malicious, 75},
		`{"abuseConfidenceScore":74,"totalReports":9}`:                            {true, provider.Suspicious, 74},
		`{"abuseConfidenceScore":25,"totalReports":9,"isWhitelisted":true}`:       {true, provider.Suspicious, 25},
		`{"abuseConfidenceScore":24,"totalReports":9,"isWhitelisted":true}`:       {true, provider.Benign, 24},
		`{"abuseConfidenceScore":0,"totalReports":9,"isWhitelisted":true}`:        {true, provider.Benign, 0},
		`{"abuseConfidenceScore":24,"totalReports":9,"isWhitelisted":false}`:      {true, provider.Unknown, 24},
		`{"abuseConfidenceScore":24,"totalReports":9,"isWhitelisted":null}`:       {true, provider.Unknown, 24},
		`{"abuseConfidenceScore":0,"totalReports":0,"isWhitelisted":true}`:        {false, provider.Unknown, 0},
		`{"abuseConfidenceScore":0,"totalReports":0,"lastReportedAt":"2020"}`:     {false, provider.Unknown, 0},
		`{"abuseConfidenceScore":0}`:                                              {false, provider.Unknown, 0},
		`{"abuseConfidenceScore":"80","totalReports":"3"}`:                        {true, provider.Malicious, 80},
		`{"abuseConfidenceScore":90}`:                                             {true, provider.Malicious, 90},
		`{"abuseConfidenceScore":1,"abuseConfidenceScore":80,"totalReports":2.0}`: {true, provider.Malicious, 80},
	} {
		f, err := decode(addr, response(200, nil, []byte(`{"data":`+data+`}`)))
		require.NoError(t, err, data)
		require.Equal(t, want.known, f.Known, data)
		require.Equal(t, want.verdict, f.Verdict, data)
		require.Equal(t, want.score, f.Attrs["score"], data)
		require.Equal(t, []int64{}, f.Attrs["categories"], data)
		require.Equal(t, data, string(f.Raw))
	}
}

func TestAttributes(t *testing.T) {
	t.Parallel()
	body, err := os.ReadFile("testdata/check_200_verbose_docs_118.25.6.39.json")
	require.NoError(t, err)
	f, err := decode(addr, response(200, nil, body))
	require.NoError(t, err)
	require.Equal(t, map[string]any{
		"score":            int64(100),
		"categories":       []int64{18, 22},
		"total_reports":    int64(1),
		"distinct_users":   int64(1),
		"is_whitelisted":   false,
		"country_code":     "CN",
		"usage_type":       "Data Center/Web Hosting/Transit",
		"isp":              "Tencent Cloud Computing (Beijing) Co. Ltd",
		"domain":           "tencent.com",
		"last_reported_at": "2018-12-20T20:55:14+00:00",
	}, f.Attrs)
	require.Equal(t, noon, f.ObservedAt)
	require.Zero(t, f.TTL)
	require.JSONEq(t, string(body), `{"data":`+string(f.Raw)+`}`)

	f, err = decode(addr, response(200, nil, []byte(`{"data":{"abuseConfidenceScore":1,"isTor":true,"hostnames":["dns.google"]}}`)))
	require.NoError(t, err)
	require.Equal(t, true, f.Attrs["is_tor"])
	require.Equal(t, []string{"dns.google"}, f.Attrs["hostnames"])
}

func TestCategories(t *testing.T) {
	t.Parallel()
	for reports, want := range map[string][]int64{
		``:     {},
		`null`: {},
		`{}`:   {},
		`"x"`:  {},
		`[]`:   {},
		`[{"categories":[22,18]},{"categories":[18,14]}]`:                                            {14, 18, 22},
		`[{"categories":["22",18.0,null,{},-1,0,256,1e30]}]`:                                         {18, 22},
		`[{"categories":"15"},{"categories":null},{},7,null,["9"]]`:                                  {15},
		` [ {"categories" : [ 22 ]} ] `:                                                              {22},
		`[{"Categories":[22]},{"comment":"\ud800","categories":[18]},{"n":1e400,"categories":[15]}]`: {15, 18, 22},
	} {
		require.Equal(t, want, read([]byte(reports)), reports)
	}
}

func read(reports []byte) []int64 {
	var c categories
	_ = c.UnmarshalJSON(reports) // which never fails
	return c.distinct()
}

// Categories are what package encoding/json finds.
func FuzzCategories(f *testing.F) {
	for _, reports := range []string{
		`[{"categories":[22,18]},{"CATEGORIES":"14"}]`, `[{"categories":[1],"categories":null}]`, `[{"categories":[1],"Categories":[2]}]`, `[{"a":1e999,"categories":[3]}]`, `[[`,
	} {
		f.Add([]byte(reports))
	}
	f.Fuzz(func(t *testing.T, reports []byte) {
		var list []struct {
			Categories rest.Ints `json:"categories"`
		}
		if json.Unmarshal(reports, &list) != nil {
			return
		}
		want := []int64{}
		for _, r := range list {
			for _, c := range r.Categories {
				if c > 0 && c <= maxCategory && !slices.Contains(want, c) {
					want = append(want, c)
				}
			}
		}
		slices.Sort(want)
		require.Equal(t, want, read(reports))
	})
}

func TestBigAnswerIsUnderstood(t *testing.T) {
	t.Parallel()
	report := `{"reportedAt":"2026-11-01T00:00:00+00:00","comment":"` + strings.Repeat("x", 300) + `","categories":[18]},`
	body := `{"data":{"abuseConfidenceScore":100,"totalReports":10000,"reports":[` + strings.Repeat(report, 10000) + `{"categories":[22]}]}}`
	require.Less(t, len(body), maxBody)
	f, err := decode(addr, response(200, nil, []byte(body)))
	require.NoError(t, err)
	require.Equal(t, []int64{18, 22}, f.Attrs["categories"])
	require.Equal(t, `{"truncated":true,"bytes":`+strconv.Itoa(len(body)-len(`{"data":}`))+`}`, string(f.Raw))
}

func TestErrors(t *testing.T) {
	t.Parallel()
	header := func(pairs ...string) http.Header {
		h := http.Header{}
		for i := 0; i < len(pairs); i += 2 {
			h.Set(pairs[i], pairs[i+1])
		}
		return h
	}
	in90s := strconv.FormatInt(noon.Unix()+90, 10)
	daily := `{"errors":[{"detail":"Daily rate limit of 1000 requests exceeded for this endpoint.","status":429}]}`
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
		want   string
	}{
		"another address":                  {200, nil, `{"data":{"ipAddress":"1.2.3.4","abuseConfidenceScore":100,"totalReports":3}}`, "bad response (HTTP 200): the answer is about another address"},
		"no score":                         {200, nil, `{"data":{"ipAddress":"118.25.6.39","totalReports":3}}`, "bad response (HTTP 200): no score between 0 and 100"},
		"score too great":                  {200, nil, `{"data":{"abuseConfidenceScore":101}}`, "bad response (HTTP 200): no score between 0 and 100"},
		"score too small":                  {200, nil, `{"data":{"abuseConfidenceScore":-1}}`, "bad response (HTTP 200): no score between 0 and 100"},
		"score is no one":                  {200, nil, `{"data":{"abuseConfidenceScore":"canary-77aa"}}`, "bad response (HTTP 200): no score between 0 and 100"},
		"no data":                          {200, nil, `{}`, "bad response (HTTP 200): no data object"},
		"null":                             {200, nil, `null`, "bad response (HTTP 200): no data object"},
		"data is a list":                   {200, nil, `{"data":[]}`, "bad response (HTTP 200): no data object"},
		"list":                             {200, nil, `["canary-77aa"]`, "bad response (HTTP 200): the body is JSON of an unexpected shape"},
		"web page":                         {200, nil, `<html>canary-77aa`, "unavailable (HTTP 200): the body is a web page, not JSON; something in between answered in place of the service"},
		"bad key":                          {401, nil, `{"errors":[{"detail":"canary-77aa","status":401}]}`, "unauthorized (HTTP 401): the key is missing, wrong or revoked"},
		"beyond the plan":                  {402, nil, `{"errors":[{"detail":"canary-77aa","status":402}]}`, "unauthorized (HTTP 402): the key does not permit this call"},
		"address refused":                  {422, nil, `{"errors":[{"detail":"canary-77aa","status":422,"source":{"parameter":"ipAddress"}}]}`, "address not supported (HTTP 422): the service does not take this for an address"},
		"days refused":                     {422, nil, `{"errors":[{"source":{"parameter":"maxAgeInDays"}}]}`, "configuration (HTTP 422): the service refuses MaxAgeDays"},
		"422 of some sort":                 {422, nil, `{"errors":{}}`, "bad response (HTTP 422): unexpected status"},
		"day spent, by its text":           {429, nil, daily, "quota exhausted (HTTP 429): the allowance of this day is spent"},
		"day spent, by its header":         {429, header("X-RateLimit-Remaining", "0"), ``, "quota exhausted (HTTP 429): the allowance of this day is spent"},
		"day spent, with Retry-After":      {429, header("Retry-After", "60", "X-RateLimit-Reset", in90s), daily, "quota exhausted (HTTP 429): the allowance of this day is spent (retry after 1m0s)"},
		"day spent, with the reset's time": {429, header("X-RateLimit-Reset", in90s), daily, "quota exhausted (HTTP 429): the allowance of this day is spent (retry after 1m30s)"},
		"asked too fast":                   {429, header("X-RateLimit-Remaining", "500", "Retry-After", "2"), `{"errors":[{"detail":"canary-77aa"}]}`, "rate limited (HTTP 429) (retry after 2s)"},
		"down":                             {503, nil, `<html>canary-77aa`, "unavailable (HTTP 503)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f, err := decode(addr, response(tt.status, tt.header, []byte(tt.body)))
			require.EqualError(t, err, "abuseipdb: "+tt.want)
			decodetest.Check(t, Name, addr, f, err, []byte(tt.body))
		})
	}
}

func FuzzDecode(f *testing.F) {
	decodetest.Samples(f, func(status int, body []byte) {
		f.Add(status, body)
		f.Add(200, body)
	})
	f.Add(200, []byte(`{"data":{"abuseConfidenceScore":"80","totalReports":"3","hostnames":"canary-77aa","reports":[[],{"categories":{}}]}}`))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		got, err := decode(addr, response(status, nil, body))
		decodetest.Check(t, Name, addr, got, err, body)
		if err == nil {
			score := got.Attrs["score"].(int64)
			require.Equal(t, 200, status)
			require.Equal(t, score >= 75, got.Verdict == provider.Malicious)
			require.True(t, says(body, score))
		}
	})
}

// says reports whether body is an object with a data object that has this
// score, under whatever spelling of its name, as a number or a string.
func says(body []byte, score int64) bool {
	var object map[string]any
	if json.Unmarshal(body, &object) != nil {
		return false
	}
	for name, v := range object {
		data, _ := v.(map[string]any)
		for field, v := range data {
			if !strings.EqualFold(name, "data") || !strings.EqualFold(field, "abuseConfidenceScore") {
				continue
			}
			switch v := v.(type) {
			case float64:
				if v == float64(score) {
					return true
				}
			case string:
				if n, err := strconv.ParseFloat(strings.TrimSpace(v), 64); err == nil && n == float64(score) {
					return true
				}
			}
		}
	}
	return false
}
