package unixbus_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

func TestOptions(t *testing.T) {
	for _, name := range []string{"größe", "a\nPUB b", "\x7f", strings.Repeat("n", 256)} {
		_, err := unixbus.New(unixbus.Options{Name: name})
		require.ErrorContains(t, err, "Options.Name", "%.50q", name)
	}
	b, err := unixbus.New(unixbus.Options{Name: strings.Repeat("n", 255), Buffer: -1, Queue: -1, QueueBytes: -1})
	require.NoError(t, err)
	require.NoError(t, b.Close())
}

// TestNoServer: without a server everything fails at once, and says why.
func TestNoServer(t *testing.T) {
	path := socketFile(t)
	b := connect(t, path)
	for range 3 {
		err := b.Publish(t.Context(), bus.Event{Topic: "a"})
		require.ErrorIs(t, err, bus.ErrLost)
		require.ErrorIs(t, err, fs.ErrNotExist)
		require.EqualError(t, err, "bus: connection lost: "+path+": connect: no such file or directory")
		_, err = b.Subscribe(t.Context(), "a")
		require.ErrorIs(t, err, bus.ErrLost)
	}
	start(t, unixbus.ServerOptions{Path: path})
	eventually(t, "the bus connects by itself", func() bool {
		return b.Publish(t.Context(), bus.Event{Topic: "a"}) == nil
	})
	require.Zero(t, b.Dropped())
}

// TestLazy: there is no connection before it is needed, and none afterwards if
// it never was.
func TestLazy(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	idle, used := connect(t, s.Path()), connect(t, s.Path())
	require.NoError(t, used.Publish(t.Context(), bus.Event{Topic: "a"}))
	eventually(t, "one is connected", func() bool { return s.Stats().Conns == 1 })
	require.NoError(t, idle.Close())
	require.NoError(t, used.Close())
	eventually(t, "none is connected", func() bool { return s.Stats().Conns == 0 })
	require.EqualValues(t, 1, s.Stats().Events)
}

// TestOwnEvents: what a bus publishes reaches its own subscriptions as it was
// published, once, and others as the server has stamped it.
func TestOwnEvents(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	b, other := connect(t, s.Path()), connect(t, s.Path())
	own := subscribe(t, b, other, "a.*")
	foreign := subscribe(t, other, b, "a.b")
	ev := bus.Event{ID: "mine", Topic: "a.b", Type: "t", Time: time.Unix(1, 5).UTC(), Payload: payload(100)}
	require.NoError(t, b.Publish(t.Context(), ev))
	require.NoError(t, other.Publish(t.Context(), bus.Event{Topic: "a.end"}))
	require.Equal(t, ev, receive(t, own))
	require.Equal(t, "a.end", receive(t, own).Topic)
	got := receive(t, foreign)
	require.NotEqual(t, "mine", got.ID)
	require.WithinDuration(t, time.Now(), got.Time, time.Minute)
	got.ID, got.Time = ev.ID, ev.Time
	require.Equal(t, ev, got)
}

// TestSlowSubscriber: who does not read from a subscription loses what is
// oldest, which is counted.
func TestSlowSubscriber(t *testing.T) {
	s := start(t, unixbus.ServerOptions{})
	publisher := connect(t, s.Path())
	b, err := unixbus.New(unixbus.Options{Path: s.Path(), Buffer: 10})
	require.NoError(t, err)
	defer b.Close()
	slow := subscribe(t, b, publisher, "a")
	quick := subscribe(t, b, publisher, "a")
	for n := range 100 {
		require.NoError(t, publisher.Publish(t.Context(), bus.Event{Topic: "a", Type: fmt.Sprint(n)}))
		require.Equal(t, fmt.Sprint(n), receive(t, quick).Type)
	}
	// The subscription made first is served first.
	require.EqualValues(t, 90, b.Dropped())
	for n := 90; n < 100; n++ {
		require.Equal(t, fmt.Sprint(n), receive(t, slow).Type)
	}
}

