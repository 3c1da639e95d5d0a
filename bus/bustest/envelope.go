package bustest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/decnet/enrich/bus"
)

func envelope(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	first, second := f.subscribe("envelope.>"), f.subscribe("envelope.>")
	sent := bus.Event{
		ID: "0123456789abcdef0123456789abcdef", Topic: "envelope.größe.1", Type: `größe "1"`,
		Time: time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC), Payload: json.RawMessage(`{"n":0}`),
	}
	if h.ASCII {
		sent.Topic = "envelope.size.1"
	}
	f.publishAll(1, func(int) bus.Event { return sent })
	got, same := f.receive(first), f.receive(second)
	switch {
	case got.Topic != sent.Topic:
		f.Errorf("topic %q arrived as %q", sent.Topic, got.Topic)
	case got.Type != sent.Type:
		f.Errorf("type %q arrived as %q", sent.Type, got.Type)
	case got.ID != same.ID:
		f.Errorf("one event arrived with the IDs %q and %q", got.ID, same.ID)
	}
	if h.Restamps {
		return
	}
	if got.ID != sent.ID {
		f.Errorf("ID %q arrived as %q", sent.ID, got.ID)
	}
	// Transports may write the time as a floating point number of seconds.
	if got.Time.Sub(sent.Time).Abs() > time.Microsecond {
		f.Errorf("time %v arrived as %v", sent.Time, got.Time)
	}
}

func envelopeFilledIn(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("envelope.*")
	f.publish("envelope.a", "envelope.a", "envelope.a")
	seen := make(map[string]bool)
	for range 3 {
		ev := f.receive(sub)
		if ev.ID == "" || seen[ev.ID] {
			f.Errorf("an event without ID was given the ID %q; want a new one", ev.ID)
		}
		seen[ev.ID] = true
		if age := time.Since(ev.Time); age.Abs() > time.Minute {
			f.Errorf("an event without time was given the time %v, which is %v ago", ev.Time, age)
		}
	}
}

func payload(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("payload")
	frame := len(`{"text":""}`)
	for _, sent := range []string{
		`{}`,
		`{"attacker_ip":"45.155.205.233","score":null,"tags":[]}`,
		`{"text":"größe 漢字 \ud83d\udc80 💀 \u0000 \u2028 \" \\ \/ \n\r\t"}`,
		`{"html":"<script>&amp;</script>","frame":"EVT a\nPUB b\r\n"}`,
		`{"int":9223372036854775807,"big":123456789012345678901234567890,"float":1.5e-300,"neg":-0.5}`,
		`{"deep":` + strings.Repeat(`[`, 100) + strings.Repeat(`]`, 100) + `}`,
		`{"text":"` + strings.Repeat(`\"é\\`, 10_000) + `"}`,
		`{"text":"` + strings.Repeat("x", bus.MaxPayload-frame) + `"}`,
	} {
		f.publishAll(1, func(int) bus.Event {
			return bus.Event{Topic: "payload", Type: "test", Payload: json.RawMessage(sent)}
		})
		got := f.receive(sub).Payload
		if !bytes.Equal(got, []byte(sent)) && !(h.Reencodes && sameJSON(got, []byte(sent))) {
			f.Errorf("payload %s arrived as %s", excerpt(sent), excerpt(string(got)))
		}
	}
}

func emptyPayload(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	sub := f.subscribe("payload")
	f.publishAll(1, func(int) bus.Event { return bus.Event{Topic: "payload", Type: "test"} })
	if got := string(f.receive(sub).Payload); got != "" && got != "{}" {
		f.Errorf("an empty payload arrived as %s; want it empty or {}", excerpt(got))
	}
}

// sameJSON reports whether a and b are the same value; numbers are compared as
// they are written.
func sameJSON(a, b []byte) bool {
	var values [2]any
	for i, text := range [][]byte{a, b} {
		d := json.NewDecoder(bytes.NewReader(text))
		d.UseNumber()
		if d.Decode(&values[i]) != nil {
			return false
		}
	}
	return reflect.DeepEqual(values[0], values[1])
}

func excerpt(s string) string {
	if len(s) <= 200 {
		return s
	}
	return fmt.Sprintf("%s... (%d bytes)", s[:200], len(s))
}
