//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package flock

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func open(t *testing.T, path string) *os.File {
	t.Helper()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	require.NoError(t, err)
	return f
}

// TestLock: a lock is waited for until it is free, for a time, and until ctx ends.
func TestLock(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	synctest.Test(t, func(t *testing.T) {
		unlock, err := Lock(t.Context(), open(t, path), time.Minute)
		require.NoError(t, err)
		start := time.Now()
		_, err = Lock(t.Context(), open(t, path), time.Minute)
		require.ErrorIs(t, err, ErrHeld)
		require.WithinDuration(t, start.Add(time.Minute), time.Now(), 2*poll)

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err = Lock(ctx, open(t, path), time.Minute)
		require.ErrorIs(t, err, context.DeadlineExceeded)

		start = time.Now()
		time.AfterFunc(time.Second, unlock)
		unlock, err = Lock(t.Context(), open(t, path), time.Minute)
		require.NoError(t, err)
		require.WithinDuration(t, start.Add(time.Second), time.Now(), 2*poll)
		unlock()

		f := open(t, path)
		require.NoError(t, f.Close())
		_, err = Lock(t.Context(), f, time.Minute)
		require.ErrorContains(t, err, path)
	})
}

// TestUnlockedWhileAProcessHasTheFile: a process that got the file from this one, as
// each does while it is being started, does not keep the lock.
func TestUnlockedWhileAProcessHasTheFile(t *testing.T) {
	f := open(t, filepath.Join(t.TempDir(), "lock"))
	unlock, err := Lock(t.Context(), f, time.Minute)
	require.NoError(t, err)
	child := exec.CommandContext(t.Context(), "cat")
	child.ExtraFiles = []*os.File{f}
	in, err := child.StdinPipe()
	require.NoError(t, err)
	require.NoError(t, child.Start())
	unlock()
	unlock, err = Lock(t.Context(), open(t, f.Name()), 0)
	require.NoError(t, err)
	unlock()
	require.NoError(t, in.Close())
	require.NoError(t, child.Wait())
}
