package store_test

import (
	"encoding/json"
	"math"
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

func TestFindingsAreEncodedWithTheirTypes(t *testing.T) {
	for name, f := range map[string]provider.Finding{
		"everything": {
			Provider: "a", Addr: netip.MustParseAddr("2a01:4f8::1"), Known: true, Verdict: provider.Benign,
			ObservedAt: time.Date(2026, 11, 23, 19, 0, 0, 123456000, time.UTC), TTL: 90 * time.Minute,
			Raw: json.RawMessage(`{"a":[1.50,"ü","<b>&amp;</b>"]}`),
			Attrs: map[string]any{
				"nil": nil, "text": "ü \" \\ \u2028 💀", "empty": "", "yes": true, "no": false,
				"int": int64(5), "min": int64(math.MinInt64), "max": int64(math.MaxInt64), "beyond": int64(1<<53 + 1),
				"float": 5.0, "one": 1.0, "tiny": 5e-324, "huge": math.MaxFloat64, "million": 1e6, "billion": 1e21,
				"texts": []string{"x", ""}, "no_texts": []string{}, "nil_texts": []string(nil),
				"ints": []int64{1, -2}, "no_ints": []int64{}, "nil_ints": []int64(nil),
			},
		},
		"1970":            {Provider: "a", Addr: netip.MustParseAddr("45.9.148.3"), ObservedAt: time.Unix(0, 0).UTC()},
		"next to nothing": {Provider: "a", Addr: netip.MustParseAddr("45.9.148.3")},
		"no attributes":   {Provider: "a", Addr: netip.MustParseAddr("45.9.148.3"), Attrs: map[string]any{}},
	} {
		b, err := store.EncodeFinding(&f)
		require.NoError(t, err, name)
		got, err := store.DecodeFinding(b)
		require.NoError(t, err, name)
		require.Equal(t, f, *got, name)
		again, err := store.EncodeFinding(got)
		require.NoError(t, err)
		require.Equal(t, string(b), string(again), "the text of a finding is always the same")
	}
}

func TestWhatNoFindingMayHaveIsNotEncoded(t *testing.T) {
	for what, f := range map[string]provider.Finding{
		"verdict 9":           {Verdict: 9},
		"not a finite number": {Attrs: map[string]any{"x": math.NaN()}},
		"type int;":           {Attrs: map[string]any{"x": 1}},
		"raw is not valid":    {Raw: json.RawMessage("{")},
	} {
		_, err := store.EncodeFinding(&f)
		require.ErrorIs(t, err, store.ErrInvalid, what)
		require.ErrorContains(t, err, what)
	}
}

func FuzzDecodeFinding(f *testing.F) {
	f.Add([]byte(`{"provider":"a","addr":"45.9.148.3","attrs":{"x":[1],"y":1.0,"z":{"ints":[]}},"raw":{}}`))
	f.Add([]byte(`{"addr":"secret-5d0c"}`))
	f.Add([]byte(`null`))
	f.Fuzz(func(t *testing.T, b []byte) {
		got, err := store.DecodeFinding(b)
		if err != nil {
			require.EqualError(t, err, "not a finding that this program has encoded")
			return
		}
		_, _ = store.EncodeFinding(got)
	})
}
