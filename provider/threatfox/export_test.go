package threatfox_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/threatfox"
)

const export = `################################################################
# Last updated: 2026-08-30 01:39:33 UTC                        #
# "first_seen_utc","ioc_id","ioc_value","ioc_type","threat_type","fk_malware","malware_alias","malware_printable","last_seen_utc","confidence_level","is_compromised","reference","tags","anonymous","reporter"
"2999-08-30 01:39:33", "1", "45.155.205.233:443", "ip:port", "botnet_cc", "win.qakbot", "None", "QakBot", "", "100", "False", "None", "None", "0", "xscon"
"2999-08-30 01:39:33", "2", "45.155.205.233:80", "ip:port", "botnet_cc", "win.vidar", "None", "Vidar", "", "75", "True", "None", "None", "0", "xscon"
"2026-08-30 01:39:33", "3", "193.32.162.7:80", "ip:port", "payload_delivery", "win.vidar", "None", "Vidar", "", "30", "True", "None", "None", "0", "xscon"
"2026-08-30 01:34:48", "4", "some.workers.dev", "domain", "botnet_cc", "win.vidar", "None", "Vidar", "", "50", "True", "None", "None", "0", "Grim"
# Number of entries: 4
`

// The export answers as the search does.
func TestExport(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "full.csv")
	require.NoError(t, os.WriteFile(path, []byte(export), 0o600))
	e, err := threatfox.NewExport(threatfox.ExportOptions{Sources: []feed.Source{{File: path}}})
	require.NoError(t, err)
	require.Equal(t, threatfox.Name, e.Name())
	c2 := netip.MustParseAddr("45.155.205.233")
	_, err = e.Lookup(t.Context(), c2)
	require.ErrorIs(t, err, provider.ErrUnavailable)
	require.NoError(t, e.Refresh(t.Context()))
	require.Equal(t, 2, e.List().Rows)

	f, err := e.Lookup(t.Context(), c2)
	require.NoError(t, err)
	require.NoError(t, f.Validate())
	require.Equal(t, provider.Malicious, f.Verdict)
	require.Equal(t, []string{"botnet_cc"}, f.Attrs["threat_types"])
	require.Equal(t, []string{"ip:port"}, f.Attrs["ioc_types"])
	require.Len(t, f.Attrs["malware_families"], 2)
	require.Equal(t, true, f.Attrs["is_compromised"])
	require.EqualValues(t, 100, f.Attrs["confidence"])
	require.Contains(t, string(f.Raw), "45.155.205.233:443")

	f, err = e.Lookup(t.Context(), netip.MustParseAddr("193.32.162.7"))
	require.NoError(t, err)
	require.Equal(t, provider.Suspicious, f.Verdict, "a victim does not decide alone")

	f, err = e.Lookup(t.Context(), netip.MustParseAddr("8.8.8.8"))
	require.NoError(t, err)
	require.False(t, f.Known)
	require.Equal(t, false, f.Attrs["listed"])
	require.Equal(t, []string{}, f.Attrs["threat_types"])

	require.NoError(t, os.WriteFile(path, []byte("45.155.205.233\n1.1.1.1\n"), 0o600))
	require.NoError(t, e.Refresh(t.Context()))
	f, err = e.Lookup(t.Context(), netip.MustParseAddr("1.1.1.1"))
	require.NoError(t, err)
	require.Equal(t, provider.Malicious, f.Verdict)
}

func TestExportNeedsAKey(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"", " ", "a/b", "a b"} {
		_, err := threatfox.NewExport(threatfox.ExportOptions{KeyFunc: keyed(key)})
		require.ErrorIs(t, err, provider.ErrConfig)
		require.ErrorContains(t, err, "DECNET_THREATFOX_API_KEY")
	}
	e, err := threatfox.NewExport(threatfox.ExportOptions{KeyFunc: keyed("abcdef")})
	require.NoError(t, err)
	require.Equal(t, []string{"threatfox-api.abuse.ch"}, e.Places())
}

// The export is refused as the search is. The key is in the URL, and nowhere else.
func TestRefusedExports(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		status int
		body   string
		want   string
	}{
		"limited, as it was seen": {402, `{"query_status":"ratelimited","msg":"k3y"}`, "rate limited (HTTP 402) (retry after 30s)"},
		"limited with a 403":      {403, `{"query_status":"ratelimited"}`, "rate limited (HTTP 403) (retry after 30s)"},
		"limited with a 200":      {200, `{"query_status":"rate_limited"}`, "rate limited (HTTP 200) (retry after 30s)"},
		"unknown key":             {403, `{"query_status":"unknown_auth_key","msg":"k3y"}`, "unauthorized (HTTP 403): the key is missing, wrong or revoked"},
		"unknown key with a 200":  {200, `{"query_status":"unknown_auth_key"}`, "unauthorized (HTTP 200): the key is missing, wrong or revoked"},
		"no key":                  {401, `{"error":"Unauthorized"}`, "unauthorized (HTTP 401): the key is missing, wrong or revoked"},
		"something else":          {200, `{"query_status":"k3y","data":[]}`, "bad response: "},
		"challenge":               {403, `<!DOCTYPE html>k3y`, "unavailable (HTTP 403): something in between answered"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Retry-After", "30")
				w.WriteHeader(tt.status)
				_, _ = w.Write([]byte(tt.body))
			}))
			defer server.Close()
			e, err := threatfox.NewExport(threatfox.ExportOptions{Sources: []feed.Source{{URL: server.URL + "/v2/files/exports/k3y/full.csv.zip"}}})
			require.NoError(t, err)
			err = e.Refresh(t.Context())
			require.ErrorContains(t, err, "threatfox: "+tt.want)
			status, _ := json.Marshal(e.List())
			require.NotContains(t, err.Error()+string(status), "k3y")
		})
	}
}
