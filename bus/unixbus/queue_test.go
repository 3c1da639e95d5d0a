package unixbus

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestQueue(t *testing.T) {
	q := queue{maxFrames: 3, maxBytes: 10}
	push := func(n int, tag byte) int { return q.push(slices.Repeat([]byte{tag}, n)) }
	content := func() (s string) {
		for _, f := range q.frames[q.head:] {
			s += string(f[:1])
		}
		return s
	}
	require.Zero(t, push(1, 'a')+push(1, 'b')+push(1, 'c'))
	require.Equal(t, 1, push(1, 'd'))
	require.Equal(t, "bcd", content())
	require.Equal(t, 1, push(8, 'e'))
	require.Equal(t, "cde", content())
	require.Equal(t, 10, q.bytes)
	require.Equal(t, 3, push(100, 'f')) // alone, it may be as long as it wants
	require.Equal(t, "f", content())
	require.Equal(t, 1, push(1, 'g'))
	require.Equal(t, 1, q.clear())
	require.Zero(t, q.len())
	require.Zero(t, q.bytes)
}

// TestQueueModel compares a queue with a list.
func TestQueueModel(t *testing.T) {
	q := queue{maxFrames: 100, maxBytes: 1000}
	var model []int
	next := 0
	for i := range 30_000 {
		if i%7 < 4+i/10_000%3-1 {
			size := 4 + next%13
			f := make([]byte, size)
			f[0], f[1], f[2] = byte(next), byte(next>>8), byte(next>>16)
			dropped := q.push(f)
			model = append(model[dropped:], next)
			next++
		} else if len(model) > 0 {
			f := q.pop()
			require.Equal(t, model[0], int(f[0])|int(f[1])<<8|int(f[2])<<16)
			model = model[1:]
		}
		require.Equal(t, len(model), q.len())
		require.LessOrEqual(t, q.len(), 100)
		require.LessOrEqual(t, q.bytes, 1000)
		require.LessOrEqual(t, len(q.frames), 256, "it grows without end")
	}
}

func TestBatch(t *testing.T) {
	q := queue{maxFrames: 1024, maxBytes: 64 << 20}
	for range 10 {
		q.push(make([]byte, maxBatch/4))
	}
	q.push(make([]byte, maxFrame))
	var sizes []int
	for q.len() > 0 {
		sizes = append(sizes, len(q.batch(nil)))
	}
	require.Equal(t, []int{4, 4, 2, 1}, sizes)
}
