package unixbus_test

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
	"github.com/decnet/enrich/internal/logtest"
)

// watch returns a connection that is subscribed to pattern.
func watch(tb testing.TB, path, pattern string) *raw {
	tb.Helper()
	r := dial(tb, path)
	r.send(frame("SUB "+pattern, ""))
	r.know()
	return r
}

// TestRules is about what the server makes of what clients say.
func TestRules(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	publisher := dial(t, s.Path()) // which has not introduced itself
	publisher.send(frame("SUB >", ""), frame("HELLO late but fine", ""), frame("HELLO", ""))
	subscriber := watch(t, s.Path(), "a.>")
	subscriber.send(frame("SUB a.*\r", "ignored"), frame("SUB *.b", ""), frame("SUB a.*", ""))
	subscriber.know()

	// Stamped anew, typed and filled as published, once, and not to the publisher.
	publisher.send(frame("PUB a.b", `{"v":9,"id":"mine","topic":"x.y","type":"t","ts":1,"payload":{"n": 1.0},"more":1}`))
	e := subscriber.expect("EVT a.b")
	require.Regexp(t, "^[0-9a-f]{32}$", e.ID)
	require.InDelta(t, float64(time.Now().Unix()), e.TS, 60)
	require.Equal(t, envelopeJSON{1, e.ID, "a.b", "t", e.TS, []byte(`{"n": 1.0}`)}, e)

	// With nothing in it.
	publisher.send(frame("PUB a.c", ""), frame("PUB a.d", "{}"), frame("PUB a.e", `{"type":null,"payload":null}`))
	ids := map[string]bool{e.ID: true}
	for _, topic := range []string{"a.c", "a.d", "a.e"} {
		e := subscriber.expect("EVT " + topic)
		require.Equal(t, envelopeJSON{1, e.ID, topic, "", e.TS, []byte("{}")}, e)
		require.False(t, ids[e.ID])
		ids[e.ID] = true
	}

	// One UNSUB undoes any number of SUB, and no other pattern's.
	subscriber.send(frame("UNSUB a.*", ""), frame("UNSUB never.was", ""), frame("UNSUB a.>", ""))
	subscriber.know()
	long := strings.Repeat("x", 4000)
	publisher.send(frame("PUB a.c", ""), frame("PUB a.b", ""), frame("PUB "+long+".b", ""), frame("PUB a.c", ""), frame("PUB z.b", ""))
	subscriber.expect("EVT a.b")
	subscriber.expect("EVT " + long + ".b")
	subscriber.expect("EVT z.b")

	// The publisher has seen what others published, and nothing of its own.
	other := dial(t, s.Path())
	other.send(frame("PUB from.other", ""))
	publisher.expect("EVT from.other")
	require.EqualValues(t, 0, s.Stats().Dropped)

	// Whoever says goodbye is let go; so is whoever just goes.
	other.send(frame("BYE", ""))
	other.ended()
	require.NoError(t, publisher.Close())
	subscriber.send(frame("BYE", ""))
	subscriber.ended()
	eventually(t, "all have gone", func() bool { return s.Stats().Conns == 0 })
}

// malformed are beginnings of what no client may say.
var malformed = map[string]string{
	"no verb":          "\n",
	"space first":      frame(" PUB a", "{}"),
	"lower case":       frame("pub a", "{}"),
	"HTTP":             "GET / HTTP/1.1\r\nHost: a\r\n\r\n",
	"TLS":              "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
	"not ASCII":        frame("PUB größe", "{}"),
	"NUL":              frame("PUB a\x00", "{}"),
	"EVT":              frame("EVT a", "{}"),
	"long line":        "PUB " + strings.Repeat("a", 4096),
	"long body":        "PUB a\n\x00\x10\x00\x01",
	"4 GiB":            "PUB a\n\xff\xff\xff\xff",
	"no topic":         frame("PUB", "{}"),
	"no JSON":          frame("PUB a", "{'a':1}"),
	"no object":        frame("PUB a", "[]"),
	"two objects":      frame("PUB a", "{}{}"),
	"not UTF-8":        frame("PUB a", "{\"payload\":{\"a\":\"\xff\"}}"),
	"half a character": frame("PUB a", `{"payload":{"a":"\ud800"}}`),
	"deep":             frame("PUB a", strings.Repeat(`{"a":`, 100_000)+"1"+strings.Repeat("}", 100_000)),
	"1E400":            frame("PUB a", `{"payload":{"n":1E400}}`),
	"1E400 elsewhere":  frame("PUB a", `{"payload":{},"ts":-1E400}`),
	"401 digits":       frame("PUB a", `{"payload":{"n":[`+strings.Repeat("1", 401)+`]}}`),
	"no pattern":       frame("SUB", ""),
	"UNSUB no pattern": frame("UNSUB", ""),
	"unknown verb":     frame("SUBSCRIBE a", ""),
}

