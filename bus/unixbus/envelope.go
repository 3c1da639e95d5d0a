package unixbus

import (
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/bus"
)

// envelope is the body of an event, each part as JSON. It refers to what it was
// read from.
type envelope struct {
	id      []byte // a string that is not empty, or nil
	kind    []byte // a string, or nil for none
	ts      []byte // a number, or nil
	payload []byte // an object, or nil for none
}

// open reads an envelope. No body at all is one with nothing in it.
func open(body []byte) (e envelope, err error) {
	if len(body) == 0 {
		return envelope{}, nil
	}
	s := scanner{b: body}
	ok := s.object(maxDepth, func(key, value []byte) {
		null := value[0] == 'n'
		switch string(unescaped(key)) {
		case `"id"`:
			e.id = nil
			if value[0] == '"' && len(value) > len(`""`) {
				e.id = value
			}
		case `"ts"`:
			e.ts = nil
			if c := value[0]; c == '-' || '0' <= c && c <= '9' {
				e.ts = value
			}
		case `"type"`:
			e.kind = nil
			if value[0] == '"' {
				e.kind = value
			} else if !null {
				err = fmt.Errorf("%w: the type is not a string", errMalformed)
			}
		case `"payload"`:
			e.payload = nil
			if value[0] == '{' {
				e.payload = value
			} else if !null {
				err = fmt.Errorf("%w: the payload is not an object", errMalformed)
			}
		}
	})
	if !ok {
		return envelope{}, fmt.Errorf("%w: the body is not a JSON object", errMalformed)
	}
	return e, err
}

// unescaped returns a JSON string without needless escapes.
func unescaped(text []byte) []byte {
	if slices.Contains(text, '\\') {
		return quote(nil, unquote(text))
	}
	return text
}

// unquote returns what a JSON string, which is valid, says.
func unquote(text []byte) string {
	if len(text) < 2 {
		return ""
	}
	if slices.Contains(text, '\\') {
		var s string
		_ = json.Unmarshal(text, &s)
		return s
	}
	return string(text[1 : len(text)-1])
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

// seal returns a frame with an event on topic in it. Without an id it gets one,
// and at is its time.
func seal(verb, topic string, e envelope, at time.Time) []byte {
	const fixed = len(`EVT ` + "\n" + `1234{"v":1,"id":"","topic":"","type":"","ts":-1234567890.123456,"payload":{}}`)
	b := make([]byte, 0, fixed+max(len(e.id), 32)+2*len(topic)+len(e.kind)+len(e.payload))
	b = append(b, verb...)
	b = append(b, ' ')
	b = append(b, topic...)
	b = append(b, "\n\x00\x00\x00\x00"...)
	start := len(b)
	b = append(b, `{"v":1,"id":`...)
	if e.id != nil {
		b = append(b, e.id...)
	} else {
		b = append(b, '"')
		b = appendID(b)
		b = append(b, '"')
	}
	b = append(b, `,"topic":`...)
	b = quote(b, topic)
	b = append(b, `,"type":`...)
	if e.kind != nil {
		b = append(b, e.kind...)
	} else {
		b = append(b, `""`...)
	}
	b = append(b, `,"ts":`...)
	b = appendTime(b, at)
	b = append(b, `,"payload":`...)
	if e.payload != nil {
		b = append(b, e.payload...)
	} else {
		b = append(b, `{}`...)
	}
	b = append(b, '}')
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

// bodySize returns how many bytes of a sealed event are its body.
func bodySize(sealed []byte, topic string) int {
	return len(sealed) - len("EVT ") - len(topic) - len("\n1234")
}

// appendID appends a new identifier: 128 random bits in hexadecimal digits.
func appendID(dst []byte) []byte {
	var b [16]byte
	binary.NativeEndian.PutUint64(b[:8], rand.Uint64())
	binary.NativeEndian.PutUint64(b[8:], rand.Uint64())
	var digits [2 * len(b)]byte
	hex.Encode(digits[:], b[:])
	return append(dst, digits[:]...)
}

// appendTime appends a time as seconds since 1970, to the microsecond.
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
// microsecond, or the zero time if that is no number or out of all reason.
func parseTime(seconds []byte) time.Time {
	s, err := strconv.ParseFloat(string(seconds), 64)
	const year5000 = 95_617_584_000
	if err != nil || !(math.Abs(s) <= year5000) {
		return time.Time{}
	}
	return time.UnixMicro(int64(math.Round(s * 1e6))).UTC()
}

// event returns an envelope as an event on topic. What is missing is filled in.
func (e envelope) event(topic string) bus.Event {
	ev := bus.Event{ID: unquote(e.id), Topic: topic, Type: unquote(e.kind), Time: parseTime(e.ts)}
	if e.payload != nil {
		ev.Payload = append(json.RawMessage(nil), e.payload...)
	}
	fillIn(&ev)
	return ev
}

// fillIn gives ev the ID and the time that it lacks.
func fillIn(ev *bus.Event) {
	if ev.ID == "" {
		var room [32]byte
		ev.ID = string(appendID(room[:0]))
	}
	if ev.Time.IsZero() {
		ev.Time = time.Now().UTC()
	}
}
