package unixbus_test

import (
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

// listenOn makes a server listen and closes it at the end of the test.
func listenOn(tb testing.TB, o unixbus.ServerOptions) (*unixbus.Server, error) {
	tb.Helper()
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s := unixbus.NewServer(o)
	tb.Cleanup(func() { require.NoError(tb, s.Close()) })
	return s, s.Listen()
}

// only requires a directory to hold nothing else than the given files.
func only(tb testing.TB, dir string, names ...string) {
	tb.Helper()
	entries, err := os.ReadDir(dir)
	require.NoError(tb, err)
	var found []string
	for _, e := range entries {
		found = append(found, e.Name())
	}
	require.ElementsMatch(tb, names, found)
}

func TestSocketFile(t *testing.T) {
	old := syscall.Umask(0) // the socket is closed to others whatever this is
	defer syscall.Umask(old)
	path := socketFile(t)
	s, err := listenOn(t, unixbus.ServerOptions{Path: path})
	require.NoError(t, err)
	info, err := os.Lstat(path)
	require.NoError(t, err)
	require.Equal(t, fs.ModeSocket|0o660, info.Mode())
	only(t, filepath.Dir(path), "bus.sock")
	require.NoError(t, s.Close())
	only(t, filepath.Dir(path))
}

// stale leaves a socket file behind, as a server that was killed does.
func stale(tb testing.TB, path string) {
	tb.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	require.NoError(tb, err)
	l.SetUnlinkOnClose(false)
	require.NoError(tb, l.Close())
	_, err = os.Lstat(path)
	require.NoError(tb, err)
}

func TestStaleSocket(t *testing.T) {
	path := socketFile(t)
	stale(t, path)
	s := start(t, unixbus.ServerOptions{Path: path})
	require.NoError(t, connect(t, path).Publish(t.Context(), bus.Event{Topic: "a"}))
	only(t, filepath.Dir(path), "bus.sock")
	s.stop(t)
	only(t, filepath.Dir(path))
}

func TestLiveSocket(t *testing.T) {
	first := start(t, unixbus.ServerOptions{})
	_, err := listenOn(t, unixbus.ServerOptions{Path: first.Path()})
	require.ErrorIs(t, err, unixbus.ErrInUse)
	require.EqualError(t, err, first.Path()+": another server listens on this socket; stop the other server, or choose another path")
	require.NoError(t, connect(t, first.Path()).Publish(t.Context(), bus.Event{Topic: "a"}))
	only(t, filepath.Dir(first.Path()), "bus.sock")

	// Also one that is no bus and does not accept.
	path := socketFile(t)
	l, err := net.Listen("unix", path)
	require.NoError(t, err)
	defer l.Close()
	_, err = listenOn(t, unixbus.ServerOptions{Path: path})
	require.ErrorIs(t, err, unixbus.ErrInUse)
}

// TestRace: of many servers that start on a stale socket at once, one wins.
func TestRace(t *testing.T) {
	for range 20 {
		path := socketFile(t)
		stale(t, path)
		errs := make(chan error, 8)
		for range cap(errs) {
			s := unixbus.NewServer(unixbus.ServerOptions{Path: path, Log: slog.New(slog.DiscardHandler)})
			defer s.Close()
			go func() { errs <- s.Listen() }()
		}
		winners := 0
		for range cap(errs) {
			if err := <-errs; err == nil {
				winners++
			} else {
				require.ErrorIs(t, err, unixbus.ErrInUse)
			}
		}
		require.Equal(t, 1, winners)
		conn, err := net.Dial("unix", path)
		require.NoError(t, err)
		require.NoError(t, conn.Close())
		only(t, filepath.Dir(path), "bus.sock")
	}
}

// TestSuccessor: a server removes its own socket file and nobody else's.
func TestSuccessor(t *testing.T) {
	path := socketFile(t)
	s, err := listenOn(t, unixbus.ServerOptions{Path: path})
	require.NoError(t, err)
	require.NoError(t, os.Remove(path))
	start(t, unixbus.ServerOptions{Path: path})
	require.NoError(t, s.Close())
	require.NoError(t, connect(t, path).Publish(t.Context(), bus.Event{Topic: "a"}))
}

func TestNotASocket(t *testing.T) {
	path := socketFile(t)
	require.NoError(t, os.WriteFile(path, []byte("precious"), 0o600))
	_, err := listenOn(t, unixbus.ServerOptions{Path: path})
	require.EqualError(t, err, path+" is there and is not a socket; remove it, or choose another path")
	content, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, "precious", string(content))

	link := filepath.Join(filepath.Dir(path), "link") // not followed
	require.NoError(t, os.Symlink(path, link))
	_, err = listenOn(t, unixbus.ServerOptions{Path: link})
	require.ErrorContains(t, err, "is not a socket")
}

