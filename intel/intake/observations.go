package intake

import (
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/problem"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

const (
	// MaxObservationBytes is the greatest size of the body of a request.
	MaxObservationBytes = 8 << 20
	// maxRequests is how many requests are worked on at once.
	maxRequests = 16
	// requestTimeout is how long a request may take to arrive and to be stored.
	requestTimeout = 30 * time.Second
)

// observation is an attacker as a client reports it.
type observation struct {
	Address *string         `json:"address"`
	Time    json.RawMessage `json:"time"`
	Source  json.RawMessage `json:"source"`
}

// tally is the answer to a request.
type tally struct {
	Accepted  int `json:"accepted"`
	Guarded   int `json:"guarded"`
	Malformed int `json:"malformed"`
	// sources are the numbers of those accepted by source; nil if nobody wants them.
	sources map[string]int
}

// Observations returns a handler that takes attackers from the body of a POST
// request: a JSON object, several of them one a line (NDJSON), or an array of them.
// An object has
//
//	address  the attacker's address
//	time     when it was seen: RFC 3339 or seconds since 1970; now if it is absent or null
//	source   who saw it, a text; it is not stored, but counted in the log at Debug
//
// and may have other keys. The answer is 202 with the numbers of observations that
// were accepted, that were left out because [Options.Allow] refuses their address,
// and that are malformed, such as a text that is no address:
//
//	{"accepted":2,"guarded":0,"malformed":1}
//
// What was accepted is stored by then. The answer to more requests at once than can be
// worked on is 503, and so is that to a request that cannot be stored: nothing of it
// was accepted for sure, and it can be sent again. A body may be compressed with gzip;
// one of more than [MaxObservationBytes], before or after that, is answered with 413.
// The text is UTF-8; another encoding, or compression, is answered with 415, and a body
// that ends too early with 400. These answers are problems (RFC 9457). The handler asks
// nobody for credentials: give it to httpapi.Options.Observations.
func (in *Intake) Observations() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Cache-Control", "no-store")
		w.Header().Set("X-Content-Type-Options", "nosniff")
		if r.Method != http.MethodPost {
			w.Header().Set("Allow", "POST")
			problem.Write(w, http.StatusMethodNotAllowed, "Method not allowed; send observations with POST")
			return
		}
		select {
		case in.requests <- struct{}{}:
			defer func() { <-in.requests }()
		default:
			w.Header().Set("Retry-After", "1")
			problem.Write(w, http.StatusServiceUnavailable, "Too many requests at once; send this one again later")
			return
		}
		_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(requestTimeout)) // of a client that sends slowly
		body, status, why := readBody(w, r)
		if status != http.StatusOK {
			problem.Write(w, status, why)
			return
		}
		var b batch
		t := in.observations(&b, body, in.log.Enabled(r.Context(), slog.LevelDebug))
		if err := in.combine(r.Context(), b.list); err != nil {
			if r.Context().Err() == nil {
				in.log.Error("cannot store observations", "error", err)
			}
			w.Header().Set("Retry-After", "5")
			problem.Write(w, http.StatusServiceUnavailable, "The observations could not be stored; send them again later")
			return
		}
		in.log.Debug("stored observations", "accepted", t.Accepted, "guarded", t.Guarded, "malformed", t.Malformed, "by_source", t.sources)
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusAccepted)
		_ = json.NewEncoder(w).Encode(t) // the client has gone
	})
}

