package decnet_test

import (
	"encoding/json"
	"maps"
	"math"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// columns are the names and order of the provider columns of DECNET's table
// attacker_intel.
var columns = []string{
	"greynoise_classification", "greynoise_name", "greynoise_tags", "greynoise_raw", "greynoise_queried_at",
	"abuseipdb_score", "abuseipdb_categories", "abuseipdb_raw", "abuseipdb_queried_at",
	"feodo_listed", "feodo_malware_family", "feodo_raw", "feodo_queried_at",
	"threatfox_listed", "threatfox_threat_types", "threatfox_ioc_types", "threatfox_malware_families",
	"threatfox_raw", "threatfox_queried_at",
}

func column(t *testing.T, name string) *decnet.Column {
	t.Helper()
	i := slices.IndexFunc(decnet.Columns, func(c decnet.Column) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, "no column %s", name)
	return &decnet.Columns[i]
}

func TestColumns(t *testing.T) {
	var names []string
	for _, c := range decnet.Columns {
		names = append(names, c.Name)
		require.True(t, strings.HasPrefix(c.Name, c.Provider+"_"), c.Name)
		switch c.Kind {
		case decnet.Raw:
			require.Equal(t, c.Provider+"_raw", c.Name)
			require.Empty(t, c.Attr)
		case decnet.Time:
			require.Equal(t, c.Provider+"_queried_at", c.Name)
			require.Empty(t, c.Attr)
		default:
			require.Equal(t, c.Provider+"_"+c.Attr, c.Name)
		}
		require.Equal(t, c.Kind == decnet.Text, c.Max > 0, "%s: only text has a length", c.Name)
	}
	require.Equal(t, columns, names)
}

func TestColumnValue(t *testing.T) {
	at := time.Date(2026, 3, 1, 12, 30, 0, 123456000, time.FixedZone("CET", 3600))
	with := func(attr string, v any) *provider.Finding {
		return &provider.Finding{Attrs: map[string]any{attr: v}}
	}
	for _, test := range []struct {
		what, column string
		finding      *provider.Finding
		want         any
	}{
		{"text", "greynoise_name", with("name", "Ünï"), "Ünï"},
		{"empty text", "greynoise_name", with("name", ""), ""},
		{"text without finding", "greynoise_name", nil, nil},
		{"text without attribute", "greynoise_name", &provider.Finding{}, nil},
		{"text that is nil", "greynoise_name", with("name", nil), nil},
		{"text that is a number", "greynoise_name", with("name", int64(1)), nil},
		{"text of another attribute", "greynoise_name", with("classification", "x"), nil},
		{"text as long as the column", "greynoise_classification", with("classification", strings.Repeat("é", 32)), strings.Repeat("é", 32)},
		{"text longer than the column", "greynoise_classification", with("classification", strings.Repeat("é", 33)), strings.Repeat("é", 32)},
		{"text that shrinks to the column", "feodo_malware_family", with("malware_family", strings.Repeat("\x00", 99)+strings.Repeat("x", 64)), strings.Repeat("x", 64)},
		{"text that is not UTF-8", "greynoise_name", with("name", "a\xffb\x00c"), "a\uFFFDbc"},
		{"number", "abuseipdb_score", with("score", int64(100)), int64(100)},
		{"number zero", "abuseipdb_score", with("score", int64(0)), int64(0)},
		{"greatest number", "abuseipdb_score", with("score", int64(math.MaxInt32)), int64(math.MaxInt32)},
		{"number that is too great", "abuseipdb_score", with("score", int64(math.MaxInt32+1)), nil},
		{"least number", "abuseipdb_score", with("score", int64(math.MinInt32)), int64(math.MinInt32)},
		{"number that is too low", "abuseipdb_score", with("score", int64(math.MinInt32-1)), nil},
		{"number that is a float", "abuseipdb_score", with("score", 100.0), nil},
		{"number that is an int", "abuseipdb_score", with("score", 100), nil},
		{"number without finding", "abuseipdb_score", nil, nil},
		{"true", "feodo_listed", with("listed", true), true},
		{"false", "feodo_listed", with("listed", false), false},
		{"bool without attribute", "feodo_listed", &provider.Finding{}, nil},
		{"bool that is text", "feodo_listed", with("listed", "true"), nil},
		{"list of text", "greynoise_tags", with("tags", []string{"a", "b\x00\xff"}), json.RawMessage(`["a","b` + "\uFFFD" + `"]`)},
		{"list of numbers", "abuseipdb_categories", with("categories", []int64{18, 22}), json.RawMessage(`[18,22]`)},
		{"empty list of text", "greynoise_tags", with("tags", []string{}), json.RawMessage(`[]`)},
		{"nil list of text", "greynoise_tags", with("tags", []string(nil)), json.RawMessage(`[]`)},
		{"empty list of numbers", "abuseipdb_categories", with("categories", []int64{}), json.RawMessage(`[]`)},
		{"nil list of numbers", "abuseipdb_categories", with("categories", []int64(nil)), json.RawMessage(`[]`)},
		{"list that is text", "greynoise_tags", with("tags", "a"), json.RawMessage(`[]`)},
		{"list without finding", "greynoise_tags", nil, json.RawMessage(`[]`)},
		{"raw", "feodo_raw", &provider.Finding{Raw: json.RawMessage(`{"malware":"Emotet"}`)}, json.RawMessage(`{"malware":"Emotet"}`)},
		{"raw of nothing", "feodo_raw", &provider.Finding{}, json.RawMessage(`{}`)},
		{"raw without finding", "feodo_raw", nil, json.RawMessage(`{}`)},
		{"time", "feodo_queried_at", &provider.Finding{ObservedAt: at}, at.UTC()},
		{"time without finding", "feodo_queried_at", nil, nil},
	} {
		require.Equal(t, test.want, column(t, test.column).Value(test.finding), test.what)
	}
}

func TestOtherColumnValue(t *testing.T) {
	small, big := decnet.Column{Kind: decnet.Int, Max: math.MaxInt16}, decnet.Column{Kind: decnet.Int, Max: math.MaxInt}
	float, text := decnet.Column{Kind: decnet.Float}, decnet.Column{Kind: decnet.Text}
	for _, test := range []struct {
		what       string
		column     decnet.Column
		attr, want any
	}{
		{"greatest small number", small, int64(math.MaxInt16), int64(math.MaxInt16)},
		{"number that is too great", small, int64(math.MaxInt16 + 1), nil},
		{"least small number", small, int64(math.MinInt16), int64(math.MinInt16)},
		{"number that is too low", small, int64(math.MinInt16 - 1), nil},
		{"least number", big, int64(math.MinInt), int64(math.MinInt)},
		{"float", float, 1.5, 1.5},
		{"float that is an integer", float, int64(3), 3.0},
		{"float that is too great", float, 1e39, nil},
		{"float that is too low", float, -1e39, nil},
		{"float that is infinite", float, math.Inf(1), nil},
		{"float that is no number", float, math.NaN(), nil},
		{"float that is text", float, "1.5", nil},
		{"float that is nil", float, nil, nil},
		{"long text", text, strings.Repeat("é\x00", 9999), strings.Repeat("é", 9999)},
	} {
		test.column.Attr = "x"
		require.Equal(t, test.want, test.column.Value(&provider.Finding{Attrs: map[string]any{"x": test.attr}}), test.what)
	}
}

func TestColumnValueKeepsTheFinding(t *testing.T) {
	tags := []string{"a\x00", "b\xff"}
	f := &provider.Finding{Attrs: map[string]any{"tags": tags}}
	column(t, "greynoise_tags").Value(f)
	require.Equal(t, []string{"a\x00", "b\xff"}, tags)
}

func FuzzColumnText(f *testing.F) {
	f.Add("plain")
	f.Add(strings.Repeat("😀\x00\xff", 40))
	f.Fuzz(func(t *testing.T, text string) {
		c := column(t, "greynoise_classification")
		got, ok := c.Value(&provider.Finding{Attrs: map[string]any{"classification": text}}).(string)
		require.True(t, ok)
		require.True(t, utf8.ValidString(got))
		require.NotContains(t, got, "\x00")
		require.LessOrEqual(t, utf8.RuneCountInString(got), c.Max)
		require.True(t, strings.HasPrefix(decnet.CleanText(text), got))
		if clean := decnet.CleanText(text); utf8.RuneCountInString(clean) <= c.Max {
			require.Equal(t, clean, got)
		}
	})
}

func TestCleanText(t *testing.T) {
	for in, want := range map[string]string{
		"":                "",
		"plain Ünïcode 😀": "plain Ünïcode 😀",
		"\x00a\x00b\x00":  "ab",
		"\x00":            "",
		"a\xff\xfeb":      "a\uFFFDb",
		"a\xffb\xfe":      "a\uFFFDb\uFFFD",
		"\xc3\x00\xa9":    "\uFFFD\uFFFD",
		"tab\tline\n\x01": "tab\tline\n\x01",
		"\uFFFD":          "\uFFFD",
	} {
		require.Equal(t, want, decnet.CleanText(in), "%q", in)
		require.Equal(t, want, decnet.CleanText(decnet.CleanText(in)), "%q, twice", in)
	}
}

// object decodes a JSON object and returns it with its keys in order.
func object(t *testing.T, raw json.RawMessage) (keys []string, values map[string]any) {
	t.Helper()
	require.NoError(t, json.Unmarshal(raw, &values), "%s", raw)
	d := json.NewDecoder(strings.NewReader(string(raw)))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		keys = append(keys, key.(string))
		var skipped json.RawMessage
		require.NoError(t, d.Decode(&skipped))
	}
	return keys, values
}

