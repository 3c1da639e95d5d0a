package unixbus

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

// FuzzServer gives a server whatever a client may say, while another client
// listens to everything.
func FuzzServer(f *testing.F) {
	for _, s := range []string{
		"HELLO me\n\x00\x00\x00\x00SUB >\n\x00\x00\x00\x00UNSUB >\n\x00\x00\x00\x00BYE\n\x00\x00\x00\x00",
		string(withBody("PUB a.b", `{"id":"x","type":"t","payload":{"a":"\u00e9"}}`)) + "PUB a\n\x00\x00\x00\x00",
		"PUB a\n\xff\xff\xff\xff", "EVT a\n\x00\x00\x00\x00", "GET / HTTP/1.1\r\n\r\n", "PUB a\n\x00\x10\x00\x00{",
		string(withBody("PUB a", "{\"payload\":{\"a\":\"\xff\"}}")), string(withBody("PUB a", `{"type":"\ud800"}`)),
	} {
		f.Add(withPayload(verbPub, ".", `{"a":1}`)) // a topic that DECNET's server takes, too
		f.Add([]byte(s))
	}
	dir, err := os.MkdirTemp("", "bus")
	require.NoError(f, err)
	s := NewServer(ServerOptions{Path: filepath.Join(dir, "s"), Log: slog.New(slog.DiscardHandler)})
	require.NoError(f, s.Listen())
	served := make(chan error)
	go func() { served <- s.Serve(context.Background()) }()
	f.Cleanup(func() {
		require.NoError(f, s.Close())
		require.NoError(f, <-served)
		require.NoError(f, os.RemoveAll(dir))
	})
	dial := func(tb testing.TB) net.Conn {
		conn, err := net.Dial("unix", s.Path())
		require.NoError(tb, err)
		require.NoError(tb, conn.SetDeadline(time.Now().Add(30*time.Second)))
		return conn
	}
	n := 0
	f.Fuzz(func(t *testing.T, b []byte) {
		// All of it arrives, and in the order in which the test says it, because
		// the server handles what one client says in order, and the fuzzed
		// client is gone before the good one says anything.
		witness, bad, good := dial(t), dial(t), dial(t)
		defer witness.Close()
		defer good.Close()
		_, err := witness.Write(appendFrame(nil, verbSub, ">"))
		require.NoError(t, err)
		require.Eventually(t, func() bool { return len(*s.readers.Load()) > 0 }, 30*time.Second, time.Millisecond)

		_, _ = bad.Write(b) // it may be cut off
		_ = bad.(*net.UnixConn).CloseWrite()
		_, err = io.Copy(io.Discard, bad)
		require.NotErrorIs(t, err, os.ErrDeadlineExceeded, "the server does not let go of it")
		require.NoError(t, bad.Close())

		n++
		end := fmt.Sprintf("fuzz.end.%d", n)
		_, err = good.Write(appendFrame(nil, verbPub, end))
		require.NoError(t, err)
		for r := (&reader{src: witness}); ; {
			frame, err := r.next()
			require.NoError(t, err)
			require.Equal(t, verbEvt, frame.verb)
			require.True(t, utf8.Valid(frame.body))
			var body struct {
				V       int
				ID      string
				Topic   string
				Type    *string
				TS      float64
				Payload map[string]any
			}
			require.NoError(t, json.Unmarshal(frame.body, &body), "%q", frame.body)
			require.Equal(t, string(frame.arg), body.Topic)
			require.Len(t, body.ID, 32)
			require.NotNil(t, body.Type)
			require.NotNil(t, body.Payload)
			require.Positive(t, body.TS)
			if body.Topic == end {
				break
			}
		}
		require.NoError(t, witness.Close())
		require.NoError(t, good.Close())
		require.Eventually(t, func() bool { return s.Stats().Conns == 0 }, 30*time.Second, time.Millisecond)
	})
}

// FuzzClient gives a client whatever a server may say.
func FuzzClient(f *testing.F) {
	f.Add(append(withPayload(verbEvt, "a.b", `{"a":1}`), "BYE\n\x00\x00\x00\x00"...))
	f.Add([]byte("EVT a\n\x00\x00\x00\x02{}EVT a\n\xff\xff\xff\xff"))
	f.Add([]byte("EVT a\n\x00\x00\x00\x01xEVT a..b\n\x00\x00\x00\x00PUB a\n\x00\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, b []byte) {
		client, server := pair(t)
		go func() { _, _ = io.Copy(io.Discard, server) }()
		sub, err := client.Subscribe(t.Context(), ">")
		require.NoError(t, err)
		_, err = server.Write(b)
		require.True(t, err == nil || errors.Is(err, io.ErrClosedPipe), err)
		require.NoError(t, server.Close())
		for ev := range sub.Events() {
			require.NoError(t, ev.Validate())
			require.NotEmpty(t, ev.ID)
			require.False(t, ev.Time.IsZero())
		}
		require.ErrorIs(t, sub.Err(), bus.ErrLost)
	})
}
