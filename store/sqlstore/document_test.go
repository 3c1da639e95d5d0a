package sqlstore

import (
	"encoding/json"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

func TestDocumentKeepsEverything(t *testing.T) {
	at := time.Date(2026, 11, 23, 19, 0, 0, 123456000, time.UTC)
	entries := []store.Entry{
		{Provider: "a", State: store.Fresh, Expires: at, Finding: &provider.Finding{
			Provider: "a", Addr: netip.MustParseAddr("2a01:4f8::1"), Known: true, Verdict: provider.Benign,
			ObservedAt: at.Add(-time.Hour), TTL: 90 * time.Minute,
			Attrs: map[string]any{
				"nil": nil, "text": "ü \" \\ \x00 \u2028 💀", "empty": "", "yes": true, "no": false,
				"int": int64(5), "min": int64(math.MinInt64), "max": int64(math.MaxInt64),
				"float": 5.0, "tiny": 5e-324, "huge": math.MaxFloat64, "minus": -0.5, "million": 1e6, "billion": 1e21,
				"texts": []string{"x", ""}, "no_texts": []string{}, "nil_texts": []string(nil),
				"ints": []int64{1, -2}, "no_ints": []int64{}, "nil_ints": []int64(nil),
			},
		}},
		{Provider: "b", State: store.Due, Due: at, Failures: 3, Error: "rate limited"},
		{Provider: "c", State: store.Waiting, Finding: &provider.Finding{Provider: "c", Attrs: map[string]any{}}},
		{Provider: "d", State: store.NotApplicable},
		{Provider: "e", State: store.Waiting, Rank: -2, Since: at.Add(-time.Minute)},
	}
	doc, err := encode(entries, func(e *store.Entry) bool { return e.Provider == "c" })
	require.NoError(t, err)
	require.True(t, json.Valid([]byte(doc)), doc)
	for _, name := range []string{"rank", "since", "failures"} {
		require.Equal(t, 1, strings.Count(doc, `"`+name+`"`), "%s is left out where it is zero", name)
	}
	l, err := decode(doc)
	require.NoError(t, err)
	entries[0].Finding.Attrs["text"] = "ü \" \\  \u2028 💀" // as every database can store it
	require.Equal(t, entries, l.entries)
	require.Equal(t, []string{"c"}, l.raws)
	require.True(t, math.Signbit(decodedAttr(t, math.Copysign(0, -1)).(float64)))
}

func decodedAttr(t *testing.T, v any) any {
	b, err := store.AppendAttrs(nil, map[string]any{"a": v})
	require.NoError(t, err)
	var raw map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(b, &raw))
	got, err := store.DecodeAttrs(raw)
	require.NoError(t, err)
	return got["a"]
}

func TestDocumentRefusesWhatItCannotKeep(t *testing.T) {
	for what, f := range map[string]provider.Finding{
		"verdict 9":           {Verdict: 9},
		"not a finite number": {Attrs: map[string]any{"x": math.NaN()}},
		"type int;":           {Attrs: map[string]any{"x": 1}},
	} {
		_, err := encode([]store.Entry{{Provider: "a", Finding: &f}}, rawPresent)
		require.ErrorIs(t, err, store.ErrInvalid)
		require.ErrorContains(t, err, what)
	}
}

func TestDamagedDocumentIsNotQuoted(t *testing.T) {
	for _, doc := range []string{
		"", "secret", `{"a":"secret"}`, `[{"provider":5}]`,
		`[{"provider":"a","finding":{"addr":"secret"}}]`,
		`[{"provider":"a","finding":{"addr":"","attrs":{"x":[[1]]}}}]`,
		`[{"provider":"a","finding":{"addr":"","attrs":{"x":9223372036854775808}}}]`,
	} {
		_, err := decode(doc)
		require.ErrorIs(t, err, errDocument, doc)
		require.NotContains(t, err.Error(), "secret")
	}
	_, err := decodeDecision("secret")
	require.ErrorIs(t, err, errDocument)
}

func TestDecisionIsMadeStorable(t *testing.T) {
	text, err := encodeDecision(&aggregate.Decision{
		Verdict: provider.Malicious, Policy: "p\x00\xff", Score: 0.5, Conflict: true,
		Reasons: []aggregate.Reason{{Provider: "a", Weight: 0.25, Age: time.Hour, Group: "g\x00", Ignored: "i\xff", By: "b\x00", Rank: 2}},
	})
	require.NoError(t, err)
	d, err := decodeDecision(text)
	require.NoError(t, err)
	require.Equal(t, aggregate.Decision{
		Verdict: provider.Malicious, Policy: "p\uFFFD", Score: 0.5, Conflict: true,
		Reasons: []aggregate.Reason{{Provider: "a", Weight: 0.25, Age: time.Hour, Group: "g", Ignored: "i\uFFFD", By: "b", Rank: 2}},
	}, d)

	// One that was stored before decisions told weights.
	d, err = decodeDecision(`{"verdict":"benign","policy":"strongest/1","reasons":[` +
		`{"provider":"a","verdict":"benign","observed_at":"2026-11-23T12:00:00Z","stale":true,"decisive":true}]}`)
	require.NoError(t, err)
	require.Equal(t, aggregate.Decision{Verdict: provider.Benign, Policy: "strongest/1", Reasons: []aggregate.Reason{{
		Provider: "a", Verdict: provider.Benign, ObservedAt: time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC), Stale: true, Decisive: true,
	}}}, d)

	_, err = encodeDecision(&aggregate.Decision{Score: math.NaN()})
	require.ErrorIs(t, err, store.ErrInvalid)
}

func FuzzDocument(f *testing.F) {
	f.Add(`[]`)
	f.Add(`[{"provider":"a","state":2,"rank":-3,"since":5}]`)
	f.Add(`[{"provider":"a","state":1,"due":5,"expires":-5,"failures":2,"error":"x"}]`)
	f.Add(`[{"provider":"a","state":0,"finding":{"addr":"45.9.0.1","known":true,"verdict":"benign","ttl":1,"raw":true,` +
		`"attrs":{"a":1,"b":1.0,"c":"","d":null,"e":[],"f":[1],"g":["x"],"h":{"ints":[]},"i":{"strings":null},"j":true}}}]`)
	f.Fuzz(func(t *testing.T, doc string) {
		l, err := decode(doc)
		if err != nil {
			return
		}
		hasRaw := func(l ledger) func(*store.Entry) bool {
			return func(e *store.Entry) bool { return strings.Contains(strings.Join(l.raws, "\n")+"\n", e.Provider+"\n") }
		}
		again, err := encode(l.entries, hasRaw(l))
		require.NoError(t, err)
		l2, err := decode(again)
		require.NoError(t, err)
		once, err := encode(l2.entries, hasRaw(l2))
		require.NoError(t, err)
		require.Equal(t, again, once)
	})
}
