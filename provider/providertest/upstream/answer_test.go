package upstream_test

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

func TestProfileOfIsStableAndMixed(t *testing.T) {
	for text, want := range map[string]upstream.Profile{
		"185.220.101.34": upstream.Unseen,
		"193.32.162.7":   upstream.Suspect,
		"45.155.205.233": upstream.Attacker,
		"61.177.172.136": upstream.C2,
		"2a0e:97c0::1":   upstream.Suspect,
	} {
		require.Equal(t, want, upstream.ProfileOf(netip.MustParseAddr(text)), text)
	}
	count := map[upstream.Profile]int{}
	const n = 65536
	for i := range n {
		count[upstream.ProfileOf(netip.AddrFrom4([4]byte{45, 155, byte(i >> 8), byte(i)}))]++
	}
	for profile, share := range map[upstream.Profile]float64{
		upstream.Unseen: 0.35, upstream.Scanner: 0.10, upstream.Suspect: 0.20, upstream.Attacker: 0.30, upstream.C2: 0.05,
	} {
		require.InDelta(t, share, float64(count[profile])/n, 0.01, "profile %d", profile)
	}
}

func TestServicesMostlyAgree(t *testing.T) {
	s := start(t, upstream.Options{})
	client := newClient(t)
	both, overlooked := 0, 0
	for i := range 400 {
		ip := netip.AddrFrom4([4]byte{45, 155, 205, byte(i)})
		if p := upstream.ProfileOf(ip); p != upstream.Attacker && p != upstream.Suspect {
			continue
		}
		seen := do(t, client, request(t, s, upstream.GreyNoise, ip)).StatusCode == http.StatusOK
		data := do(t, client, request(t, s, upstream.AbuseIPDB, ip)).json(t)["data"].(map[string]any)
		if seen && data["abuseConfidenceScore"].(float64) >= 25 {
			both++
		} else {
			overlooked++
		}
	}
	require.Greater(t, overlooked, both/20)
	require.Less(t, overlooked, both/2)
}

func TestGreyNoise(t *testing.T) {
	s := start(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.GreyNoise: {"good"}}})
	for profile, class := range map[upstream.Profile]string{
		upstream.Scanner: "benign", upstream.Suspect: "suspicious", upstream.Attacker: "malicious", upstream.C2: "malicious",
	} {
		s.SetProfile(addr, profile)
		a := ask(t, s, upstream.GreyNoise, addr)
		require.Equal(t, http.StatusOK, a.StatusCode)
		body := a.json(t)
		require.Equal(t, addr.String(), body["ip"])
		require.Equal(t, true, body["noise"])
		require.Equal(t, class, body["classification"])
		require.Equal(t, "Success", body["message"])
		require.NotEmpty(t, body["last_seen"])
		require.NotEmpty(t, body["name"])
	}
	s.SetProfile(addr, upstream.Unseen)
	a := ask(t, s, upstream.GreyNoise, addr)
	require.Equal(t, http.StatusNotFound, a.StatusCode)
	require.JSONEq(t, `{"ip":"45.155.205.233","noise":false,"riot":false,"message":"IP not observed scanning the internet."}`, a.body)

	s.SetGreyNoise(addr, upstream.GreyNoiseAnswer{RIOT: true, Classification: "benign", Name: "Cloudflare"})
	require.Equal(t, "Cloudflare", ask(t, s, upstream.GreyNoise, addr).json(t)["name"])

	for _, bad := range []netip.Addr{six, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("127.0.0.1"), {}} {
		a := ask(t, s, upstream.GreyNoise, bad)
		require.Equal(t, http.StatusBadRequest, a.StatusCode)
		require.JSONEq(t, `{"message":"Request is not a valid routable IPv4 address"}`, a.body)
	}
	for key, status := range map[string]int{"good": 200, "bad": 401, "": 200} {
		r := request(t, s, upstream.GreyNoise, addr)
		if key != "" {
			r.Header.Set("key", key)
		}
		require.Equal(t, status, do(t, newClient(t), r).StatusCode, "key %q", key)
	}
}

