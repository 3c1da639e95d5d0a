//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package flock

import (
	"os"
	"syscall"
)

// try locks f. It reports whether others hold the lock.
func try(f *os.File) (held bool, err error) {
	for {
		switch err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err {
		case syscall.EINTR:
		case syscall.EWOULDBLOCK:
			return true, nil
		default:
			return false, err
		}
	}
}

func free(f *os.File) { _ = syscall.Flock(int(f.Fd()), syscall.LOCK_UN) }
