package unixbus_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// window is how many events are on their way at once in a benchmark: fewer than
// the queues hold, so that none is dropped.
const window = 768

// BenchmarkThroughput measures how many events a second pass from one publisher
// through the server to one subscriber, payloads of 256 bytes, none dropped.
// Relay is what it is compared to: the same bytes over the same two sockets,
// through something that looks at nothing and writes once for each event.
func BenchmarkThroughput(b *testing.B) {
	b.Run("Server", throughServer)
	b.Run("Relay", throughRelay)
}

func throughServer(b *testing.B) {
	s := start(b, unixbus.ServerOptions{})
	publisher, subscriber := connect(b, s.Path()), connect(b, s.Path())
	sub := subscribe(b, subscriber, publisher, "attacker.*")
	ev := bus.Event{Topic: "attacker.observed", Type: "attacker.observed", Payload: payload(256)}
	arrived := make(chan struct{}, window)
	for range window {
		arrived <- struct{}{}
	}
	done := make(chan int)
	go func() {
		n := 0
		for range sub.Events() {
			arrived <- struct{}{}
			n++
			if n == b.N {
				break
			}
		}
		done <- n
	}()
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		<-arrived
		if err := publisher.Publish(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
	require.Equal(b, b.N, <-done)
	b.StopTimer()
	report(b)
	require.Zero(b, s.Stats().Dropped+publisher.Dropped()+subscriber.Dropped())
}

func throughRelay(b *testing.B) {
	frame := len("PUB attacker.observed\n1234") + len(payload(256)) +
		len(`{"v":1,"id":"0123456789abcdef0123456789abcdef","topic":"attacker.observed","type":"attacker.observed","ts":1767225600.123456,"payload":}`)
	path := filepath.Join(filepath.Dir(socketFile(b)), "relay")
	l, err := net.Listen("unix", path)
	require.NoError(b, err)
	defer l.Close()
	pair := func() (client, server net.Conn) {
		client, err := net.Dial("unix", path)
		require.NoError(b, err)
		server, err = l.Accept()
		require.NoError(b, err)
		b.Cleanup(func() { _ = client.Close(); _ = server.Close() })
		return client, server
	}
	publisher, in := pair()
	subscriber, out := pair()
	each := func(from io.Reader, do func(f []byte) error) error {
		r, f := bufio.NewReaderSize(from, 64<<10), make([]byte, frame)
		for range b.N {
			if _, err := io.ReadFull(r, f); err != nil {
				return err
			}
			if err := do(f); err != nil {
				return err
			}
		}
		return nil
	}
	errs := make(chan error, 2)
	b.ResetTimer()
	go func() {
		errs <- each(in, func(f []byte) error {
			_, err := out.Write(f)
			return err
		})
	}()
	go func() { errs <- each(subscriber, func([]byte) error { return nil }) }()
	f := make([]byte, frame)
	for range b.N {
		if _, err := publisher.Write(f); err != nil {
			b.Fatal(err)
		}
	}
	require.NoError(b, <-errs)
	require.NoError(b, <-errs)
	report(b)
}

func report(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}

// payload returns an object of so many bytes.
func payload(size int) json.RawMessage {
	const frame = len(`{"text":""}`)
	return fmt.Appendf(nil, `{"text":"%s"}`, strings.Repeat("x", size-frame))
}
