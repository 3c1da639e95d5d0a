package bus_test

import (
	"bytes"
	"encoding/json"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

// object returns a JSON object of n bytes.
func object(n int) string {
	return `{"s":"` + strings.Repeat("x", n-len(`{"s":""}`)) + `"}`
}

func TestEventValidate(t *testing.T) {
	for _, payload := range []string{
		"", `{}`, `{"a":{"b":[1,null,true]}}`, "{\n}\n", `{"a":1,"a":2}`, object(bus.MaxPayload),
	} {
		ev := bus.Event{Topic: "a.b", Payload: json.RawMessage(payload)}
		require.NoError(t, ev.Validate(), "%.40q", payload)
	}
	for _, payload := range []string{
		` `, `null`, `true`, `1`, `"a"`, `[]`, `[{}]`, `{`, `}`, `{}{}`, `{"a":}`, `{a:1}`, ` {}`, "\ufeff{}", "{}\x00",
		object(bus.MaxPayload + 1),
	} {
		ev := bus.Event{Topic: "a.b", Payload: json.RawMessage(payload)}
		require.ErrorIs(t, ev.Validate(), bus.ErrInvalid, "%.40q", payload)
	}
	for _, topic := range []string{"", "a.*", ">", "a b"} {
		ev := bus.Event{Topic: topic}
		require.ErrorIs(t, ev.Validate(), bus.ErrInvalid, "%q", topic)
	}
}

// An error does not repeat the payload, which may hold anything.
func TestEventErrors(t *testing.T) {
	ev := bus.Event{Topic: "a.b", Payload: json.RawMessage(`{"key":"secret"`)}
	require.EqualError(t, ev.Validate(), "bus: invalid payload on a.b: not a JSON object")
	ev.Payload = json.RawMessage(object(bus.MaxPayload + 1))
	require.EqualError(t, ev.Validate(), "bus: invalid payload on a.b: 1040385 bytes long; at most 1040384 are allowed")
}

// Every parser of JSON has to take what is published: others than Go's reject
// text that is not Unicode, and deep nesting.
func TestEventOfEveryParser(t *testing.T) {
	nested := func(depth int) string { return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1) }
	for _, payload := range []string{nested(999), `{"a":"\ud83d\udc80 💀 \u0000"}`} {
		ev := bus.Event{Topic: "a.b", Payload: json.RawMessage(payload)}
		require.NoError(t, ev.Validate(), "%.40q", payload)
	}
	for _, payload := range []string{nested(1000), `{"a":"\ud83d"}`, "{\"a\":\"secret\xff\"}", `{"a":1E400}`} {
		ev := bus.Event{Topic: "a.b", Payload: json.RawMessage(payload)}
		require.EqualError(t, ev.Validate(), "bus: invalid payload on a.b: not Unicode, nested too deep, or with a number out of range", "%.40q", payload)
	}
	for _, ev := range []bus.Event{{Topic: "a", ID: "\xff"}, {Topic: "a", Type: "\xff"}} {
		require.ErrorIs(t, ev.Validate(), bus.ErrInvalid)
		require.ErrorContains(t, ev.Validate(), "not UTF-8")
	}
}

// What is valid is an object to anyone who decodes it, and what is not valid is
// none, or not Unicode. (Nesting deeper than 999 is for the test above.)
func FuzzEventValidate(f *testing.F) {
	surrogate := regexp.MustCompile(`\\u[dD][89a-fA-F]`)
	for _, s := range []string{`{}`, `{"a":1}`, `[]`, `{`, ` {}`, `{} `, `null`, `{"a":"\ud83d"}`, "{\"a\":\"\xff\"}"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ev := bus.Event{Topic: "a", Payload: payload}
		var object map[string]json.RawMessage
		decodes := json.Unmarshal(payload, &object) == nil && object != nil && payload[0] == '{'
		if decodes && (!utf8.Valid(payload) || surrogate.Match(payload) || bytes.Count(payload, []byte("{"))+bytes.Count(payload, []byte("[")) > 999) {
			return
		}
		require.Equal(t, len(payload) == 0 || decodes, ev.Validate() == nil, "%q", payload)
	})
}