func TestAbuseIPDB(t *testing.T) {
	s := start(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.AbuseIPDB: {"k"}}})
	data := func(ip netip.Addr) map[string]any {
		a := ask(t, s, upstream.AbuseIPDB, ip)
		require.Equal(t, http.StatusOK, a.StatusCode)
		require.Equal(t, "50000", a.Header.Get("X-RateLimit-Limit"))
		require.Equal(t, "49999", a.Header.Get("X-RateLimit-Remaining"))
		require.Empty(t, a.Header.Get("Retry-After"))
		require.Empty(t, a.Header.Get("X-RateLimit-Reset"))
		return a.json(t)["data"].(map[string]any)
	}
	for profile, score := range map[upstream.Profile][2]float64{
		upstream.Unseen: {0, 0}, upstream.Scanner: {0, 0}, upstream.Suspect: {25, 74}, upstream.Attacker: {75, 100}, upstream.C2: {75, 100},
	} {
		for _, ip := range []netip.Addr{addr, other, six} {
			s.SetProfile(ip, profile)
			d := data(ip)
			require.GreaterOrEqual(t, d["abuseConfidenceScore"], score[0])
			require.LessOrEqual(t, d["abuseConfidenceScore"], score[1])
			require.Equal(t, profile == upstream.Scanner, d["isWhitelisted"])
			require.Equal(t, profile == upstream.Unseen, d["totalReports"] == 0.0)
			require.Equal(t, profile == upstream.Unseen, len(d["reports"].([]any)) == 0)
		}
	}
	require.Equal(t, 6.0, data(six)["ipVersion"])

	s.SetAbuseIPDB(addr, upstream.AbuseIPDBAnswer{Score: 60, Reports: 2, Categories: []int{22}})
	d := data(addr)
	require.Equal(t, 60.0, d["abuseConfidenceScore"])
	require.Nil(t, d["isWhitelisted"])
	require.Nil(t, d["countryCode"])
	require.Nil(t, d["lastReportedAt"])
	require.Len(t, d["reports"], 2)
	require.Equal(t, []any{22.0}, d["reports"].([]any)[0].(map[string]any)["categories"])
}

func TestAbuseIPDBParameters(t *testing.T) {
	s := start(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.AbuseIPDB: {"k"}}})
	get := func(query, key, accept string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.URL()+"/api/v2/check?"+query, nil)
		require.NoError(t, err)
		r.Header.Set("Key", key)
		r.Header.Set("Accept", accept)
		return do(t, newClient(t), r)
	}
	plain := get("ipAddress=45.155.205.233", "k", "application/json").body
	require.NotContains(t, plain, "reports\"")
	require.NotContains(t, plain, "countryName")
	for _, verbose := range []string{"verbose", "verbose=", "verbose=true", "verbose=false"} {
		body := get("ipAddress=45.155.205.233&"+verbose, "k", "application/json").body
		require.Contains(t, body, `"reports"`, verbose)
		require.Contains(t, body, "countryName", verbose)
	}
	require.Equal(t, 200, get("ipAddress=45.155.205.233&key=k", "", "application/json").StatusCode)

	for _, key := range []string{"", "wrong"} {
		a := get("ipAddress=45.155.205.233", key, "application/json")
		require.Equal(t, http.StatusUnauthorized, a.StatusCode)
		require.Contains(t, a.body, `"detail":"Authentication failed.`)
	}
	for query, parameter := range map[string]string{
		"":                 "ipAddress",
		"ipAddress=nobody": "ipAddress",
		"ipAddress=45.155.205.233&maxAgeInDays=0":   "maxAgeInDays",
		"ipAddress=45.155.205.233&maxAgeInDays=366": "maxAgeInDays",
		"ipAddress=45.155.205.233&maxAgeInDays=x":   "maxAgeInDays",
	} {
		a := get(query, "k", "application/json")
		require.Equal(t, http.StatusUnprocessableEntity, a.StatusCode, query)
		require.Contains(t, a.body, `"source":{"parameter":"`+parameter+`"}`)
		page := get(query, "k", "*/*")
		require.Equal(t, http.StatusUnprocessableEntity, page.StatusCode)
		require.True(t, strings.HasPrefix(page.body, "<!DOCTYPE html>"), "an error without Accept is a web page")
	}
}

func TestThreatFox(t *testing.T) {
	s := start(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.ThreatFox: {"k"}}})
	s.SetProfile(addr, upstream.C2)
	s.SetProfile(other, upstream.Attacker)
	a := ask(t, s, upstream.ThreatFox, addr)
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.Equal(t, "ok", a.json(t)["query_status"])
	row := a.json(t)["data"].([]any)[0].(map[string]any)
	require.Equal(t, "45.155.205.233:443", row["ioc"])
	require.Equal(t, "ip:port", row["ioc_type"])
	require.Equal(t, "botnet_cc", row["threat_type"])
	require.Nil(t, row["last_seen"])
	_, err := time.Parse("2006-01-02 15:04:05 MST", row["first_seen"].(string))
	require.NoError(t, err)

	none := ask(t, s, upstream.ThreatFox, other).json(t)
	require.Equal(t, "no_result", none["query_status"])
	require.IsType(t, "", none["data"], "data is a sentence")

	s.SetProfile(six, upstream.C2)
	row = ask(t, s, upstream.ThreatFox, six).json(t)["data"].([]any)[0].(map[string]any)
	require.Equal(t, "[2a0e:97c0::1]:443", row["ioc"])
}

