package unixbus_test

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// wait is how long a test waits for what has to happen before it gives up.
const wait = 30 * time.Second

// server is a server that runs.
type server struct {
	*unixbus.Server
	served chan error
}

// start starts a server and stops it at the end of the test.
func start(tb testing.TB, o unixbus.ServerOptions) *server {
	tb.Helper()
	if o.Path == "" {
		o.Path = socketFile(tb)
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := &server{unixbus.NewServer(o), make(chan error, 1)}
	require.NoError(tb, s.Listen())
	go func() { s.served <- s.Serve(context.Background()) }()
	tb.Cleanup(func() { s.stop(tb) })
	return s
}

// stop stops the server, which may have been stopped before.
func (s *server) stop(tb testing.TB) {
	tb.Helper()
	require.NoError(tb, s.Close())
	select {
	case err := <-s.served:
		require.NoError(tb, err)
		s.served <- nil
	case <-time.After(wait):
		require.FailNow(tb, "Serve does not return after Close")
	}
}

// socketFile returns a path for a socket: short, as it has to be.
func socketFile(tb testing.TB) string {
	tb.Helper()
	dir, err := os.MkdirTemp("", "bus")
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, os.RemoveAll(dir)) })
	return filepath.Join(dir, "bus.sock")
}

// connect returns a client of the server at path.
func connect(tb testing.TB, path string) *unixbus.Bus {
	tb.Helper()
	b, err := unixbus.New(unixbus.Options{Path: path, Name: "test"})
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, b.Close()) })
	return b
}

// subscribe subscribes, and waits until the server knows of it.
func subscribe(tb testing.TB, b, peer bus.Bus, pattern string) bus.Subscription {
	tb.Helper()
	sub, err := b.Subscribe(tb.Context(), pattern)
	require.NoError(tb, err)
	probe, err := b.Subscribe(tb.Context(), "test.probe")
	require.NoError(tb, err)
	defer probe.Close()
	eventually(tb, "a subscription is known", func() bool {
		require.NoError(tb, peer.Publish(tb.Context(), bus.Event{Topic: "test.probe"}))
		select {
		case _, open := <-probe.Events():
			return open
		case <-time.After(10 * time.Millisecond):
			return false
		}
	})
	return sub
}

// eventually fails the test unless cond becomes true.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	for deadline := time.Now().Add(wait); !cond(); {
		require.True(tb, time.Now().Before(deadline), "not within %v: %s", wait, what)
		pause(5 * time.Millisecond)
	}
}

func pause(d time.Duration) { <-time.After(d) }

// receive returns the next event.
func receive(tb testing.TB, sub bus.Subscription) bus.Event {
	tb.Helper()
	select {
	case ev, open := <-sub.Events():
		require.True(tb, open, "the subscription ended: %v", sub.Err())
		return ev
	case <-time.After(wait):
		require.FailNow(tb, "no event")
		return bus.Event{}
	}
}

// ends fails the test unless the subscription ends; events before are ignored.
func ends(tb testing.TB, sub bus.Subscription, reason error) {
	tb.Helper()
	timeout := time.After(wait)
	for {
		select {
		case _, open := <-sub.Events():
			if !open {
				require.ErrorIs(tb, sub.Err(), reason)
				return
			}
		case <-timeout:
			require.FailNow(tb, "the subscription does not end")
		}
	}
}
