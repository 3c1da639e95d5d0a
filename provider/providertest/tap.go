package providertest

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptrace"
	"slices"
	"strings"
	"sync"
	"time"
)

// tap is the transport that providers are given. It remembers the requests,
// tells when they are under way, and lets none go anywhere but to the server.
type tap struct {
	base   *http.Transport
	origin string
	status int           // of every response in place of its own; 0 for its own
	sent   chan struct{} // receives when a request has been written
	heard  chan struct{} // receives when the head of a response has arrived

	mu     sync.Mutex
	urls   []string
	bodies int           // that are open
	busy   time.Duration // how long requests have taken, and reading their bodies
}

// body is one of a response. It is counted until it is closed.
type body struct {
	io.ReadCloser
	tap    *tap
	closed func()
}

func (b *body) Read(p []byte) (int, error) {
	defer b.tap.took(time.Now())
	return b.ReadCloser.Read(p)
}

func (b *body) Close() error {
	defer b.tap.took(time.Now())
	b.closed()
	return b.ReadCloser.Close()
}

// took adds the time since start to that which requests have taken.
func (t *tap) took(start time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.busy += time.Since(start)
}

// spent returns how long requests have taken.
func (t *tap) spent() time.Duration {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.busy
}

// open returns the number of bodies that are open.
func (t *tap) open() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.bodies
}

// watch counts the body of a response until it is closed.
func (t *tap) watch(resp *http.Response) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.bodies++
	resp.Body = &body{resp.Body, t, sync.OnceFunc(func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.bodies--
	})}
}

func newTap(origin string) *tap {
	return &tap{
		base:   &http.Transport{MaxIdleConnsPerHost: 64},
		origin: origin,
		sent:   make(chan struct{}, 1),
		heard:  make(chan struct{}, 1),
	}
}

// RoundTrip implements [http.RoundTripper].
func (t *tap) RoundTrip(req *http.Request) (*http.Response, error) {
	defer t.took(time.Now())
	t.mu.Lock()
	t.urls = append(t.urls, req.URL.String())
	t.mu.Unlock()
	if origin := req.URL.Scheme + "://" + req.URL.Host; origin != t.origin {
		return nil, fmt.Errorf("request to %s, which is not the base URL", origin)
	}
	ctx := httptrace.WithClientTrace(req.Context(), &httptrace.ClientTrace{
		WroteRequest: func(httptrace.WroteRequestInfo) { signal(t.sent) },
	})
	resp, err := t.base.RoundTrip(req.WithContext(ctx))
	if err == nil {
		if t.status != 0 {
			resp.StatusCode, resp.Status = t.status, ""
		}
		t.watch(resp)
		signal(t.heard)
	}
	return resp, err
}

// CloseIdleConnections closes the connections that are not in use.
func (t *tap) CloseIdleConnections() { t.base.CloseIdleConnections() }

// seen returns the URLs of all requests.
func (t *tap) seen() []string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return slices.Clone(t.urls)
}

func (t *tap) count() int { return len(t.seen()) }

// strays returns the URLs of requests that were not for the server.
func (t *tap) strays() []string {
	return slices.DeleteFunc(t.seen(), func(u string) bool { return strings.HasPrefix(u, t.origin+"/") })
}

func signal(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