func TestThreatFoxFindsForeignHosts(t *testing.T) {
	s := start(t, upstream.Options{})
	short := netip.MustParseAddr("45.9.20.7")
	s.SetProfile(short, upstream.Unseen)
	iocs := func() (found []string) {
		var body struct{ Data []struct{ IOC string } }
		if json.Unmarshal([]byte(ask(t, s, upstream.ThreatFox, short).body), &body) == nil {
			for _, row := range body.Data {
				found = append(found, row.IOC)
			}
		}
		return found
	}
	for _, near := range []string{"145.9.20.7", "245.9.20.7"} {
		s.SetProfile(netip.MustParseAddr(near), upstream.Unseen)
	}
	for last := range 10 {
		s.SetProfile(netip.AddrFrom4([4]byte{45, 9, 20, byte(70 + last)}), upstream.Unseen)
	}
	require.Empty(t, iocs())
	s.SetProfile(netip.MustParseAddr("45.9.20.70"), upstream.C2)
	s.SetProfile(netip.MustParseAddr("145.9.20.7"), upstream.C2)
	require.ElementsMatch(t, []string{"45.9.20.70:443", "145.9.20.7:443"}, iocs())
	s.SetThreatFox(other, upstream.ThreatFoxRow{IOC: "https://45.9.20.7/gate.php", Type: "url"}, upstream.ThreatFoxRow{})
	require.Contains(t, iocs(), "https://45.9.20.7/gate.php")
	require.Len(t, iocs(), 3)
	s.SetThreatFox(netip.MustParseAddr("45.9.20.70"))
	require.Len(t, iocs(), 2, "rows that were set replace derived ones")
}

func TestThreatFoxRefusals(t *testing.T) {
	s := start(t, upstream.Options{Keys: map[upstream.Source][]string{upstream.ThreatFox: {"k"}}})
	s.SetProfile(addr, upstream.C2)
	for _, c := range []struct {
		method, key, body string
		status            int
		want              string
	}{
		{"POST", "", `{"query":"search_ioc","search_term":"45.155.205.233"}`, 401, `{"error":"Unauthorized"}`},
		{"POST", "x", `{"query":"search_ioc","search_term":"45.155.205.233"}`, 403, `{"query_status":"unknown_auth_key"}`},
		{"GET", "k", ``, 405, `{"query_status":"http_post_expected"}`},
		{"POST", "k", `{"query":"search_ioc","search_term":"4"}`, 200, `{"query_status":"illegal_search_term","data":"The search term you have provided is not valid"}`},
		{"POST", "k", `{"query":"get_iocs"}`, 200, `{"query_status":"unknown_query"}`},
		{"POST", "k", `not JSON`, 200, `{"query_status":"unknown_query"}`},
		{"POST", "k", `{"query":"search_ioc","search_term":"45.155.205.233","exact_match":true}`, 200, `{"query_status":"no_result","data":"Your search did not yield any results"}`},
	} {
		r, err := http.NewRequestWithContext(t.Context(), c.method, s.URL()+"/api/v1/", strings.NewReader(c.body))
		require.NoError(t, err)
		r.Header.Set("Auth-Key", c.key)
		a := do(t, newClient(t), r)
		require.Equal(t, c.status, a.StatusCode, c.body)
		require.JSONEq(t, c.want, a.body)
	}
}

