//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package unixbus

import (
	"os"
	"syscall"
)

// lock makes other processes that want to lock dir wait until unlock is called.
func lock(dir string) (unlock func(), err error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	for {
		err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX)
		if err != syscall.EINTR {
			break
		}
	}
	if err != nil {
		_ = f.Close()
		return nil, &os.PathError{Op: "lock", Path: dir, Err: err}
	}
	return func() { _ = f.Close() }, nil // which unlocks it
}

// writable reports whether this process may make files in dir.
func writable(dir string) bool {
	const write = 2
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && syscall.Access(dir, write) == nil
}
