package jsontext

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1)
}

func TestIsObject(t *testing.T) {
	for _, s := range []string{
		`{}`, `{ }`, "{}\n", `{"a":1}`, "{ \"a\" : [ 1 , \"b\" , null ] ,\t\"c\":{\"d\":true,\"e\":false}}\r\n",
		`{"":"","a":-0.5e+10,"b":0,"c":1E5,"d":123456789012345678901234567890}`,
		`{"a":"größe 漢字 💀 \" \\ \/ \b\f\n\r\t \u0000 \uABcd \ud83d\udc80"}`,
		`{"a":1,"a":2}`, `{"a":1e308,"b":-1E+308,"c":1e-400,"d":` + strings.Repeat("9", 301) + `}`, `{"a":[[[]]]}`, "{\"a\":\"\x7f\u2028\"}", nested(MaxDepth),
	} {
		require.True(t, IsObject([]byte(s), MaxDepth), "%.60q", s)
	}
	for _, s := range []string{
		``, ` {}`, `null`, `[]`, `"a"`, `1`, `{`, `}`, `{}}`, `{}{}`, `{"a"}`, `{"a":}`, `{a:1}`, `{"a":1,}`, `{,}`, `{"a":1 "b":2}`,
		`{'a':1}`, `{"a":01}`, `{"a":1.}`, `{"a":.5}`, `{"a":1e}`, `{"a":-}`, `{"a":+1}`, `{"a":NaN}`, `{"a":Infinity}`, `{"a":tru}`,
		`{"a":nullx}`, `{"a":[1,]}`, `{"a":[1`, `{"a":"b`, `{"a":"\x"}`, `{"a":"\u12"}`, `{"a":"\u12G4"}`, "{\"a\":\"\n\"}", "{\"a\":\"\x00\"}",
		"{}\x00", "\ufeff{}", `{"a":"\`, `{"a":"\u`,
		// Go's own parser takes these; others do not.
		"{\"a\":\"\xff\"}", "{\"a\":\"\xed\xa0\x80\"}", "{\"\xff\":1}",
		`{"a":"\ud83d"}`, `{"a":"\ud83d\n"}`, `{"a":"\ud83dx"}`, `{"a":"\udc80"}`, `{"a":"\udc80\ud83d"}`, `{"a":"\ud83d\ud83d"}`,
		`{"a":1E400}`, `{"a":-1e309}`, `{"a":[1.5e+999999999999]}`, `{"a":` + strings.Repeat("9", 401) + `}`,
		nested(MaxDepth + 1), `{"a":` + strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth) + "}",
		strings.Repeat(`{"a":`, 1<<17),
	} {
		require.False(t, IsObject([]byte(s), MaxDepth), "%.60q", s)
	}
}

// surrogate matches escapes of halves of characters, in pairs or not.
var surrogate = regexp.MustCompile(`\\u[dD][89a-fA-F]`)

func depth(b []byte) (deepest int) {
	n, text := 0, false
	for i := 0; i < len(b); i++ {
		switch c := b[i]; {
		case text && c == '\\':
			i++
		case c == '"':
			text = !text
		case text:
		case c == '{' || c == '[':
			n++
			deepest = max(deepest, n)
		case c == '}' || c == ']':
			n--
		}
	}
	return deepest
}

// What is taken is an object to Go's parser as well; what is not is none to it
// either, or is what other parsers refuse.
func FuzzIsObject(f *testing.F) {
	for _, s := range []string{
		`{}`, `{"a":[1,-2.5e3,true,null,{"b":"\u00e9\ud83d\udc80"}]}`, `{"a":"\ud83d"}`, "{\"a\":\"\xff\"}", ` {}`, `{"a":01}`, nested(20),
	} {
		f.Add([]byte(s))
	}
	const limit = 10
	f.Fuzz(func(t *testing.T, b []byte) {
		var object map[string]json.RawMessage
		takenByGo := len(b) > 0 && b[0] == '{' && json.Unmarshal(b, &object) == nil
		if IsObject(b, limit) {
			require.True(t, takenByGo, "%q", b)
			var compact bytes.Buffer
			require.NoError(t, json.Compact(&compact, b))
			require.Equal(t, compact.String() == string(b), IsCompact(b), "%q", b)
			require.True(t, utf8.Valid(b), "%q", b)
			require.LessOrEqual(t, depth(b), limit)
		} else if takenByGo {
			outOfRange := json.Unmarshal(b, new(any)) != nil
			require.True(t, !utf8.Valid(b) || surrogate.Match(b) || depth(b) > limit || outOfRange, "%q", b)
		}
	})
}

// Elements finds the elements that Go's parser does.
func FuzzElements(f *testing.F) {
	for _, s := range []string{`[]`, ` [ 1 , "a" , {"b":[2]} ] `, `[1,]`, `[1`, `1`, `[[],[[]]]`, `["\ud83d"]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var got, want []string
		if !Elements(b, func(value []byte) { got = append(got, string(value)) }) {
			return // FuzzIsObject compares what is refused
		}
		var list []json.RawMessage
		require.NoError(t, json.Unmarshal(b, &list))
		for _, value := range list {
			want = append(want, string(value))
		}
		require.Equal(t, want, got)
	})
}

func BenchmarkIsObject(b *testing.B) {
	body := []byte(`{"attacker_uuid":"3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11","attacker_ip":"45.155.205.233","scores":[1,2.5,null,true]}`)
	b.SetBytes(int64(len(body)))
	b.ReportAllocs()
	for b.Loop() {
		if !IsObject(body, MaxDepth) {
			b.Fatal("not valid")
		}
	}
}