// TestMalformed: a malformed frame ends the connection that it came on, and
// nothing else.
func TestMalformed(t *testing.T) {
	var log logtest.Log
	s := start(t, unixbus.ServerOptions{Log: log.Logger()})
	witness := watch(t, s.Path(), ">")
	good := dial(t, s.Path())
	for name, bytes := range malformed {
		t.Run(name, func(t *testing.T) {
			bad := dial(t, s.Path())
			bad.send(frame("HELLO bad", ""), frame("PUB before", ""))
			_, _ = io.WriteString(bad.Conn, bytes) // which may be cut off
			bad.ended()
			good.send(frame("PUB good", ""))
			witness.expect("EVT before")
			witness.expect("EVT good")
		})
	}
	require.EqualValues(t, len(malformed), s.Stats().Refused)
	require.Contains(t, log.String(), "ended a connection")
	require.Contains(t, log.String(), "client=bad")
	require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "the log is flooded:\n%s", &log)
}

// TestHalfFrames: what is cut off is not acted upon.
func TestHalfFrames(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	witness, good := watch(t, s.Path(), ">"), dial(t, s.Path())
	whole := frame("PUB bad", `{"payload":{"a":1}}`)
	for n := range len(whole) {
		bad := dial(t, s.Path())
		bad.send(whole[:n])
		require.NoError(t, bad.Conn.(*net.UnixConn).CloseWrite())
		bad.ended()
	}
	good.send(frame("PUB good", ""))
	witness.expect("EVT good")
	require.Zero(t, s.Stats().Refused)
}

// TestSlowReader: who does not read loses the oldest, and delays nobody.
func TestSlowReader(t *testing.T) {
	var log logtest.Log
	s := start(t, unixbus.ServerOptions{Log: log.Logger(), Queue: 100})
	slow := watch(t, s.Path(), "flood")
	slow.send(frame("HELLO slow", ""))
	publisher, quick := connect(t, s.Path()), connect(t, s.Path())
	sub := subscribe(t, quick, publisher, "flood")
	const count = 5000
	text := strings.Repeat("x", 1000) // so that it does not fit into the socket
	for n := range count {
		ev := bus.Event{Topic: "flood", Payload: fmt.Appendf(nil, `{"n":%d,"text":%q}`, n, text)}
		require.NoError(t, publisher.Publish(t.Context(), ev))
		require.Equal(t, string(ev.Payload), string(receive(t, sub).Payload))
	}
	eventually(t, "events are dropped", func() bool { return s.Stats().Dropped > 0 })
	dropped := s.Stats().Dropped
	require.NoError(t, publisher.Publish(t.Context(), bus.Event{Topic: "flood", Type: "end"}))

	received := 0
	var last envelopeJSON
	for last.Type != "end" {
		last = slow.expect("EVT flood")
		received++
	}
	require.Equal(t, s.Stats().Dropped+uint64(received), uint64(count+1))
	require.Greater(t, dropped, uint64(count/2))
	require.Equal(t, 1, strings.Count(log.String(), "does not keep up"), "%s", &log)
	require.Contains(t, log.String(), "client=slow")
	require.NoError(t, slow.Close())
	eventually(t, "the sum is logged", func() bool {
		return strings.Contains(log.String(), fmt.Sprintf("dropped=%d", s.Stats().Dropped))
	})
}

