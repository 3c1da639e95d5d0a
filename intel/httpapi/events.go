package httpapi

import (
	"net/http"
	"time"
)

const (
	// heartbeat is the time between two signs of life of a stream without events.
	heartbeat = 15 * time.Second
	// writeTimeout is how long one write to a client may take. A client that does not
	// read is dropped after that.
	writeTimeout = 10 * time.Second
	// maxStreams is the number of streams at once.
	maxStreams = 4096
)

// serveEvents sends the events of the feed (server-sent events). It runs outside of
// the timeout handler, which supports neither Flush nor deadlines for writes.
func (a *api) serveEvents(w http.ResponseWriter, r *http.Request) {
	if _, err := readQuery(r); err != nil {
		Fail(w, r, http.StatusBadRequest, "this route has no parameters")
		return
	}
	if a.streams.Add(1) > maxStreams {
		a.streams.Add(-1)
		w.Header().Set("Retry-After", "10")
		Fail(w, r, http.StatusServiceUnavailable, "Too many live clients at once")
		return
	}
	defer a.streams.Add(-1)
	h := w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // which proxies obey
	if r.Method == http.MethodHead {
		return
	}
	control := http.NewResponseController(w)
	_ = control.SetReadDeadline(time.Time{}) // of the server, which would end the request
	var deadline time.Time                   // of writes; to set it costs as much as to write
	write := func(b []byte) bool {
		if now := time.Now(); deadline.Sub(now) < writeTimeout-time.Second {
			if deadline = now.Add(writeTimeout); control.SetWriteDeadline(deadline) != nil {
				return false
			}
		}
		_, err := w.Write(b)
		return err == nil && control.Flush() == nil
	}

	at, ok := a.feed.open(r.Header.Get("Last-Event-ID"))
	if !ok {
		at.next, at.gaps = 0, ^uint64(0) // read tells it to reload
	}
	if !write([]byte(": connected\n\n")) {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var (
			text []byte
			wake <-chan struct{}
		)
		if text, at, wake = a.feed.read(at); len(text) > 0 {
			if !write(text) {
				return
			}
			continue
		}
		select {
		case <-wake:
		case <-beat.C:
			if !write([]byte(": still here\n\n")) {
				return
			}
		case <-r.Context().Done():
			return
		case <-a.feed.closed:
			return
		}
	}
}
