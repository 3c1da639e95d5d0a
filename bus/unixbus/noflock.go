//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package unixbus

import (
	"context"
	"os"
)

// lock does nothing here: whoever starts two servers at once on one path has to
// see to it that there is one in the end.
func lock(context.Context, string) (unlock func(), err error) { return func() {}, nil }

// writable reports whether dir is there; whether it can be written is found out
// by writing.
func writable(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}
