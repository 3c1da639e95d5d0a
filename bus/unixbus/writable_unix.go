//go:build darwin || dragonfly || freebsd || linux || netbsd || openbsd

package unixbus

import (
	"os"
	"syscall"
)

// writable reports whether this process may make files in dir.
func writable(dir string) bool {
	const write = 2
	info, err := os.Stat(dir)
	return err == nil && info.IsDir() && syscall.Access(dir, write) == nil
}
