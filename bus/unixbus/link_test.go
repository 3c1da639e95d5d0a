package unixbus

import (
	"context"
	"fmt"
	"io"
	"net"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/reconnect"
)

// pair returns a bus that is connected to a server played by the test, over a
// connection that holds nothing: a write takes until it has been read.
func pair(tb testing.TB) (*Bus, net.Conn) {
	tb.Helper()
	b, err := New(Options{Path: "test.sock", Name: "me"})
	require.NoError(tb, err)
	client, server := net.Pipe()
	b.keeper = reconnect.New(func(context.Context) (*link, error) {
		if client == nil {
			return nil, lost(b.path, net.ErrClosed)
		}
		l := newLink(b, client)
		client = nil
		return l, nil
	}, retryMin, retryMax)
	_, err = b.keeper.Get(tb.Context())
	require.NoError(tb, err)
	tb.Cleanup(func() {
		_ = server.Close()
		require.NoError(tb, b.Close())
	})
	return b, server
}

// expect reads frames and requires them to be these.
func expect(tb testing.TB, r *reader, frames ...string) {
	tb.Helper()
	for _, want := range frames {
		f, err := r.next()
		require.NoError(tb, err)
		require.Equal(tb, want, f.verb+" "+string(f.arg))
	}
}

func event(n int) bus.Event { return bus.Event{Topic: fmt.Sprintf("n%d", n)} }

// TestStall is about a server that does not read for a while.
func TestStall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		r := &reader{src: server}
		expect(t, r, "HELLO me")

		started := time.Now()
		require.NoError(t, b.Publish(t.Context(), event(0)))
		require.Equal(t, patience, time.Since(started))
		const count = 3000
		for n := 1; n < count; n++ {
			require.NoError(t, b.Publish(t.Context(), event(n)))
		}
		require.Equal(t, patience, time.Since(started), "only the first one waits")
		require.EqualValues(t, count-1-DefaultQueue, b.Dropped())

		expect(t, r, "PUB n0")
		for n := count - DefaultQueue; n < count; n++ {
			expect(t, r, fmt.Sprintf("PUB n%d", n))
		}
		synctest.Wait()
		published := make(chan error)
		go func() { published <- b.Publish(context.Background(), event(count)) }()
		expect(t, r, fmt.Sprintf("PUB n%d", count))
		require.NoError(t, <-published)
		require.Equal(t, patience, time.Since(started))
		require.EqualValues(t, count-1-DefaultQueue, b.Dropped())
	})
}

// TestStallOfMany: a stall that begins while others wait for their turn holds
// up none of them for longer.
func TestStallOfMany(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		expect(t, &reader{src: server}, "HELLO me")
		started := time.Now()
		published := make(chan error)
		const publishers = 50
		for n := range publishers {
			go func() { published <- b.Publish(t.Context(), event(n)) }()
		}
		for range publishers {
			require.NoError(t, <-published)
		}
		require.Equal(t, patience, time.Since(started))
		require.Zero(t, b.Dropped())
		r := &reader{src: server}
		seen := map[string]bool{}
		for range publishers {
			f, err := r.next()
			require.NoError(t, err)
			seen[string(f.arg)] = true
		}
		require.Len(t, seen, publishers)
	})
}

// TestHung: a server that does not read at all is as good as gone, and with it
// what was in the queue.
func TestHung(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		expect(t, &reader{src: server}, "HELLO me")
		go func() { // it talks, though
			_, _ = server.Write(withPayload(verbEvt, "a", `{}`))
		}()
		for n := range 10 {
			require.NoError(t, b.Publish(t.Context(), event(n)))
		}
		started := time.Now()
		_, err := b.Subscribe(t.Context(), "a")
		require.ErrorIs(t, err, bus.ErrLost)
		require.ErrorIs(t, err, errHung)
		require.Equal(t, hung, time.Since(started))
		require.EqualError(t, err, "bus: connection lost: test.sock: the server has not read for 10s")
		require.ErrorIs(t, b.Publish(t.Context(), event(10)), bus.ErrLost)
		require.EqualValues(t, 10, b.Dropped())
	})
}

