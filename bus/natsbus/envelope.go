package natsbus

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/nats-io/nats.go"

	"github.com/decnet/enrich/bus"
)

// pack returns the message that publishes ev.
func (b *Bus) pack(ev *bus.Event) (*nats.Msg, error) {
	if err := ev.Validate(); err != nil {
		return nil, err
	}
	switch {
	case reserved(b.prefix + ev.Topic):
		return nil, fmt.Errorf("%w topic %q: NATS keeps such subjects for itself", bus.ErrInvalid, ev.Topic)
	case !utf8.ValidString(ev.ID):
		return nil, fmt.Errorf("%w ID of an event on %s: not UTF-8", bus.ErrInvalid, ev.Topic)
	case !utf8.ValidString(ev.Type):
		return nil, fmt.Errorf("%w type of an event on %s: not UTF-8", bus.ErrInvalid, ev.Topic)
	}
	id, at := ev.ID, ev.Time
	if id == "" {
		id = newID()
	}
	if at.IsZero() {
		at = time.Now()
	}
	return &nats.Msg{
		Subject: b.prefix + ev.Topic,
		Header:  nats.Header{nats.MsgIdHdr: {headerID(id)}},
		Data:    seal(id, ev.Topic, ev.Type, at, ev.Payload),
	}, nil
}

// seal returns an envelope.
func seal(id, topic, kind string, at time.Time, payload json.RawMessage) []byte {
	const fixed = len(`{"v":1,"id":"","topic":"","type":"","ts":-1234567890.123456,"payload":{}}`)
	b := make([]byte, 0, fixed+len(id)+len(topic)+len(kind)+len(payload))
	b = append(b, `{"v":1,"id":`...)
	b = quote(b, id)
	b = append(b, `,"topic":`...)
	b = quote(b, topic)
	b = append(b, `,"type":`...)
	b = quote(b, kind)
	b = append(b, `,"ts":`...)
	b = appendTime(b, at)
	b = append(b, `,"payload":`...)
	if len(payload) > 0 {
		b = append(b, payload...)
	} else {
		b = append(b, `{}`...)
	}
	return append(b, '}')
}

// open returns the event in a message, and false if there is none. What is
// missing in the envelope is filled in.
func open(topic string, m *nats.Msg) (bus.Event, bool) {
	var envelope *struct{ ID, Type, TS, Payload json.RawMessage }
	if json.Unmarshal(m.Data, &envelope) != nil || envelope == nil {
		return bus.Event{}, false
	}
	kind, ok := text(envelope.Type)
	payload := envelope.Payload
	if !present(payload) {
		payload = nil
	}
	if !ok || len(payload) > bus.MaxPayload || payload != nil && payload[0] != '{' || bus.ValidateTopic(topic) != nil {
		return bus.Event{}, false
	}
	id, _ := text(envelope.ID)
	if id == "" {
		id = m.Header.Get(nats.MsgIdHdr)
	}
	if id == "" {
		id = newID()
	}
	at := parseTime(envelope.TS)
	if at.IsZero() {
		at = time.Now().UTC()
	}
	return bus.Event{ID: id, Topic: topic, Type: kind, Time: at, Payload: payload}, true
}

// present reports whether there is a value, and not null.
func present(value json.RawMessage) bool { return len(value) > 0 && value[0] != 'n' }

// text returns the string that value is, empty if there is none, and false if
// it is something else.
func text(value json.RawMessage) (s string, ok bool) {
	switch {
	case !present(value):
		return "", true
	case value[0] != '"':
		return "", false
	}
	return s, json.Unmarshal(value, &s) == nil
}

// headerID returns id as it can stand in a header: IDs that differ, differ
// there.
func headerID(id string) string {
	odd := func(r rune) bool { return r <= ' ' || r > '~' }
	if id[0] == '"' || strings.ContainsFunc(id, odd) {
		return strconv.QuoteToASCII(id)
	}
	return id
}

// newID returns a new identifier: 128 random bits in hexadecimal digits.
func newID() string {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	return hex.EncodeToString(b[:])
}

// quote appends s as a JSON string.
func quote(dst []byte, s string) []byte {
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '"' || c == '\\' {
			b, _ := json.Marshal(s) // of a string never fails
			return append(dst, b...)
		}
	}
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}

// appendTime appends a time as seconds since 1970, to the microsecond.
func appendTime(dst []byte, t time.Time) []byte {
	us := t.UnixMicro()
	if us < 0 {
		return strconv.AppendFloat(dst, float64(us)/1e6, 'f', -1, 64)
	}
	dst = strconv.AppendInt(dst, us/1e6, 10)
	fraction := strconv.AppendInt(nil, 1e6+us%1e6, 10)
	fraction[0] = '.'
	return append(dst, fraction...)
}

// parseTime returns the time that is so many seconds after 1970, to the
// microsecond, or the zero time if that is no number or out of all reason.
func parseTime(seconds json.RawMessage) time.Time {
	s, err := strconv.ParseFloat(string(seconds), 64)
	const year5000 = 95_617_584_000
	if err != nil || !(math.Abs(s) < year5000) {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6))).UTC()
}