// TestSlowReaderMemory: what is held for those who do not read is bounded in
// bytes too.
func TestSlowReaderMemory(t *testing.T) {
	const readers, limit, rounds = 4, 1 << 20, 16
	s := start(t, unixbus.ServerOptions{QueueBytes: limit})
	for n := range readers {
		watch(t, s.Path(), fmt.Sprintf("t%d", n))
	}
	publisher := connect(t, s.Path())
	ev := bus.Event{Payload: payload(300_000)}
	before := heap()
	for range rounds {
		for n := range readers {
			ev.Topic = fmt.Sprintf("t%d", n)
			require.NoError(t, publisher.Publish(t.Context(), ev))
		}
	}
	eventually(t, "all is published", func() bool { return s.Stats().Events >= rounds*readers })
	require.Greater(t, s.Stats().Dropped, uint64(rounds*readers/2))
	// In the queue and being written, and some for what the publisher needs. It
	// has published 19 MB.
	require.Less(t, heap(), before+readers*(limit+1<<20)+2<<20)
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// TestTooLong: an event that cannot be passed on costs nothing else.
func TestTooLong(t *testing.T) {
	var log logtest.Log
	s := start(t, unixbus.ServerOptions{Log: log.Logger()})
	witness, publisher := watch(t, s.Path(), ">"), dial(t, s.Path())
	body := func(size int) string {
		const around = len(`{"payload":{"a":""}}`)
		return `{"payload":{"a":"` + strings.Repeat("x", size-around) + `"}}`
	}
	publisher.send(frame("PUB a", body(1<<20)), frame("PUB b", body(1<<20-200)))
	require.Len(t, witness.expect("EVT b").Payload, 1<<20-200-len(`{"payload":}`))
	require.EqualValues(t, 1, s.Stats().Dropped)
	require.Contains(t, log.String(), "too long")
}

// TestGoodbye: Close says goodbye, after what was on its way.
func TestGoodbye(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	reader, stuck, publisher := watch(t, s.Path(), ">"), watch(t, s.Path(), ">"), dial(t, s.Path())
	const count = 500
	body := fmt.Sprintf(`{"payload":%s}`, payload(2000)) // more than the socket holds
	for n := range count {
		publisher.send(frame(fmt.Sprintf("PUB n%d", n), body))
	}
	publisher.know()
	go s.Close()
	for n := range count {
		reader.expect(fmt.Sprintf("EVT n%d", n))
	}
	reader.expect("BYE")
	reader.ended()
	publisher.expect("BYE")
	publisher.ended()
	started := time.Now()
	s.stop(t)
	t.Logf("closed in %v, with a client that does not read", time.Since(started))
	require.Zero(t, s.Stats().Conns)
	stuck.ended()
	_, err := net.Dial("unix", s.Path())
	require.Error(t, err)
}

// TestLastWords: what a client said before it left is heard, however much it
// left unread.
func TestLastWords(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	witness := watch(t, s.Path(), "last.*")
	for n := range 5 {
		leaver := watch(t, s.Path(), "flood")
		flooder := dial(t, s.Path())
		body := fmt.Sprintf(`{"payload":%s}`, payload(10_000))
		for range 100 {
			flooder.send(frame("PUB flood", body))
		}
		for i := range 50 {
			leaver.send(frame(fmt.Sprintf("PUB last.%d-%d", n, i), body))
		}
		require.NoError(t, leaver.Close())
		for i := range 50 {
			witness.expect(fmt.Sprintf("EVT last.%d-%d", n, i))
		}
	}
}

func TestTooMany(t *testing.T) {
	var log logtest.Log
	s := start(t, unixbus.ServerOptions{MaxConns: 3, Log: log.Logger()})
	one := watch(t, s.Path(), "a")
	eventually(t, "who helped to watch has gone", func() bool { return s.Stats().Conns == 1 })
	two := dial(t, s.Path())
	_ = dial(t, s.Path())
	eventually(t, "there are three", func() bool { return s.Stats().Conns == 3 })
	dial(t, s.Path()).ended()
	dial(t, s.Path()).ended()
	require.EqualValues(t, 2, s.Stats().Refused)
	require.Equal(t, 1, strings.Count(log.String(), "too many connections"))
	two.send(frame("PUB a", ""))
	one.expect("EVT a")
	require.NoError(t, two.Close())
	eventually(t, "there is room again", func() bool { return s.Stats().Conns == 2 })
	dial(t, s.Path()).send(frame("PUB a", ""))
	one.expect("EVT a")
}

func TestTooManyPatterns(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	greedy := dial(t, s.Path())
	for n := range 5000 {
		if _, err := io.WriteString(greedy.Conn, frame(fmt.Sprintf("SUB n%d", n), "")); err != nil {
			break
		}
	}
	greedy.ended()
	require.EqualValues(t, 1, s.Stats().Refused)
}

// TestHostile is about clients that do their worst, and two that want nothing
// but to be left in peace.
func TestHostile(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	publisher, subscriber := connect(t, s.Path()), connect(t, s.Path())
	sub := subscribe(t, subscriber, publisher, "good")
	before := heap()
	random := rand.NewChaCha8([32]byte{1})
	for n := range 2000 {
		bad := dial(t, s.Path())
		switch n % 5 {
		case 0: // says nothing
		case 1: // announces much, and sends little
			bad.send("PUB a\n\x00\x10\x00\x00{")
		case 2: // subscribes to everything and reads nothing
			bad.send(frame("SUB >", ""))
		case 3: // random bytes
			b := make([]byte, 100)
			_, _ = random.Read(b)
			bad.send(string(b))
		case 4:
			bad.send("PUB a\n\xff\xff\xff\xff")
		}
		if n%20 == 0 {
			require.NoError(t, publisher.Publish(t.Context(), bus.Event{Topic: "good", Type: fmt.Sprint(n)}))
			require.Equal(t, fmt.Sprint(n), receive(t, sub).Type)
		}
	}
	each := (heap() - before) / 2000
	t.Logf("a hostile connection costs %d bytes, both ends", each)
	require.Less(t, each, uint64(40<<10))
	require.NoError(t, sub.Err())
	require.Zero(t, subscriber.Dropped())
}

func TestServeAndClose(t *testing.T) {
	path := socketFile(t)
	s := unixbus.NewServer(unixbus.ServerOptions{Path: path, Log: new(logtest.Log).Logger()})
	require.Equal(t, path, s.Path())
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error)
	go func() { served <- s.Serve(ctx) }()
	b := connect(t, path)
	eventually(t, "the server is there", func() bool {
		return b.Publish(t.Context(), bus.Event{Topic: "a"}) == nil
	})
	require.NoError(t, s.Listen(), "it does already")
	cancel()
	require.NoError(t, <-served)
	require.NoFileExists(t, path)
	require.NoError(t, s.Close())
	require.NoError(t, s.Serve(t.Context()))
	require.ErrorIs(t, s.Listen(), bus.ErrClosed)

	unused := unixbus.NewServer(unixbus.ServerOptions{Path: path})
	require.NoError(t, unused.Close())
	require.NoError(t, unused.Serve(t.Context()))
	require.NoFileExists(t, path)
}
