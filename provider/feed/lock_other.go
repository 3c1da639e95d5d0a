//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package feed

import (
	"context"
	"time"
)

// lockFile does nothing: there are no locks to be had.
func lockFile(context.Context, string, time.Duration) (unlock func(), err error) {
	return func() {}, nil
}
