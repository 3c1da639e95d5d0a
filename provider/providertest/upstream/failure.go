package upstream

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// Failure is a way for a service to fail.
type Failure uint8

// The failures. Each shows at the transport or HTTP level what it would look
// like at the real service, with that service's own error body where one is
// known.
const (
	Well         Failure = iota // no failure
	Hang                        // takes the request and never answers
	Drip                        // answers one byte of white space after another, for ever
	Reset                       // resets the connection
	Cut                         // closes the connection in the middle of the right answer
	Truncated                   // sends half of the right answer as if it were whole
	HTML                        // sends a web page with status 200
	Huge                        // puts 10 MiB of white space before the right answer; 80 MiB for Feodo
	GzipBomb                    // the same, three times as much, compressed to some kilobytes
	WrongTypes                  // sends JSON with the right names and the wrong types
	Unauthorized                // 401
	Payment                     // 402
	Forbidden                   // 403
	RateLimited                 // 429 with a Retry-After of [RetryAfter]
	ServerError                 // 500
	Unavailable                 // 503 with a web page
	Redirect                    // 307 to the right answer at another path
)

var failureNames = [...]string{
	"well", "hang", "drip", "reset", "cut", "truncated", "HTML", "huge", "gzip bomb", "wrong types",
	"unauthorized", "payment", "forbidden", "rate limited", "server error", "unavailable", "redirect",
}

// String returns the failure in words.
func (f Failure) String() string {
	if int(f) < len(failureNames) {
		return failureNames[f]
	}
	return fmt.Sprintf("Failure(%d)", uint8(f))
}

// RetryAfter is the wait that [RateLimited] asks for.
const RetryAfter = 30 * time.Second

// Canary is part of every response body that is not an answer ([HTML],
// [WrongTypes], [Unavailable] and others), so that a test can tell whether a
// body shows up where it should not.
const Canary = "canary-5f1c"

const (
	dripEvery = 20 * time.Millisecond
	mebibyte  = 1 << 20
)

var page = []byte("<!DOCTYPE html><html><head><title>Just a moment</title></head><body>Checking your browser. Ray " + Canary + "</body></html>\n")

func (s *Server) fail(w http.ResponseWriter, r *http.Request, c *call, f Failure) {
	switch f {
	case Hang:
		select {
		case <-r.Context().Done():
		case <-s.closing:
		}
		panic(http.ErrAbortHandler)
	case Drip:
		s.drip(w, r)
	case Reset:
		reset(w)
	case Cut:
		right := s.right(r, c)
		right.writeHead(w, len(right.body))
		_, _ = w.Write(right.body[:len(right.body)/2])
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	case Truncated:
		right := s.right(r, c)
		right.body = right.body[:len(right.body)/2]
		right.write(w)
	case HTML:
		response{kind: "text/html; charset=UTF-8", body: page}.write(w)
	case Huge:
		right := s.right(r, c)
		right.writeHead(w, -1)
		for range hugeness(c.source) {
			if _, err := w.Write(blank()); err != nil {
				return
			}
		}
		_, _ = w.Write(right.body)
	case GzipBomb:
		right := s.right(r, c)
		right.body = append(bytes.Repeat(squeeze(blank()), 3*hugeness(c.source)), squeeze(right.body)...)
		w.Header().Set("Content-Encoding", "gzip")
		right.write(w)
	case WrongTypes:
		body := wrongTypes[c.source]
		if c.many != nil {
			body = wrongTypesMany
		}
		jsonResponse(http.StatusOK, []byte(body)).write(w)
	case Redirect:
		w.Header().Set("Location", s.url+elsewhere+r.RequestURI)
		w.WriteHeader(http.StatusTemporaryRedirect)
	default:
		status := map[Failure]int{
			Unauthorized: 401, Payment: 402, Forbidden: 403, RateLimited: 429, ServerError: 500, Unavailable: 503,
		}[f]
		if status == 0 {
			panic(fmt.Sprintf("upstream: no failure %d", f))
		}
		s.trouble(c, status).write(w)
	}
}

// hugeness returns how many mebibytes are too much to expect of the service.
func hugeness(source Source) int {
	if source == Feodo {
		return 80
	}
	return 10
}

// right returns the answer the service would give if it were well.
func (s *Server) right(r *http.Request, c *call) response {
	if c.source != Custom {
		return s.answer(c)
	}
	captured := capture{response: response{header: http.Header{}}}
	s.custom.ServeHTTP(&captured, r)
	delete(captured.header, "Content-Length")
	return captured.response
}

// capture is a ResponseWriter that keeps what it is given.
type capture struct{ response }

