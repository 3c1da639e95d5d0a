package bus_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

// The envelope, to the byte.
func TestEnvelopeAppend(t *testing.T) {
	at := time.Date(2026, 1, 1, 0, 0, 0, 250_000_999, time.UTC)
	for _, tt := range []struct {
		ev    bus.Event
		topic string
		want  string
	}{
		{bus.Event{ID: "0f", Type: "t", Time: at, Payload: json.RawMessage(`{"n": 1}`)}, `a.b\c"`,
			`{"v":1,"id":"0f","topic":"a.b\\c\"","type":"t","ts":1767225600.250000,"payload":{"n": 1}}`},
		{bus.Event{ID: `i"`, Topic: "is not looked at", Type: "<ö>", Time: time.Unix(0, 0)}, "größe",
			`{"v":1,"id":"i\"","topic":"größe","type":"\u003cö\u003e","ts":0.000000,"payload":{}}`},
		{bus.Event{ID: "0f", Time: at, Payload: json.RawMessage{}}, "a",
			`{"v":1,"id":"0f","topic":"a","type":"","ts":1767225600.250000,"payload":{}}`},
	} {
		e := bus.NewEnvelope(&tt.ev)
		require.Equal(t, "x"+tt.want, string(e.Append([]byte("x"), tt.topic)))
	}

	e := bus.Envelope{Type: json.RawMessage(`7`), TS: json.RawMessage(`-1e3`), Payload: json.RawMessage(`[1,2]`)}
	require.Regexp(t, `^\{"v":1,"id":"[0-9a-f]{32}","topic":"a","type":7,"ts":-1e3,"payload":\[1,2\]\}$`, string(e.Append(nil, "a")))
	require.NotEqual(t, e.Append(nil, "a"), e.Append(nil, "a"))
}

func TestEnvelopeFillsIn(t *testing.T) {
	var e bus.Envelope
	text := string(e.Append(nil, "a"))
	require.Regexp(t, `^\{"v":1,"id":"[0-9a-f]{32}","topic":"a","type":"","ts":\d+\.\d{6},"payload":\{\}\}$`, text)
	parsed, err := bus.ParseEnvelope([]byte(text))
	require.NoError(t, err)
	ev, err := parsed.Event("a")
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
}

