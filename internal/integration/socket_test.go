package integration

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// socket starts a server of DECNET's bus. It returns the path of its socket and
// the events on a topic. The first of them have the payload {}.
func socket(t *testing.T, topic string) (string, <-chan bus.Event) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "bus.sock")
	server := unixbus.NewServer(unixbus.ServerOptions{Path: path, Queue: 1 << 16, QueueBytes: 1 << 28, Log: slog.New(slog.DiscardHandler)})
	require.NoError(t, server.Listen())
	ctx, stop := context.WithCancel(t.Context())
	var serving errgroup.Group
	serving.Go(func() error { return server.Serve(ctx) })
	var clients [2]*unixbus.Bus
	for i := range clients {
		var err error
		clients[i], err = unixbus.New(unixbus.Options{Path: path, Buffer: 1 << 16})
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		for _, b := range clients {
			require.NoError(t, b.Close())
		}
		stop()
		require.NoError(t, serving.Wait())
	})
	sub, err := clients[1].Subscribe(t.Context(), topic)
	require.NoError(t, err)
	// The server has read of the subscription when an event comes through.
	for {
		require.NoError(t, clients[0].Publish(t.Context(), bus.Event{Topic: topic, Payload: []byte("{}")}))
		select {
		case <-sub.Events():
			return path, sub.Events()
		case <-time.After(10 * time.Millisecond):
		}
	}
}
