package lists_test

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/threatfox"
)

// samples are small lists in the form of the real ones.
var samples = map[string]string{
	"scanners": "list,network\ncensys-scanning,162.142.125.0/24\nshodan-scanning,71.6.135.131/32\nshodan-scanning,162.142.125.9/32\nf6-nt-scanning,71.6.135.131/32\n",
	"drop_v4": `{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}` + "\n" +
		`{"type":"metadata","timestamp":1744682874,"size":58,"records":1,"copyright":"(c) 2025","terms":"x"}` + "\n",
	"drop_v6":             `{"cidr":"2a0e:9bc0::/32","sblid":"SBL1","rir":null}` + "\n" + `{"type":"metadata","size":52,"records":1}`,
	"tor":                 `{"relays":[{"exit_addresses":["185.241.208.232"],"or_addresses":["194.26.192.64:9001","[2a0e::1]:443"]}]}`,
	"ipsum":               "# IPsum\n#\n# IP\tnumber of (black)lists\n77.90.185.20\t10\n1.2.4.5\t3\n1.2.4.6\t2\n",
	"blocklist_de":        "1.2.4.5\n2a0e:1::5\n",
	"cins":                "1.2.4.7\n",
	"blacklist_abuseipdb": `{"meta":{"generatedAt":"2026-09-26T15:51:22+00:00"},"data":[{"ipAddress":"34.128.85.64","countryCode":"ID","abuseConfidenceScore":100}]}`,
	"export_threatfox":    "# \"ioc_value\",\"ioc_type\"\n\"34.128.85.64:80\", \"ip:port\"\n",
	"iptoasn":             "0.0.0.0\t0.255.255.255\t0\tNone\tNot routed\n1.0.0.0\t1.0.0.255\t13335\tUS\tCLOUDFLARENET\n6.0.0.0\t7.255.255.255\t749\tUS\tDNIC-AS\n",
	"clouds":              "list,network\namazon-aws,3.5.0.0/16\n",
}

// place writes a list to a file.
func place(t testing.TB, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, []byte(samples[name]), 0o600))
	return path
}

func open(t testing.TB, name string) provider.Provider {
	t.Helper()
	p, err := lists.New(name, lists.Options{Places: []string{place(t, name)}})
	require.NoError(t, err)
	r, ok := provider.As[provider.Listing](p)
	require.True(t, ok)
	require.NoError(t, r.Refresh(t.Context()))
	return p
}

func lookup(t testing.TB, p provider.Provider, addr string) provider.Finding {
	t.Helper()
	f, err := p.Lookup(t.Context(), netip.MustParseAddr(addr))
	require.NoError(t, err)
	require.NoError(t, f.Validate())
	return f
}

func TestNames(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"scanners", "drop_v4", "drop_v6", "tor", "ipsum"}, lists.Names(true))
	require.Equal(t, []string{
		"scanners", "drop_v4", "drop_v6", "tor", "ipsum", "blocklist_de", "cins", "blacklist_abuseipdb", "export_threatfox", "iptoasn", "clouds",
	}, lists.Names(false))
	for _, l := range lists.Known() {
		require.NoError(t, provider.ValidateName(l.Name))
		require.NoError(t, l.Profile.Validate(), l.Name)
		require.NotEmpty(t, l.Title)
		require.NotEmpty(t, l.Meaning)
		require.NotEmpty(t, l.Terms)
		require.Equal(t, l.Default, l.Off == "", "%s says why it is off", l.Name)
		require.Contains(t, samples, l.Name)
	}
	_, err := lists.New("greensnow", lists.Options{})
	require.ErrorContains(t, err, `there is no list named "greensnow"; the lists are scanners,`)
}