func TestParseEnvelope(t *testing.T) {
	for _, tt := range []struct {
		body                  string
		id, kind, ts, payload string
	}{
		{`{}`, ``, ``, ``, ``},
		{` {"v":1,"id":"ab","topic":"a","type":"t","ts":1.5,"payload":{"a": 1}} `, `"ab"`, `"t"`, `1.5`, `{"a": 1}`},
		{`{"v":2,"id":null,"type":null,"ts":null,"payload":null,"more":[{}]}`, ``, ``, ``, ``},
		{`{"id":"","ts":"1.5","type":""}`, ``, `""`, ``, ``},
		{`{"id":7,"ts":-2e3}`, ``, ``, `-2e3`, ``},
		{`{"id":"a","id":7,"ts":1,"ts":null}`, ``, ``, ``, ``},
		{`{"payload":{"b":1},"payload":{}}`, ``, ``, ``, `{}`},
		{`{"PAYLOAD":{"b":1},"Type":"t"}`, ``, ``, ``, ``},
		{`{"pay\u006coad":{"b":1},"t\u0079pe":"t"}`, ``, `"t"`, ``, `{"b":1}`},
		{`{"type":1,"payload":[1,2]}`, ``, `1`, ``, `[1,2]`},
		{`{"type":{},"payload":"s"}`, ``, `{}`, ``, `"s"`},
	} {
		e, err := bus.ParseEnvelope([]byte(tt.body))
		require.NoError(t, err, "%s", tt.body)
		require.Equal(t, [4]string{tt.id, tt.kind, tt.ts, tt.payload},
			[4]string{string(e.ID), string(e.Type), string(e.TS), string(e.Payload)}, "%s", tt.body)
	}
	for _, body := range []string{
		``, ` `, `null`, ` null`, `true`, `[]`, `"a"`, `1`, `{`, `{}{}`, `x`, "\xff", `{"secret`,
		"{\"payload\":{\"a\":\"\xff\"}}", `{"payload":{"a":"\ud83d"}}`, strings.Repeat(`{"a":`, 1000) + "{}" + strings.Repeat("}", 1000),
	} {
		_, err := bus.ParseEnvelope([]byte(body))
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50q", body)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestEnvelopeEvent(t *testing.T) {
	at := time.UnixMicro(1_500_000).UTC()
	for _, tt := range []struct {
		body string
		want bus.Event
	}{
		{`{"v":1,"id":"ab","topic":"x","type":"t","ts":1.5,"payload":{"a": 1}}`,
			bus.Event{ID: "ab", Topic: "a.b", Type: "t", Time: at, Payload: json.RawMessage(`{"a": 1}`)}},
		{`{"id":"\u0061\"","type":"\u00e4","ts":1.5,"more":[{}]}`, bus.Event{ID: `a"`, Topic: "a.b", Type: "ä", Time: at}},
		{`{"payload":{}}`, bus.Event{Topic: "a.b", Payload: json.RawMessage(`{}`)}},
		{`{"id":7,"type":null,"ts":"1.5","payload":null}`, bus.Event{Topic: "a.b"}},
		{`{"ts":1e300}`, bus.Event{Topic: "a.b"}},
		{`{}`, bus.Event{Topic: "a.b"}},
	} {
		body := []byte(tt.body)
		e, err := bus.ParseEnvelope(body)
		require.NoError(t, err)
		ev, err := e.Event("a.b")
		require.NoError(t, err)
		clear(body) // which nothing in the event refers to
		require.Equal(t, tt.want, ev, "%s", tt.body)
	}
	for _, body := range []string{
		`{"type":1}`, `{"type":{}}`, `{"payload":[]}`, `{"payload":"a"}`, `{"payload":1}`, `{"payload":true}`,
	} {
		e, err := bus.ParseEnvelope([]byte(body))
		require.NoError(t, err)
		_, err = e.Event("a.b")
		require.ErrorIs(t, err, bus.ErrInvalid, "%s", body)
	}
	for _, topic := range []string{"", "a..b", "a b", "a\x01", "a.*", strings.Repeat("a", bus.MaxTopic+1)} {
		_, err := new(bus.Envelope).Event(topic)
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50q", topic)
	}
	long := bus.Envelope{Payload: json.RawMessage(object(bus.MaxPayload + 1))}
	ev, err := long.Event("a")
	require.NoError(t, err, "what was sent may be longer than what may be published")
	require.Len(t, ev.Payload, bus.MaxPayload+1)
}

func TestEnvelopeTime(t *testing.T) {
	parse := func(ts string) time.Time {
		e := bus.Envelope{TS: json.RawMessage(ts)}
		ev, err := e.Event("a")
		require.NoError(t, err)
		return ev.Time
	}
	for _, tt := range []struct {
		t    time.Time
		text string
	}{
		{time.Unix(0, 0), "0.000000"},
		{time.Unix(1, 999_999_999), "1.999999"},
		{time.Unix(1767225600, 1000), "1767225600.000001"},
		{time.Unix(-2, 500_000_000), "-1.5"},
	} {
		require.Equal(t, tt.text, string(bus.NewEnvelope(&bus.Event{Time: tt.t}).TS))
		require.WithinDuration(t, tt.t, parse(tt.text), time.Microsecond)
	}
	// As other programs write it.
	require.Equal(t, time.UnixMicro(1767225600123457).UTC(), parse("1767225600.1234567"))
	require.Equal(t, time.Unix(1767225600, 0).UTC(), parse("1767225600"))
	require.Equal(t, time.Unix(1767225600, 0).UTC(), parse("1.7672256e9"))
	for _, s := range []string{"", "x", "1e400", "1e300", "-1e300", "1e12", "NaN", "Inf"} {
		require.True(t, parse(s).IsZero(), s)
	}
	for _, year := range []int{1, 1969, 1970, 2026, 4999} {
		at := time.Date(year, 2, 3, 4, 5, 6, 7000, time.UTC)
		require.WithinDuration(t, at, parse(string(bus.NewEnvelope(&bus.Event{Time: at}).TS)), 10*time.Microsecond)
	}
	require.Nil(t, bus.NewEnvelope(new(bus.Event)).TS)
}

func TestComplete(t *testing.T) {
	seen := make(map[string]bool)
	for range 100 {
		var ev bus.Event
		ev.Complete()
		require.Regexp(t, `^[0-9a-f]{32}$`, ev.ID)
		require.False(t, seen[ev.ID])
		seen[ev.ID] = true
		require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
		require.Equal(t, time.UTC, ev.Time.Location())
	}
	ev := bus.Event{ID: "x", Time: time.Unix(1, 0)}
	want := ev
	ev.Complete()
	require.Equal(t, want, ev)
}

// FuzzEnvelope: what is accepted is what Go's own parser sees in it, and what an
// envelope says arrives as it is.
func FuzzEnvelope(f *testing.F) {
	f.Add("a.b", []byte(`{"v":1,"id":"ab","topic":"a","type":"t","ts":1.5,"payload":{"a":1}}`))
	f.Add("a", []byte(`{"pay\u006coad":{"b":1},"payload":null}`))
	f.Add("ä", []byte(`{"id":"\u0000\"","ts":1e400}`))
	f.Add("a..b", []byte(`{"id":null,"type":7,"ts":-1.5e9,"payload":[1,2]}`))
	f.Fuzz(func(t *testing.T, topic string, body []byte) {
		e, err := bus.ParseEnvelope(body)
		if err != nil {
			require.ErrorIs(t, err, bus.ErrInvalid)
			return
		}
		require.True(t, utf8.Valid(body))
		var object map[string]json.RawMessage
		require.NoError(t, json.Unmarshal(body, &object))
		for key, got := range map[string]json.RawMessage{"type": e.Type, "payload": e.Payload} {
			want := object[key]
			if string(want) == "null" {
				want = nil
			}
			require.Equal(t, string(want), string(got))
		}

		again, err := bus.ParseEnvelope(e.Append(nil, "a"))
		require.NoError(t, err)
		if e.Type == nil {
			e.Type = json.RawMessage(`""`)
		}
		if e.Payload == nil {
			e.Payload = json.RawMessage(`{}`)
		}
		require.Equal(t, string(e.Type)+string(e.Payload), string(again.Type)+string(again.Payload))

		ev, err := e.Event(topic)
		if err != nil {
			require.ErrorIs(t, err, bus.ErrInvalid)
			return
		}
		var kind, id string
		_ = json.Unmarshal(object["type"], &kind) // if there is one
		_ = json.Unmarshal(object["id"], &id)
		require.Equal(t, kind, ev.Type)
		require.Equal(t, id, ev.ID)
		ev.Complete()
		require.NoError(t, ev.Validate())
		sent := bus.NewEnvelope(&ev)
		received, err := bus.ParseEnvelope(sent.Append(nil, topic))
		require.NoError(t, err)
		got, err := received.Event(topic)
		require.NoError(t, err)
		require.WithinDuration(t, ev.Time, got.Time, 10*time.Microsecond)
		got.Time = ev.Time
		require.Equal(t, ev, got)
	})
}

func BenchmarkEnvelope(b *testing.B) {
	ev := bus.Event{ID: "0123456789abcdef0123456789abcdef", Topic: "attacker.observed", Type: "attacker.observed",
		Time: time.Unix(1767225600, 0), Payload: json.RawMessage(object(256))}
	b.ReportAllocs()
	var text []byte
	for b.Loop() {
		sent := bus.NewEnvelope(&ev)
		text = sent.Append(text[:0], ev.Topic)
		received, err := bus.ParseEnvelope(text)
		if err == nil {
			_, err = received.Event(ev.Topic)
		}
		if err != nil {
			b.Fatal(err)
		}
	}
}