func rowKeys() []string {
	keys := append([]string{"uuid", "attacker_uuid", "attacker_ip", "schema_version"}, columns...)
	return append(keys, "aggregate_verdict", "cached_at", "expires_at")
}

func TestRowJSON(t *testing.T) {
	id := uuid.MustParse("5f6cbb9a-0b68-4c52-8a1b-9c42f0ad21b6")
	at := time.Date(2026, 11, 23, 10, 0, 0, 123456000, time.UTC)
	addr := netip.MustParseAddr("45.9.148.3")
	r := store.Record{
		Attacker: store.Attacker{ID: id, IP: "45.9.148.3"},
		Entries: []store.Entry{
			{Provider: "abuseipdb", Expires: at.Add(2 * time.Hour), Finding: &provider.Finding{
				Addr: addr, Attrs: map[string]any{"score": int64(87), "categories": []int64{18, 22}},
				Raw: json.RawMessage(`{"abuseConfidenceScore":87}`), ObservedAt: at,
			}},
			{Provider: "custom", Expires: at.Add(time.Hour), Finding: &provider.Finding{
				Addr: addr, Attrs: map[string]any{"listed": true}, ObservedAt: at,
			}},
			{Provider: "feodo", Finding: nil, State: store.Due, Due: at.Add(time.Minute)},
			{Provider: "threatfox", Expires: at.Add(3 * time.Hour), Finding: &provider.Finding{
				Addr: addr, Attrs: map[string]any{"listed": true, "threat_types": []string{"botnet_cc"}},
				Raw: json.RawMessage(`[{"ioc":"45.9.148.3:443"}]`), ObservedAt: at.Add(-time.Second),
			}},
		},
		Decision: aggregate.Decision{Verdict: provider.Malicious},
		CachedAt: at,
	}
	keys, values := object(t, decnet.RowJSON(&r))
	require.Equal(t, rowKeys(), keys)
	require.Equal(t, map[string]any{
		"uuid": decnet.RowID(id).String(), "attacker_uuid": id.String(), "attacker_ip": "45.9.148.3", "schema_version": 1.0,
		"greynoise_classification": nil, "greynoise_name": nil, "greynoise_tags": []any{}, "greynoise_raw": map[string]any{}, "greynoise_queried_at": nil,
		"abuseipdb_score": 87.0, "abuseipdb_categories": []any{18.0, 22.0},
		"abuseipdb_raw": map[string]any{"abuseConfidenceScore": 87.0}, "abuseipdb_queried_at": "2026-11-23T10:00:00.123456Z",
		"feodo_listed": nil, "feodo_malware_family": nil, "feodo_raw": map[string]any{}, "feodo_queried_at": nil,
		"threatfox_listed": true, "threatfox_threat_types": []any{"botnet_cc"}, "threatfox_ioc_types": []any{},
		"threatfox_malware_families": []any{}, "threatfox_raw": []any{map[string]any{"ioc": "45.9.148.3:443"}},
		"threatfox_queried_at": "2026-11-23T09:59:59.123456Z",
		"aggregate_verdict":    "malicious", "cached_at": "2026-11-23T10:00:00.123456Z", "expires_at": "2026-11-23T11:00:00.123456Z",
	}, values)
}

