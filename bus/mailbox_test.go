package bus_test

import (
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
)

func event(n int) bus.Event { return bus.Event{ID: strconv.Itoa(n)} }

// ids receives from a mailbox that has ended.
func ids(m *bus.Mailbox) (list []string) {
	for ev := range m.Events() {
		list = append(list, ev.ID)
	}
	return list
}

func TestMailboxDropsTheOldest(t *testing.T) {
	m := bus.NewMailbox(3, nil)
	for n := range 5 {
		require.Equal(t, n >= 3, m.Deliver(event(n)))
	}
	require.EqualValues(t, 2, m.Dropped())
	require.NoError(t, m.Err())
	require.NoError(t, m.Close())
	require.False(t, m.Deliver(event(5)), "it has ended")
	require.EqualValues(t, 2, m.Dropped())
	require.Equal(t, []string{"2", "3", "4"}, ids(m), "what was delivered before the end is still there")
}

func TestMailboxBuffer(t *testing.T) {
	for buffer, want := range map[int]int{-1: bus.DefaultBuffer, 0: bus.DefaultBuffer, 1: 1, 7: 7} {
		require.Equal(t, want, cap(bus.NewMailbox(buffer, nil).Events()))
	}
}

func TestMailboxEnd(t *testing.T) {
	left := 0
	leave := func() { left++ }
	lost := fmt.Errorf("%w: it rained", bus.ErrLost)
	for _, tt := range []struct {
		end  func(m *bus.Mailbox) bool
		want error
		left int
	}{
		{func(m *bus.Mailbox) bool { return m.End(lost) }, lost, 0},
		{func(m *bus.Mailbox) bool { return m.End(nil) }, bus.ErrClosed, 0},
		{func(m *bus.Mailbox) bool { return m.Close() == nil }, bus.ErrClosed, 1},
	} {
		left = 0
		m := bus.NewMailbox(1, leave)
		events := m.Events()
		require.True(t, tt.end(m))
		_, open := <-events
		require.False(t, open)
		require.Equal(t, tt.want, m.Err())
		require.False(t, m.End(bus.ErrLost), "the first reason counts")
		require.NoError(t, m.Close())
		require.NoError(t, m.Close())
		require.Equal(t, tt.want, m.Err())
		require.Equal(t, tt.left, left)
	}
}

// Everything at once: what is neither dropped nor refused for having ended
// arrives, once, and in order.
func TestMailboxConcurrently(t *testing.T) {
	const each, publishers = 2000, 4
	left := make(chan struct{})
	m := bus.NewMailbox(8, func() { close(left) })
	var dropped atomic.Uint64
	var publishing sync.WaitGroup
	for p := range publishers {
		publishing.Go(func() {
			for n := range each {
				if m.Deliver(bus.Event{Topic: strconv.Itoa(p), ID: fmt.Sprintf("%06d", n)}) {
					dropped.Add(1)
				}
			}
		})
	}
	go func() {
		publishing.Wait()
		_ = m.Close()
	}()
	last := make(map[string]string)
	received := 0
	for ev := range m.Events() {
		require.Less(t, last[ev.Topic], ev.ID, "of publisher %s", ev.Topic)
		last[ev.Topic] = ev.ID
		received++
	}
	<-left
	require.Equal(t, dropped.Load(), m.Dropped())
	require.EqualValues(t, publishers*each, uint64(received)+m.Dropped())
}

func BenchmarkMailbox(b *testing.B) {
	m := bus.NewMailbox(0, nil)
	ev := event(1)
	b.ReportAllocs()
	for b.Loop() {
		m.Deliver(ev)
		<-m.Events()
	}
}
