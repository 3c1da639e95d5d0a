package unixbus

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

func TestOpen(t *testing.T) {
	for _, tt := range []struct {
		body                  string
		id, kind, ts, payload string
	}{
		{``, ``, ``, ``, ``},
		{`{}`, ``, ``, ``, ``},
		{` {"v":1,"id":"ab","topic":"a","type":"t","ts":1.5,"payload":{"a": 1}} `, `"ab"`, `"t"`, `1.5`, `{"a": 1}`},
		{`{"v":2,"id":null,"type":null,"ts":null,"payload":null,"more":[{}]}`, ``, ``, ``, ``},
		{`{"id":"","ts":"1.5","type":""}`, ``, `""`, ``, ``},
		{`{"id":7,"ts":-2e3}`, ``, ``, `-2e3`, ``},
		{`{"payload":{"b":1},"payload":{}}`, ``, ``, ``, `{}`},
		{`{"PAYLOAD":{"b":1},"Type":"t"}`, ``, ``, ``, ``},
		{`{"pay\u006coad":{"b":1},"t\u0079pe":"t"}`, ``, `"t"`, ``, `{"b":1}`},
	} {
		e, err := open([]byte(tt.body))
		require.NoError(t, err, "%s", tt.body)
		require.Equal(t, [4]string{tt.id, tt.kind, tt.ts, tt.payload},
			[4]string{string(e.id), string(e.kind), string(e.ts), string(e.payload)}, "%s", tt.body)
	}
	for _, body := range []string{
		`null`, `[]`, `{`, `{}{}`, `x`, `{"payload":[]}`, `{"payload":"a"}`, `{"payload":1}`, `{"type":1}`, `{"type":{}}`,
		"{\"payload\":{\"a\":\"\xff\"}}", nested(maxDepth + 1),
	} {
		_, err := open([]byte(body))
		require.ErrorIs(t, err, errMalformed, "%.50q", body)
	}
}

// FuzzOpen compares with Go's own parser.
func FuzzOpen(f *testing.F) {
	f.Add([]byte(`{"v":1,"id":"ab","topic":"a","type":"t","ts":1.5,"payload":{"a":1}}`))
	f.Add([]byte(`{"pay\u006coad":{"b":1},"payload":null}`))
	f.Add([]byte(`{"id":"\u0000\"","ts":1e400}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := open(body)
		if err != nil || len(body) == 0 {
			return
		}
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &object))
		want := object["payload"]
		if string(want) == "null" {
			want = nil
		}
		require.Equal(t, string(want), string(e.payload))
		var kind, id string
		_ = json.Unmarshal(object["type"], &kind) // if there is one
		_ = json.Unmarshal(object["id"], &id)
		ev := e.event("a.b")
		require.Equal(t, kind, ev.Type)
		if id != "" {
			require.Equal(t, id, ev.ID)
		}
		require.NotEmpty(t, ev.ID)
		require.NoError(t, ev.Validate())

		// And what it says arrives as it is.
		again, size, err := parse(seal(verbEvt, "a.b", e, ev.Time))
		require.NoError(t, err)
		require.Positive(t, size)
		same, err := open(again.body)
		require.NoError(t, err)
		got := same.event("a.b")
		if ev.Payload == nil {
			ev.Payload = json.RawMessage(`{}`)
		}
		if id == "" {
			got.ID = ev.ID
		}
		require.WithinDuration(t, ev.Time, got.Time, time.Microsecond)
		got.Time = ev.Time
		require.Equal(t, ev, got)
	})
}

// The body of an event, to the byte.
func TestSeal(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 250_000_999, time.UTC)
	f := seal(verbEvt, `a.b\c"`, envelope{id: []byte(`"0f"`), kind: []byte(`"t"`), payload: []byte(`{"n": 1}`)}, at)
	require.Equal(t, "EVT a.b\\c\"\n\x00\x00\x00\x59"+
		`{"v":1,"id":"0f","topic":"a.b\\c\"","type":"t","ts":1767225600.250000,"payload":{"n": 1}}`, string(f))
	require.Equal(t, 0x59, bodySize(f, `a.b\c"`))

	f = seal(verbPub, "a", envelope{}, at)
	require.Regexp(t, `^PUB a\n\x00\x00\x00.\{"v":1,"id":"[0-9a-f]{32}","topic":"a","type":"","ts":1767225600.250000,"payload":\{\}\}$`, string(f))
	require.NotEqual(t, f, seal(verbPub, "a", envelope{}, at))
}

func TestTime(t *testing.T) {
	for _, tt := range []struct {
		t    time.Time
		text string
	}{
		{time.Unix(0, 0), "0.000000"},
		{time.Unix(1, 999_999_999), "1.999999"},
		{time.Unix(1767225600, 1000), "1767225600.000001"},
		{time.Unix(-2, 500_000_000), "-1.5"},
	} {
		require.Equal(t, tt.text, string(appendTime(nil, tt.t)))
		require.WithinDuration(t, tt.t, parseTime([]byte(tt.text)), time.Microsecond)
	}
	// As other programs write it.
	require.Equal(t, time.UnixMicro(1767225600123457).UTC(), parseTime([]byte("1767225600.1234567")))
	require.Equal(t, time.Unix(1767225600, 0).UTC(), parseTime([]byte("1767225600")))
	require.Equal(t, time.Unix(1767225600, 0).UTC(), parseTime([]byte("1.7672256e9")))
	for _, s := range []string{"", "x", "1e400", "1e300", "-1e300", "1e12", "NaN", "Inf"} {
		require.True(t, parseTime([]byte(s)).IsZero(), s)
	}
	for _, year := range []int{1, 1969, 1970, 2026, 4999} {
		at := time.Date(year, 2, 3, 4, 5, 6, 7000, time.UTC)
		require.WithinDuration(t, at, parseTime(appendTime(nil, at)), 10*time.Microsecond)
	}
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
		{Topic: "a", Payload: json.RawMessage(`{"key":"secret \ud800"}`)}, {Topic: "a", Payload: json.RawMessage(nested(maxDepth))},
		{Topic: "a", Payload: json.RawMessage(`{"a":"` + strings.Repeat("x", bus.MaxPayload) + `"}`)},
		{Topic: "a", Type: strings.Repeat("x", maxBody)}, {Topic: "a", ID: strings.Repeat("x", maxBody)},
	} {
		_, err := pack(&ev)
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50v", ev)
		require.NotContains(t, err.Error(), "secret")
		require.Less(t, len(err.Error()), 1000)
	}
	_, err = pack(&bus.Event{Topic: "a", Payload: json.RawMessage(nested(maxDepth - 1))})
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
	e, err := open(f.body)
	require.NoError(t, err)
	e.id = nil
	require.LessOrEqual(t, bodySize(seal(verbEvt, "a", e, time.Unix(95_000_000_000, 0)), "a"), maxBody)
}
