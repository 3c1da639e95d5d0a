// Package flock locks files against other processes.
package flock

import (
	"context"
	"errors"
	"os"
	"time"
)

// ErrHeld is returned if others have held a lock for the whole time.
var ErrHeld = errors.New("another process has held the lock")

// poll is how often a lock that others hold is asked for.
const poll = 10 * time.Millisecond

// Lock makes others that lock the same file or directory wait until unlock is called
// or this process ends. It waits for atMost at the longest while others hold the lock,
// and no longer than until ctx ends. Where the system has no such locks, nobody waits.
// The lock owns f: unlock closes it, and so does an error.
func Lock(ctx context.Context, f *os.File, atMost time.Duration) (unlock func(), err error) {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for deadline := time.Now().Add(atMost); ; {
		held, err := try(f)
		switch {
		case err == nil && !held:
			return func() {
				// Closing alone leaves it locked while a process that is just being
				// started has the file, too.
				free(f)
				_ = f.Close()
			}, nil
		case err == nil && time.Now().After(deadline):
			err = ErrHeld
		case err == nil:
			select {
			case <-tick.C:
				continue
			case <-ctx.Done():
				err = ctx.Err()
			}
		default:
			err = &os.PathError{Op: "lock", Path: f.Name(), Err: err}
		}
		_ = f.Close()
		return nil, err
	}
}
