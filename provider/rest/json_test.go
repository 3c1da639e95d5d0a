package rest

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
)

func TestLenient(t *testing.T) {
	t.Parallel()
	type all struct {
		S String
		I Int
		B Bool
		L Strings
		N Ints
	}
	long := strings.Repeat("é", MaxText)
	for value, want := range map[string]all{
		`null`:                       {},
		`{}`:                         {},
		`{"a":[1]}`:                  {},
		`[]`:                         {},
		`[[["x"]],[[1]]]`:            {},
		`""`:                         {S: String{OK: true}},
		`"abc"`:                      {S: String{"abc", true}, L: Strings{"abc"}},
		`"a\u0000\ud800"`:            {S: String{"a\x00\uFFFD", true}, L: Strings{"a\x00\uFFFD"}},
		`" 12 "`:                     {S: String{" 12 ", true}, I: Int{12, true}, L: Strings{" 12 "}, N: Ints{12}},
		`12`:                         {S: String{"12", true}, I: Int{12, true}, L: Strings{"12"}, N: Ints{12}},
		`-3`:                         {S: String{"-3", true}, I: Int{-3, true}, L: Strings{"-3"}, N: Ints{-3}},
		`1`:                          {S: String{"1", true}, I: Int{1, true}, B: Bool{true, true}, L: Strings{"1"}, N: Ints{1}},
		`"0"`:                        {S: String{"0", true}, I: Int{0, true}, B: Bool{false, true}, L: Strings{"0"}, N: Ints{0}},
		`7.0`:                        {S: String{"7.0", true}, I: Int{7, true}, L: Strings{"7.0"}, N: Ints{7}},
		`1e3`:                        {S: String{"1e3", true}, I: Int{1000, true}, L: Strings{"1e3"}, N: Ints{1000}},
		`7.5`:                        {S: String{"7.5", true}, L: Strings{"7.5"}},
		`1e999`:                      {S: String{"1e999", true}, L: Strings{"1e999"}},
		`"inf"`:                      {S: String{"inf", true}, L: Strings{"inf"}},
		`"nan"`:                      {S: String{"nan", true}, L: Strings{"nan"}},
		`true`:                       {B: Bool{true, true}},
		`false`:                      {B: Bool{false, true}},
		`"True"`:                     {S: String{"True", true}, B: Bool{true, true}, L: Strings{"True"}},
		`["a","b","a","",null,{},3]`: {L: Strings{"a", "b", "3"}, N: Ints{3}},
		`[3,"2",3,2.5,true]`:         {L: Strings{"3", "2", "2.5"}, N: Ints{3, 2}},
		`"` + long + `"`:             {S: String{long[:MaxText], true}, L: Strings{long[:MaxText]}},
		`"x` + long + `"`:            {S: String{"x" + long[:MaxText-2], true}, L: Strings{"x" + long[:MaxText-2]}},
	} {
		var got all
		body := `{"S":` + value + `,"I":` + value + `,"B":` + value + `,"L":` + value + `,"N":` + value + `}`
		// What was read before does not shine through.
		require.NoError(t, json.Unmarshal([]byte(`{"S":"old","I":9,"B":true,"L":["old"],"N":[9]}`), &got))
		require.NoError(t, json.Unmarshal([]byte(body), &got))
		require.Equal(t, want, got, value)
	}
}

func TestLenientListsAreBounded(t *testing.T) {
	t.Parallel()
	var numbers []int
	for i := range 10 * MaxList {
		numbers = append(numbers, i)
	}
	b, err := json.Marshal(numbers)
	require.NoError(t, err)
	var ints Ints
	var texts Strings
	require.NoError(t, json.Unmarshal(b, &ints))
	require.NoError(t, json.Unmarshal(b, &texts))
	require.Len(t, ints, MaxList)
	require.Len(t, texts, MaxList)
}

func TestSet(t *testing.T) {
	t.Parallel()
	attrs := map[string]any{}
	String{}.Set(attrs, "s")
	String{OK: true}.Set(attrs, "s")
	Int{}.Set(attrs, "i")
	Bool{}.Set(attrs, "b")
	require.Empty(t, attrs)
	String{"x", true}.Set(attrs, "s")
	Int{0, true}.Set(attrs, "i")
	Bool{false, true}.Set(attrs, "b")
	require.Equal(t, map[string]any{"s": "x", "i": int64(0), "b": false}, attrs)
	Strings(nil).Set(attrs, "l")
	Ints(nil).Set(attrs, "n")
	require.Equal(t, []string{}, attrs["l"])
	require.Equal(t, []int64{}, attrs["n"])
	Strings{"x"}.Set(attrs, "l")
	Ints{1}.Set(attrs, "n")
	require.Equal(t, []string{"x"}, attrs["l"])
	require.Equal(t, []int64{1}, attrs["n"])
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"":                               "empty",
		" \n":                            "empty",
		"<!DOCTYPE html>canary-77aa":     "web page",
		`{"a":1`:                         "breaks off",
		"canary-77aa":                    "text, not JSON",
		`{"n":1} canary-77aa`:            "not JSON",
		`[]`:                             "unexpected shape",
		`"canary-77aa"`:                  "unexpected shape",
		`{"n":"canary-77aa"}`:            "unexpected shape",
		`{"n":123456789012345678901234}`: "unexpected shape",
		strings.Repeat("[", 100_000):     "not JSON",
	} {
		var v struct {
			N int `json:"n"`
		}
		err := Decode([]byte(body), &v)
		require.ErrorContains(t, err, want)
		requireSafe(t, err)
		require.NotContains(t, err.Error(), "123456")
	}
	var v struct{ N Int }
	require.NoError(t, Decode([]byte(`{"n":1,"n":"2"}`), &v))
	require.Equal(t, int64(2), v.N.Value)
}

func TestAbout(t *testing.T) {
	t.Parallel()
	addr := netip.MustParseAddr("2a02:cf40::5")
	require.NoError(t, About(addr, String{}))
	require.NoError(t, About(addr, String{"2A02:CF40:0::5", true}))
	for _, other := range []string{"2a02:cf40::6", "", "canary-77aa"} {
		err := About(addr, String{other, true})
		require.Error(t, err)
		requireSafe(t, err)
	}
}

func TestRaw(t *testing.T) {
	t.Parallel()
	require.Equal(t, `{"a":"b`+"\uFFFD"+`"}`, string(Raw([]byte("{ \"a\": \"b\xff\" }"))))
	require.Nil(t, Raw([]byte("no JSON")))
}

func FuzzLenient(f *testing.F) {
	for _, s := range []string{`null`, `[1,"2",[3]]`, `"x"`, `1e400`, `{"a":1,"a":2}`, `"\ud800"`, `-`, `"a\"b"`, "\"a\xffb\"", `["a","b\ud800",1e400]`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var s String
		var i Int
		var v Bool
		var l Strings
		var n Ints
		for _, into := range []any{&s, &i, &v, &l, &n} {
			err := json.Unmarshal(b, into)
			require.Equal(t, json.Valid(b), err == nil)
		}
		if text := ""; json.Unmarshal(b, &text) == nil && len(text) <= MaxText && s.OK {
			require.Equal(t, text, s.Value)
		}
		require.LessOrEqual(t, len(s.Value), MaxText)
		require.True(t, utf8.ValidString(s.Value))
		require.LessOrEqual(t, len(l), MaxList)
		require.LessOrEqual(t, len(n), MaxList)
	})
}
