//go:build !(darwin || dragonfly || freebsd || linux || netbsd || openbsd)

package flock

import "os"

// try does nothing: there are no locks to be had.
func try(*os.File) (held bool, err error) { return false, nil }

func free(*os.File) {}
