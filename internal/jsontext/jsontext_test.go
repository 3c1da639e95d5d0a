package jsontext

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestAppendString(t *testing.T) {
	for _, tt := range []struct{ s, want string }{
		{"", `""`},
		{"a.b-c_7 <&>", `"a.b-c_7 <&>"`},
		{`a"b\`, `"a\"b\\"`},
		{"größe 💀", `"größe 💀"`},
		{"\x00\n\x7f", `"\u0000\n` + "\x7f" + `"`},
		{"a\xff", `"a\ufffd"`},
	} {
		require.Equal(t, "x"+tt.want, string(AppendString([]byte("x"), tt.s)), "%q", tt.s)
	}
}

func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", `"`, `\`, "\n", "ä", "\xff", "\u2028", "<", "\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text := AppendString(nil, s)
		var decoded string
		require.NoError(t, json.Unmarshal(text, &decoded), "%q", text)
		require.Equal(t, string([]rune(s)), decoded)
		require.Equal(t, decoded, Unquote(text))
		require.True(t, IsObject(append(append([]byte(`{"a":`), text...), '}'), 1), "%q", text)
	})
}

func TestAppendList(t *testing.T) {
	require.Equal(t, `x[]`, string(AppendList([]byte("x"), nil, AppendString)))
	require.Equal(t, `["a"]`, string(AppendList(nil, []string{"a"}, AppendString)))
	require.Equal(t, `["a","\"",""]`, string(AppendList(nil, []string{"a", `"`, ""}, AppendString)))
	require.Equal(t, `[1,-2,9223372036854775807]`, string(AppendList(nil, []int64{1, -2, 1<<63 - 1}, AppendInt)))
}

func TestUnquote(t *testing.T) {
	for text, want := range map[string]string{
		``: "", `"`: "", `""`: "", `"a b"`: "a b", `"\u0061\"\\\ud83d\udc80"`: `a"\💀`, `"größe"`: "größe",
	} {
		require.Equal(t, want, Unquote([]byte(text)), text)
	}
}

func TestFields(t *testing.T) {
	var got []string
	field := func(key, value []byte) { got = append(got, string(key), string(value)) }
	require.True(t, Fields([]byte(" {\"a\" : [1,{\"b\":2}],\n\"a\":\"}\" , \"\\u0061\":null}\r\n"), field))
	require.Equal(t, []string{`"a"`, `[1,{"b":2}]`, `"a"`, `"}"`, `"\u0061"`, `null`}, got)
	require.True(t, Fields([]byte(nested(MaxDepth)), func(key, value []byte) {}))
	for _, s := range []string{``, ` `, `null`, `[]`, `{`, `{}{}`, `{} x`, `{"a":1,}`, nested(MaxDepth + 1)} {
		require.False(t, Fields([]byte(s), func(key, value []byte) {}), "%.50q", s)
	}
}

func BenchmarkAppendString(b *testing.B) {
	b.ReportAllocs()
	var dst []byte
	for b.Loop() {
		dst = AppendString(dst[:0], "attacker.intel.enriched")
	}
}

func TestASCII(t *testing.T) {
	for _, text := range []string{`{"a":[1,"\u0000"]}`, `"Камень"`, `"😀 a"`, `"\"ü"`, ``} {
		got := ASCII(text)
		for i := range len(got) {
			require.Less(t, got[i], byte(0x80), text)
		}
		if text != "" {
			require.JSONEq(t, text, got)
		}
	}
	require.Equal(t, `{"a":1}`, ASCII(`{"a":1}`))
}