func TestRows(t *testing.T) {
	t.Parallel()
	for list, rows := range map[string]map[string]struct {
		verdict provider.Verdict
		attrs   map[string]any
	}{
		"scanners": {
			"162.142.125.7": {provider.Benign, map[string]any{"names": []string{"censys-scanning"}, "network": "162.142.125.0/24"}},
			"162.142.125.9": {provider.Benign, map[string]any{"names": []string{"censys-scanning", "shodan-scanning"}, "network": "162.142.125.0/24"}},
			"71.6.135.131":  {provider.Benign, map[string]any{"names": []string{"f6-nt-scanning", "shodan-scanning"}, "network": "71.6.135.131/32"}},
		},
		"drop_v4": {"1.10.31.255": {provider.Malicious, map[string]any{"sblid": "SBL256894", "rir": "apnic", "network": "1.10.16.0/20"}}},
		"drop_v6": {"2a0e:9bc0::7": {provider.Malicious, map[string]any{"sblid": "SBL1", "network": "2a0e:9bc0::/32"}}},
		"tor": {
			"185.241.208.232": {provider.None, map[string]any{"network": "185.241.208.232/32"}},
			"194.26.192.64":   {provider.None, map[string]any{"network": "194.26.192.64/32"}},
			"2a0e::1":         {provider.None, map[string]any{"network": "2a0e::1/128"}},
		},
		"ipsum": {
			"77.90.185.20": {provider.Suspicious, map[string]any{"level": int64(10), "network": "77.90.185.20/32"}},
			"1.2.4.5":      {provider.Suspicious, map[string]any{"level": int64(3), "network": "1.2.4.5/32"}},
			"1.2.4.6":      {provider.None, map[string]any{"level": int64(2), "network": "1.2.4.6/32"}},
		},
		"blocklist_de": {"2a0e:1::5": {provider.Suspicious, map[string]any{"network": "2a0e:1::5/128"}}},
		"cins":         {"1.2.4.7": {provider.Suspicious, map[string]any{"network": "1.2.4.7/32"}}},
		"blacklist_abuseipdb": {
			"34.128.85.64": {provider.Malicious, map[string]any{"score": int64(100), "network": "34.128.85.64/32"}},
		},
		"iptoasn": {
			"1.0.0.1": {provider.None, map[string]any{"asn": int64(13335), "country": "US", "as_name": "CLOUDFLARENET", "network": "1.0.0.0/24"}},
			"6.1.1.1": {provider.None, map[string]any{"asn": int64(749), "country": "US", "as_name": "DNIC-AS", "network": "6.0.0.0/7"}},
		},
		"clouds": {"3.5.7.7": {provider.None, map[string]any{"names": []string{"amazon-aws"}, "network": "3.5.0.0/16"}}},
	} {
		t.Run(list, func(t *testing.T) {
			p := open(t, list)
			require.Equal(t, list, p.Name())
			profiled, _ := provider.As[provider.Profiled](p)
			require.True(t, profiled.Profile().Local)
			for addr, want := range rows {
				f := lookup(t, p, addr)
				want.attrs["listed"] = true
				require.True(t, f.Known, addr)
				require.Equal(t, want.verdict, f.Verdict, addr)
				require.Equal(t, want.attrs, f.Attrs, addr)
			}
			f := lookup(t, p, "8.8.8.8")
			require.Equal(t, provider.Finding{Provider: list, Addr: netip.MustParseAddr("8.8.8.8"), ObservedAt: f.ObservedAt}, f)
		})
	}
	p := open(t, "export_threatfox")
	require.Equal(t, threatfox.Name, p.Name())
	require.Equal(t, provider.Malicious, lookup(t, p, "34.128.85.64").Verdict)
}

func TestAMissAllocatesNothing(t *testing.T) {
	p := open(t, "ipsum")
	addr := netip.MustParseAddr("8.8.8.8")
	require.Zero(t, testing.AllocsPerRun(100, func() { _, _ = p.Lookup(context.Background(), addr) }))
}

func operator(t testing.TB, name string, allow bool, text string) *lists.Provider {
	t.Helper()
	path := filepath.Join(t.TempDir(), "own.txt")
	require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
	p, err := lists.NewOperator(lists.Operator{Name: name, Allow: allow, Places: []string{path}})
	require.NoError(t, err)
	require.NoError(t, p.Refresh(t.Context()))
	return p
}

func evidence(t testing.TB, p provider.Provider, addr string) aggregate.Evidence {
	t.Helper()
	f := lookup(t, p, addr)
	profiled, _ := provider.As[provider.Profiled](p)
	return aggregate.Evidence{Finding: &f, Profile: profiled.Profile()}
}

