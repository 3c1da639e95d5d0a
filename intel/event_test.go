package intel

import (
	"encoding/json"
	"maps"
	"math"
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

var (
	attackerID = uuid.MustParse("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11")
	eventTime  = time.Date(2026, 6, 1, 12, 0, 0, 123456000, time.UTC)
	fourNames  = []string{"abuseipdb", "feodo", "greynoise", "threatfox"}
)

// known is an entry with a finding that has the given attributes.
func known(name string, attrs map[string]any) store.Entry {
	return store.Entry{Provider: name, State: store.Fresh, Finding: &provider.Finding{Provider: name, Known: true, Attrs: attrs}}
}

// record is one that the given entries were stored in.
func record(verdict provider.Verdict, entries ...store.Entry) *store.Record {
	return &store.Record{
		Attacker: store.Attacker{ID: attackerID, IP: "45.155.205.233"},
		Entries:  entries, Decision: aggregate.Decision{Verdict: verdict}, Revision: 7,
	}
}

// decode returns the payload of the event that announces r, and fails the test
// if no bus could carry the event or a key occurs twice.
func decode(t *testing.T, r *store.Record, a announcement) map[string]any {
	t.Helper()
	ev := enrichedEvent(r, a, eventTime)
	require.NoError(t, ev.Validate(), string(ev.Payload))
	keys := topLevelKeys(t, ev.Payload)
	payload := make(map[string]any)
	require.NoError(t, json.Unmarshal(ev.Payload, &payload))
	require.Len(t, keys, len(payload), "a key occurs twice in %s", ev.Payload)
	return payload
}

func topLevelKeys(t *testing.T, object []byte) (keys []string) {
	t.Helper()
	d := json.NewDecoder(strings.NewReader(string(object)))
	_, err := d.Token()
	require.NoError(t, err)
	for d.More() {
		key, err := d.Token()
		require.NoError(t, err)
		keys = append(keys, key.(string))
		var value json.RawMessage
		require.NoError(t, d.Decode(&value))
	}
	return keys
}

// payloadKeys are those that DECNET's consumers know, and ours.
var payloadKeys = []string{
	"attacker_uuid", "attacker_ip", "aggregate_verdict", "providers",
	"abuseipdb_score", "abuseipdb_categories",
	"greynoise_classification", "greynoise_name", "greynoise_tags",
	"feodo_listed", "feodo_malware_family",
	"threatfox_listed", "threatfox_threat_types", "threatfox_ioc_types", "threatfox_malware_families",
	"event_id", "revision", "answered", "pending", "changed",
}

func TestEnrichedEvent(t *testing.T) {
	r := record(provider.Malicious,
		known("abuseipdb", map[string]any{"score": int64(100), "categories": []int64{18, 22}, "country": "NL"}),
		known("feodo", map[string]any{"listed": true, "malware_family": "QakBot"}),
		known("greynoise", map[string]any{"classification": "malicious", "name": "unknown", "tags": []string{"SSH Bruteforcer", "Mirai"}}),
		known("threatfox", map[string]any{
			"listed": true, "threat_types": []string{"botnet_cc"}, "ioc_types": []string{"ip:port"}, "malware_families": []string{"Cobalt Strike"},
		}),
	)
	ev := enrichedEvent(r, announcement{
		providers: fourNames, answered: []string{"feodo", "greynoise"}, pending: []string{"abuseipdb"}, changed: true,
	}, eventTime)
	require.NoError(t, ev.Validate())
	require.Equal(t, "attacker.intel.enriched", ev.Topic)
	require.Equal(t, "intel.enriched", ev.Type)
	require.Equal(t, eventTime, ev.Time)
	require.Equal(t, "c31cd8cbbd775d52898db5bba4144a03", ev.ID)
	require.Equal(t, `{"attacker_uuid":"3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11","attacker_ip":"45.155.205.233",`+
		`"aggregate_verdict":"malicious","providers":["abuseipdb","feodo","greynoise","threatfox"],`+
		`"greynoise_classification":"malicious","greynoise_name":"unknown","greynoise_tags":["SSH Bruteforcer","Mirai"],`+
		`"abuseipdb_score":100,"abuseipdb_categories":[18,22],`+
		`"feodo_listed":true,"feodo_malware_family":"QakBot",`+
		`"threatfox_listed":true,"threatfox_threat_types":["botnet_cc"],"threatfox_ioc_types":["ip:port"],"threatfox_malware_families":["Cobalt Strike"],`+
		`"event_id":"c31cd8cbbd775d52898db5bba4144a03","revision":7,"answered":["feodo","greynoise"],"pending":["abuseipdb"],"changed":true}`,
		string(ev.Payload))
}

// TestEnrichedEventOfNothing: every key is there, null or empty, also when
// nothing is known.
func TestEnrichedEventOfNothing(t *testing.T) {
	empty := map[string]any{
		"attacker_uuid": attackerID.String(), "attacker_ip": "45.155.205.233", "aggregate_verdict": nil,
		"revision": 7.0, "providers": []any{}, "answered": []any{}, "pending": []any{}, "changed": false,
		"event_id":        "c31cd8cbbd775d52898db5bba4144a03",
		"abuseipdb_score": nil, "abuseipdb_categories": []any{},
		"greynoise_classification": nil, "greynoise_name": nil, "greynoise_tags": []any{},
		"feodo_listed": nil, "feodo_malware_family": nil,
		"threatfox_listed": nil, "threatfox_threat_types": []any{}, "threatfox_ioc_types": []any{}, "threatfox_malware_families": []any{},
	}
	require.ElementsMatch(t, payloadKeys, slices.Collect(maps.Keys(empty)))
	for name, r := range map[string]*store.Record{
		"no entries":    record(provider.None),
		"no findings":   record(provider.None, store.Entry{Provider: "abuseipdb"}, store.Entry{Provider: "custom"}, store.Entry{Provider: "feodo"}),
		"no attributes": record(provider.None, known("abuseipdb", nil), known("custom", nil), known("feodo", nil), known("greynoise", nil), known("threatfox", nil)),
		"nulls": record(provider.None, known("abuseipdb", map[string]any{"score": nil, "categories": nil}),
			known("threatfox", map[string]any{"listed": nil, "ioc_types": []string(nil)})),
		"attributes of other types": record(provider.None,
			known("abuseipdb", map[string]any{"score": "100", "categories": "18"}),
			known("feodo", map[string]any{"listed": "yes", "malware_family": int64(1)}),
			known("greynoise", map[string]any{"classification": true, "name": 1.5, "tags": int64(3)})),
	} {
		require.Equal(t, empty, decode(t, r, announcement{}), name)
	}
}

func TestEnrichedEventVerdicts(t *testing.T) {
	for verdict, want := range map[provider.Verdict]any{
		provider.None: nil, provider.Unknown: "unknown", provider.Benign: "benign",
		provider.Suspicious: "suspicious", provider.Malicious: "malicious",
	} {
		require.Equal(t, want, decode(t, record(verdict), announcement{})["aggregate_verdict"])
	}
}

// TestEnrichedEventFalse: false and zero are answers, unlike null.
func TestEnrichedEventFalse(t *testing.T) {
	payload := decode(t, record(provider.Unknown,
		known("abuseipdb", map[string]any{"score": int64(0), "categories": []int64{}}),
		known("feodo", map[string]any{"listed": false}),
		known("greynoise", map[string]any{"classification": "", "tags": []string{}}),
	), announcement{providers: []string{"acme", "zeta"}})
	require.Equal(t, 0.0, payload["abuseipdb_score"])
	require.Equal(t, false, payload["feodo_listed"])
	require.Equal(t, "", payload["greynoise_classification"])
	require.Nil(t, payload["threatfox_listed"])
}

func TestEnrichedEventOfCustomProviders(t *testing.T) {
	payload := decode(t, record(provider.Malicious,
		known("acme", map[string]any{
			"text": "x", "flag": true, "count": int64(math.MaxInt64), "ratio": 0.25, "names": []string{"a", "b"},
			"numbers": []int64{-1, math.MinInt64}, "nothing": nil, "no_names": []string(nil), "no_numbers": []int64(nil),
			"nan": math.NaN(), "infinite": math.Inf(-1), "huge": math.MaxFloat64, "tiny": math.SmallestNonzeroFloat64,
		}),
		known("feodo", map[string]any{"listed": true, "port": int64(443)}),
		known("zeta", map[string]any{"score": int64(3)}),
	), announcement{providers: []string{"acme", "zeta"}})
	want := map[string]any{
		"acme_text": "x", "acme_flag": true, "acme_count": float64(math.MaxInt64), "acme_ratio": 0.25,
		"acme_names": []any{"a", "b"}, "acme_numbers": []any{-1.0, float64(math.MinInt64)}, "acme_nothing": nil,
		"acme_no_names": []any{}, "acme_no_numbers": []any{}, "acme_nan": nil, "acme_infinite": nil,
		"acme_huge": math.MaxFloat64, "acme_tiny": math.SmallestNonzeroFloat64,
		"zeta_score": 3.0,
	}
	for key, value := range want {
		require.Contains(t, payload, key)
		require.Equal(t, value, payload[key], key)
	}
	require.Len(t, payload, len(payloadKeys)+len(want), "the attributes of a provider with columns that have none stay out")
}

// TestEnrichedEventIsStable: equal records give equal events, byte for byte.
func TestEnrichedEventIsStable(t *testing.T) {
	attrs := make(map[string]any)
	for name := range strings.FieldsSeq("a b c d e f g h i j k l m n o p q r s t u v w x y z") {
		attrs[name] = name
	}
	r := record(provider.Unknown, known("acme", attrs))
	first := enrichedEvent(r, announcement{}, eventTime)
	for range 20 {
		require.Equal(t, first, enrichedEvent(r, announcement{}, eventTime))
	}
}

func TestEnrichedEventOfOddText(t *testing.T) {
	const odd = "say \"hi\" \\ / \b\f\n\r\t\x01\x1f\x7f <b>&amp;</b> größe 漢字 \u2028\u2029 💀 \xff\xfe\xc3( \xed\xa0\x80 end\x00"
	const clean = "say \"hi\" \\ / \b\f\n\r\t\x01\x1f\x7f <b>&amp;</b> größe 漢字 \u2028\u2029 💀 \ufffd( \ufffd end"
	r := record(provider.None,
		known("acme", map[string]any{"text": odd, "texts": []string{odd, "", "\x00", "\xff", "plain"}}),
		known("feodo", map[string]any{"malware_family": odd + odd}),
		known("greynoise", map[string]any{"name": strings.Repeat("é\x00", 200), "tags": []string{odd, "\x00"}}),
	)
	r.IP = odd
	payload := decode(t, r, announcement{providers: []string{"acme", "zeta"}, pending: []string{odd}})
	require.Equal(t, clean, payload["attacker_ip"])
	require.Equal(t, strings.Repeat("é", 128), payload["greynoise_name"])
	require.Equal(t, []any{clean, ""}, payload["greynoise_tags"])
	require.Equal(t, string([]rune(clean + clean)[:64]), payload["feodo_malware_family"])
	require.Equal(t, clean, payload["acme_text"])
	require.Equal(t, []any{clean, "", "", "\ufffd", "plain"}, payload["acme_texts"])
	require.Equal(t, []any{clean}, payload["pending"])
}

// TestEnrichedEventIsBounded: findings as large as findings may be give an
// event that a bus can carry, with as much as there is room for.
func TestEnrichedEventIsBounded(t *testing.T) {
	escaped := strings.Repeat("\x01", provider.MaxAttrs) // each becomes six bytes
	tags := map[string]any{"tags": []string{escaped[1:]}, "threat_types": []string{escaped[1:]}}
	numbers := map[string]any{"categories": slices.Repeat([]int64{math.MinInt64}, provider.MaxAttrs/8)}
	entries := []store.Entry{known("abuseipdb", numbers), known("greynoise", tags)}
	small := known("zeta", map[string]any{"score": int64(3)})

	payload := decode(t, record(provider.None, append(entries, known("acme", map[string]any{"text": escaped}), small)...), announcement{providers: []string{"acme", "zeta"}})
	require.Len(t, payload["acme_text"], provider.MaxAttrs)
	require.Equal(t, 3.0, payload["zeta_score"])

	entries = append(entries, known("threatfox", tags))
	payload = decode(t, record(provider.None, append(entries, known("acme", map[string]any{"text": escaped}), small)...), announcement{providers: []string{"acme", "zeta"}})
	require.Subset(t, slices.Collect(maps.Keys(payload)), payloadKeys)
	require.NotContains(t, payload, "acme_text")
	require.Equal(t, 3.0, payload["zeta_score"])
}

// FuzzAppendString: whatever the text, the result is a JSON string that means
// what a store would keep.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{
		"", "plain", `"`, `\`, "a\x00b", "\x1f", "\x7f", "<&>", "größe", "\u2028", "\xff", "\xed\xa0\x80", "a\xc3", "💀", `\u0000`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		b := appendString([]byte("["), s)
		require.Equal(t, byte('['), b[0])
		require.True(t, utf8.Valid(b))
		var got string
		require.NoError(t, json.Unmarshal(b[1:], &got), "%q", b)
		require.Equal(t, decnet.CleanText(s), got)
	})
}

// FuzzEnrichedEvent: whatever providers say, the payload is an object that a
// bus can carry, with every key once.
func FuzzEnrichedEvent(f *testing.F) {
	f.Add("45.155.205.233", "plain", "name", int64(1), 0.5, true)
	f.Add("\x00", "\xff\"\\", "a", int64(math.MinInt64), math.NaN(), false)
	f.Add("", "</script>\u2028", "listed", int64(0), math.Inf(1), true)
	f.Add("::1%eth0", "]},{", "text", int64(-1), 1e300, false)
	f.Fuzz(func(t *testing.T, ip, text, name string, n int64, x float64, yes bool) {
		if len(text) > 1000 || len(ip) > 1000 || provider.ValidateName(name) != nil {
			return
		}
		attrs := map[string]any{
			"classification": text, "name": text, "tags": []string{text, ip}, "score": n, "categories": []int64{n, n},
			"listed": yes, "malware_family": text, "threat_types": []string{text}, "text": text, "x": x,
		}
		attrs[name] = []string{text, ip, name}
		var entries []store.Entry
		for _, p := range append(fourNames, "zeta") {
			entries = append(entries, known(p, attrs))
		}
		r := record(provider.Verdict(n&3), entries...)
		r.IP = ip
		payload := decode(t, r, announcement{providers: []string{text, "zeta"}, answered: []string{ip}, changed: yes})
		for _, key := range append(payloadKeys, "zeta_"+name, "zeta_x") {
			require.Contains(t, payload, key)
		}
	})
}
