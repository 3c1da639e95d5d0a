package unixbus_test

import (
	"context"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
	"github.com/decnet/enrich/internal/logtest"
)

// TestPathLost: a server whose path was removed or taken says so and ends.
func TestPathLost(t *testing.T) {
	for name, c := range map[string]struct {
		take func(path string) error
		want string
	}{
		"removed":   {os.Remove, "was removed"},
		"directory": {func(path string) error { return os.RemoveAll(filepath.Dir(path)) }, "was removed"},
		"taken": {func(path string) error {
			if err := os.Remove(path); err != nil {
				return err
			}
			l, err := net.Listen("unix", path)
			if err == nil {
				t.Cleanup(func() { _ = l.Close() })
			}
			return err
		}, "another process"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var log logtest.Log
			s := unixbus.NewServer(unixbus.ServerOptions{Path: socketFile(t), Log: log.Logger()})
			require.NoError(t, s.Listen())
			served := make(chan error, 1)
			go func() { served <- s.Serve(context.Background()) }()
			r := watch(t, s.Path(), ">")
			require.NoError(t, c.take(s.Path()))
			select {
			case err := <-served:
				require.ErrorIs(t, err, unixbus.ErrPathLost)
				require.ErrorContains(t, err, c.want)
			case <-time.After(10 * time.Second):
				require.Fail(t, "the server goes on")
			}
			require.Contains(t, log.String(), c.want)
			r.expect("BYE")
		})
	}
}

// TestLockHeld: a lock that another process holds is waited for, but not for
// ever, and Close and the context end the wait.
func TestLockHeld(t *testing.T) {
	path := socketFile(t)
	dir, err := os.Open(filepath.Dir(path))
	require.NoError(t, err)
	defer dir.Close()
	require.NoError(t, syscall.Flock(int(dir.Fd()), syscall.LOCK_EX))
	quiet := slog.New(slog.DiscardHandler)

	started := time.Now()
	s := unixbus.NewServer(unixbus.ServerOptions{Path: path, Log: quiet})
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.NoError(t, s.Serve(ctx))
	require.Less(t, time.Since(started), 2*time.Second)

	s = unixbus.NewServer(unixbus.ServerOptions{Path: path, Log: quiet})
	err = s.Listen()
	require.ErrorContains(t, err, "another process has held the lock of the directory "+filepath.Dir(path)+" for 5s")
	require.Less(t, time.Since(started), 10*time.Second)

	require.NoError(t, syscall.Flock(int(dir.Fd()), syscall.LOCK_UN))
	require.NoError(t, s.Listen())
	require.NoError(t, s.Close())
}

// TestUmask: the directory of the socket is for the owner and the group whatever
// the umask is.
func TestUmask(t *testing.T) {
	dir := filepath.Join(filepath.Dir(socketFile(t)), "new")
	old := syscall.Umask(0o077)
	_, err := listenOn(t, unixbus.ServerOptions{Path: filepath.Join(dir, "bus.sock")})
	syscall.Umask(old)
	require.NoError(t, err)
	info, err := os.Stat(dir)
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o750, info.Mode())
}

func TestAbstractSocket(t *testing.T) {
	_, err := listenOn(t, unixbus.ServerOptions{Path: "@decnet"})
	require.ErrorContains(t, err, "@decnet: ")
	require.ErrorContains(t, err, "leading @")
	_, err = unixbus.New(unixbus.Options{Path: "@decnet"})
	require.ErrorContains(t, err, "@decnet: ")
	require.ErrorContains(t, err, "leading @")
}

// TestCloseDrains: clients that read get all that is in their queues, however
// long that takes, and a client that does not read holds Close up for a second.
func TestCloseDrains(t *testing.T) {
	s := start(t, unixbus.ServerOptions{QueueBytes: 64 << 20})
	slow, stuck := watch(t, s.Path(), "flood"), watch(t, s.Path(), "flood")
	p := connect(t, s.Path())
	const count = 1024 // as many as there is room for in a queue
	before := s.Stats().Events
	for n := range count {
		require.NoError(t, p.Publish(t.Context(), bus.Event{Topic: "flood", Payload: fmt.Appendf(nil, `{"text":%q}`, strings.Repeat("x", 10_000+n%7))}))
	}
	eventually(t, "all is published", func() bool { return s.Stats().Events >= before+count })
	require.Zero(t, s.Stats().Dropped)
	closed := make(chan time.Duration, 1)
	go func() {
		started := time.Now()
		_ = s.Close()
		closed <- time.Since(started)
	}()
	pace := time.NewTicker(time.Millisecond) // a second in all
	defer pace.Stop()
	for range count {
		<-pace.C
		line, _ := slow.receive()
		require.Equal(t, "EVT flood", line)
	}
	line, _ := slow.receive()
	require.Equal(t, "BYE", line)
	require.Less(t, <-closed, 8*time.Second)
	stuck.ended()
}
