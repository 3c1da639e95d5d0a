package unixbus_test

import (
	"bufio"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/unixbus"
)

// foreign is a run of testdata/peer.py, which speaks the wire too and shares no
// code with the package.
type foreign struct {
	tb     testing.TB
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	frames chan [3]any // verb, argument and body of what it received
	ended  chan error
}

func startForeign(tb testing.TB, args ...string) *foreign {
	tb.Helper()
	python, err := exec.LookPath("python3")
	if err != nil {
		const missing = "python3, which plays the other side, is not there"
		if os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" {
			require.FailNow(tb, missing, err)
		}
		tb.Skip(missing)
	}
	p := &foreign{
		tb:     tb,
		cmd:    exec.Command(python, append([]string{"testdata/peer.py"}, args...)...),
		frames: make(chan [3]any, 100_000),
		ended:  make(chan error, 1),
	}
	p.cmd.Stderr = os.Stderr
	p.stdin, err = p.cmd.StdinPipe()
	require.NoError(tb, err)
	stdout, err := p.cmd.StdoutPipe()
	require.NoError(tb, err)
	require.NoError(tb, p.cmd.Start())
	tb.Cleanup(p.stop)
	lines := bufio.NewReader(stdout)
	ready, err := lines.ReadString('\n')
	require.NoError(tb, err)
	require.Equal(tb, "ready\n", ready)
	go func() {
		defer close(p.frames)
		for {
			line, err := lines.ReadBytes('\n')
			if err != nil {
				p.ended <- p.cmd.Wait()
				return
			}
			var frame [3]any
			if json.Unmarshal(line, &frame) == nil {
				p.frames <- frame
			}
		}
	}()
	return p
}

// stop ends it, and fails the test if it had something to complain about.
func (p *foreign) stop() {
	_ = p.stdin.Close()
	select {
	case err := <-p.ended:
		require.NoError(p.tb, err, "the other side says that something is not as described")
		p.ended <- nil
	case <-time.After(wait):
		_ = p.cmd.Process.Kill()
		require.FailNow(p.tb, "the other side does not end")
	}
}

// kill ends it as a crash would.
func (p *foreign) kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
	p.ended <- nil
}

// send makes a client send a frame.
func (p *foreign) send(verb, arg string, body any) {
	p.tb.Helper()
	require.NoError(p.tb, json.NewEncoder(p.stdin).Encode([]any{verb, arg, body}))
}

// expect returns the body of the next frame, which has to be this one.
func (p *foreign) expect(verb, arg string) map[string]any {
	p.tb.Helper()
	select {
	case frame, open := <-p.frames:
		require.True(p.tb, open, "the other side has ended")
		require.Equal(p.tb, []any{verb, arg}, frame[:2])
		body, _ := frame[2].(map[string]any)
		return body
	case <-time.After(wait):
		require.FailNow(p.tb, "nothing arrives", "%s %s", verb, arg)
		return nil
	}
}

// envelope returns what a client of the other kind puts around a payload.
func envelope(topic string, payload map[string]any) map[string]any {
	return map[string]any{"v": 1, "id": "ab", "topic": topic, "type": "kind", "ts": 1.5, "payload": payload}
}

