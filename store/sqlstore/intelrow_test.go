package sqlstore

import (
	"encoding/json"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// foreign returns a row of attacker_intel with the given columns.
func foreign(columns map[string]any) *intelRow {
	r := &intelRow{ip: "45.9.0.1", values: make([]any, len(decnet.Columns))}
	r.expires.Time = time.Date(2026, 11, 24, 0, 0, 0, 0, time.UTC)
	for i, c := range decnet.Columns {
		switch c.Kind {
		case decnet.List:
			r.values[i] = "[]"
		case decnet.Raw:
			r.values[i] = "{}"
		}
		if v, ok := columns[c.Name]; ok {
			r.values[i] = v
		}
	}
	return r
}

func TestAdoptedFindingsAreJudged(t *testing.T) {
	const at = "2026-11-23 00:00:00.000000"
	for name, c := range map[string]struct {
		columns map[string]any
		known   bool
		verdict provider.Verdict
	}{
		"greynoise malicious": {map[string]any{"greynoise_queried_at": at, "greynoise_classification": "malicious"}, true, provider.Malicious},
		"greynoise benign":    {map[string]any{"greynoise_queried_at": at, "greynoise_classification": "benign"}, true, provider.Benign},
		"greynoise other":     {map[string]any{"greynoise_queried_at": at, "greynoise_classification": "odd"}, true, provider.Unknown},
		"greynoise unseen":    {map[string]any{"greynoise_queried_at": at}, false, provider.Unknown},
		"abuseipdb 75":        {map[string]any{"abuseipdb_queried_at": at, "abuseipdb_score": int64(75)}, true, provider.Malicious},
		"abuseipdb 74":        {map[string]any{"abuseipdb_queried_at": at, "abuseipdb_score": int64(74)}, true, provider.Suspicious},
		"abuseipdb 24":        {map[string]any{"abuseipdb_queried_at": at, "abuseipdb_score": int64(24)}, true, provider.Unknown},
		"abuseipdb 0":         {map[string]any{"abuseipdb_queried_at": at, "abuseipdb_score": int64(0)}, false, provider.Unknown},
		"abuseipdb reported": {map[string]any{
			"abuseipdb_queried_at": at, "abuseipdb_score": int64(0), "abuseipdb_raw": `{"totalReports":2}`,
		}, true, provider.Unknown},
		"abuseipdb allowed": {map[string]any{
			"abuseipdb_queried_at": at, "abuseipdb_score": int64(0), "abuseipdb_raw": `{"isWhitelisted":true}`,
		}, false, provider.Unknown},
		"abuseipdb allowed and reported": {map[string]any{
			"abuseipdb_queried_at": at, "abuseipdb_score": int64(24), "abuseipdb_raw": `{"isWhitelisted":true,"totalReports":3}`,
		}, true, provider.Benign},
		"greynoise not observed": {map[string]any{
			"greynoise_queried_at": at, "greynoise_classification": "unknown", "greynoise_raw": `{"noise":false,"riot":false,"message":"not seen"}`,
		}, false, provider.Unknown},
		"greynoise of DECNET, not observed": {map[string]any{
			"greynoise_queried_at": at, "greynoise_classification": "unknown", "greynoise_raw": `{"message":"not seen"}`,
		}, false, provider.Unknown},
		"feodo online":     {map[string]any{"feodo_queried_at": at, "feodo_listed": int64(1), "feodo_raw": `{"status":"online"}`}, true, provider.Malicious},
		"feodo offline":    {map[string]any{"feodo_queried_at": at, "feodo_listed": true, "feodo_raw": `{"status":"offline"}`}, true, provider.Suspicious},
		"feodo absent":     {map[string]any{"feodo_queried_at": at, "feodo_listed": false}, false, provider.None},
		"threatfox listed": {map[string]any{"threatfox_queried_at": at, "threatfox_listed": int64(1), "threatfox_raw": `[{"id":1}]`}, true, provider.Malicious},
		"threatfox absent": {map[string]any{"threatfox_queried_at": at, "threatfox_listed": int64(0)}, false, provider.None},
	} {
		entries := foreign(c.columns).entries()
		require.Len(t, entries, 1, name)
		require.Equal(t, c.known, entries[0].Finding.Known, name)
		require.Equal(t, c.verdict, entries[0].Finding.Verdict, name)
		require.NoError(t, entries[0].Finding.Validate(), name)
	}
}

func TestAdoptedColumnsBecomeAttributes(t *testing.T) {
	r := foreign(map[string]any{
		"abuseipdb_queried_at": "2026-11-23 00:00:00.000000", "abuseipdb_score": int64(90),
		"abuseipdb_categories": "[18, 22]", "abuseipdb_raw": []byte(`{"x": 1}`),
		"greynoise_queried_at": "2026-11-22 12:00:00", "greynoise_name": "n", "greynoise_tags": `["a", "b"]`,
		"threatfox_queried_at": "2026-11-22 12:00:00", "threatfox_listed": "nonsense", "threatfox_ioc_types": "nonsense",
		"threatfox_raw": "nonsense",
	})
	at := time.Date(2026, 11, 23, 0, 0, 0, 0, time.UTC)
	expires := at.Add(24 * time.Hour)
	addr := netip.MustParseAddr("45.9.0.1")
	require.Equal(t, []store.Entry{
		{Provider: "abuseipdb", State: store.Fresh, Expires: expires, Finding: &provider.Finding{
			Provider: "abuseipdb", Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: at, TTL: 24 * time.Hour,
			Attrs: map[string]any{"score": int64(90), "categories": []int64{18, 22}}, Raw: json.RawMessage(`{"x": 1}`),
		}},
		{Provider: "greynoise", State: store.Fresh, Expires: expires, Finding: &provider.Finding{
			Provider: "greynoise", Addr: addr, Verdict: provider.Unknown, ObservedAt: at.Add(-12 * time.Hour), TTL: 36 * time.Hour,
			Attrs: map[string]any{"name": "n", "tags": []string{"a", "b"}},
		}},
		{Provider: "threatfox", State: store.Fresh, Expires: expires, Finding: &provider.Finding{
			Provider: "threatfox", Addr: addr, ObservedAt: at.Add(-12 * time.Hour), TTL: 36 * time.Hour,
			Attrs: map[string]any{"threat_types": []string{}, "ioc_types": []string{}, "malware_families": []string{}},
		}},
	}, r.entries())
}

func TestRowWithoutAnswersIsNotAdopted(t *testing.T) {
	entries, decision := foreign(map[string]any{"greynoise_classification": "malicious"}).record()
	require.Empty(t, entries)
	require.Zero(t, decision)
}

func FuzzAdopt(f *testing.F) {
	f.Add("45.9.0.1", "malicious", `["a"]`, `{"status":"offline"}`, "2026-11-23 00:00:00.000000")
	f.Add("", "", `null`, `[1]`, "2026-11-23")
	f.Fuzz(func(t *testing.T, ip, text, list, raw, at string) {
		r := foreign(nil)
		r.ip = ip
		for i, c := range decnet.Columns {
			r.values[i] = map[decnet.Kind]any{
				decnet.Text: text, decnet.Int: text, decnet.Bool: text, decnet.List: list, decnet.Raw: raw, decnet.Time: at,
			}[c.Kind]
		}
		entries := r.entries()
		for _, e := range entries {
			if e.Finding.Addr.IsValid() { // nobody has another
				require.NoError(t, e.Finding.Validate())
			}
		}
		doc, err := encode(entries, rawPresent)
		require.NoError(t, err)
		_, err = decode(doc)
		require.NoError(t, err)
	})
}
