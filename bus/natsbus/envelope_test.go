package natsbus

import (
	"encoding/json"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

func TestPack(t *testing.T) {
	b := &Bus{prefix: "decnet.eu."}
	m, err := b.pack(bus.Event{ID: "0f", Topic: "a.b", Type: "<t>", Time: time.Unix(1, 0), Payload: json.RawMessage("{\n}")})
	require.NoError(t, err)
	require.Equal(t, "decnet.eu.a.b", m.Subject)
	require.Equal(t, nats.Header{"Nats-Msg-Id": {"0f"}}, m.Header)
	require.JSONEq(t, `{"v":1,"id":"0f","topic":"a.b","type":"<t>","ts":1,"payload":{}}`, string(m.Data))

	for range 2 { // what is missing is filled in
		next, err := b.pack(bus.Event{Topic: "a"})
		require.NoError(t, err)
		require.Regexp(t, `^[0-9a-f]{32}$`, next.Header.Get(nats.MsgIdHdr))
		require.NotEqual(t, m.Header, next.Header)
		m = next
		ev, err := open("a", m)
		require.NoError(t, err)
		require.Equal(t, m.Header.Get(nats.MsgIdHdr), ev.ID)
		require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
	}
	_, err = b.pack(bus.Event{Topic: "$JS.API"}) // is not reserved below a prefix
	require.NoError(t, err)
}

func TestPackRefuses(t *testing.T) {
	for _, ev := range []bus.Event{
		{Topic: "a..b"}, {Topic: "a.*"}, {Topic: ">"}, {Topic: "a b"}, {Topic: strings.Repeat("a", bus.MaxTopic+1)},
		{Topic: "$SYS.a"}, {Topic: "$JS.API.STREAM.DELETE.a"}, {Topic: "$"}, {Topic: "_INBOX"}, {Topic: "_INBOX.a"},
		{Topic: "a", Payload: json.RawMessage(`[]`)}, {Topic: "a", Payload: json.RawMessage(`{"secret"`)},
		{Topic: "a", Payload: json.RawMessage(`{"a":"` + strings.Repeat("x", bus.MaxPayload) + `"}`)},
		{Topic: "a", ID: "\xff"}, {Topic: "a", Type: "\xff"},
	} {
		_, err := new(Bus).pack(ev)
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50v", ev)
		require.NotContains(t, err.Error(), "secret")
		require.Less(t, len(err.Error()), 1000)
	}
	for _, topic := range []string{"a.$b", "a.$SYS", "_INBOXES.a", "a._INBOX"} {
		_, err := new(Bus).pack(bus.Event{Topic: topic})
		require.NoError(t, err, topic)
	}
}

func TestOpen(t *testing.T) {
	const someID = "."
	at := time.UnixMicro(1_500_000).UTC()
	for _, tt := range []struct {
		body, header string
		want         bus.Event
	}{
		{`{"v":1,"id":"ab","topic":"x","type":"t","ts":1.5,"payload":{"a": 1}}`, "cd",
			bus.Event{ID: "ab", Topic: "a.b", Type: "t", Time: at, Payload: json.RawMessage(`{"a": 1}`)}},
		{` {"id":"\u0061\"","type":"\u00e4","ts":1.5,"more":[{}]} `, "", bus.Event{ID: `a"`, Topic: "a.b", Type: "ä", Time: at}},
		{`{"id":"","ts":1.5,"payload":{}}`, "cd", bus.Event{ID: "cd", Topic: "a.b", Time: at, Payload: json.RawMessage(`{}`)}},
		{`{"id":null,"type":null,"ts":1.5,"payload":null}`, "cd", bus.Event{ID: "cd", Topic: "a.b", Time: at}},
		{`{"id":7,"ts":1.5}`, "cd", bus.Event{ID: "cd", Topic: "a.b", Time: at}},
		{`{"v":2,"ts":1.5}`, "", bus.Event{ID: someID, Topic: "a.b", Time: at}},
		{`{}`, "cd", bus.Event{ID: "cd", Topic: "a.b"}},
		{`{"ts":"1.5"}`, "cd", bus.Event{ID: "cd", Topic: "a.b"}},
		{`{"ts":1e300}`, "cd", bus.Event{ID: "cd", Topic: "a.b"}},
	} {
		m := &nats.Msg{Data: []byte(tt.body), Header: nats.Header{}}
		if tt.header != "" {
			m.Header.Set(nats.MsgIdHdr, tt.header)
		}
		got, err := open("a.b", m)
		require.NoError(t, err, "%s", tt.body)
		if tt.want.ID == someID {
			require.Regexp(t, `^[0-9a-f]{32}$`, got.ID)
			tt.want.ID = got.ID
		}
		if tt.want.Time.IsZero() {
			require.WithinDuration(t, time.Now(), got.Time, time.Minute)
			tt.want.Time = got.Time
		}
		require.Equal(t, tt.want, got, "%s", tt.body)
	}
	for _, body := range []string{
		``, ` `, `null`, ` null`, `true`, `[]`, `"a"`, `1`, `{`, `{}{}`, `x`, "\xff", `{"type":1}`, `{"type":{}}`,
		`{"payload":[]}`, `{"payload":"a"}`, `{"payload":1}`, `{"payload":true}`,
		`{"payload":{"a":1E400}}`,
	} {
		_, err := open("a.b", &nats.Msg{Data: []byte(body)})
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50q", body)
	}
	for _, topic := range []string{"", "a..b", "a b", "a\x01", strings.Repeat("a", bus.MaxTopic+1)} {
		_, err := open(topic, &nats.Msg{Data: []byte(`{}`)})
		require.ErrorIs(t, err, bus.ErrInvalid, "%.50q", topic)
	}
}

// FuzzOpen: what comes out is an event that can be published again and arrives
// as the same.
func FuzzOpen(f *testing.F) {
	f.Add("a.b", []byte(`{"v":1,"id":"ab","topic":"a","type":"t","ts":1.5,"payload":{"a":1}}`), "")
	f.Add("a", []byte(`{"id":null,"payload":null}`), "cd")
	f.Add("ä", []byte(`{"id":"\ud800","type":"\u0000\"","ts":-1.5e9}`), "a b")
	f.Add("a", []byte(`null`), "")
	f.Fuzz(func(t *testing.T, topic string, body []byte, header string) {
		ev, err := open(topic, &nats.Msg{Data: body, Header: nats.Header{nats.MsgIdHdr: {header}}})
		if err != nil {
			return
		}
		require.NotEmpty(t, ev.ID)
		require.False(t, ev.Time.IsZero())
		if !utf8.ValidString(ev.ID) || reserved(topic) {
			return // an ID from the header, a subject that nobody may publish on
		}
		require.NoError(t, ev.Validate())
		m, err := new(Bus).pack(ev)
		require.NoError(t, err)
		again, err := open(topic, m)
		require.NoError(t, err)
		require.WithinDuration(t, ev.Time, again.Time, 10*time.Microsecond)
		again.Time = ev.Time
		if ev.Payload == nil {
			ev.Payload = json.RawMessage(`{}`)
		}
		require.Equal(t, ev, again)
	})
}

// IDs that differ, differ in the header, which is one line of ASCII.
func TestHeaderID(t *testing.T) {
	seen := make(map[string]string)
	for _, id := range []string{
		"0f", "a b", "a  b", " a b", "a b ", "a\nb", "a\r\nb", `"a\nb"`, `"`, `\n`, "ä", "\x00", "\x7f", `"a b"`, "é", "e\u0301",
	} {
		got := headerID(id)
		require.NotContains(t, seen, got, "%q and %q", id, seen[got])
		seen[got] = id
		require.Regexp(t, `^[ -~]+$`, got)
		require.Equal(t, strings.TrimSpace(got), got)
	}
	require.Equal(t, "3f0e8a36-98c4", headerID("3f0e8a36-98c4"))
}

func TestSplitURL(t *testing.T) {
	for _, tt := range []struct{ list, names string }{
		{"nats://127.0.0.1:4222", "nats://127.0.0.1:4222"},
		{"host", "nats://host"},
		{"tls://user:secret@host:1, token-secret@other:2,nats://[::1]:3", "tls://host:1,nats://other:2,nats://[::1]:3"},
		{"wss://host", "wss://host"},
	} {
		servers, names, err := splitURL(tt.list)
		require.NoError(t, err)
		require.Equal(t, tt.names, names)
		require.Len(t, servers, strings.Count(tt.list, ",")+1)
	}
	for _, list := range []string{
		",", "nats://", "nats://user:secret@", "nats://a:b:c", "a,nats://user:secret%zz@host", "nats://user:sec/ret@host",
		"nats://user:sec@ret#@host", "nats://user:1?sec@host", "nats://user:1/sec@host",
		"http://user:secret@host", "unix:///run/secret.sock", "host:secret", "a\x00secret",
	} {
		_, _, err := splitURL(list)
		require.ErrorContains(t, err, "Options.URL", list)
		require.NotContains(t, err.Error(), "sec")
	}
}