func TestSubscribeWhileStalled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		r := &reader{src: server}
		expect(t, r, "HELLO me")
		require.NoError(t, b.Publish(t.Context(), event(0)))

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := b.Subscribe(ctx, "given.up")
		require.ErrorIs(t, err, context.DeadlineExceeded)

		subscribed := make(chan error)
		go func() {
			_, err := b.Subscribe(context.Background(), "a.*")
			subscribed <- err
		}()
		synctest.Wait()
		select {
		case <-subscribed:
			require.Fail(t, "Subscribe returned before it had said so to the server")
		default:
		}
		expect(t, r, "PUB n0", "SUB a.*") // and nothing of the other one
		require.NoError(t, <-subscribed)
	})
}

// TestOnePatternOften: the server hears of a pattern once, and again when
// nobody is left.
func TestOnePatternOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		said := make(chan string, 100)
		go func() {
			defer close(said)
			r := &reader{src: server}
			for {
				f, err := r.next()
				if err != nil {
					return
				}
				said <- f.verb + " " + string(f.arg)
			}
		}()
		var subs []bus.Subscription
		for range 3 {
			sub, err := b.Subscribe(t.Context(), "a.*")
			require.NoError(t, err)
			subs = append(subs, sub)
		}
		for _, sub := range subs {
			require.NoError(t, sub.Close())
			require.NoError(t, sub.Close())
		}
		_, err := b.Subscribe(t.Context(), "a.*")
		require.NoError(t, err)
		require.NoError(t, b.Close())
		var all []string
		for s := range said {
			all = append(all, s)
		}
		require.Equal(t, []string{"HELLO me", "SUB a.*", "UNSUB a.*", "SUB a.*", "BYE "}, all)
	})
}

// TestCloseWhileStalled: Close waits for what is in the queue, but not forever.
func TestCloseWhileStalled(t *testing.T) {
	for _, reads := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			b, server := pair(t)
			r := &reader{src: server}
			expect(t, r, "HELLO me")
			for n := range 3 {
				require.NoError(t, b.Publish(t.Context(), event(n)))
			}
			started, closed := time.Now(), make(chan error)
			go func() { closed <- b.Close() }()
			if reads {
				expect(t, r, "PUB n0", "PUB n1", "PUB n2", "BYE ")
				_, err := r.next()
				require.Equal(t, io.EOF, err)
			}
			require.NoError(t, <-closed)
			if reads {
				require.Zero(t, b.Dropped())
				require.Zero(t, time.Since(started))
			} else {
				require.EqualValues(t, 3, b.Dropped())
				require.Equal(t, grace, time.Since(started))
			}
		})
	}
}

// TestOddServer: what a server says that makes no sense costs nothing else.
func TestOddServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b, server := pair(t)
		r := &reader{src: server}
		expect(t, r, "HELLO me")
		go func() {
			for {
				if _, err := r.next(); err != nil {
					return
				}
			}
		}()
		sub, err := b.Subscribe(t.Context(), ">")
		require.NoError(t, err)
		for _, frame := range []string{
			"HELLO you\n\x00\x00\x00\x00", "PUB a\n\x00\x00\x00\x02{}", "SUB a\n\x00\x00\x00\x00",
			"EVT\n\x00\x00\x00\x00", "EVT a..b\n\x00\x00\x00\x00", "EVT a.*\n\x00\x00\x00\x00", "EVT a\n\x00\x00\x00\x02[]",
			"EVT a\n\x00\x00\x00\x01{", string(withBody("EVT a", `{"payload":[1]}`)),
			string(withBody("EVT a", `{"payload":{"a":1E400}}`)),
			string(withBody("EVT good", `{"id":"x","topic":"bad","ts":1}`)),
			"EVT empty\n\x00\x00\x00\x00",
			"BYE\n\x00\x00\x00\x00",
		} {
			_, err := server.Write([]byte(frame))
			require.NoError(t, err)
		}
		require.Equal(t, bus.Event{ID: "x", Topic: "good", Time: time.Unix(1, 0).UTC()}, <-sub.Events())
		ev := <-sub.Events()
		require.Equal(t, "empty", ev.Topic)
		require.NotEmpty(t, ev.ID)
		require.False(t, ev.Time.IsZero())
		_, open := <-sub.Events()
		require.False(t, open)
		require.ErrorIs(t, sub.Err(), bus.ErrLost)
		require.ErrorIs(t, sub.Err(), errBye)
		require.EqualValues(t, 7, b.Dropped())
	})
}