// TestForeignClient is about another implementation's client on our server,
// with one of ours.
func TestForeignClient(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	ours, theirs := connect(t, s.Path()), startForeign(t, "client", s.Path(), "other side")
	sub := subscribe(t, ours, connect(t, s.Path()), "attacker.>")

	theirs.send("SUB", "attacker.*", nil)
	theirs.send("SUB", "attacker.>", nil)
	theirs.send("SUB", "test.*", nil)
	theirs.send("PUB", "attacker.observed", envelope("attacker.scored", map[string]any{"größe": []any{"💀", 1.5, nil}}))
	ev := receive(t, sub)
	require.Equal(t, "attacker.observed", ev.Topic)
	require.Equal(t, "kind", ev.Type)
	require.NotEqual(t, "ab", ev.ID)
	require.Len(t, ev.ID, 32)
	require.WithinDuration(t, time.Now(), ev.Time, time.Minute)
	require.JSONEq(t, `{"größe":["💀",1.5,null]}`, string(ev.Payload))

	// What they have published is behind what they have subscribed to, and does
	// not come back.
	published := bus.Event{
		ID: "ours", Topic: "attacker.intel.enriched", Type: `"größe"`, Time: time.Unix(1, 0), Payload: json.RawMessage(`{"n": 1}`),
	}
	require.NoError(t, ours.Publish(t.Context(), published))
	body := theirs.expect("EVT", "attacker.intel.enriched")
	require.Equal(t, map[string]any{"n": 1.0}, body["payload"])
	require.Equal(t, `"größe"`, body["type"])
	require.NotEqual(t, "ours", body["id"])

	theirs.send("UNSUB", "attacker.>", nil)
	require.Equal(t, published, receive(t, sub)) // not by way of the server
	theirs.send("PUB", "attacker.observed", nil)
	ev = receive(t, sub)
	require.Equal(t, "attacker.observed", ev.Topic)
	require.Empty(t, ev.Type)
	require.Equal(t, `{}`, string(ev.Payload))
	require.NoError(t, ours.Publish(t.Context(), bus.Event{Topic: "attacker.a.b"}))
	require.NoError(t, ours.Publish(t.Context(), bus.Event{Topic: "attacker.a"}))
	theirs.expect("EVT", "attacker.a")

	s.stop(t)
	theirs.expect("BYE", "")
	theirs.expect("END", "")
	ends(t, sub, bus.ErrLost)
}

// TestForeignPair: two clients of the other kind on our server.
func TestForeignPair(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	one, two := startForeign(t, "client", s.Path(), "one"), startForeign(t, "client", s.Path(), "two")
	one.send("SUB", ">", nil)
	two.send("SUB", ">", nil)
	eventually(t, "both have subscribed", func() bool {
		one.send("PUB", "test.one", envelope("test.one", nil))
		select {
		case frame := <-two.frames:
			return frame[1] == "test.one"
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
	two.send("PUB", "test.two", envelope("test.two", map[string]any{"a": 1}))
	require.Equal(t, map[string]any{"a": 1.0}, one.expect("EVT", "test.two")["payload"])
	two.send("BYE", "", nil)
	for frame := range two.frames {
		if frame[0] == "END" {
			break
		}
	}
}

// TestForeignServer runs the whole suite on our clients and another
// implementation's server.
func TestForeignServer(t *testing.T) {
	type setup struct {
		server *foreign
		path   string
	}
	setups := make(map[bus.Bus]*setup)
	serve := func(tb testing.TB, path string) *foreign {
		_ = os.Remove(path)
		return startForeign(tb, "server", path)
	}
	bustest.Run(t, bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			path := socketFile(tb)
			server := serve(tb, path)
			b := connect(tb, path)
			setups[b] = &setup{server, path}
			return b
		},
		Peer: func(tb testing.TB, b bus.Bus) bus.Bus { return connect(tb, setups[b].path) },
		Lose: func(tb testing.TB, b bus.Bus) func() {
			s := setups[b]
			s.server.kill()
			return func() { s.server = serve(tb, s.path) }
		},
		Restamps: true, Reencodes: true, Unacknowledged: true, ASCII: true,
	})
}

// TestForeignServerHears is about what our client says to a server.
func TestForeignServerHears(t *testing.T) {
	path := socketFile(t)
	server := startForeign(t, "server", path)
	b := connect(t, path)
	first, err := b.Subscribe(t.Context(), "a.*")
	require.NoError(t, err)
	second, err := b.Subscribe(t.Context(), "a.*")
	require.NoError(t, err)
	_, err = b.Subscribe(t.Context(), "b.>")
	require.NoError(t, err)
	require.NoError(t, first.Close())
	require.NoError(t, second.Close())
	require.NoError(t, b.Close())
	for _, want := range [][2]string{{"HELLO", "test"}, {"SUB", "a.*"}, {"SUB", "b.>"}, {"UNSUB", "a.*"}, {"BYE", ""}} {
		server.expect(want[0], want[1])
	}
}
