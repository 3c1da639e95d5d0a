package main

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// systemd plays the service manager at a socket of its own.
type systemd struct {
	*testing.T
	conn *net.UnixConn
}

func newSystemd(t *testing.T, socket string) *systemd {
	t.Helper()
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.SetReadDeadline(time.Now().Add(wait)))
	return &systemd{t, conn}
}

// next returns the next state that the service tells.
func (s *systemd) next() string {
	s.Helper()
	b := make([]byte, 4096)
	n, err := s.conn.Read(b)
	require.NoError(s, err)
	return string(b[:n])
}

// until waits for a state.
func (s *systemd) until(state string) {
	s.Helper()
	for !strings.HasPrefix(s.next(), state) {
	}
}

func TestSystemd(t *testing.T) {
	s := newSite(t, upstream.Options{})
	socket := filepath.Join(filepath.Dir(s.file), "notify.sock")
	manager := newSystemd(t, socket)
	s.env["NOTIFY_SOCKET"], s.env["WATCHDOG_USEC"] = socket, "400000"
	p := s.start()
	require.Equal(t, "STATUS=Waiting for the database", manager.next())
	require.Equal(t, "READY=1\nSTATUS=Enriching", manager.next())
	for range 3 {
		manager.until("WATCHDOG=1")
	}
	p.signal(syscall.SIGTERM)
	manager.until("STOPPING=1")
	require.Equal(t, exitOK, p.code(), p.output())
}

func TestAbstractSocket(t *testing.T) {
	name := "@enrichd-test-" + strconv.Itoa(os.Getpid())
	manager := newSystemd(t, name)
	n, err := newNotifier(setting(map[string]string{"NOTIFY_SOCKET": name}))
	require.NoError(t, err)
	defer n.close()
	require.Zero(t, n.watchdog)
	n.send("READY=1")
	require.Equal(t, "READY=1", manager.next())
}

func TestWatchdogInterval(t *testing.T) {
	name := "@enrichd-test-interval-" + strconv.Itoa(os.Getpid())
	newSystemd(t, name)
	for _, c := range []struct {
		usec, pid string
		want      time.Duration
	}{
		{"", "", 0}, {"3000000", "", 3 * time.Second}, {"3000000", strconv.Itoa(os.Getpid()), 3 * time.Second},
		{"3000000", "1", 0}, {"-1", "", 0}, {"soon", "", 0},
	} {
		n, err := newNotifier(setting(map[string]string{"NOTIFY_SOCKET": name, "WATCHDOG_USEC": c.usec, "WATCHDOG_PID": c.pid}))
		require.NoError(t, err)
		require.Equal(t, c.want, n.watchdog, c)
		n.close()
	}
	n, err := newNotifier(setting(nil))
	require.NoError(t, err)
	n.send("READY=1") // to nobody
	n.close()
}

// TestWatchdogNeedsProgress: a worker that hangs gives no sign of life, whatever
// else goes on.
func TestWatchdogNeedsProgress(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var p pulse
		hooks := p.hooks()
		var hangs atomic.Bool
		wake := func() { // a worker looks when it is woken
			if !hangs.Load() {
				hooks.Pass(intel.PassInfo{Err: errors.New("the database is down")}) // which no restart mends
			}
		}
		conn := &counter{}
		n := &notifier{conn: conn, watchdog: 2 * time.Minute}
		done := make(chan struct{})
		go func() {
			defer close(done)
			n.watch(ctx, &p, wake)
		}()
		signs := func(d time.Duration) int {
			before := conn.writes.Load()
			time.Sleep(d)
			synctest.Wait()
			return int(conn.writes.Load() - before)
		}
		require.GreaterOrEqual(t, signs(time.Hour), 118, "every 30 s")
		hangs.Store(true)
		require.LessOrEqual(t, signs(time.Minute), 2)
		require.Zero(t, signs(time.Hour))
		hooks.Saved(intel.SavedInfo{}) // long passes save
		require.Equal(t, 1, signs(time.Hour))
		cancel()
		<-done
	})
}

// counter counts writes.
type counter struct {
	net.Conn
	writes atomic.Int64
}

func (c *counter) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return len(b), nil
}

func TestReady(t *testing.T) {
	var p pulse
	require.Error(t, p.ready())
	hooks := p.hooks()
	hooks.Pass(intel.PassInfo{})
	require.NoError(t, p.ready())
	down := errors.New("down")
	hooks.Pass(intel.PassInfo{Err: down})
	require.ErrorIs(t, p.ready(), down)
}
