package bus

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/internal/jsontext"
)

// Envelope is the form in which a transport carries an event, for authors of
// transports. It is the JSON object of DECNET's bus, version 1:
//
//	{"v":1,"id":"5f0c...","topic":"attacker.observed","type":"","ts":1767225600.25,"payload":{}}
//
// Each field holds a part as JSON text, and nil for a part that is missing. The
// topic is not among them: the one that a transport delivers an event on takes
// precedence over the one in the envelope. The zero value is an envelope in
// which everything is missing.
//
// A transport between Go programs uses [NewEnvelope] and Append to send, and
// [ParseEnvelope] and Event to receive. A server that passes envelopes on needs
// no Event.
type Envelope struct {
	ID      json.RawMessage // a string that is not empty
	Type    json.RawMessage // a string in what Go programs send
	TS      json.RawMessage // a number: seconds since 1970
	Payload json.RawMessage // an object in what Go programs send
}

// NewEnvelope returns the envelope of ev, which must be valid; see
// [Event.Validate]. An ID or a time that ev lacks is missing in the envelope,
// too. The payload is not copied.
func NewEnvelope(ev *Event) Envelope {
	const room = len(`""""-1234567890.123456`)
	b := make([]byte, 0, room+len(ev.ID)+len(ev.Type))
	e := Envelope{Payload: ev.Payload}
	if len(e.Payload) == 0 {
		e.Payload = nil
	}
	if ev.ID != "" {
		b = jsontext.AppendString(b, ev.ID)
		e.ID = b
	}
	if n := len(b); ev.Type != "" {
		b = jsontext.AppendString(b, ev.Type)
		e.Type = json.RawMessage(b[n:])
	}
	if n := len(b); !ev.Time.IsZero() {
		b = appendTime(b, ev.Time)
		e.TS = json.RawMessage(b[n:])
	}
	return e
}

// ParseEnvelope reads an envelope. The result refers to body. An ID that is not
// a string, a time that is not a number and a null are missing parts; unknown
// parts are ignored. It fails with an error that wraps [ErrInvalid], and does
// not quote body, unless body is a JSON object that every receiver can parse:
// of valid Unicode, also in escapes, nested at most 1000 deep, and without numbers
// beyond the range of a float64.
func ParseEnvelope(body []byte) (Envelope, error) {
	var e Envelope
	ok := jsontext.Fields(body, func(key, value []byte) {
		name := key[1 : len(key)-1]
		if slices.Contains(name, '\\') {
			name = []byte(jsontext.Unquote(key))
		}
		switch c := value[0]; string(name) {
		case "id":
			e.ID = only(value, c == '"' && len(value) > len(`""`))
		case "type":
			e.Type = only(value, c != 'n')
		case "ts":
			e.TS = only(value, c == '-' || '0' <= c && c <= '9')
		case "payload":
			e.Payload = only(value, c != 'n')
		}
	})
	if !ok {
		return Envelope{}, fmt.Errorf("%w envelope: not a JSON object", ErrInvalid)
	}
	return e, nil
}

// only returns value if it is as it should be.
func only(value []byte, ok bool) json.RawMessage {
	if ok {
		return value
	}
	return nil
}

// Append appends e as JSON, for an event on topic. It writes a new ID, the
// current time, an empty type and an empty payload where these are missing.
func (e *Envelope) Append(dst []byte, topic string) []byte {
	const keys, id, ts = len(`{"v":1,"id":,"topic":"","type":"","ts":,"payload":{}}`), len(`""`) + 32, len(`1767225600.123456`)
	dst = slices.Grow(dst, keys+max(len(e.ID), id)+len(topic)+len(e.Type)+max(len(e.TS), ts)+len(e.Payload))
	dst = append(dst, `{"v":1,"id":`...)
	if e.ID != nil {
		dst = append(dst, e.ID...)
	} else {
		dst = append(dst, '"')
		dst = appendID(dst)
		dst = append(dst, '"')
	}
	dst = append(dst, `,"topic":`...)
	dst = jsontext.AppendString(dst, topic)
	dst = append(dst, `,"type":`...)
	if e.Type != nil {
		dst = append(dst, e.Type...)
	} else {
		dst = append(dst, `""`...)
	}
	dst = append(dst, `,"ts":`...)
	if e.TS != nil {
		dst = append(dst, e.TS...)
	} else {
		dst = appendTime(dst, time.Now())
	}
	dst = append(dst, `,"payload":`...)
	if e.Payload != nil {
		dst = append(dst, e.Payload...)
	} else {
		dst = append(dst, `{}`...)
	}
	return append(dst, '}')
}

// Event returns the event in e, delivered on topic. It shares no memory with e.
// A missing part is its zero value, see [Event.Complete]; so is a time before
// the year -1060 or after 4999. It fails with an error that wraps [ErrInvalid]
// if the topic is not valid, the type is not a string or the payload is not an
// object. A payload may be longer than [MaxPayload].
func (e *Envelope) Event(topic string) (Event, error) {
	if err := ValidateTopic(topic); err != nil {
		return Event{}, err
	}
	if e.Type != nil && e.Type[0] != '"' {
		return Event{}, fmt.Errorf("%w type of an event on %s: not a string", ErrInvalid, topic)
	}
	if e.Payload != nil && e.Payload[0] != '{' {
		return Event{}, fmt.Errorf("%w payload on %s: not a JSON object", ErrInvalid, topic)
	}
	return Event{
		ID:      jsontext.Unquote(e.ID),
		Topic:   topic,
		Type:    jsontext.Unquote(e.Type),
		Time:    parseTime(e.TS),
		Payload: bytes.Clone(e.Payload),
	}, nil
}

// Complete gives ev a new ID if it has none, 32 random hexadecimal digits, and
// the current time, in UTC, if it has none. Every transport does that to the
// events that it delivers.
func (ev *Event) Complete() {
	if ev.ID == "" {
		var room [32]byte
		ev.ID = string(appendID(room[:0]))
	}
	if ev.Time.IsZero() {
		ev.Time = time.Now().UTC()
	}
}

// appendID appends a new ID: 128 random bits in hexadecimal digits.
func appendID(dst []byte) []byte {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	return hex.AppendEncode(dst, b[:])
}

// appendTime appends t as seconds since 1970, to the microsecond.
func appendTime(dst []byte, t time.Time) []byte {
	us := t.UnixMicro()
	if us < 0 {
		return strconv.AppendFloat(dst, float64(us)/1e6, 'f', -1, 64)
	}
	dst = strconv.AppendInt(dst, us/1e6, 10)
	dst = strconv.AppendInt(dst, 1e6+us%1e6, 10) // seven digits, so that zeros are not left out
	dst[len(dst)-7] = '.'
	return dst
}

// parseTime returns the time that is so many seconds after 1970, to the
// microsecond, or the zero time if seconds is not a number or unreasonable.
func parseTime(seconds []byte) time.Time {
	s, err := strconv.ParseFloat(string(seconds), 64)
	const year5000 = 95_617_584_000
	if err != nil || !(math.Abs(s) < year5000) {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6))).UTC()
}
