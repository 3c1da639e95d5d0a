package rest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

type answer struct {
	S String          `json:"s"`
	I Int             `json:"iNt"`
	B Bool            `json:"b"`
	L Strings         `json:"l"`
	N Ints            `json:"n"`
	R json.RawMessage `json:"raw"`
}

// FuzzDecode decodes as package encoding/json does.
func FuzzDecode(f *testing.F) {
	for _, body := range []string{
		`{}`, `{"s":"x","iNt":1,"b":true,"l":["y"],"n":[1],"raw":{"a":[1]},"else":null}`, ` {"s" : null , "raw":null}`, `{"s":1,"s":2}`,
		`{"S":"x"}`, `{"s":1,"S":2}`, `{"INT":1,"int":2,"iNt":3}`, `{"\u0073":1}`, `{"ſ":1}`, `{"a":1e999,"s":1}`, `{"s":"\ud800"}`, "{\"s\":\"\xff\"}",
		`{"s":1`, `[{"s":1}]`, `null`, `{"s":1}{}`, `{"s":{"s":1},"n":[[1]]}`, "\xef\xbb\xbf{\"s\":1}",
	} {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		var got, want answer
		err := json.Unmarshal(withoutBOM(body), &want)
		require.Equal(t, err == nil, Decode(body, &got) == nil)
		if err == nil {
			require.Equal(t, want, got)
		}
	})
}

// TestDecodeMembers: package encoding/json is not asked about the usual answers.
func TestDecodeMembers(t *testing.T) {
	t.Parallel()
	var v answer
	require.True(t, decodeMembers([]byte(`{"s":"x","else":{"S":1},"n":[1]}`), &v))
	require.Equal(t, answer{S: String{"x", true}, N: Ints{1}}, v)
	require.False(t, decodeMembers([]byte(`{"S":"x"}`), &v))
	require.False(t, decodeMembers([]byte(`{"s":"x"}`), new(map[string]String)))
}

type texted struct {
	S String `json:"s"`
}

func (*texted) UnmarshalText([]byte) error { return nil }

// TestDecodeNothing: what cannot be decoded leaves the target as it was.
func TestDecodeNothing(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{"s":1`, `{"s":1,}`, `{"s":1}x`, "{\"s\":1}\x00"} {
		got := answer{S: String{"before", true}}
		require.Error(t, Decode([]byte(body), &got))
		require.Equal(t, answer{S: String{"before", true}}, got)
	}
}

// TestDecodeAnyShape: what does not decode itself is left to package encoding/json.
func TestDecodeAnyShape(t *testing.T) {
	t.Parallel()
	type inner struct{ S String }
	for _, c := range []struct{ into, want any }{
		{new(struct{ S String }), &struct{ S String }{String{"1", true}}},
		{new(struct {
			S String `json:"s"`
			N int    `json:"n"`
		}), &struct {
			S String `json:"s"`
			N int    `json:"n"`
		}{String{"1", true}, 2}},
		{new(struct {
			S *String `json:"s"`
		}), &struct {
			S *String `json:"s"`
		}{&String{"1", true}}},
		{new(struct {
			S String `json:"-"`
		}), new(struct {
			S String `json:"-"`
		})},
		{new(struct {
			S String `json:"s"`
			T String `json:"S"`
		}), &struct {
			S String `json:"s"`
			T String `json:"S"`
		}{S: String{"1", true}}},
		{new(struct {
			S String "json:\"it's\""
		}), &struct {
			S String "json:\"it's\""
		}{String{"1", true}}},
		{new(struct{ inner }), &struct{ inner }{inner{String{"1", true}}}},
		{new(map[string]int), &map[string]int{"s": 1, "n": 2}},
		{new(String), new(String)},
	} {
		require.NoError(t, Decode([]byte(`{"s":1,"n":2}`), c.into))
		require.Equal(t, c.want, c.into)
	}
	require.Error(t, Decode([]byte(`{"s":1}`), new(struct {
		S struct{ String } `json:"s"`
	})))
	require.Error(t, Decode([]byte(`{"s":1}`), new(texted)))
	require.Error(t, Decode([]byte(`{"s":1}`), nil))
	require.Error(t, Decode([]byte(`{"s":1}`), answer{}))
	require.Error(t, Decode([]byte(`{"s":1}`), (*answer)(nil)))
}

func BenchmarkDecode(b *testing.B) {
	body := []byte(`{"ip":"45.155.205.233","b":true,"riot":false,"s":"malicious","name":"unknown","raw":{"a":["b","c"],"d":1},"l":["x"],"iNt":17}`)
	for name, decode := range map[string]func([]byte, any) error{"members": Decode, "encoding-json": json.Unmarshal} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(body)))
			b.ReportAllocs()
			for b.Loop() {
				var v answer
				if err := decode(body, &v); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
