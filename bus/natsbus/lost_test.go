package natsbus_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/natsbus"
)

// TestRestartUnderLoad restarts the server while four publish and two
// subscribe: each time the subscriptions end, and everything works again.
func TestRestartUnderLoad(t *testing.T) {
	s := start(t, server.Options{})
	ctx, cancel := context.WithCancel(t.Context())
	var (
		load     sync.WaitGroup
		received [2]atomic.Int64
		lost     [2]atomic.Int64
	)
	defer load.Wait()
	defer cancel()
	buses := []*natsbus.Bus{connect(t, natsbus.Options{URL: s.url()}), connect(t, natsbus.Options{URL: s.url()})}
	for i := range 4 {
		load.Go(func() {
			for ctx.Err() == nil {
				err := buses[i%2].Publish(ctx, bus.Event{Topic: "load.test", Payload: []byte(`{"text":"some"}`)})
				if err == nil || errors.Is(err, context.Canceled) {
					continue
				}
				if !errors.Is(err, bus.ErrLost) {
					t.Errorf("Publish: %v", err)
				}
				pause(ctx)
			}
		})
	}
	for i := range 2 {
		load.Go(func() {
			for ctx.Err() == nil {
				sub, err := buses[i].Subscribe(ctx, "load.*")
				if err != nil {
					if !errors.Is(err, bus.ErrLost) && !errors.Is(err, context.Canceled) {
						t.Errorf("Subscribe: %v", err)
					}
					pause(ctx)
					continue
				}
				for ctx.Err() == nil {
					select {
					case <-ctx.Done():
						continue
					case _, open := <-sub.Events():
						if open {
							received[i].Add(1)
							continue
						}
					}
					if err := sub.Err(); !errors.Is(err, bus.ErrLost) {
						t.Errorf("the subscription ended: %v", err)
					}
					lost[i].Add(1)
					break
				}
				_ = sub.Close()
			}
		})
	}
	for restarts := int64(1); restarts <= 5; restarts++ {
		for i := range received {
			before := received[i].Load()
			eventually(t, "events arrive", func() bool { return received[i].Load() >= before+50 })
		}
		s.stop()
		for i := range lost {
			eventually(t, "a subscription ends", func() bool { return lost[i].Load() == restarts })
		}
		require.ErrorIs(t, buses[0].Publish(t.Context(), bus.Event{Topic: "load.test"}), bus.ErrLost)
		s.restart(t)
	}
	for i := range received {
		before := received[i].Load()
		eventually(t, "events arrive after the last restart", func() bool { return received[i].Load() > before })
	}
}

func pause(ctx context.Context) {
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Millisecond):
	}
}

// TestConfirmedIsThere cuts the connection again and again while many publish
// on it: the server has every event that was confirmed.
func TestConfirmedIsThere(t *testing.T) {
	s := start(t, server.Options{})
	var (
		mu   sync.Mutex
		seen = make(map[string]bool)
	)
	witness := client(t, s.url())
	_, err := witness.Subscribe("cut", func(m *nats.Msg) {
		mu.Lock()
		defer mu.Unlock()
		seen[m.Header.Get(nats.MsgIdHdr)] = true
	})
	require.NoError(t, err)
	require.NoError(t, witness.FlushTimeout(wait))

	r := through(t, s.url())
	b := connect(t, natsbus.Options{URL: r.url()})
	var (
		publishers sync.WaitGroup
		confirmed  atomic.Int64
		repeated   atomic.Int64
	)
	const each = 100
	for i := range 4 {
		publishers.Go(func() {
			for n := range each {
				ev := bus.Event{ID: fmt.Sprintf("%d-%d", i, n), Topic: "cut", Payload: json.RawMessage(`{"text":"some"}`)}
				for {
					err := b.Publish(t.Context(), ev)
					if err == nil {
						break
					}
					if !errors.Is(err, bus.ErrLost) {
						t.Errorf("Publish: %v", err)
						return
					}
					repeated.Add(1)
					pause(t.Context())
				}
				if confirmed.Add(1)%80 == 0 {
					r.cut()
				}
			}
		})
	}
	publishers.Wait()
	delivered := make(chan struct{})
	require.NoError(t, witness.FlushTimeout(wait))
	require.NoError(t, witness.Barrier(func() { close(delivered) }))
	<-delivered
	mu.Lock()
	defer mu.Unlock()
	require.Len(t, seen, 4*each)
	require.Positive(t, repeated.Load(), "nothing was cut")
}

