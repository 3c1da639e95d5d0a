package provider_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var verdicts = map[provider.Verdict]string{
	provider.None: "", provider.Unknown: "unknown", provider.Benign: "benign",
	provider.Suspicious: "suspicious", provider.Malicious: "malicious",
}

func TestVerdictTextAndJSON(t *testing.T) {
	for v, text := range verdicts {
		require.Equal(t, text, v.String())
		parsed, err := provider.ParseVerdict(text)
		require.NoError(t, err)
		require.Equal(t, v, parsed)

		b, err := json.Marshal(v)
		require.NoError(t, err)
		if v == provider.None {
			require.Equal(t, "null", string(b))
		} else {
			require.Equal(t, `"`+text+`"`, string(b))
		}
		back := provider.Malicious
		if v == provider.Malicious {
			back = provider.None
		}
		require.NoError(t, back.UnmarshalJSON(b))
		require.Equal(t, v, back)
	}
	v := provider.Malicious
	require.NoError(t, v.UnmarshalJSON([]byte(`""`)))
	require.Equal(t, provider.None, v)
}

func TestVerdictOrder(t *testing.T) {
	var zero provider.Verdict
	require.Equal(t, provider.None, zero)
	require.Less(t, provider.None, provider.Unknown)
	require.Less(t, provider.Unknown, provider.Benign)
	require.Less(t, provider.Benign, provider.Suspicious)
	require.Less(t, provider.Suspicious, provider.Malicious)
}

func TestVerdictRefusesOthers(t *testing.T) {
	_, err := provider.ParseVerdict("Malicious")
	require.ErrorContains(t, err, `"Malicious" is not a verdict; the verdicts are`)
	for _, text := range []string{`"evil"`, `7`, `"`, ``, `{}`, `"malicious`, `" benign"`} {
		v := provider.Benign
		require.Error(t, v.UnmarshalJSON([]byte(text)), text)
		require.Equal(t, provider.Benign, v, "an error leaves the verdict alone")
	}
	_, err = json.Marshal(provider.Verdict(9))
	require.ErrorContains(t, err, "verdict 9 is not one of the five")
	require.Equal(t, "Verdict(9)", provider.Verdict(9).String())
}

func FuzzParseVerdict(f *testing.F) {
	for _, text := range verdicts {
		f.Add(text)
	}
	f.Add(`null`)
	f.Fuzz(func(t *testing.T, text string) {
		v, err := provider.ParseVerdict(text)
		if err == nil && v.String() != text || err != nil && v != provider.None {
			t.Fatalf("%q parses as %v, %v", text, v, err)
		}
		var u provider.Verdict
		if u.UnmarshalJSON([]byte(text)) == nil {
			b, err := u.MarshalJSON()
			if err != nil {
				t.Fatal(err)
			}
			var again provider.Verdict
			if err := again.UnmarshalJSON(b); err != nil || again != u {
				t.Fatalf("%q: %v becomes %s and that %v, %v", text, u, b, again, err)
			}
		}
	})
}
