package intel

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// TestDeadlines: what starts at nearly the same time shares a deadline, which is
// cheap, and nobody gets less than the timeout.
func TestDeadlines(t *testing.T) {
	const timeout = 10 * time.Second
	synctest.Test(t, func(t *testing.T) {
		parent, cancel := context.WithCancel(t.Context())
		d := newDeadlines(parent, timeout)
		ctx := d.Next(time.Now())
		<-time.After(timeout / 100)
		require.True(t, ctx == d.Next(time.Now()))
		until, _ := ctx.Deadline()
		require.Equal(t, timeout, time.Until(until))

		<-time.After(time.Nanosecond)
		late := d.Next(time.Now())
		require.True(t, ctx != late)
		<-ctx.Done()
		require.ErrorIs(t, context.Cause(ctx), errDeadline)
		require.NoError(t, late.Err())

		cancel()
		require.ErrorIs(t, late.Err(), context.Canceled)
		require.ErrorIs(t, d.Next(time.Now()).Err(), context.Canceled)
	})
}
