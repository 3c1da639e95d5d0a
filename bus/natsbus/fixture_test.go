package natsbus_test

import (
	"cmp"
	"net"
	"net/url"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/natsbus"
)

// wait is how long a test waits for what has to happen before it gives up.
const wait = 30 * time.Second

// installed returns the URL of the server that is installed, from
// ENRICH_NATS_URL or on its standard port, and skips the test if there is none.
func installed(tb testing.TB) string {
	tb.Helper()
	address := cmp.Or(os.Getenv("ENRICH_NATS_URL"), nats.DefaultURL)
	nc, err := nats.Connect(address, nats.NoReconnect())
	if err != nil {
		const missing = "there is no NATS server at ENRICH_NATS_URL, by default " + nats.DefaultURL
		if os.Getenv("ENRICH_REQUIRE_SERVICES") == "1" {
			require.FailNow(tb, missing, err)
		}
		tb.Skip(missing)
	}
	nc.Close()
	return address
}

// own is a server inside the test.
type own struct {
	*server.Server
	options server.Options
}

// start starts a server, by default on a free port of the loopback interface,
// and stops it at the end of the test.
func start(tb testing.TB, o server.Options) *own {
	tb.Helper()
	o.Host, o.NoLog, o.NoSigs = "127.0.0.1", true, true
	o.Port = cmp.Or(o.Port, server.RANDOM_PORT)
	s := &own{options: o}
	s.restart(tb)
	tb.Cleanup(s.stop)
	return s
}

// stop stops the server, which may have been stopped before.
func (s *own) stop() {
	s.Shutdown()
	s.WaitForShutdown()
}

// restart starts a server again that was stopped.
func (s *own) restart(tb testing.TB) {
	tb.Helper()
	o := s.options
	eventually(tb, "a server has its port", func() bool { // which a client may have at the moment
		var err error
		s.Server, err = server.NewServer(&o)
		require.NoError(tb, err)
		go s.Start()
		return s.ReadyForConnections(time.Second)
	})
	s.options.Port = s.Addr().(*net.TCPAddr).Port
}

// url returns the server's address.
func (s *own) url() string { return s.ClientURL() }

// connect returns a bus that is closed at the end of the test, and that has
// patience with a busy machine unless o says otherwise.
func connect(tb testing.TB, o natsbus.Options) *natsbus.Bus {
	tb.Helper()
	o.Nats = append([]nats.Option{nats.Timeout(wait), nats.FlusherTimeout(wait)}, o.Nats...)
	b, err := natsbus.New(o)
	require.NoError(tb, err)
	tb.Cleanup(func() { require.NoError(tb, b.Close()) })
	return b
}

// prefix returns one that nobody else uses.
func prefix() string { return "enrich_test." + uuid.NewString() }

// client returns a connection that knows nothing of this package.
func client(tb testing.TB, url string) *nats.Conn {
	tb.Helper()
	nc, err := nats.Connect(url, nats.NoReconnect())
	require.NoError(tb, err)
	tb.Cleanup(nc.Close)
	return nc
}

// eventually fails the test unless cond becomes true.
func eventually(tb testing.TB, what string, cond func() bool) {
	tb.Helper()
	timeout := time.After(wait)
	for !cond() {
		select {
		case <-timeout:
			require.FailNow(tb, "not in time: "+what)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func subscribe(tb testing.TB, b bus.Bus, pattern string) bus.Subscription {
	tb.Helper()
	sub, err := b.Subscribe(tb.Context(), pattern)
	require.NoError(tb, err)
	return sub
}

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

// relay passes connections on to a server until it cuts them.
type relay struct {
	tb      testing.TB
	target  string
	address string
	running sync.WaitGroup

	mu     sync.Mutex
	listen net.Listener // nil while connecting is not possible
	conns  map[net.Conn]bool
	held   bool
	freed  *sync.Cond
}

// through returns a relay to the server with the given URL.
func through(tb testing.TB, serverURL string) *relay {
	tb.Helper()
	u, err := url.Parse(serverURL)
	require.NoError(tb, err)
	r := &relay{tb: tb, target: u.Host, address: "127.0.0.1:0", conns: make(map[net.Conn]bool)}
	r.freed = sync.NewCond(&r.mu)
	r.restore()
	tb.Cleanup(func() {
		r.hold(false)
		r.lose()
		r.running.Wait()
	})
	return r
}

func (r *relay) url() string { return "nats://" + r.address }

// restore makes connecting possible.
func (r *relay) restore() {
	listen, err := net.Listen("tcp", r.address)
	require.NoError(r.tb, err)
	r.mu.Lock()
	r.listen, r.address = listen, listen.Addr().String()
	r.mu.Unlock()
	r.running.Go(func() {
		for {
			from, err := listen.Accept()
			if err != nil {
				return
			}
			to, err := net.Dial("tcp", r.target)
			if err != nil {
				_ = from.Close()
				continue
			}
			r.mu.Lock()
			r.conns[from], r.conns[to] = true, true
			lost := r.listen != listen
			r.mu.Unlock()
			if lost {
				r.cut()
			}
			r.running.Go(func() { r.copy(to, from) })
			r.running.Go(func() { r.copy(from, to) })
		}
	})
}

// copy passes on what from sends, until one of the two is closed.
func (r *relay) copy(to, from net.Conn) {
	defer to.Close()
	defer from.Close()
	buf := make([]byte, 4096)
	for {
		n, err := from.Read(buf)
		r.mu.Lock()
		for r.held {
			r.freed.Wait()
		}
		r.mu.Unlock()
		if n > 0 {
			if _, err := to.Write(buf[:n]); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// cut closes every connection, at any place of what is being said.
func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for conn := range r.conns {
		_ = conn.Close()
	}
	clear(r.conns)
}

// lose closes every connection and accepts no more of them.
func (r *relay) lose() {
	r.mu.Lock()
	if r.listen != nil {
		_ = r.listen.Close()
		r.listen = nil
	}
	r.mu.Unlock()
	r.cut()
}

// hold passes nothing on, or goes on passing on.
func (r *relay) hold(held bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = held
	r.freed.Broadcast()
}
