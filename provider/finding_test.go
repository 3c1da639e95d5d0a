package provider_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var addr = netip.MustParseAddr("45.155.205.233")

func TestFindingValidate(t *testing.T) {
	good := provider.Finding{
		Provider: "p", Addr: addr, Verdict: provider.Malicious, TTL: time.Hour, Raw: json.RawMessage(`{"a":[1]}`),
		Attrs: map[string]any{
			"s": "x", "b": true, "i": int64(1), "f": 1.5, "ss": []string{"x"}, "is": []int64{1}, "n": nil,
		},
	}
	require.NoError(t, good.Validate())
	none := new(provider.Finding).Validate()
	require.ErrorContains(t, none, "the finding names no provider")
	require.ErrorContains(t, none, "the finding names no address")
}

func TestFindingValidateReportsEverything(t *testing.T) {
	bad := provider.Finding{
		Verdict: 9, TTL: -time.Second, Raw: json.RawMessage(`{"a":`),
		Attrs: map[string]any{"Big": "x", "i": 1, "nan": math.NaN(), "inf": math.Inf(-1), "t": time.Time{}},
	}
	err := bad.Validate()
	for _, part := range []string{
		"verdict 9 is not one of the five", "TTL -1s is negative", "raw is not valid JSON", `attribute name "Big"`,
		`attribute "i" has type int; use`, `attribute "nan" is not a finite number`, `attribute "inf" is not a finite number`,
		`attribute "t" has type time.Time`,
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestFindingValidateLimitsAttributes(t *testing.T) {
	for name, v := range map[string]func(n int) any{
		"string":  func(n int) any { return strings.Repeat("x", n) },
		"strings": func(n int) any { return []string{strings.Repeat("x", n-1)} },
		"ints":    func(n int) any { return make([]int64, (n+7)/8) },
	} {
		f := provider.Finding{Provider: "x", Addr: addr, Attrs: map[string]any{"eight_by": v(provider.MaxAttrs - 8)}}
		require.NoError(t, f.Validate(), name)
		f.Attrs["eight_by"] = v(provider.MaxAttrs - 7)
		require.ErrorContains(t, f.Validate(), "at most 65536 are allowed", name)
	}
	f := provider.Finding{Provider: "x", Addr: addr, Attrs: map[string]any{}}
	for i := range 5 {
		f.Attrs[fmt.Sprintf("a%d", i)] = strings.Repeat("x", provider.MaxAttrs/5+1)
	}
	require.ErrorContains(t, f.Validate(), "attributes take", "together they are too big")

	for name, v := range map[string]any{"numbers": int64(1), "nothing": nil, "booleans": true, "another type": struct{}{}} {
		clear(f.Attrs)
		for i := range 100_000 {
			f.Attrs[fmt.Sprintf("a%d", i)] = v
		}
		start := time.Now()
		err := f.Validate()
		require.ErrorContains(t, err, "at most 65536 are allowed", name)
		require.Less(t, len(err.Error()), 2000, name)
		require.Less(t, time.Since(start), time.Second, name)
	}
}

func TestCapRaw(t *testing.T) {
	require.Equal(t, `{"a":[1,2]}`, string(provider.CapRaw([]byte(" {\"a\" : [1,\n2]} "))))
	for _, bad := range []string{"", " ", "{", "{} {}", "<html>", "\xff"} {
		require.Nil(t, provider.CapRaw([]byte(bad)), bad)
	}
	fits := `"` + strings.Repeat("x", provider.MaxRaw-2) + `"`
	require.Equal(t, fits, string(provider.CapRaw([]byte("  "+fits+"  "))), "white space does not count")
	require.JSONEq(t, `{"truncated":true,"bytes":262145}`, string(provider.CapRaw([]byte(`"`+strings.Repeat("x", provider.MaxRaw-1)+`"`))))
	given := []byte(`{"a":1}`)
	kept := provider.CapRaw(given)
	given[2] = 'b'
	require.Equal(t, `{"a":1}`, string(kept), "the result is a copy")
}

func FuzzCapRaw(f *testing.F) {
	f.Add([]byte(`{"a": 1}`))
	f.Add([]byte(`[`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		got := provider.CapRaw(raw)
		if (got != nil) != json.Valid(raw) {
			t.Fatalf("%q becomes %q", raw, got)
		}
		if got != nil && (!json.Valid(got) || len(got) > provider.MaxRaw || len(got) > len(raw) || !bytes.Equal(got, provider.CapRaw(got))) {
			t.Fatalf("%q becomes %q", raw, got)
		}
	})
}

func TestValidateName(t *testing.T) {
	for _, name := range []string{"a", "greynoise", "a1_", strings.Repeat("a", 32)} {
		require.NoError(t, provider.ValidateName(name))
	}
	for _, name := range []string{"", "A", "1a", "_a", "a-b", "a b", "a.b", "ä", "a\x00", strings.Repeat("a", 33)} {
		require.ErrorContains(t, provider.ValidateName(name), fmt.Sprintf("name %q is not", name))
	}
}

func FuzzValidateName(f *testing.F) {
	f.Add("greynoise")
	f.Add("9lives")
	f.Fuzz(func(t *testing.T, name string) {
		want := len(name) > 0 && len(name) <= 32 &&
			strings.IndexFunc(name, func(r rune) bool {
				return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyz0123456789_", r)
			}) < 0 && strings.IndexByte("0123456789_", name[0]) < 0
		if got := provider.ValidateName(name) == nil; got != want {
			t.Fatalf("%q is valid: %v; want %v", name, got, want)
		}
	})
}