// readBody returns the text of a request. If that cannot be had, it returns the status
// of the answer, and why.
func readBody(w http.ResponseWriter, r *http.Request) (text []byte, status int, why string) {
	tooLarge := fmt.Sprintf("The body has more than %d bytes; send fewer observations at once", MaxObservationBytes)
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, MaxObservationBytes))
	if _, is := errors.AsType[*http.MaxBytesError](err); is {
		return nil, http.StatusRequestEntityTooLarge, tooLarge
	}
	if err != nil {
		return nil, http.StatusBadRequest, "The body could not be read"
	}
	switch encoding := strings.ToLower(strings.TrimSpace(r.Header.Get("Content-Encoding"))); encoding {
	case "", "identity", "gzip", "x-gzip":
	default:
		w.Header().Set("Accept-Encoding", "gzip")
		return nil, http.StatusUnsupportedMediaType, "The body is compressed in a way that is not supported; use gzip, or none"
	}
	if bytes.HasPrefix(body, []byte("\x1f\x8b")) { // whether a header says so or not: no text begins like that
		zip, err := gzip.NewReader(bytes.NewReader(body))
		if err == nil {
			body, err = io.ReadAll(io.LimitReader(zip, MaxObservationBytes+1))
		}
		switch {
		case err != nil:
			return nil, http.StatusBadRequest, "The body could not be decompressed"
		case len(body) > MaxObservationBytes:
			return nil, http.StatusRequestEntityTooLarge, tooLarge
		}
	}
	if bytes.HasPrefix(body, []byte("\xff\xfe")) || bytes.HasPrefix(body, []byte("\xfe\xff")) {
		return nil, http.StatusUnsupportedMediaType, "The body is UTF-16; send UTF-8"
	}
	return bytes.TrimPrefix(body, []byte("\xef\xbb\xbf")), http.StatusOK, ""
}

// combine stores attackers together with those of other requests.
func (in *Intake) combine(ctx context.Context, attackers []store.Attacker) error {
	if len(attackers) == 0 {
		return nil
	}
	return in.combiner.observe(ctx, attackers, in.observe)
}

// observations adds the attackers in a body to a batch. It counts them by source if
// that is wanted.
func (in *Intake) observations(b *batch, body []byte, bySource bool) (t tally) {
	if bySource {
		t.sources = make(map[string]int)
	}
	body = bytes.TrimSpace(body)
	if len(body) == 0 {
		return t
	}
	if body[0] == '[' {
		var all []json.RawMessage
		if json.Unmarshal(body, &all) != nil {
			t.Malformed++
			return t
		}
		for _, text := range all {
			in.observation(b, &t, text)
		}
		return t
	}
	if bytes.IndexByte(body, '\n') >= 0 && json.Valid(body) { // one object on several lines
		in.observation(b, &t, body)
		return t
	}
	for line := range bytes.SplitSeq(body, []byte{'\n'}) {
		if line = bytes.TrimSpace(line); len(line) > 0 {
			in.observation(b, &t, line)
		}
	}
	return t
}

func (in *Intake) observation(b *batch, t *tally, text []byte) {
	var o observation
	if json.Unmarshal(text, &o) != nil || o.Address == nil {
		t.Malformed++
		return
	}
	addr, err := provider.ParseAddr(*o.Address)
	seen, ok := parseTime(o.Time)
	switch {
	case err != nil || !ok:
		t.Malformed++
	case !in.options.Allow(addr):
		t.Guarded++
	default:
		t.Accepted++
		b.add(addr, seen)
		if t.sources != nil {
			t.sources[t.sourceOf(o.Source)]++
		}
	}
}

// maxSources is how many sources of a request are counted apart.
const maxSources = 20

// sourceOf returns what a source is counted as.
func (t *tally) sourceOf(text json.RawMessage) string {
	var name string
	if json.Unmarshal(text, &name) != nil || name == "" { // absent, or no text
		return "unnamed"
	}
	const longest = 64
	if len(name) > longest {
		name = strings.ToValidUTF8(name[:longest], "") + "…"
	}
	if _, known := t.sources[name]; !known && len(t.sources) >= maxSources {
		return "others"
	}
	return name
}

// parseTime reads the time of an observation.
func parseTime(text json.RawMessage) (time.Time, bool) {
	if len(text) == 0 || string(text) == "null" || string(text) == `""` {
		return time.Time{}, true
	}
	if text[0] == '"' {
		var s string
		if json.Unmarshal(text, &s) != nil {
			return time.Time{}, false
		}
		t, err := time.Parse(time.RFC3339Nano, s)
		return t, err == nil && t.Year() >= 1970
	}
	seconds, err := strconv.ParseFloat(string(text), 64)
	if err != nil || !(seconds >= 0 && seconds < 1e11) {
		return time.Time{}, false
	}
	return time.UnixMicro(int64(seconds * 1e6)), true
}
