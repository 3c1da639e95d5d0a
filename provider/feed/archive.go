package feed

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
)

// unpack returns what a gzip file, or the one file in a zip archive, holds, and
// any other body as it is. Nothing is longer than limit.
func unpack(body []byte, limit int64) ([]byte, error) {
	switch {
	case bytes.HasPrefix(body, []byte{0x1f, 0x8b}):
		z, err := gzip.NewReader(bytes.NewReader(body))
		if err != nil {
			return nil, errors.New("gzip data that is malformed")
		}
		return readAll(z, "gzip data", limit)
	case bytes.HasPrefix(body, []byte("PK\x03\x04")), bytes.HasPrefix(body, []byte("PK\x05\x06")):
		z, err := zip.NewReader(bytes.NewReader(body), int64(len(body)))
		if err != nil {
			return nil, errors.New("a zip archive that breaks off or is malformed")
		}
		var file *zip.File
		for _, f := range z.File {
			if f.FileInfo().IsDir() {
				continue
			}
			if file != nil {
				return nil, errors.New("a zip archive of several files; it must hold one")
			}
			file = f
		}
		if file == nil {
			return nil, errors.New("a zip archive without a file")
		}
		r, err := file.Open()
		if err != nil {
			return nil, errors.New("a zip archive that is compressed by an unknown method")
		}
		defer r.Close()
		return readAll(r, "a zip archive", limit)
	}
	return body, nil
}

// readAll reads to the end of r, whose checksum is then checked.
func readAll(r io.Reader, what string, limit int64) ([]byte, error) {
	body, err := io.ReadAll(io.LimitReader(r, limit+1))
	switch {
	case int64(len(body)) > limit:
		return nil, fmt.Errorf("%s that unpacks to more than %d bytes", what, limit)
	case err != nil:
		return nil, fmt.Errorf("%s that breaks off or is malformed", what)
	}
	return body, nil
}
