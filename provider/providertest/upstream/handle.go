package upstream

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxRequestBody is how much of a request's body is read.
const maxRequestBody = 1 << 20

// elsewhere is the path below which a [Redirect] leads.
const elsewhere = "/elsewhere"

// call is one request, taken apart.
type call struct {
	source          Source
	addr            netip.Addr // asked about, the first if there are several; the zero Addr if none or garbage
	many            []string   // what a question about many addresses asks GreyNoise; nil if it is no such question
	method          string
	key             string
	acceptsJSON     bool
	query           url.Values     // of AbuseIPDB
	search          threatFoxQuery // of ThreatFox
	ifNoneMatch     string
	ifModifiedSince string
}

// response is an answer that was not written yet.
type response struct {
	status int
	kind   string // Content-Type
	header http.Header
	body   []byte
}

func jsonResponse(status int, body []byte) response {
	return response{status: status, kind: "application/json", body: body}
}

// ServeHTTP implements [http.Handler], for a caller who has a listener already.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rest, ok := strings.CutPrefix(r.URL.Path, elsewhere); ok {
		s.redirected.Add(1)
		r.URL.Path = rest
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxRequestBody))
	if err != nil {
		http.Error(w, http.StatusText(http.StatusBadRequest), http.StatusBadRequest)
		return
	}
	c := s.parse(r, body)
	if c.source == None {
		http.NotFound(w, r)
		return
	}
	d := &s.desks[c.source]
	failure, delay := d.begin(Request{
		Method: r.Method, URI: r.RequestURI, Host: r.Host, Header: r.Header, Body: string(body), Addr: c.addr,
	})
	defer d.end()
	if delay > 0 && !s.sleep(r, delay) {
		panic(http.ErrAbortHandler)
	}
	if c.source == Custom {
		r.Body = io.NopCloser(bytes.NewReader(body))
		if failure == Well {
			s.custom.ServeHTTP(w, r)
			return
		}
	}
	if failure == Well {
		s.answer(c).write(w)
		return
	}
	s.fail(w, r, c, failure)
}

// parse finds out which service is asked what.
func (s *Server) parse(r *http.Request, body []byte) *call {
	c := &call{method: r.Method, acceptsJSON: strings.Contains(r.Header.Get("Accept"), "json")}
	if addr, ok := greyNoiseSubject(r.URL.Path); ok {
		c.source, c.addr = GreyNoise, addr
		c.key = r.Header.Get("key")
		return c
	}
	switch r.URL.Path {
	case "/v3/ip":
		c.source, c.key = GreyNoise, r.Header.Get("key")
		c.many, c.addr = greyNoiseSubjects(body)
	case "/api/v2/check":
		c.source, c.query = AbuseIPDB, r.URL.Query()
		c.addr = abuseIPDBSubject(c.query)
		if c.key = r.Header.Get("Key"); c.key == "" {
			c.key = c.query.Get("key")
		}
	case "/api/v1/":
		c.source = ThreatFox
		c.key = r.Header.Get("Auth-Key")
		c.search, c.addr = threatFoxSubject(body)
	case "/downloads/ipblocklist.json":
		c.source = Feodo
		c.ifNoneMatch, c.ifModifiedSince = r.Header.Get("If-None-Match"), r.Header.Get("If-Modified-Since")
	default:
		if s.custom != nil {
			c.source = Custom
		}
	}
	return c
}

// answer returns what a service that is well says: a refusal of the key or for
// the quota, or what it knows.
func (s *Server) answer(c *call) response {
	s.book.mu.RLock()
	set, ok := s.book.responses[subject{c.source, c.addr}]
	s.book.mu.RUnlock()
	if ok && c.many == nil {
		return response{status: set.Status, header: set.Header, body: []byte(set.Body)}
	}
	if status := s.refuseKey(c); status != 0 {
		return s.trouble(c, status)
	}
	now := s.now()
	b := s.desks[c.source].charge(now)
	var r response
	if b.refused {
		r = s.limited(c, b.quota)
	} else {
		r = s.know(c)
	}
	if c.source == AbuseIPDB {
		r.header = http.Header{}
		abuseIPDBHeaders(r.header, b, now)
	}
	return r
}

func (s *Server) know(c *call) response {
	if post := c.source == ThreatFox || c.many != nil; !post && c.method != http.MethodGet {
		return response{status: http.StatusMethodNotAllowed, kind: "text/plain", body: []byte("Method Not Allowed")}
	}
	switch c.source {
	case GreyNoise:
		return s.greyNoise(c)
	case AbuseIPDB:
		return s.abuseIPDB(c)
	case ThreatFox:
		return s.threatFox(c)
	default:
		return s.feodo(c)
	}
}

// refuseKey returns the status that a service refuses the call's key with, and
// zero if it accepts it.
func (s *Server) refuseKey(c *call) int {
	needed := c.source == AbuseIPDB || c.source == ThreatFox || c.many != nil
	known, checked := s.keys[c.source]
	switch {
	case c.many != nil && s.community && c.key != "":
		return http.StatusForbidden
	case c.key == "" && needed:
		return http.StatusUnauthorized
	case c.key == "" || !checked || slices.Contains(known, c.key):
		return 0
	case c.source == ThreatFox:
		return http.StatusForbidden
	}
	return http.StatusUnauthorized
}

// sleep waits, and reports false if the client or the server went first.
func (s *Server) sleep(r *http.Request, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-r.Context().Done():
	case <-s.closing:
	}
	return false
}

func (r response) write(w http.ResponseWriter) {
	r.writeHead(w, len(r.body))
	_, _ = w.Write(r.body) // a client that went away misses nothing
}

// writeHead writes everything but the body, whose length it announces unless
// that is negative.
func (r response) writeHead(w http.ResponseWriter, length int) {
	h := w.Header()
	if r.kind != "" {
		h["Content-Type"] = []string{r.kind}
	}
	for name, values := range r.header {
		h[http.CanonicalHeaderKey(name)] = values
	}
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if length >= 0 && r.status != http.StatusNotModified {
		h["Content-Length"] = []string{strconv.Itoa(length)}
	}
	w.WriteHeader(r.status)
}