func TestFeodo(t *testing.T) {
	s := start(t, upstream.Options{})
	a := ask(t, s, upstream.Feodo, addr)
	require.Equal(t, http.StatusOK, a.StatusCode)
	require.Empty(t, a.Header.Get("ETag"))
	var rows []map[string]any
	require.NoError(t, json.Unmarshal([]byte(a.body), &rows))
	require.Len(t, rows, 2)
	require.Equal(t, "offline", rows[0]["status"])
	require.Equal(t, "online", rows[1]["status"])

	s.SetProfile(addr, upstream.C2)
	require.Contains(t, ask(t, s, upstream.Feodo, addr).body, `"ip_address":"45.155.205.233"`)
	s.SetProfile(addr, upstream.Unseen)
	require.NotContains(t, ask(t, s, upstream.Feodo, addr).body, "45.155.205.233")

	s.SetFeodo()
	require.Equal(t, "[]", ask(t, s, upstream.Feodo, addr).body)
	empty := start(t, upstream.Options{Feodo: []upstream.FeodoRow{}})
	require.Equal(t, "[]", ask(t, empty, upstream.Feodo, addr).body)

	var many []netip.Addr
	for i := range 256 {
		many = append(many, netip.AddrFrom4([4]byte{45, 155, 205, byte(i)}))
	}
	listed := upstream.FeodoRows(many...)
	require.NotEmpty(t, listed)
	for _, row := range listed {
		require.Equal(t, upstream.C2, upstream.ProfileOf(row.Addr))
	}
}

func TestFeodoValidators(t *testing.T) {
	s := start(t, upstream.Options{FeodoValidators: true})
	client := newClient(t)
	first := do(t, client, request(t, s, upstream.Feodo, addr))
	tag, modified := first.Header.Get("ETag"), first.Header.Get("Last-Modified")
	require.NotEmpty(t, tag)
	_, err := http.ParseTime(modified)
	require.NoError(t, err)
	for name, value := range map[string]string{"If-None-Match": tag, "If-Modified-Since": modified} {
		r := request(t, s, upstream.Feodo, addr)
		r.Header.Set(name, value)
		a := do(t, client, r)
		require.Equal(t, http.StatusNotModified, a.StatusCode)
		require.Empty(t, a.body)
	}
	s.SetFeodo()
	r := request(t, s, upstream.Feodo, addr)
	r.Header.Set("If-None-Match", tag)
	require.Equal(t, http.StatusOK, do(t, client, r).StatusCode)
}

func TestSetResponse(t *testing.T) {
	s := start(t, upstream.Options{})
	before := ask(t, s, upstream.GreyNoise, addr).body
	s.SetResponse(upstream.GreyNoise, addr, upstream.Response{
		Status: http.StatusTeapot, Header: http.Header{"x-thing": {"1"}}, Body: "short and stout",
	})
	a := ask(t, s, upstream.GreyNoise, addr)
	require.Equal(t, http.StatusTeapot, a.StatusCode)
	require.Equal(t, "1", a.Header.Get("X-Thing"))
	require.Equal(t, "short and stout", a.body)
	require.NotEqual(t, http.StatusTeapot, ask(t, s, upstream.GreyNoise, other).StatusCode)
	s.SetResponse(upstream.GreyNoise, addr, upstream.Response{})
	require.Equal(t, before, ask(t, s, upstream.GreyNoise, addr).body)
}

func TestGreyNoiseMany(t *testing.T) {
	known := netip.MustParseAddr("193.32.162.7")
	question := func(ips string) string { return `{"ips":[` + ips + `]}` }
	post := func(s *upstream.Server, key, body string) answer {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/v3/ip?quick=true", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("key", key)
		return do(t, newClient(t), r)
	}
	s := start(t, upstream.Options{Quotas: map[upstream.Source][]upstream.Quota{upstream.GreyNoise: {{Calls: 2, Window: time.Hour}}}})
	s.SetProfile(known, upstream.Suspect)
	s.SetProfile(addr, upstream.Unseen)
	require.Equal(t, http.StatusUnauthorized, post(s, "", question(`"193.32.162.7"`)).StatusCode)
	a := post(s, "k", question(`"193.32.162.7","45.155.205.233","10.0.0.1"`))
	require.Equal(t, http.StatusPartialContent, a.StatusCode)
	require.JSONEq(t, `{"data":[{"ip":"193.32.162.7","business_service_intelligence":{"found":null,"trust_level":""},
		"internet_scanner_intelligence":{"found":true,"classification":"suspicious"}}],
		"request_metadata":{"restricted_fields":["business_service_intelligence"],"ips_not_found":["45.155.205.233"],"invalid_ips":["10.0.0.1"]}}`, a.body)
	require.Equal(t, http.StatusBadRequest, post(s, "k", question("")).StatusCode)
	require.Equal(t, http.StatusTooManyRequests, post(s, "k", question(`"193.32.162.7"`)).StatusCode, "each question is one call")
	s = start(t, upstream.Options{Community: true})
	require.Equal(t, http.StatusForbidden, post(s, "k", question(`"193.32.162.7"`)).StatusCode)
	require.Equal(t, http.StatusOK, ask(t, s, upstream.GreyNoise, addr).StatusCode)
}
