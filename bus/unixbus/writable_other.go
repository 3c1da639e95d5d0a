//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package unixbus

import "os"

// writable reports whether dir is there; whether it can be written is found out
// by writing.
func writable(dir string) bool {
	info, err := os.Stat(dir)
	return err == nil && info.IsDir()
}
