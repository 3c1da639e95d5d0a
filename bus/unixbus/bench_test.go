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
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// window is how many events are on their way at once in a benchmark: fewer than
// the queues hold, so that none is dropped.
const window = 768

// BenchmarkThroughput measures how many events a second pass from one publisher
// through the server to one subscriber, payloads of 256 bytes, none dropped. It
// compares that to a relay: as many bytes over the same two sockets, through
// something that looks at nothing and writes once for each event.
func BenchmarkThroughput(b *testing.B) {
	b.ReportAllocs()
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
	b.ResetTimer()
	for range b.N {
		<-arrived
		if err := publisher.Publish(b.Context(), ev); err != nil {
			b.Fatal(err)
		}
	}
	require.Equal(b, b.N, <-done)
	b.StopTimer()
	require.Zero(b, s.Stats().Dropped+publisher.Dropped()+subscriber.Dropped())
	ours := float64(b.N) / b.Elapsed().Seconds()
	relay := float64(b.N) / throughRelay(b).Seconds()
	b.ReportMetric(ours, "events/s")
	b.ReportMetric(relay, "relayed/s")
	b.ReportMetric(100*ours/relay, "%ofrelay")
}

// throughRelay returns how long b.N events take through a relay.
func throughRelay(b *testing.B) time.Duration {
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
	started := time.Now()
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
	return time.Since(started)
}

// payload returns an object of so many bytes.
func payload(size int) json.RawMessage {
	const frame = len(`{"text":""}`)
	return fmt.Appendf(nil, `{"text":"%s"}`, strings.Repeat("x", size-frame))
}
