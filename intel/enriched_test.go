package intel

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestParseEnriched(t *testing.T) {
	score, yes := int64(100), true
	r := record(provider.Malicious,
		known("abuseipdb", map[string]any{"score": score, "categories": []int64{18, 22}}),
		known("custom", map[string]any{"listed": true, "count": int64(3), "names": []string{"a"}, "none": nil}),
		known("feodo", map[string]any{"listed": true, "malware_family": "QakBot"}),
		known("greynoise", map[string]any{"classification": "malicious", "name": "n", "tags": []string{"Mirai"}}),
		known("threatfox", map[string]any{
			"listed": true, "threat_types": []string{"botnet_cc"}, "ioc_types": []string{"ip:port"}, "malware_families": []string{"win.x"},
		}),
	)
	names := append([]string{"custom"}, fourNames...)
	ev := enrichedEvent(r, announcement{providers: names, answered: []string{"feodo"}, pending: []string{"custom"}, changed: true}, eventTime)
	e, err := ParseEnriched(ev.Payload)
	require.NoError(t, err)
	require.Equal(t, Enriched{
		AttackerUUID: attackerID, AttackerIP: "45.155.205.233", Verdict: provider.Malicious, Providers: names,
		AbuseIPDBScore: &score, AbuseIPDBCategories: []int64{18, 22},
		GreyNoiseClassification: "malicious", GreyNoiseName: "n", GreyNoiseTags: []string{"Mirai"},
		FeodoListed: &yes, FeodoMalwareFamily: "QakBot",
		ThreatFoxListed: &yes, ThreatFoxThreatTypes: []string{"botnet_cc"}, ThreatFoxIOCTypes: []string{"ip:port"}, ThreatFoxMalwareFamilies: []string{"win.x"},
		EventID: ev.ID, Revision: 7, Answered: []string{"feodo"}, Pending: []string{"custom"}, Changed: true,
		Attrs: map[string]any{"custom_listed": true, "custom_count": 3.0, "custom_names": []any{"a"}, "custom_none": nil},
	}, e)
	v := reflect.ValueOf(e)
	for i := range v.NumField() { // each field is covered above
		require.False(t, v.Field(i).IsZero(), v.Type().Field(i).Name)
	}
}

// TestParseEnrichedOfNothing: null and missing keys leave their fields zero.
func TestParseEnrichedOfNothing(t *testing.T) {
	e, err := ParseEnriched(enrichedEvent(record(provider.None), announcement{}, eventTime).Payload)
	require.NoError(t, err)
	require.Nil(t, e.AbuseIPDBScore)
	require.Nil(t, e.FeodoListed)
	require.Equal(t, provider.None, e.Verdict)
	require.Nil(t, e.Attrs)
	e, err = ParseEnriched(json.RawMessage(`{"attacker_uuid":"3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11"}`))
	require.NoError(t, err)
	require.Equal(t, Enriched{AttackerUUID: attackerID}, e)
}

func TestParseEnrichedRefuses(t *testing.T) {
	const id = `"attacker_uuid":"3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11"`
	for payload, says := range map[string]string{
		``:                      "not a JSON object",
		`null`:                  "not a JSON object",
		`[1]`:                   "not a JSON object",
		`{}`:                    "without an attacker_uuid",
		`{"attacker_uuid":"x"}`: "attacker_uuid of an enriched event",
		`{` + id + `,"aggregate_verdict":"evil"}`: "aggregate_verdict of an enriched event",
		`{` + id + `,"abuseipdb_score":"100"}`:    "abuseipdb_score of an enriched event",
		`{` + id + `,"revision":-1}`:              "revision of an enriched event",
		`{` + id + `,"x":1e400}`:                  "x of an enriched event",
	} {
		e, err := ParseEnriched(json.RawMessage(payload))
		require.ErrorContains(t, err, says, payload)
		require.Equal(t, Enriched{}, e)
	}
}

// FuzzParseEnriched: whatever a payload holds, it is parsed or refused.
func FuzzParseEnriched(f *testing.F) {
	f.Add([]byte(enrichedEvent(record(provider.Benign, known("custom", map[string]any{"x": 1.5})), announcement{providers: []string{"custom"}}, eventTime).Payload))
	f.Add([]byte(`{"attacker_uuid":null,"x":{"y":[1e400]}}`))
	f.Fuzz(func(t *testing.T, payload []byte) {
		e, err := ParseEnriched(payload)
		if err != nil {
			require.Equal(t, Enriched{}, e)
			return
		}
		require.True(t, json.Valid(payload))
		require.NotZero(t, e.AttackerUUID)
	})
}
