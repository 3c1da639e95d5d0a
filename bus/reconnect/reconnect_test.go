package reconnect_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/reconnect"
)

const least, most = 50 * time.Millisecond, 2 * time.Second

var (
	errDown = errors.New("nobody listens")
	errLost = errors.New("lost")
)

// wire is a connection that lasts until break is closed.
type wire struct {
	broken chan struct{}
	ended  error
}

func (w *wire) Serve(ctx context.Context) error {
	select {
	case <-w.broken:
	case <-ctx.Done():
	}
	return errLost
}

func (w *wire) End(reason error) { w.ended = reason }

// TestKeeper: the first attempt is waited for, a later one is not, and the delays grow
// until a connection has lasted.
func TestKeeper(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var (
			mu    sync.Mutex
			dials []time.Duration
			up    *wire // what the next attempt gives
		)
		started := time.Now()
		k := reconnect.New(func(context.Context) (*wire, error) {
			time.Sleep(time.Millisecond)
			mu.Lock()
			defer mu.Unlock()
			dials = append(dials, time.Since(started))
			if up == nil {
				return nil, errDown
			}
			return up, nil
		}, least, most)
		// after lets time pass, and then the next attempts give a connection.
		after := func(d time.Duration, next *wire) []time.Duration {
			time.Sleep(d)
			mu.Lock()
			defer mu.Unlock()
			up = next
			return slices.Clone(dials)
		}
		_, err := k.Get(t.Context())
		require.ErrorIs(t, err, errDown)
		require.Equal(t, time.Millisecond, time.Since(started), "the first attempt is waited for")
		_, err = k.Get(t.Context())
		require.ErrorIs(t, err, errDown)
		require.Equal(t, time.Millisecond, time.Since(started), "no other is")

		first, last := &wire{broken: make(chan struct{})}, &wire{broken: make(chan struct{})}
		at := after(time.Minute, first)
		require.Less(t, at[1]-at[0], least+2*time.Millisecond)
		require.Greater(t, at[len(at)-1]-at[len(at)-2], most*3/4)
		before := len(after(most+time.Second, nil))
		got, err := k.Get(t.Context())
		require.NoError(t, err)
		require.Same(t, first, got)

		time.Sleep(most)
		lost := time.Since(started)
		close(first.broken)
		synctest.Wait()
		require.Equal(t, errLost, first.ended)
		_, err = k.Get(t.Context())
		require.ErrorIs(t, err, errLost)
		at = after(time.Second, last)
		require.Less(t, at[before]-lost, least+2*time.Millisecond, "it had lasted, so the delays begin anew")

		time.Sleep(2 * most)
		var drained *wire
		k.Close(func(w *wire) { drained = w })
		require.Same(t, last, drained)
		require.Equal(t, bus.ErrClosed, last.ended)
		require.True(t, k.Closed())
		_, err = k.Get(t.Context())
		require.Equal(t, bus.ErrClosed, err)
	})
}

// TestKeeperCloses: Close ends an attempt to connect, and what that has connected in
// the last moment.
func TestKeeperCloses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		late := &wire{broken: make(chan struct{})}
		k := reconnect.New(func(ctx context.Context) (*wire, error) {
			<-ctx.Done()
			return late, nil
		}, least, most)
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := k.Get(ctx)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		k.Close(func(*wire) { t.Error("it is connected too late to be drained") })
		require.Equal(t, bus.ErrClosed, late.ended)

		unused := reconnect.New(func(context.Context) (*wire, error) { panic("never called") }, least, most)
		unused.Close(nil)
		_, err = unused.Get(t.Context())
		require.Equal(t, bus.ErrClosed, err)
	})
}