// What each list decides, alone and with others.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	scanners, drop, tor, ipsum, blocklist := open(t, "scanners"), open(t, "drop_v4"), open(t, "tor"), open(t, "ipsum"), open(t, "blocklist_de")
	everything := "1.2.4.5\n162.142.125.7\n10.1.2.3\n"
	allow, deny := operator(t, "allow", true, everything), operator(t, "deny", false, everything)
	said := func(name string, v provider.Verdict, profile provider.Profile) aggregate.Evidence {
		return aggregate.Evidence{Profile: profile, Finding: &provider.Finding{Provider: name, Known: true, Verdict: v, ObservedAt: time.Now()}}
	}
	reported := said("abuseipdb", provider.Malicious, (*abuseipdb.Provider)(nil).Profile())
	c2 := said("threatfox", provider.Malicious, (*threatfox.Provider)(nil).Profile())
	suspected := said("ipsum", provider.Suspicious, profile(t, ipsum))
	for name, tt := range map[string]struct {
		evidence []aggregate.Evidence
		want     provider.Verdict
		says     string // of both policies
		weighted string // of Weighted, besides
	}{
		"scanner network and IPsum": {
			[]aggregate.Evidence{evidence(t, scanners, "162.142.125.7"), suspected}, provider.Benign,
			"scanners (benign) decides; ipsum (suspicious) is outranked", "",
		},
		"IPsum and blocklist.de": {
			[]aggregate.Evidence{evidence(t, ipsum, "1.2.4.5"), evidence(t, blocklist, "1.2.4.5")}, provider.Suspicious,
			"", "blocklist_de (suspicious) decides; ipsum (suspicious) only repeats its sources",
		},
		"DROP": {[]aggregate.Evidence{evidence(t, drop, "1.10.16.1")}, provider.Malicious, "malicious: drop_v4 (malicious) decides", ""},
		"Tor":  {[]aggregate.Evidence{evidence(t, tor, "185.241.208.232")}, provider.None, "no verdict: no source has an opinion", ""},
		"own allow against AbuseIPDB 100": {
			[]aggregate.Evidence{evidence(t, allow, "1.2.4.5"), reported}, provider.Benign, "allow (benign) decides; abuseipdb (malicious) is outranked", "",
		},
		"own deny against scanner": {
			[]aggregate.Evidence{evidence(t, deny, "162.142.125.7"), evidence(t, scanners, "162.142.125.7")}, provider.Malicious,
			"deny (malicious) decides; scanners (benign) is outranked", "",
		},
		"allow and deny": {
			[]aggregate.Evidence{evidence(t, allow, "10.1.2.3"), evidence(t, deny, "10.1.2.3")}, provider.Malicious,
			"deny (malicious) decides, in conflict with allow (benign)", "",
		},
		"scanner and fresh ThreatFox": {
			[]aggregate.Evidence{evidence(t, scanners, "162.142.125.7"), c2}, provider.Malicious,
			"threatfox (malicious) decides, in conflict with scanners (benign)", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, policy := range []aggregate.Policy{aggregate.Strongest{}, aggregate.Weighted{}} {
				d := policy.Decide(tt.evidence, time.Now())
				require.Equal(t, tt.want, d.Verdict, "%s: %s", policy.Name(), d)
				require.Contains(t, d.String(), tt.says)
				if _, ok := policy.(aggregate.Weighted); ok {
					require.Contains(t, d.String(), tt.weighted)
				}
			}
		})
	}
}

func profile(t testing.TB, p provider.Provider) provider.Profile {
	t.Helper()
	profiled, ok := provider.As[provider.Profiled](p)
	require.True(t, ok)
	return profiled.Profile()
}

func TestOperatorLists(t *testing.T) {
	t.Parallel()
	p := operator(t, "office", true, "10.0.0.0/8\n")
	require.True(t, p.Limits().Private)
	require.Equal(t, provider.RankOperator, p.Profile().Rank)
	require.Equal(t, map[string]any{"listed": true, "network": "10.0.0.0/8"}, lookup(t, p, "10.1.1.1").Attrs)
	for _, text := range []string{"0.0.0.0/7", "2a00::/15", "1.1.1.1\nhost.example\n", "<html>"} {
		path := filepath.Join(t.TempDir(), "x")
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		p, err := lists.NewOperator(lists.Operator{Name: "deny", Places: []string{path}})
		require.NoError(t, err)
		require.ErrorIs(t, p.Refresh(t.Context()), provider.ErrBadResponse)
		require.False(t, p.List().Loaded)
	}
	_, err := lists.NewOperator(lists.Operator{Name: "Deny", Places: []string{" "}})
	require.ErrorIs(t, err, provider.ErrConfig)
}

