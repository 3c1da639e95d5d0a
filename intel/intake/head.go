package intake

import (
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
)

// headOf returns the first n bytes of a file, decompressed, or fewer if it has no
// more.
func headOf(path string, n int) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	return readHead(f, n, isZipped(f))
}

// readHead is headOf for an open file. It does not move its position.
func readHead(f *os.File, n int, zipped bool) ([]byte, error) {
	var r io.Reader = io.NewSectionReader(f, 0, 1<<62)
	if zipped {
		zip, err := gzip.NewReader(r)
		if err != nil {
			return nil, err
		}
		r = zip
	}
	head := make([]byte, n)
	got, err := io.ReadFull(r, head)
	if errors.Is(err, io.ErrUnexpectedEOF) && zipped {
		// Either it is shorter, or it is being written.
		if _, last := r.Read(make([]byte, 1)); !errors.Is(last, io.EOF) {
			return nil, io.ErrUnexpectedEOF
		}
		err = nil
	}
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = nil
	}
	return head[:got], err
}

// isZipped reports whether a file begins as gzip does.
func isZipped(f *os.File) bool {
	var magic [2]byte
	_, err := f.ReadAt(magic[:], 0)
	return err == nil && magic == [2]byte{0x1f, 0x8b}
}

func hashOf(head []byte) string {
	sum := sha256.Sum256(head)
	return hex.EncodeToString(sum[:12])
}
