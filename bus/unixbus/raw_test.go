package unixbus_test

import (
	"encoding/binary"
	"encoding/json"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// raw is a connection to a server on which a test says what it likes.
type raw struct {
	tb   testing.TB
	path string
	net.Conn
}

func dial(tb testing.TB, path string) *raw {
	tb.Helper()
	conn, err := net.Dial("unix", path)
	require.NoError(tb, err)
	tb.Cleanup(func() { _ = conn.Close() })
	require.NoError(tb, conn.SetDeadline(time.Now().Add(wait)))
	return &raw{tb, path, conn}
}

// frame returns the bytes of a frame.
func frame(line, body string) string {
	return line + "\n" + string(binary.BigEndian.AppendUint32(nil, uint32(len(body)))) + body
}

func (r *raw) send(bytes ...string) {
	r.tb.Helper()
	_, err := io.WriteString(r.Conn, strings.Join(bytes, ""))
	require.NoError(r.tb, err)
}

// receive returns the next frame, its first line and its body, that is not one
// of those that know sends.
func (r *raw) receive() (line, body string) {
	r.tb.Helper()
	for line == "" || line == "EVT "+syncTopic {
		line, body = r.receiveAny()
	}
	return line, body
}

func (r *raw) receiveAny() (line, body string) {
	r.tb.Helper()
	var b []byte
	for c := make([]byte, 1); c[0] != '\n'; b = append(b, c...) {
		_, err := io.ReadFull(r.Conn, c)
		require.NoError(r.tb, err)
	}
	length := make([]byte, 4)
	_, err := io.ReadFull(r.Conn, length)
	require.NoError(r.tb, err)
	content := make([]byte, binary.BigEndian.Uint32(length))
	_, err = io.ReadFull(r.Conn, content)
	require.NoError(r.tb, err)
	return strings.TrimSuffix(string(b), "\n"), string(content)
}

// expect returns the envelope in the next frame, which has to be this one.
func (r *raw) expect(line string) (e envelopeJSON) {
	r.tb.Helper()
	got, body := r.receive()
	require.Equal(r.tb, line, got, "%.300s", body)
	if body != "" {
		require.NoError(r.tb, json.Unmarshal([]byte(body), &e))
	}
	return e
}

// ended requires the server to close the connection.
func (r *raw) ended() {
	r.tb.Helper()
	_, err := io.Copy(io.Discard, r.Conn)
	if timeout, ok := err.(net.Error); ok { // not a reset, which is an end too
		require.False(r.tb, timeout.Timeout(), "the connection is still open")
	}
}

// syncTopic is what know publishes on.
const syncTopic = "test.sync"

// know waits until the server has handled what was said on r before.
func (r *raw) know() {
	r.tb.Helper()
	other := dial(r.tb, r.path)
	defer other.Close()
	other.send(frame("SUB "+syncTopic, ""))
	// Frames of one connection are handled in their order. That on the other may
	// be handled late, so that the first events are missed.
	got := make(chan struct{})
	go func() {
		defer close(got)
		other.receiveAny()
	}()
	for done := false; !done; {
		r.send(frame("PUB "+syncTopic, ""))
		select {
		case <-got:
			done = true
		case <-time.After(10 * time.Millisecond):
		}
	}
}

type envelopeJSON struct {
	V       int
	ID      string
	Topic   string
	Type    string
	TS      float64
	Payload json.RawMessage
}
