package rest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
)

// errBody is wrapped by errors about a body that arrived and cannot be used.
var errBody = errors.New("unusable body")

// readBody returns the decompressed body of resp. Neither the body nor what is
// read from the connection is longer than limit. The error wraps errBody, or
// says why the connection broke.
func readBody(ctx context.Context, resp *http.Response, limit int64) ([]byte, error) {
	wire := &wireReader{r: resp.Body, left: limit}
	var body io.Reader = wire
	switch encoding := strings.ToLower(strings.TrimSpace(resp.Header.Get("Content-Encoding"))); encoding {
	case "", "identity":
	case "gzip", "x-gzip":
		z, err := gzip.NewReader(wire)
		if err == io.EOF && wire.err == nil { // no body at all, as with a 304
			return nil, nil
		}
		if err != nil {
			return nil, wire.explain(ctx, limit)
		}
		body = z
	default:
		return nil, fmt.Errorf("%w: compressed by a method that was not requested", errBody)
	}
	var b bytes.Buffer
	b.Grow(int(min(max(resp.ContentLength, 512), limit, 64<<10)) + bytes.MinRead)
	n, err := b.ReadFrom(io.LimitReader(body, limit+1))
	switch {
	case err != nil:
		return nil, wire.explain(ctx, limit)
	case n > limit:
		return nil, tooLarge(limit)
	}
	return b.Bytes(), nil
}

func tooLarge(limit int64) error {
	return fmt.Errorf("%w: larger than %d bytes", errBody, limit)
}

var errTooLarge = errors.New("too large")

// wireReader reads the bytes of a connection. It fails after left bytes. It
// keeps the error of the connection, so that a broken connection can be
// distinguished from a body that is not what its header says.
type wireReader struct {
	r    io.Reader
	left int64
	err  error
}

func (w *wireReader) Read(p []byte) (int, error) {
	if w.left < 0 {
		w.err = errTooLarge
		return 0, w.err
	}
	if int64(len(p)) > w.left+1 {
		p = p[:w.left+1]
	}
	n, err := w.r.Read(p)
	w.left -= int64(n)
	if err != nil && err != io.EOF {
		w.err = err
	}
	return n, err
}

// explain says why reading failed.
func (w *wireReader) explain(ctx context.Context, limit int64) error {
	switch {
	case errors.Is(w.err, errTooLarge):
		return tooLarge(limit)
	case w.err != nil:
		return explain(ctx, w.err)
	}
	return fmt.Errorf("%w: not the gzip data it is said to be", errBody)
}
