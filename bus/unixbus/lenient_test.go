package unixbus_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// TestMalformedPatterns: a pattern that nobody validated does not cost the
// connection that other patterns are on.
func TestMalformedPatterns(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	for pattern, acts := range map[string]bool{ // whether it matches attacker.intel.enriched
		"attacker.>.enriched": true, ">.x": true, "*.>..": true, "attacker.*.>.>": true,
		"attacker.obs*": false, "a..x": false, "a b": false, ".": false, "attacker..enriched": false,
		".>": false, "attacker.intel.enriched.": false, "attacker.>x": false, "**": false, strings.Repeat("*", 4000): false,
		"attacker.intel.>.": true,
	} {
		t.Run(pattern[:min(len(pattern), 30)], func(t *testing.T) {
			r := dial(t, s.Path())
			r.send(frame("SUB good", ""), frame("SUB "+pattern, ""))
			r.know()
			p := dial(t, s.Path())
			p.send(frame("PUB attacker.intel.enriched", `{"payload":{"n":1}}`), frame("PUB a..x", ""), frame("PUB a b", ""), frame("PUB good", ""))
			if acts {
				r.expect("EVT attacker.intel.enriched")
			}
			for line := ""; line != "EVT good"; {
				line, _ = r.receive()
				require.NotEqual(t, "EVT attacker.intel.enriched", line)
			}
			r.send(frame("UNSUB "+pattern, ""))
			r.know()
			p.send(frame("PUB attacker.intel.enriched", ""), frame("PUB good", ""))
			r.expect("EVT good")
		})
	}
	require.Zero(t, s.Stats().Refused)
}

// TestOddTopics: odd topics are passed on.
func TestOddTopics(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	all, p := watch(t, s.Path(), ">"), dial(t, s.Path())
	for _, topic := range []string{"a..b", "a.*", "a.b.", "a b", ".", ">", strings.Repeat("a", 4000)} {
		p.send(frame("PUB "+topic, `{"payload":{"n":1}}`))
		require.JSONEq(t, `{"n":1}`, string(all.expect("EVT "+topic).Payload))
	}
	require.Zero(t, s.Stats().Refused)
}

// TestOddPayloads: what is not an object is passed on, and an empty object in
// place of what Python takes for false.
func TestOddPayloads(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	all, p := watch(t, s.Path(), "odd"), dial(t, s.Path())
	b := connect(t, s.Path())
	sub := subscribe(t, b, connect(t, s.Path()), "odd")
	for sent, want := range map[string]string{
		`[]`: `{}`, `[ ]`: `{}`, `0`: `{}`, `-0.0e7`: `{}`, `null`: `{}`, `false`: `{}`, `""`: `{}`, `{}`: `{}`, `{ }`: `{ }`,
		`[1,2]`: `[1,2]`, `[[]]`: `[[]]`, `"s"`: `"s"`, `true`: `true`, `7`: `7`, `1e-3`: `1e-3`,
	} {
		p.send(frame("PUB odd", `{"payload":`+sent+`}`))
		_, body := all.receive()
		require.True(t, strings.HasSuffix(body, `"payload":`+want+"}"), body)
	}
	for _, kind := range []string{`7`, `["a"]`, `true`, `{"a":1}`} {
		p.send(frame("PUB odd", `{"type":`+kind+`}`))
		_, body := all.receive()
		require.Contains(t, body, `"type":`+kind+`,`)
	}
	p.send(frame("PUB odd", `{"type":"end"}`))
	for ev := (bus.Event{}); ev.Type != "end"; { // a Bus leaves out what an Event cannot hold
		ev = receive(t, sub)
		require.Contains(t, []string{"", "{}", "{ }"}, string(ev.Payload))
	}
	require.NotZero(t, b.Dropped())
	require.Zero(t, s.Stats().Refused)
}

// TestPayloadUpToTheWire: a payload may fill a frame.
func TestPayloadUpToTheWire(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	b, peer := connect(t, s.Path()), connect(t, s.Path())
	sub := subscribe(t, b, peer, "long")
	const room = 200 // for the envelope
	payload := `{"text":"` + strings.Repeat("x", 1<<20-room) + `"}`
	require.Greater(t, len(payload), bus.MaxPayload)
	require.NoError(t, peer.Publish(t.Context(), bus.Event{Topic: "long", Payload: []byte(payload)}))
	require.Equal(t, payload, string(receive(t, sub).Payload))
	err := peer.Publish(t.Context(), bus.Event{Topic: "long", Payload: []byte(`{"text":"` + strings.Repeat("x", 1<<20) + `"}`)})
	require.ErrorIs(t, err, bus.ErrInvalid)
}