// TestDeafServer: a server that accepts and does not read holds up nobody.
func TestDeafServer(t *testing.T) {
	path := socketFile(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	b := connect(t, path)
	started := time.Now()
	const count = 20_000
	var slowest time.Duration
	for range count {
		before := time.Now()
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a", Payload: payload(256)}))
		slowest = max(slowest, time.Since(before))
	}
	t.Logf("%d events in %v, the slowest in %v; %d dropped", count, time.Since(started), slowest, b.Dropped())
	require.Less(t, time.Since(started), wait)
	require.Greater(t, b.Dropped(), uint64(count/2))
	dropped := b.Dropped()

	// It wakes up, and gets all the others in their order.
	conn, err := l.Accept()
	require.NoError(t, err)
	r := &raw{t, path, conn}
	defer r.Close()
	r.expect("HELLO test")
	var ids []string
	for range count - int(dropped) {
		ids = append(ids, r.expect("PUB a").ID)
	}
	slices.Sort(ids)
	require.Len(t, slices.Compact(ids), count-int(dropped))
}

// TestServerGoes: calls that wait for a server that goes away return.
func TestServerGoes(t *testing.T) {
	for range 10 {
		s := start(t, unixbus.ServerOptions{})
		b := connect(t, s.Path())
		sub := subscribe(t, b, connect(t, s.Path()), "a")
		var publishing sync.WaitGroup
		errs := make(chan error, 8)
		begun := make(chan struct{}, cap(errs))
		for range cap(errs) {
			publishing.Go(func() {
				for n := 0; ; n++ {
					if err := b.Publish(context.Background(), bus.Event{Topic: "b", Payload: payload(1000)}); err != nil {
						errs <- err
						return
					}
					if n == 3 {
						begun <- struct{}{}
					}
				}
			})
		}
		for range cap(begun) {
			<-begun
		}
		s.stop(t)
		for range cap(errs) {
			require.ErrorIs(t, <-errs, bus.ErrLost)
		}
		publishing.Wait()
		ends(t, sub, bus.ErrLost)
		require.NoError(t, b.Close())
		require.ErrorIs(t, sub.Err(), bus.ErrLost)
		require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), bus.ErrClosed)
	}
}

// TestContext: what can be refused is, before anything else happens.
func TestContext(t *testing.T) {
	b := connect(t, socketFile(t))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.Publish(ctx, bus.Event{Topic: "a"}), context.Canceled)
	_, err := b.Subscribe(ctx, "a")
	require.ErrorIs(t, err, context.Canceled)
	require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: "ö"}), bus.ErrInvalid) // before anything is tried
	require.EqualError(t, b.Publish(t.Context(), bus.Event{Topic: "ö"}), `bus: invalid topic "ö": the wire is ASCII`)
	_, err = b.Subscribe(t.Context(), "ö.*")
	require.EqualError(t, err, `bus: invalid pattern "ö.*": the wire is ASCII`)
}