// A place with any other scheme than a file's is a URL, of which no more than the host
// is shown.
func TestPlaces(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"HTTPS://list.example/s3cret": "list.example", "http://list.example:81/s3cret": "list.example:81",
		"file:///etc/x": "/etc/x", "x/y.txt": "x/y.txt", " /a,b ": "/a,b",
	} {
		p, err := lists.NewOperator(lists.Operator{Name: "own", Places: []string{text}})
		require.NoError(t, err, text)
		require.Equal(t, []string{want}, p.Places())
	}
	for _, text := range []string{"sftp://u:s3cret@list.example/s3cret", "ftp://list.example/s3cret", "https:///s3cret"} {
		_, err := lists.NewOperator(lists.Operator{Name: "own", Places: []string{text}})
		require.ErrorIs(t, err, provider.ErrConfig, text)
		require.NotContains(t, err.Error(), "s3cret")
	}
}

// answer is a transport with one answer for all.
type answer string

func (a answer) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(string(a)))}, nil
}

// What a publisher does not write is not its list, even if there was none before.
// Another place may have any syntax.
func TestSyntax(t *testing.T) {
	t.Parallel()
	load := func(name, body string, places ...string) error {
		p, err := lists.New(name, lists.Options{Places: places, KeyFunc: func() string { return "k3y" }, Transport: answer(body)})
		require.NoError(t, err)
		r, _ := provider.As[provider.Refresher](p)
		return r.Refresh(t.Context())
	}
	for _, name := range lists.Names(false) {
		own := samples[name]
		if strings.HasPrefix(own, "list,network\n") {
			own = `{"description":"x","list":["162.142.125.0/24"],"name":"x"}`
		}
		require.NoError(t, load(name, own), name)
		for _, body := range []string{
			"# maintenance\n", "#", "\ufeff", "null", "[]", "ExitNode A\nExitAddress 45.0.0.7 x\n", `{"error":"blocked by policy","data":[]}`,
			`["45.0.0.7"]`, `[{"ip":"45.0.0.7"}]`, `{"ip":"45.0.0.7"}` + "\n" + `{"ip":"45.0.0.8"}`, "45.0.0.7 is blocked\n",
			"45.0.0.7 blocked", "45.0.0.7, you are blocked", "45.0.0.7\tis\tblocked",
		} {
			require.ErrorIs(t, load(name, body), provider.ErrBadResponse, "%s: %s", name, body)
		}
		mirror := "45.0.0.7\t45.0.0.7\t1\tUS\tX\n"
		if name == "ipsum" {
			mirror = "45.0.0.7\t3\tX\n"
		}
		require.NoError(t, load(name, mirror, "https://list.example/"), name)
	}
}

// The blacklist is downloaded with the key in a header.
func TestKey(t *testing.T) {
	t.Parallel()
	_, err := lists.New("blacklist_abuseipdb", lists.Options{})
	require.ErrorContains(t, err, "DECNET_ABUSEIPDB_API_KEY")
	_, err = lists.New("export_threatfox", lists.Options{})
	require.ErrorContains(t, err, "DECNET_THREATFOX_API_KEY")
	var key, uri string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key, uri = r.Header.Get("Key"), r.RequestURI
		_, _ = w.Write([]byte(samples["blacklist_abuseipdb"]))
	}))
	t.Cleanup(server.Close)
	p, err := lists.New("blacklist_abuseipdb", lists.Options{
		Places: []string{server.URL + "/api/v2/blacklist?limit=10000"}, KeyFunc: func() string { return "s3cret" },
	})
	require.NoError(t, err)
	refresher, _ := provider.As[provider.Refresher](p)
	require.NoError(t, refresher.Refresh(t.Context()))
	require.Equal(t, "s3cret", key)
	require.Equal(t, "/api/v2/blacklist?limit=10000", uri)
	status, err := json.Marshal(p.(*lists.Provider).List())
	require.NoError(t, err)
	require.NotContains(t, string(status)+strings.Join(p.(*lists.Provider).Places(), ""), "s3cret")
}

func TestConformance(t *testing.T) {
	t.Parallel()
	providertest.Run(t, providertest.Harness{
		New: func(tb testing.TB, _ providertest.Endpoint) provider.Provider {
			return open(tb, "ipsum")
		},
		Source: upstream.None, Known: netip.MustParseAddr("77.90.185.20"), Unknown: netip.MustParseAddr("193.32.162.7"),
	})
}