func TestRowJSONOfNothing(t *testing.T) {
	var r store.Record
	keys, values := object(t, decnet.RowJSON(&r))
	require.Equal(t, rowKeys(), keys)
	for key := range values {
		if strings.HasSuffix(key, "_at") || key == "aggregate_verdict" {
			require.Nil(t, values[key], key)
		}
	}
}

// TestRowJSONOfDECNETsRow: its key is as in the table, and so are its times as
// long as nothing else is known.
func TestRowJSONOfDECNETsRow(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	r := store.Record{Row: store.Row{UUID: "9c42f0ad21b64c528a1b5f6cbb9a0b68", CachedAt: at, ExpiresAt: at.Add(time.Hour)}}
	_, values := object(t, decnet.RowJSON(&r))
	require.Subset(t, values, map[string]any{
		"uuid": "9c42f0ad21b64c528a1b5f6cbb9a0b68", "aggregate_verdict": nil,
		"cached_at": "2026-11-23T10:00:00Z", "expires_at": "2026-11-23T11:00:00Z",
	})
	r.Entries = []store.Entry{{Provider: "feodo", Expires: at.Add(3 * time.Hour), Finding: &provider.Finding{ObservedAt: at}}}
	r.CachedAt = at.Add(time.Minute)
	_, values = object(t, decnet.RowJSON(&r))
	require.Subset(t, values, map[string]any{
		"uuid": "9c42f0ad21b64c528a1b5f6cbb9a0b68", "cached_at": "2026-11-23T10:01:00Z", "expires_at": "2026-11-23T13:00:00Z",
	})
}

