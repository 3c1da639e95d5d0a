package export_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/export"
)

// pipeReceiver is a receiver without a network, for tests in virtual time.
type pipeReceiver struct {
	answer     func(*http.Request) int // the status; 0: no answer; nil: 200
	delay      time.Duration
	retryAfter string

	mu       sync.Mutex
	all, yes []string // IDs of the requests, and of those accepted
}

func (r *pipeReceiver) RoundTrip(req *http.Request) (*http.Response, error) {
	status := http.StatusOK
	r.mu.Lock()
	answer, delay := r.answer, r.delay
	r.mu.Unlock()
	if answer != nil {
		status = answer(req)
	}
	id := req.Header.Get("webhook-id")
	r.mu.Lock()
	r.all = append(r.all, id)
	r.mu.Unlock()
	select {
	case <-time.After(delay):
	case <-req.Context().Done():
		return nil, context.Cause(req.Context())
	}
	if status == 0 {
		return nil, io.ErrUnexpectedEOF
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if status == http.StatusOK {
		r.yes = append(r.yes, id)
	}
	h := http.Header{}
	h.Set("Retry-After", r.retryAfter)
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("")), Request: req}, nil
}

// change sets fields while requests may be under way.
func (r *pipeReceiver) change(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

func (r *pipeReceiver) got() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.all
}

func (r *pipeReceiver) accepted() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.yes
}

// synctestWebhook runs a webhook in virtual time.
func synctestWebhook(t *testing.T, test func(*testing.T, *filled, *pipeReceiver, *export.Webhook)) {
	synctest.Test(t, func(t *testing.T) {
		f, r := newFilled(t), &pipeReceiver{}
		w := f.webhook("https://example.org/", nil)
		w.SetTransport(r)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- w.Run(ctx) }()
		test(t, f, r, w)
		cancel()
		require.NoError(t, <-done)
	})
}
