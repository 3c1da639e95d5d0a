package unixbus

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

func nested(depth int) string {
	return strings.Repeat(`{"a":`, depth-1) + `{}` + strings.Repeat(`}`, depth-1)
}

// withPayload returns the frame of an event.
func withPayload(verb, topic, payload string) []byte {
	return seal(verb, topic, &bus.Envelope{Payload: json.RawMessage(payload)})
}

func TestOpen(t *testing.T) {
	at := time.UnixMicro(1_500_000).UTC()
	ev, err := open("a.b", []byte(`{"v":1,"id":"ab","topic":"x","type":"t","ts":1.5,"payload":{"a": 1}}`))
	require.NoError(t, err)
	require.Equal(t, bus.Event{ID: "ab", Topic: "a.b", Type: "t", Time: at, Payload: json.RawMessage(`{"a": 1}`)}, ev)
	for _, body := range []string{``, `{}`} { // what is missing is filled in
		ev, err := open("a", []byte(body))
		require.NoError(t, err)
		require.Regexp(t, `^[0-9a-f]{32}$`, ev.ID)
		require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
		require.Empty(t, ev.Type)
		require.Empty(t, ev.Payload)
	}
	for _, body := range []string{
		`null`, `[]`, `{`, `{}{}`, `x`, `{"payload":[]}`, `{"payload":"a"}`, `{"payload":1}`, `{"type":1}`, `{"type":{}}`,
		"{\"payload\":{\"a\":\"\xff\"}}", nested(1001),
	} {
		_, err := open("a", []byte(body))
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50q", body)
	}
}

// An event, to the byte.
func TestSeal(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 250_000_999, time.UTC)
	e := bus.NewEnvelope(&bus.Event{ID: "0f", Type: "t", Time: at, Payload: json.RawMessage(`{"n": 1}`)})
	f := seal(verbEvt, `a.b\c"`, &e)
	require.Equal(t, "EVT a.b\\c\"\n\x00\x00\x00\x59"+
		`{"v":1,"id":"0f","topic":"a.b\\c\"","type":"t","ts":1767225600.250000,"payload":{"n": 1}}`, string(f))
	require.Equal(t, 0x59, bodySize(f, `a.b\c"`))

	e = bus.Envelope{TS: e.TS}
	f = seal(verbPub, "a", &e)
	require.Regexp(t, `^PUB a\n\x00\x00\x00.\{"v":1,"id":"[0-9a-f]{32}","topic":"a","type":"","ts":1767225600.250000,"payload":\{\}\}$`, string(f))
	require.NotEqual(t, f, seal(verbPub, "a", &e))
}

func TestPack(t *testing.T) {
	at := time.Unix(1767225600, 0)
	sealed, err := pack(&bus.Event{ID: `i"`, Topic: "a.b", Type: "<ö>", Time: at, Payload: json.RawMessage("{\n}\n")})
	require.NoError(t, err)
	f, size, err := parse(sealed)
	require.NoError(t, err)
	require.Equal(t, len(sealed), size)
	require.Equal(t, verbPub, f.verb)
	var body map[string]any
	require.NoError(t, json.Unmarshal(f.body, &body))
	require.Equal(t, map[string]any{
		"v": 1.0, "id": `i"`, "topic": "a.b", "type": "<ö>", "ts": 1767225600.0, "payload": map[string]any{},
	}, body)

	for _, ev := range []bus.Event{
		{Topic: "a..b"}, {Topic: "a.*"}, {Topic: "größe"}, {Topic: strings.Repeat("a", bus.MaxTopic+1)},
		{Topic: "a", Payload: json.RawMessage(`[]`)}, {Topic: "a", Payload: json.RawMessage(`{`)},
		{Topic: "a", Payload: json.RawMessage(`{"key":"secret \ud800"}`)}, {Topic: "a", Payload: json.RawMessage(nested(1000))},
		{Topic: "a", Payload: json.RawMessage(`{"a":"` + strings.Repeat("x", maxBody) + `"}`)},
		{Topic: "a", Type: strings.Repeat("x", maxBody)}, {Topic: "a", ID: strings.Repeat("x", maxBody)},
	} {
		_, err := pack(&ev)
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50v", ev)
		require.NotContains(t, err.Error(), "secret")
		require.Less(t, len(err.Error()), 1000)
	}
	_, err = pack(&bus.Event{Topic: "a", Payload: json.RawMessage(nested(999))})
	require.NoError(t, err)
}

// An event that a client may publish is never too long for the server to pass
// on.
func TestRoomForTheServer(t *testing.T) {
	ev := bus.Event{ID: "i", Topic: "a", Time: time.Unix(0, 0), Type: strings.Repeat("t", maxBody-spare)}
	for _, err := pack(&ev); err != nil; _, err = pack(&ev) {
		ev.Type = ev.Type[1:]
	}
	sealed, err := pack(&ev)
	require.NoError(t, err)
	require.Equal(t, maxBody-spare, bodySize(sealed, ev.Topic))
	f, _, err := parse(sealed)
	require.NoError(t, err)
	e, err := envelope(f.body)
	require.NoError(t, err)
	later := bus.NewEnvelope(&bus.Event{Time: time.Unix(95_000_000_000, 0)})
	e.ID, e.TS = nil, later.TS
	require.LessOrEqual(t, bodySize(seal(verbEvt, "a", &e), "a"), maxBody)
}
