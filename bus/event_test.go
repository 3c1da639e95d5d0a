package bus_test

import (
	"encoding/json"
	"strings"
	"testing"

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

// What is valid is an object to anyone who decodes it.
func FuzzEventValidate(f *testing.F) {
	for _, s := range []string{`{}`, `{"a":1}`, `[]`, `{`, ` {}`, `{} `, `null`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, payload []byte) {
		ev := bus.Event{Topic: "a", Payload: payload}
		var object map[string]json.RawMessage
		decodes := json.Unmarshal(payload, &object) == nil && object != nil && payload[0] == '{'
		require.Equal(t, len(payload) == 0 || decodes, ev.Validate() == nil, "%q", payload)
	})
}
