package natsbus

import (
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

// TestDroppedByClient: what the NATS client drops, which would need 64 MiB of
// events, is counted once.
func TestDroppedByClient(t *testing.T) {
	o := &server.Options{Host: "127.0.0.1", Port: server.RANDOM_PORT, NoLog: true, NoSigs: true}
	s, err := server.NewServer(o)
	require.NoError(t, err)
	s.Start()
	defer s.WaitForShutdown()
	defer s.Shutdown()
	const patience = 30 * time.Second
	require.True(t, s.ReadyForConnections(patience))
	ignore := func(*nats.Conn, *nats.Subscription, error) {}
	nc, err := nats.Connect(s.ClientURL(), nats.ErrorHandler(ignore))
	require.NoError(t, err)
	defer nc.Close()

	b := new(Bus)
	mailbox := bus.NewMailbox(100, nil)
	receive := b.receiver(mailbox)
	turn := make(chan struct{})
	ns, err := nc.Subscribe("a", func(m *nats.Msg) {
		<-turn
		receive(m)
	})
	require.NoError(t, err)
	require.NoError(t, ns.SetPendingLimits(1, -1))
	for _, want := range []uint64{9, 9 + 9} {
		for range 10 {
			require.NoError(t, nc.Publish("a", []byte(`{}`)))
		}
		require.NoError(t, nc.FlushTimeout(patience))
		turn <- struct{}{}
		<-mailbox.Events()
		require.Equal(t, want, b.Dropped())
		// The client counts what is being received until it asks for the next.
		require.Eventually(t, func() bool {
			n, _, err := ns.Pending()
			return err == nil && n == 0
		}, patience, time.Millisecond)
	}
}
