//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package feed

import (
	"context"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockFile locks a file, which is made if it is not there, until unlock is called
// or this process ends. Where it cannot be made, there is nobody to share with.
func lockFile(ctx context.Context, path string, atMost time.Duration) (unlock func(), err error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return func() {}, nil
	}
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(atMost); ; {
		err = syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		switch {
		case err == nil:
			return func() { _ = file.Close() }, nil // which unlocks it
		case err == syscall.EINTR:
			continue
		case err != syscall.EWOULDBLOCK:
			_ = file.Close()
			return func() {}, nil // a file system without locks
		case time.Now().After(deadline):
			_ = file.Close()
			return nil, fmt.Errorf("another process has been downloading the list for %v; stop it, or give it another state directory", atMost)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, ctx.Err()
		}
	}
}
