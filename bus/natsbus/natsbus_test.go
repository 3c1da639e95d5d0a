package natsbus_test

import (
	"testing"

	"github.com/nats-io/nats-server/v2/server"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/natsbus"
)

// A subscription holds heldHere events, and the NATS client holds some that it
// has still to see: not more than heldInAll together, but for those who publish
// faster than events can be decoded.
const heldHere, heldInAll = 500, 1000

// direct is for one connection to the server with the given URL, on subjects
// that nobody else uses.
func direct(serverURL string, unconfirmed bool) bustest.Harness {
	return bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			return connect(tb, natsbus.Options{URL: serverURL, Prefix: prefix(), Buffer: heldHere, Unconfirmed: unconfirmed})
		},
		Buffer: heldInAll,
		Wait:   wait,
	}
}

// relayed is like direct, through a relay that can cut the connection.
func relayed(serverURL string, unconfirmed bool) bustest.Harness {
	relays := make(map[bus.Bus]*relay)
	h := direct("", unconfirmed)
	h.New = func(tb testing.TB) bus.Bus {
		r := through(tb, serverURL)
		b := direct(r.url(), unconfirmed).New(tb)
		relays[b] = r
		return b
	}
	h.Lose = func(_ testing.TB, b bus.Bus) func() {
		relays[b].lose()
		return relays[b].restore
	}
	return h
}

// apart is for publishing on one connection and subscribing on another, to a
// server that nobody else uses and that can be stopped.
func apart() bustest.Harness {
	servers := make(map[bus.Bus]*own)
	return bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			s := start(tb, server.Options{})
			b := connect(tb, natsbus.Options{URL: s.url(), Buffer: heldHere})
			servers[b] = s
			return b
		},
		Peer: func(tb testing.TB, b bus.Bus) bus.Bus {
			return connect(tb, natsbus.Options{URL: servers[b].url()})
		},
		Lose: func(tb testing.TB, b bus.Bus) func() {
			servers[b].stop()
			return func() { servers[b].restart(tb) }
		},
		Buffer: heldInAll,
		Wait:   wait,
	}
}

func TestInstalledServer(t *testing.T) { bustest.Run(t, relayed(installed(t), false)) }

func TestUnconfirmed(t *testing.T) {
	h := relayed(start(t, server.Options{}).url(), true)
	h.Buffer = 2 * heldInAll
	bustest.Run(t, h)
}

func TestTwoConnections(t *testing.T) { bustest.Run(t, apart()) }

func BenchmarkConfirmed(b *testing.B) {
	bustest.Benchmark(b, direct(start(b, server.Options{}).url(), false))
}

func BenchmarkUnconfirmed(b *testing.B) {
	bustest.Benchmark(b, direct(start(b, server.Options{}).url(), true))
}

func BenchmarkInstalledServer(b *testing.B) { bustest.Benchmark(b, direct(installed(b), false)) }