// TestRowJSONExpiresAsTheRow: a row that is as recent as the record says when it
// expires, because findings of providers that are not configured do not count there.
func TestRowJSONExpiresAsTheRow(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 250_000_000, time.UTC)
	r := store.Record{
		CachedAt: at, Row: store.Row{UUID: "x", CachedAt: at.Truncate(time.Second), ExpiresAt: at.Add(time.Hour)},
		Entries: []store.Entry{{Provider: "feodo", Expires: at.Add(-time.Hour), Finding: &provider.Finding{ObservedAt: at}}},
	}
	_, values := object(t, decnet.RowJSON(&r))
	require.Equal(t, "2026-11-23T11:00:00.25Z", values["expires_at"])
}

// TestExpiresAt: only findings that will be replaced count.
func TestExpiresAtOfWhatIsReplaced(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	found := &provider.Finding{ObservedAt: at}
	r := store.Record{Entries: []store.Entry{
		{Provider: "a", Finding: found, State: store.NotApplicable, Expires: at},
		{Provider: "b", Expires: at.Add(time.Minute)},
		{Provider: "c", Finding: found},
	}}
	require.Zero(t, decnet.ExpiresAt(&r))
	r.Entries = append(r.Entries, store.Entry{Provider: "d", Finding: found, Expires: at.Add(time.Hour)})
	require.Equal(t, at.Add(time.Hour), decnet.ExpiresAt(&r))
}

func TestRowJSONOfWhatJSONCannotSay(t *testing.T) {
	r := store.Record{
		Attacker: store.Attacker{IP: "\xff\x00<&>"},
		Entries: []store.Entry{{Provider: "feodo", Finding: &provider.Finding{
			Raw: json.RawMessage(`{"broken`), ObservedAt: time.Date(12000, 1, 1, 0, 0, 0, 0, time.UTC),
			Attrs: map[string]any{"malware_family": math.NaN()},
		}}},
		Decision: aggregate.Decision{Verdict: provider.Malicious + 1},
	}
	keys, values := object(t, decnet.RowJSON(&r))
	require.Equal(t, rowKeys(), keys)
	require.Equal(t, "\uFFFD<&>", values["attacker_ip"])
	for _, key := range []string{"feodo_raw", "feodo_queried_at", "feodo_malware_family", "aggregate_verdict"} {
		require.Contains(t, slices.Collect(maps.Keys(values)), key)
		require.Nil(t, values[key], key)
	}
}

func TestRowID(t *testing.T) {
	a, b := uuid.New(), uuid.New()
	require.Equal(t, decnet.RowID(a), decnet.RowID(a))
	require.NotEqual(t, decnet.RowID(a), decnet.RowID(b))
	require.NotEqual(t, a, decnet.RowID(a))
	require.Equal(t, uuid.Version(5), decnet.RowID(a).Version())
}

func TestExpiresAt(t *testing.T) {
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	f := &provider.Finding{}
	var r store.Record
	require.Zero(t, decnet.ExpiresAt(&r))
	r.Entries = []store.Entry{{Provider: "a", Expires: at, State: store.Waiting}}
	require.Zero(t, decnet.ExpiresAt(&r), "an expiry without a finding")
	r.Entries = append(r.Entries,
		store.Entry{Provider: "b", Finding: f, Expires: at.Add(2 * time.Hour)},
		store.Entry{Provider: "c", Finding: f, Expires: at.Add(time.Hour), Due: at.Add(time.Minute)},
		store.Entry{Provider: "d", Finding: f, Expires: at.Add(3 * time.Hour)},
	)
	require.Equal(t, at.Add(time.Hour), decnet.ExpiresAt(&r))
}
