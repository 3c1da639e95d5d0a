//go:build unix

package intake

import (
	"io/fs"
	"syscall"
)

// identify returns the ID of a file and the number of its names.
func identify(info fs.FileInfo) (fileID, uint64) {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return fileID{}, 1
	}
	return fileID{uint64(st.Dev), uint64(st.Ino)}, uint64(st.Nlink) // their types differ between systems
}