// TestRestarts restarts the server twenty times while clients publish and
// subscribe all the time, and measures how long it takes until events pass
// again.
func TestRestarts(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	path := socketFile(t)
	serve := func() *server { return start(t, unixbus.ServerOptions{Path: path}) }
	s := serve()
	publisher, subscriber := connect(t, path), connect(t, path)

	ctx, cancel := context.WithCancel(t.Context())
	var (
		working  sync.WaitGroup
		received atomic.Uint64 // events
		lost     atomic.Uint64 // calls that failed, and subscriptions that ended
	)
	failed := func(err error) {
		if !errors.Is(err, bus.ErrLost) && ctx.Err() == nil {
			t.Errorf("an error that is not %v: %v", bus.ErrLost, err)
		}
		lost.Add(1)
	}
	for range 4 {
		working.Go(func() {
			for ctx.Err() == nil {
				if err := publisher.Publish(ctx, bus.Event{Topic: "load", Payload: payload(256)}); err != nil {
					failed(err)
					pause(time.Millisecond)
				}
			}
		})
	}
	for range 2 {
		working.Go(func() {
			for ctx.Err() == nil {
				sub, err := subscriber.Subscribe(ctx, "load")
				if err != nil {
					failed(err)
					pause(time.Millisecond)
					continue
				}
				for open := true; open; {
					select {
					case _, open = <-sub.Events():
						received.Add(1)
					case <-ctx.Done():
						open = false
					}
				}
				if err := sub.Err(); err != nil {
					failed(err)
				}
				_ = sub.Close()
			}
		})
	}
	arrive := func() {
		before := received.Load()
		eventually(t, "events pass", func() bool { return received.Load() > before+10 })
	}
	arrive()
	var back []time.Duration
	for range 20 {
		s.stop(t)
		before := received.Load()
		s = serve()
		started := time.Now()
		for received.Load() <= before+10 {
			require.Less(t, time.Since(started), wait, "events do not pass any more")
			pause(time.Millisecond)
		}
		back = append(back, time.Since(started))
	}
	cancel()
	working.Wait()
	slices.Sort(back)
	t.Logf("back after %v, at most %v; %d events received; %d calls and subscriptions lost",
		back[len(back)/2], back[len(back)-1], received.Load(), lost.Load())
	require.NotZero(t, lost.Load())
	require.NoError(t, publisher.Close())
	require.NoError(t, subscriber.Close())
	s.stop(t)
	require.NoError(t, os.RemoveAll(path))
}

// TestLatencyUnderAttack measures how long events take while hostile clients do
// their worst, and while they do not. There are ENRICH_TEST_CLIENTS of them, by
// default 2,000, that stay, and as many that come and go as fit in.
func TestLatencyUnderAttack(t *testing.T) {
	if testing.Short() {
		t.Skip("opens thousands of connections")
	}
	clients := 2000
	if text := os.Getenv("ENRICH_TEST_CLIENTS"); text != "" {
		var err error
		clients, err = strconv.Atoi(text)
		require.NoError(t, err)
	}
	s := start(t, unixbus.ServerOptions{})
	publisher, subscriber := connect(t, s.Path()), connect(t, s.Path())
	sub := subscribe(t, subscriber, publisher, "good")
	measure := func() (p50, p99 time.Duration) {
		const count = 20_000
		var took []time.Duration
		for range count {
			before := time.Now()
			require.NoError(t, publisher.Publish(t.Context(), bus.Event{Topic: "good", Payload: payload(256)}))
			receive(t, sub)
			took = append(took, time.Since(before))
		}
		slices.Sort(took)
		return took[count/2], took[count*99/100]
	}
	var peace time.Duration
	report := func(what string) {
		p50, p99 := measure()
		peace = cmp.Or(peace, p99)
		now := heap()
		t.Logf("%s: p50 %v, p99 %v, %.1f times that in peace; heap %d KiB, %d connections, %d refused",
			what, p50, p99, float64(p99)/float64(peace), now>>10, s.Stats().Conns, s.Stats().Refused)
		require.Less(t, now, uint64(32<<20+clients*20<<10))
	}
	report("in peace")
	for n := range 100 {
		deaf := dial(t, s.Path())
		deaf.send(frame("SUB nothing.>", ""), frame(fmt.Sprintf("SUB good.%d", n), ""))
		watch(t, s.Path(), "flood")
	}
	for range 3000 {
		require.NoError(t, publisher.Publish(t.Context(), bus.Event{Topic: "flood", Payload: payload(256)}))
	}
	report("100 that read nothing of a flood")
	startCrowd(t, s.Path(), clients)
	report(fmt.Sprintf("and %d that say half of something or nothing, beside random bytes and lengths of 4 GiB", clients))
	require.GreaterOrEqual(t, s.Stats().Conns, clients)
	require.NotZero(t, s.Stats().Refused)
	require.Zero(t, subscriber.Dropped())
}