func TestDirectory(t *testing.T) {
	dir := filepath.Dir(socketFile(t))
	path := filepath.Join(dir, "new", "bus.sock")
	_, err := listenOn(t, unixbus.ServerOptions{Path: path})
	require.NoError(t, err)
	info, err := os.Stat(filepath.Dir(path))
	require.NoError(t, err)
	require.Equal(t, fs.ModeDir|0o750, info.Mode())

	_, err = listenOn(t, unixbus.ServerOptions{Path: filepath.Join(dir, "not", "there", "bus.sock")})
	require.ErrorIs(t, err, fs.ErrNotExist)
	require.ErrorContains(t, err, "directory of the socket")

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, nil, 0o600))
	_, err = listenOn(t, unixbus.ServerOptions{Path: filepath.Join(file, "bus.sock")})
	require.ErrorIs(t, err, syscall.ENOTDIR)

	_, err = listenOn(t, unixbus.ServerOptions{Path: filepath.Join(dir, strings.Repeat("x", 100))})
	require.ErrorContains(t, err, "too long for a socket")
	only(t, dir, "new", "file")
}

func TestGroup(t *testing.T) {
	gid := func(path string) int {
		info, err := os.Stat(path)
		require.NoError(t, err)
		return int(info.Sys().(*syscall.Stat_t).Gid)
	}
	// A group that this process may give a file to.
	groups, err := os.Getgroups()
	require.NoError(t, err)
	if os.Getuid() == 0 {
		groups = []int{1, 2, 3, 4, 5}
	}
	for _, id := range groups {
		g, err := user.LookupGroupId(strconv.Itoa(id))
		if err != nil {
			continue
		}
		path := filepath.Join(filepath.Dir(socketFile(t)), "new", "bus.sock")
		_, err = listenOn(t, unixbus.ServerOptions{Path: path, Group: g.Name})
		require.NoError(t, err)
		require.Equal(t, id, gid(path))
		require.Equal(t, id, gid(filepath.Dir(path)))
	}
	path := socketFile(t)
	_, err = listenOn(t, unixbus.ServerOptions{Path: path, Group: "no-such-group"})
	require.NoError(t, err)
	require.Equal(t, gid(filepath.Dir(path)), gid(path))
}

func TestSocketPath(t *testing.T) {
	t.Setenv("DECNET_BUS_SOCKET", "/elsewhere/b.sock")
	require.Equal(t, "/elsewhere/b.sock", unixbus.SocketPath())
	require.Equal(t, "/elsewhere/b.sock", unixbus.NewServer(unixbus.ServerOptions{}).Path())
	b, err := unixbus.New(unixbus.Options{})
	require.NoError(t, err)
	defer b.Close()
	require.ErrorContains(t, b.Publish(t.Context(), bus.Event{Topic: "a"}), "/elsewhere/b.sock")

	t.Setenv("DECNET_BUS_SOCKET", "")
	home, runtime := t.TempDir(), t.TempDir()
	t.Setenv("HOME", home)
	require.Equal(t, filepath.Join(runtime, "bus.sock"), unixbus.SocketPathIn(runtime))
	inHome := filepath.Join(home, ".decnet", "bus.sock")
	require.Equal(t, inHome, unixbus.SocketPathIn(filepath.Join(runtime, "missing")))
	require.Contains(t, []string{"/run/decnet/bus.sock", inHome}, unixbus.SocketPath())
	if os.Getuid() != 0 {
		require.NoError(t, os.Chmod(runtime, 0o500))
		require.Equal(t, inHome, unixbus.SocketPathIn(runtime))
	}
	t.Setenv("HOME", "")
	require.Equal(t, filepath.Join(runtime, "missing", "bus.sock"), unixbus.SocketPathIn(filepath.Join(runtime, "missing")))
}
