package unixbus

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/decnet/enrich/internal/flock"
)

const (
	socketMode = 0o660
	dirMode    = 0o750
	// maxPath is how long the path of a socket may be on every system that has
	// them.
	maxPath = 103
	// lockTimeout is how long a lock may be held by another process.
	lockTimeout = 5 * time.Second
)

// socket is a listener on a path of its own.
type socket struct {
	*net.UnixListener
	path string
	info fs.FileInfo // of the socket file
}

// listen makes a socket at path that its owner and group may connect to. The
// file of a server that is gone is replaced; that of one that lives is not.
//
// The socket is made in a directory that nobody else can enter, and moved to
// its place when it belongs to whom it should.
func listen(ctx context.Context, path, group string, log *slog.Logger) (*socket, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	dir := filepath.Dir(path)
	gid, err := groupID(group)
	if err != nil {
		log.Debug("the socket keeps the group of the process", "group", group, "error", err)
	}
	if err := makeDir(dir, gid, log); err != nil {
		return nil, err
	}
	unlock, err := lock(ctx, dir) // so that two servers do not both find the other's file stale
	if err != nil {
		return nil, err
	}
	defer unlock()
	if err := free(path); err != nil {
		return nil, err
	}
	private, err := os.MkdirTemp(dir, ".b")
	if err != nil {
		return nil, fmt.Errorf("the socket cannot be made: %w", err)
	}
	defer os.RemoveAll(private)
	hidden := filepath.Join(private, "s")
	if n := max(len(path), len(hidden)); n > maxPath {
		return nil, fmt.Errorf("%s: the path is too long for a socket by %d bytes", path, n-maxPath)
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false) // it is elsewhere by then
	info, err := place(hidden, path, gid, log)
	if err != nil {
		_ = l.Close()
		return nil, err
	}
	return &socket{UnixListener: l, path: path, info: info}, nil
}

// place gives a socket to whom it should belong and moves it to path.
func place(hidden, path string, gid int, log *slog.Logger) (fs.FileInfo, error) {
	giveTo(gid, hidden, log)
	if err := os.Chmod(hidden, socketMode); err != nil {
		return nil, err
	}
	info, err := os.Lstat(hidden)
	if err != nil {
		return nil, err
	}
	return info, os.Rename(hidden, path)
}

// giveTo gives a file to a group, if the process may. A gid below zero leaves
// it as it is.
func giveTo(gid int, path string, log *slog.Logger) {
	if gid < 0 {
		return
	}
	if err := os.Chown(path, -1, gid); err != nil {
		log.Warn("the group of the socket cannot be set; only its owner may be able to connect", "error", err)
	}
}

// groupID returns the ID of a group, or -1 and why it has none.
func groupID(name string) (int, error) {
	g, err := user.LookupGroup(name)
	if err != nil {
		return -1, err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return -1, err
	}
	return gid, nil
}

// makeDir makes a directory for the socket if there is none; what it is in must
// exist.
func makeDir(dir string, gid int, log *slog.Logger) error {
	err := os.Mkdir(dir, dirMode)
	switch {
	case errors.Is(err, fs.ErrExist):
		return nil // if it is no directory, that will be noticed
	case err != nil:
		return fmt.Errorf("the directory of the socket cannot be made: %w", err)
	}
	giveTo(gid, dir, log)
	return os.Chmod(dir, dirMode) // the umask may have taken something away
}

// lock makes other servers that want to lock dir wait until unlock is called. Another
// server holds such a lock for milliseconds.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	unlock, err = flock.Lock(ctx, f, lockTimeout)
	if errors.Is(err, flock.ErrHeld) {
		err = fmt.Errorf("another process has held the lock of the directory %s for %v; stop that process, or choose another path", dir, lockTimeout)
	}
	return unlock, err
}

// checkPath returns an error for a path that stands for no file.
func checkPath(path string) error {
	if strings.HasPrefix(path, "@") {
		return fmt.Errorf("%s: the socket is a file; a path with a leading @, for an abstract socket, "+
			"is not supported, because anybody could connect to it", path)
	}
	return nil
}

// free returns nil if a socket may be put at path: there is none, or one that
// nobody listens on.
func free(path string) error {
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case info.Mode()&fs.ModeSocket == 0:
		return fmt.Errorf("%s is there and is not a socket; remove it, or choose another path", path)
	}
	conn, err := net.DialTimeout("unix", path, dialTimeout)
	if err == nil {
		_ = conn.Close()
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("%s: %w; stop the other server, or choose another path", path, ErrInUse)
}

// Close stops listening and removes the file, unless it is another server's by
// now.
func (s *socket) Close() error {
	if info, err := os.Lstat(s.path); err == nil && os.SameFile(info, s.info) {
		_ = os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

// errGone returns an error if the path no longer leads to the socket.
func (s *socket) errGone() error {
	info, err := os.Lstat(s.path)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ENOTDIR):
		return fmt.Errorf("%w: %s was removed", ErrPathLost, s.path)
	case err == nil && !os.SameFile(info, s.info):
		return fmt.Errorf("%w: %s is another process's by now", ErrPathLost, s.path)
	}
	return nil // or it cannot be told
}

// accept returns the next connection. It waits when there are too many files
// open, which passes.
func (s *socket) accept(log *slog.Logger) (net.Conn, error) {
	for delay := 5 * time.Millisecond; ; delay = min(2*delay, time.Second) {
		conn, err := s.Accept()
		if err == nil || errors.Is(err, net.ErrClosed) {
			return conn, err
		}
		if delay >= 500*time.Millisecond {
			log.Warn("cannot accept connections; trying again", "error", err, "retry", delay)
		}
		time.Sleep(delay)
	}
}
