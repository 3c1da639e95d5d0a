package feed

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Refresh downloads the list if that is due; see [provider.Refresher]. A download
// that ctx ends does not count as a failure of the feed: a caller that waits, or
// the next one, starts another.
func (f *Feed[T]) Refresh(ctx context.Context) error {
	return f.refresh(ctx, true)
}

// refresh downloads the list if that is due and no download runs. If one runs,
// it waits for the outcome, or returns nil at once if wait is false.
func (f *Feed[T]) refresh(ctx context.Context, wait bool) error {
	for {
		f.mu.Lock()
		s := f.state.Load()
		if !f.isDue(s) {
			f.mu.Unlock()
			return s.err
		}
		running := f.loading
		if running == nil {
			f.loading = make(chan struct{})
		}
		f.mu.Unlock()
		switch {
		case running == nil:
			return f.load(ctx, s)
		case !wait:
			return nil
		}
		select {
		case <-running: // its context may have ended it, so look again
		case <-ctx.Done():
			return f.canceled(ctx.Err())
		}
	}
}

// load makes the one download that runs and replaces the state s by its outcome,
// unless ctx ended it.
func (f *Feed[T]) load(ctx context.Context, s *state[T]) error {
	defer func() { // also if Decode panics
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.loading)
		f.loading = nil
	}()
	next, err := f.download(ctx, s)
	if err != nil {
		if cutOff(ctx, err) {
			return err
		}
		next = s.failed(err, f.now(), f.interval)
	}
	f.state.Store(next)
	return err
}

// cutOff reports whether a download failed with err because ctx ended, and not
// because of the feed's own timeout.
func cutOff(ctx context.Context, err error) bool {
	_, limited := ctx.Deadline()
	return errors.Is(err, context.Canceled) || limited && errors.Is(err, context.DeadlineExceeded)
}

// download returns the state after a successful download.
func (f *Feed[T]) download(ctx context.Context, s *state[T]) (*state[T], error) {
	req := rest.Request{Header: http.Header{}}
	if s.etag != "" {
		req.Header.Set("If-None-Match", s.etag)
	}
	if s.lastModified != "" {
		req.Header.Set("If-Modified-Since", s.lastModified)
	}
	resp, err := f.client.Do(ctx, req)
	if err != nil {
		return nil, err
	}
	now := f.now()
	switch {
	case resp.Status == http.StatusOK:
		list, err := f.decode(resp.Body)
		if err != nil {
			return nil, resp.BadResponse(err)
		}
		next := &state[T]{list: list, etag: resp.Header.Get("ETag"), lastModified: resp.Header.Get("Last-Modified")}
		return next.succeeded(s, now, f.interval), nil
	case resp.Status == http.StatusNotModified && (s.etag != "" || s.lastModified != ""):
		next := &state[T]{list: s.list, etag: s.etag, lastModified: s.lastModified}
		return next.succeeded(s, now, f.interval), nil
	}
	return nil, resp.StatusError()
}

// succeeded completes the state s, which follows old.
func (s *state[T]) succeeded(old *state[T], now time.Time, interval time.Duration) *state[T] {
	s.loaded = true
	s.loadedAt = now.UTC()
	s.lastNonEmpty = old.lastNonEmpty
	if len(s.list) > 0 {
		s.lastNonEmpty = s.loadedAt
	}
	s.due = now.Add(interval)
	return s
}

// failed returns the state after s and the failure of a download. The list stays
// as it was. The next download is due after a backoff, or later if the publisher
// says so, but not later than interval.
func (s *state[T]) failed(err error, now time.Time, interval time.Duration) *state[T] {
	next := *s
	next.err = err
	next.failures++
	wait := backoff.Delay(time.Minute, interval, next.failures)
	if e, ok := errors.AsType[*provider.Error](err); ok {
		wait = max(wait, min(e.RetryAfter, interval))
	}
	next.due = now.Add(wait)
	return &next
}

var _ provider.Refresher = (*Feed[int])(nil)
