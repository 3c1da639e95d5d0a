package export

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"
)

// keep is how long a list is served before it is collected again.
const keep = time.Minute

// Handler serves lists over HTTP: GET /plain, /nft, /crowdsec, /csv and /jsonl.
// Answers have an ETag, and a request that names it is answered with 304. A list
// is collected again if it is more than a minute old. If that fails, the answer is
// 503, so that a client keeps what it has. A list that becomes empty is served, and
// logged. Make a Handler with [NewHandler].
type Handler struct {
	collect func(context.Context) (*List, error)
	log     *slog.Logger
	turn    chan struct{} // cap 1: guards the fields below

	list    *List
	entries int // of the last list
	until   time.Time
	bodies  map[Format]body
}

// body is a list in one format.
type body struct {
	text []byte
	etag string
}

// NewHandler returns a handler that serves what collect returns. Collect is called
// by one goroutine at a time. Failures are logged; nil stands for slog.Default().
func NewHandler(collect func(context.Context) (*List, error), log *slog.Logger) *Handler {
	if log == nil {
		log = slog.Default()
	}
	return &Handler{collect: collect, log: log, turn: make(chan struct{}, 1)}
}

// ServeHTTP implements [http.Handler].
func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f, err := ParseFormat(r.URL.Path[min(1, len(r.URL.Path)):])
	switch {
	case err != nil:
		http.Error(w, "there is nothing here; the lists are at /plain, /nft, /crowdsec, /csv and /jsonl", http.StatusNotFound)
		return
	case r.Method != http.MethodGet && r.Method != http.MethodHead:
		w.Header().Set("Allow", "GET, HEAD")
		http.Error(w, "only GET and HEAD", http.StatusMethodNotAllowed)
		return
	}
	b, err := h.body(r.Context(), f)
	if err != nil {
		if r.Context().Err() == nil {
			h.log.Error("cannot serve a block list", "error", err)
		}
		text := "the list cannot be made now"
		if errors.Is(err, ErrTooMany) {
			text = err.Error()
		}
		w.Header().Set("Retry-After", "60")
		http.Error(w, text, http.StatusServiceUnavailable)
		return
	}
	w.Header().Set("Content-Type", f.ContentType())
	w.Header().Set("ETag", b.etag)
	w.Header().Set("Cache-Control", "no-cache") // ask again, by ETag
	w.Header().Set("X-Content-Type-Options", "nosniff")
	http.ServeContent(w, r, "", time.Time{}, bytes.NewReader(b.text))
}

// body returns the list in a format.
func (h *Handler) body(ctx context.Context, f Format) (body, error) {
	select {
	case h.turn <- struct{}{}:
		defer func() { <-h.turn }()
	case <-ctx.Done():
		return body{}, ctx.Err()
	}
	if h.list == nil || !time.Now().Before(h.until) {
		h.list, h.bodies = nil, make(map[Format]body)
		list, err := h.collect(ctx)
		if err != nil {
			return body{}, err
		}
		if list.Len() == 0 && h.entries > 0 {
			h.log.Warn("the block list that is served is empty now", "entries_before", h.entries, "report", list.Report.String())
		}
		h.entries = list.Len()
		h.list, h.until = list, time.Now().Add(keep)
	}
	if b, ok := h.bodies[f]; ok {
		return b, nil
	}
	var text bytes.Buffer
	if err := h.list.Write(&text, f); err != nil {
		return body{}, fmt.Errorf("write the list: %w", err)
	}
	sum := sha256.Sum256(text.Bytes())
	b := body{text.Bytes(), `"` + hex.EncodeToString(sum[:16]) + `"`}
	h.bodies[f] = b
	return b, nil
}
