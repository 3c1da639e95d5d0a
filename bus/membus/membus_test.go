package membus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

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

func TestDropped(t *testing.T) {
	b := membus.New(membus.Options{Buffer: 3})
	_, err := b.Subscribe(t.Context(), "a")
	require.NoError(t, err)
	_, err = b.Subscribe(t.Context(), ">")
	require.NoError(t, err)
	for range 10 {
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "a"}))
	}
	require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: "b"}))
	require.EqualValues(t, 7+8, b.Dropped())
}

func TestDefaultBuffer(t *testing.T) {
	for _, buffer := range []int{0, -1, bus.DefaultBuffer} {
		sub, err := membus.New(membus.Options{Buffer: buffer}).Subscribe(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, bus.DefaultBuffer, cap(sub.Events()))
	}
}

// TestClosedIsNotLost: a closed bus can neither be lost nor restored.
func TestClosedIsNotLost(t *testing.T) {
	b := membus.New(membus.Options{})
	sub, err := b.Subscribe(t.Context(), "a")
	require.NoError(t, err)
	require.NoError(t, b.Close())
	for _, change := range []func(){b.Lose, b.Restore} {
		change()
		require.ErrorIs(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), bus.ErrClosed)
		require.ErrorIs(t, sub.Err(), bus.ErrClosed)
	}
}
