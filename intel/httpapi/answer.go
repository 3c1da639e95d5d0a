package httpapi

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"hash/fnv"
	"net/http"
	"strconv"
	"strings"
	"sync"

	"github.com/decnet/enrich/internal/problem"
)

const (
	typeJSON = "application/json"
	typeText = "text/plain; charset=utf-8"
)

// Fail answers as all routes do when they fail: with a problem (RFC 9457), and on
// DECNET's own route as DECNET does, with nothing but the detail. The detail is for
// people, and must not tell what is inside. It is exported for what [Options] are
// given.
func Fail(w http.ResponseWriter, r *http.Request, code int, detail string) {
	w.Header().Set("Cache-Control", "no-store")
	text, contentType := problemText(r, code, detail)
	w.Header().Set("Content-Type", contentType)
	answer(w, code, text)
}

func problemText(r *http.Request, code int, detail string) (text []byte, contentType string) {
	if isDECNETs(r.URL.Path) {
		text, _ = json.Marshal(map[string]string{"detail": detail}) // text always marshals
		return text, typeJSON
	}
	return problem.Text(code, detail), problem.Type
}

// isDECNETs reports whether a path is the one that DECNET has itself.
func isDECNETs(path string) bool {
	return strings.HasPrefix(path, "/api/v1/attackers/") && strings.HasSuffix(path, "/intel")
}

// answerJSON answers with JSON that is not worth compressing.
func answerJSON(w http.ResponseWriter, text []byte) {
	w.Header().Set("Content-Type", typeJSON)
	answer(w, http.StatusOK, text)
}

func answer(w http.ResponseWriter, code int, text []byte) {
	w.Header().Set("Content-Length", strconv.Itoa(len(text)))
	w.WriteHeader(code)
	_, _ = w.Write(text) // fails if nobody waits for it
}

// minGzip is the size in bytes from which on an answer is worth compressing.
const minGzip = 1 << 10

var gzips = sync.Pool{New: func() any {
	z, _ := gzip.NewWriterLevel(nil, gzip.BestSpeed) // the level exists
	return z
}}

// varies are the headers of a request that an answer may depend on.
const varies = "Accept, Accept-Encoding, Origin"

// send answers a request with JSON or, if Content-Type is set, something else. It is
// compressed if the client takes that and it is worth it.
func send(w http.ResponseWriter, r *http.Request, text []byte) {
	w.Header().Set("Vary", varies)
	if w.Header().Get("Content-Type") == "" {
		w.Header().Set("Content-Type", typeJSON)
	}
	if len(text) < minGzip || !acceptsGzip(r.Header.Values("Accept-Encoding")) {
		answer(w, http.StatusOK, text)
		return
	}
	w.Header().Set("Content-Encoding", "gzip")
	answer(w, http.StatusOK, zip(text))
}

// zip returns text in the format of gzip.
func zip(text []byte) []byte {
	var b bytes.Buffer
	z := gzips.Get().(*gzip.Writer)
	defer gzips.Put(z)
	z.Reset(&b)
	_, _ = z.Write(text) // a buffer takes everything
	_ = z.Close()
	return b.Bytes()
}

// compress compresses the text that a handler of pages answers with.
func compress(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		held := heldAnswer{header: w.Header(), code: http.StatusOK}
		next.ServeHTTP(&held, r)
		h := w.Header()
		h.Set("Vary", varies)
		body := held.body.Bytes()
		if len(body) >= minGzip && h.Get("Content-Encoding") == "" && acceptsGzip(r.Header.Values("Accept-Encoding")) && isText(h.Get("Content-Type")) {
			body = zip(body)
			h.Set("Content-Encoding", "gzip")
		}
		if held.code == http.StatusNotModified {
			w.WriteHeader(held.code)
			return
		}
		answer(w, held.code, body)
	})
}

func isText(contentType string) bool {
	return strings.HasPrefix(contentType, "text/") || strings.HasPrefix(contentType, "image/svg")
}

// heldAnswer keeps an answer until it is complete.
type heldAnswer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

func (a *heldAnswer) Header() http.Header         { return a.header }
func (a *heldAnswer) WriteHeader(code int)        { a.code = code }
func (a *heldAnswer) Write(p []byte) (int, error) { return a.body.Write(p) }

// acceptsGzip reports whether a client takes gzip (RFC 9110, 12.5.3).
func acceptsGzip(headers []string) bool {
	accepts := false
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ",") {
			coding, params, _ := strings.Cut(part, ";")
			coding = strings.ToLower(strings.TrimSpace(coding))
			if coding != "gzip" && coding != "*" {
				continue
			}
			weight := 1.
			if name, value, ok := strings.Cut(strings.TrimSpace(params), "="); ok && strings.EqualFold(strings.TrimSpace(name), "q") {
				q, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
				if err != nil {
					return false
				}
				weight = q
			}
			if coding == "gzip" {
				return weight > 0
			}
			accepts = weight > 0
		}
	}
	return accepts
}

// sendRevision is send for a representation of one revision of a record: with an
// entity tag, and 304 if the client has that already. What is outside of the
// revision, as the attacker's address, is in the tag as a hash of the text.
func sendRevision(w http.ResponseWriter, r *http.Request, revision uint64, text []byte) {
	h := fnv.New64a()
	_, _ = h.Write(text) // never fails
	tag := `W/"` + strconv.FormatUint(revision, 10) + "-" + strconv.FormatUint(h.Sum64(), 16) + `"`
	w.Header().Set("ETag", tag)
	w.Header().Set("Cache-Control", "private, no-cache") // kept, and asked about each time
	if matches(r.Header.Values("If-None-Match"), tag) {
		w.Header().Set("Vary", varies)
		w.Header().Set("Content-Type", typeJSON)
		w.WriteHeader(http.StatusNotModified)
		return
	}
	send(w, r, text)
}

// matches reports whether If-None-Match names a tag, by weak comparison.
func matches(headers []string, tag string) bool {
	tag = strings.TrimPrefix(tag, "W/")
	for _, header := range headers {
		for part := range strings.SplitSeq(header, ",") {
			part = strings.TrimSpace(part)
			if part == "*" || strings.TrimPrefix(part, "W/") == tag {
				return true
			}
		}
	}
	return false
}