func (c *capture) Header() http.Header    { return c.header }
func (c *capture) WriteHeader(status int) { c.status = status }
func (c *capture) Write(b []byte) (int, error) {
	c.body = append(c.body, b...)
	return len(b), nil
}

func (s *Server) drip(w http.ResponseWriter, r *http.Request) {
	jsonResponse(http.StatusOK, nil).writeHead(w, -1)
	out := http.NewResponseController(w)
	for {
		if _, err := w.Write([]byte{' '}); err != nil {
			return
		}
		if out.Flush() != nil || !s.sleep(r, dripEvery) {
			panic(http.ErrAbortHandler)
		}
	}
}

func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil { // not a connection of our own server
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // makes Close send RST
	}
	_ = conn.Close()
}

// trouble returns the service's answer with an error status.
func (s *Server) trouble(c *call, status int) response {
	switch {
	case status == http.StatusServiceUnavailable:
		return response{status: status, kind: "text/html; charset=UTF-8", body: page}
	case status == http.StatusTooManyRequests:
		r := s.limited(c, Quota{Calls: 25, Window: 7 * 24 * time.Hour})
		r.header = http.Header{"Retry-After": {strconv.Itoa(int(RetryAfter / time.Second))}}
		if c.source == AbuseIPDB {
			r.header["X-Ratelimit-Limit"], r.header["X-Ratelimit-Remaining"] = []string{"25"}, []string{"0"}
			r.header["X-Ratelimit-Reset"] = []string{strconv.FormatInt(s.now().Add(RetryAfter).Unix(), 10)}
		}
		return r
	case c.source == AbuseIPDB && status == http.StatusUnauthorized:
		return abuseIPDBError(c, status, "", abuseIPDBBadKey)
	case c.source == AbuseIPDB:
		return abuseIPDBError(c, status, "", http.StatusText(status)+" "+Canary)
	case c.source == ThreatFox && status == http.StatusUnauthorized:
		return jsonResponse(status, []byte(`{"error":"Unauthorized"}`))
	case (c.source == ThreatFox || c.source == Feodo) && (status == http.StatusForbidden || status == http.StatusPaymentRequired):
		return jsonResponse(status, []byte(`{"query_status":"unknown_auth_key"}`))
	case c.source == GreyNoise && status == http.StatusInternalServerError:
		return jsonResponse(status, []byte(`{"message":"Encountered error while performing request"}`))
	case c.source == Custom && s.refusal != "" && status < http.StatusInternalServerError:
		return jsonResponse(status, []byte(s.refusal))
	}
	return jsonResponse(status, encode(map[string]string{"message": http.StatusText(status) + " " + Canary}))
}

// limited returns the service's refusal of a call for which quota has no room.
func (s *Server) limited(c *call, quota Quota) response {
	switch c.source {
	case GreyNoise:
		return jsonResponse(http.StatusTooManyRequests, greyNoiseLimited(quota))
	case AbuseIPDB:
		return abuseIPDBLimited(c, quota.Calls)
	case ThreatFox:
		return jsonResponse(http.StatusTooManyRequests, []byte(`{"query_status":"rate_limited"}`))
	}
	return response{status: http.StatusTooManyRequests, kind: "text/plain", body: []byte("Too Many Requests")}
}

// wrongTypes are bodies whose JSON is valid and whose types are not those of
// the service.
var wrongTypes = map[Source]string{
	GreyNoise: `{"ip":["` + Canary + `"],"noise":"` + Canary + `","riot":{},"classification":{"is":7},"name":[],"message":3}`,
	AbuseIPDB: `{"data":{"ipAddress":[],"abuseConfidenceScore":{"is":"` + Canary + `"},"totalReports":"` + Canary + `","reports":{}}}`,
	ThreatFox: `{"query_status":"ok","data":{"rows":"` + Canary + `"}}`,
	Feodo:     `[{"ip_address":{"is":"` + Canary + `"},"port":[],"status":{}},"` + Canary + `",7]`,
	Custom:    `[[["` + Canary + `"]]]`,
}

// wrongTypesMany is such a body of GreyNoise's answer about many addresses.
const wrongTypesMany = `{"data":{"ip":"` + Canary + `"},"request_metadata":7}`

// blank returns a mebibyte of white space, which may precede any JSON.
var blank = sync.OnceValue(func() []byte { return bytes.Repeat([]byte{' '}, mebibyte) })

// squeeze returns b as a gzip member; members may follow one another.
func squeeze(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // a buffer takes everything
	_ = z.Close()
	return out.Bytes()
}
