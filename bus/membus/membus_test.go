package membus_test

import (
	"testing"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/bus/membus"
)

// harness makes buses with the given buffer.
func harness(buffer int) bustest.Harness {
	return bustest.Harness{
		New: func(tb testing.TB) bus.Bus {
			b := membus.New(membus.Options{Buffer: buffer})
			tb.Cleanup(func() { _ = b.Close() })
			return b
		},
		Lose: func(_ testing.TB, b bus.Bus) func() {
			b.(*membus.Bus).Lose()
			return b.(*membus.Bus).Restore
		},
		Buffer: buffer,
	}
}

func TestBus(t *testing.T) {
	bustest.Run(t, harness(0))
}

func BenchmarkBus(b *testing.B) {
	bustest.Benchmark(b, harness(0))
}
