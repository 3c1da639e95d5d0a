//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package unixbus

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lock makes other processes that want to lock dir wait until unlock is called.
// Another server holds such a lock for milliseconds, so lock gives up after
// lockTimeout. Cancelling ctx stops the wait.
func lock(ctx context.Context, dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(lockTimeout); ; {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = f.Close() }, nil // which unlocks it
		case err == syscall.EINTR:
			continue
		case err != syscall.EWOULDBLOCK:
			_ = f.Close()
			return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
		case time.Now().After(deadline):
			_ = f.Close()
			return nil, fmt.Errorf("another process has held the lock of the directory %s for %v; "+
				"stop that process, or choose another path", dir, lockTimeout)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = f.Close()
			return nil, ctx.Err()
		}
	}
}

// writable reports whether this process may make files in dir.
func writable(dir string) bool {
	const write = 2
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && syscall.Access(dir, write) == nil
}
