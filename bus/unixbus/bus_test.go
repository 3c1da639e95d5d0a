package unixbus_test

import (
	"testing"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/unixbus"
)

// setups are the servers of the buses that the suite makes.
type setups map[bus.Bus]*server

// harness is for publishing and subscribing on one client.
func (s setups) harness() bustest.Harness {
	return bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			server := start(tb, unixbus.ServerOptions{})
			b := connect(tb, server.Path())
			s[b] = server
			return b
		},
		Lose: func(tb testing.TB, b bus.Bus) func() {
			s[b].stop(tb)
			return func() { s[b] = start(tb, unixbus.ServerOptions{Path: s[b].Path()}) }
		},
		ASCII: true,
	}
}

// apart is for publishing on one client and subscribing on another, so that
// everything passes through the server.
func (s setups) apart() bustest.Harness {
	h := s.harness()
	h.Peer = func(tb testing.TB, b bus.Bus) bus.Bus {
		return connect(tb, s[b].Path())
	}
	h.Restamps, h.Unacknowledged = true, true
	return h
}

func TestOneClient(t *testing.T) { bustest.Run(t, setups{}.harness()) }

func TestTwoClients(t *testing.T) { bustest.Run(t, setups{}.apart()) }

func BenchmarkOneClient(b *testing.B) { bustest.Benchmark(b, setups{}.harness()) }

func BenchmarkTwoClients(b *testing.B) { bustest.Benchmark(b, setups{}.apart()) }