// TestHungServer: a server that takes nothing and answers nothing is given up,
// and found again.
func TestHungServer(t *testing.T) {
	r := through(t, start(t, server.Options{}).url())
	limits := []nats.Option{nats.FlusherTimeout(500 * time.Millisecond), nats.Timeout(500 * time.Millisecond)}
	b := connect(t, natsbus.Options{URL: r.url(), Nats: limits})
	var sub bus.Subscription
	eventually(t, "Subscribe works", func() bool { // sooner or later, on a busy machine
		var err error
		sub, err = b.Subscribe(t.Context(), "a")
		return err == nil
	})
	r.hold(true)
	err := b.Publish(t.Context(), bus.Event{Topic: "a"})
	require.ErrorIs(t, err, bus.ErrLost)
	require.ErrorIs(t, err, nats.ErrTimeout)
	ends(t, sub, bus.ErrLost)
	require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), bus.ErrLost)
	r.hold(false)
	eventually(t, "Publish works again", func() bool { return b.Publish(t.Context(), bus.Event{Topic: "a"}) == nil })
}

// TestUnconfirmedIsBounded: a server that takes nothing is noticed, however
// little has been published.
func TestUnconfirmedIsBounded(t *testing.T) {
	r := through(t, start(t, server.Options{}).url())
	b := connect(t, natsbus.Options{URL: r.url(), Unconfirmed: true, Nats: []nats.Option{nats.FlusherTimeout(500 * time.Millisecond)}})
	require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
	r.hold(true)
	defer r.hold(false)
	for n := 1; ; n++ {
		require.LessOrEqual(t, n, 256)
		if err := b.Publish(t.Context(), bus.Event{Topic: "a"}); err != nil {
			require.ErrorIs(t, err, bus.ErrLost)
			break
		}
	}
}

// TestPatienceOfCaller: whoever waits for the server is told when its context
// ends, and nobody else is.
func TestPatienceOfCaller(t *testing.T) {
	r := through(t, start(t, server.Options{}).url())
	b := connect(t, natsbus.Options{URL: r.url()})
	sub := subscribe(t, b, "a")
	r.hold(true)
	other := make(chan error)
	go func() { other <- b.Publish(t.Context(), bus.Event{Topic: "a", ID: "other"}) }()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Publish(ctx, bus.Event{Topic: "a"}), context.DeadlineExceeded)
	_, err := b.Subscribe(ctx, "a")
	require.ErrorIs(t, err, context.DeadlineExceeded)
	r.hold(false)
	require.NoError(t, <-other)
	for receive(t, sub).ID != "other" {
	}
	require.NoError(t, sub.Err())
}

// TestNoServer: a bus is there before its server is.
func TestNoServer(t *testing.T) {
	s := start(t, server.Options{})
	address := s.url()
	s.stop()
	b := connect(t, natsbus.Options{URL: address})
	for range 2 {
		err := b.Publish(t.Context(), bus.Event{Topic: "a"})
		require.ErrorIs(t, err, bus.ErrLost)
		require.ErrorContains(t, err, address)
		_, err = b.Subscribe(t.Context(), "a")
		require.ErrorIs(t, err, bus.ErrLost)
	}
	s.restart(t)
	eventually(t, "Publish works", func() bool { return b.Publish(t.Context(), bus.Event{Topic: "a"}) == nil })
}

// TestOtherServer: of several servers the one that is there is used.
func TestOtherServer(t *testing.T) {
	first, second := start(t, server.Options{}), start(t, server.Options{})
	b := connect(t, natsbus.Options{URL: first.url() + ", " + second.url()})
	for _, s := range []*own{first, second} {
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
		other := map[*own]*own{first: second, second: first}[s]
		s.stop()
		eventually(t, "the other server is used", func() bool { return b.Publish(t.Context(), bus.Event{Topic: "a"}) == nil })
		require.Positive(t, other.NumClients())
		s.restart(t)
	}
}

// TestCloseWithoutServer: Close ends what tries to connect.
func TestCloseWithoutServer(t *testing.T) {
	b, err := natsbus.New(natsbus.Options{URL: "nats://127.0.0.1:1"})
	require.NoError(t, err)
	require.NoError(t, b.Close()) // that never was in use
	require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), bus.ErrClosed)

	r := through(t, start(t, server.Options{}).url())
	r.hold(true) // accepts connections and says nothing
	b, err = natsbus.New(natsbus.Options{URL: r.url(), Nats: []nats.Option{nats.Timeout(200 * time.Millisecond)}})
	require.NoError(t, err)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, b.Publish(ctx, bus.Event{Topic: "a"}), context.DeadlineExceeded)
	require.NoError(t, b.Close())
	_, err = b.Subscribe(t.Context(), "a")
	require.ErrorIs(t, err, bus.ErrClosed)
}

// TestCloseDelivers: what was published without a confirmation is with the
// server when Close returns, and what the server sent before can be received.
func TestCloseDelivers(t *testing.T) {
	s := start(t, server.Options{})
	b := connect(t, natsbus.Options{URL: s.url(), Unconfirmed: true})
	other := connect(t, natsbus.Options{URL: s.url()})
	here, there := subscribe(t, b, "a"), subscribe(t, other, "a")
	for range 200 {
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
	}
	require.NoError(t, b.Close())
	require.Len(t, here.Events(), 200)
	for range 200 {
		receive(t, there)
	}
}
