//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package feed_test

import (
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/feed"
)

// A named pipe is refused, and nothing waits for its other end.
func TestPipe(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "pipe")
	require.NoError(t, syscall.Mkfifo(path, 0o600))
	o := options(nil)
	o.Sources, o.Operator = []feed.Source{{File: path}}, true
	refreshed := make(chan error, 1)
	go func() { refreshed <- newFeed(t, o).Refresh(t.Context()) }()
	select {
	case err := <-refreshed:
		require.ErrorContains(t, err, "not a regular file")
	case <-time.After(30 * time.Second):
		t.Fatal("it waits for the other end")
	}
}
