package feed

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// unsentRetry is the delay after a request that did not reach the publisher.
const unsentRetry = time.Minute

// atOnce is the number of sources that are downloaded at the same time.
const atOnce = 4

// place identifies a source, without revealing what it is.
func place(s Source) string {
	sum := sha256.Sum256([]byte(s.URL + "\x00" + s.BaseURL + "\x00" + s.File))
	return hex.EncodeToString(sum[:12])
}

// unchanged reports whether a file is as it was. Nil stands for no file.
func unchanged(is, was os.FileInfo) bool {
	return is != nil && was != nil && is.Size() == was.Size() && is.ModTime().Equal(was.ModTime()) && os.SameFile(is, was)
}

// Refresh loads the list if its time has come, or if one of its files has changed;
// see [provider.Refresher]. Concurrent calls share one download. A download that
// ctx ends does not count as a failure of the list. It counts as a request that
// the publisher saw.
func (f *Feed[T]) Refresh(ctx context.Context) error {
	for {
		if ctx.Err() != nil {
			return f.canceled(ctx)
		}
		f.mu.Lock()
		running := f.loading
		if running == nil {
			f.loading = make(chan struct{})
		}
		f.mu.Unlock()
		if running == nil {
			return f.refresh(ctx)
		}
		select {
		case <-running: // its context may have ended it, so look again
		case <-ctx.Done():
			return f.canceled(ctx)
		}
	}
}

// refresh is the one refresh that runs. It returns the error of the last load.
func (f *Feed[T]) refresh(ctx context.Context) error {
	defer func() { // also if Row panics
		f.mu.Lock()
		defer f.mu.Unlock()
		close(f.loading)
		f.loading = nil
	}()
	if !f.restored {
		f.restored = true
		f.restore()
	}
	now := f.o.Now()
	changed := f.changedFiles()
	if s := f.state.Load(); !f.downloadDue(now) && len(changed) == 0 && !f.awaited() {
		if s.err == nil && !s.loaded {
			return f.fail(provider.ErrUnavailable, f.absent())
		}
		return s.err
	}
	next, err := f.load(ctx, now, changed)
	if next != nil {
		f.state.Store(next)
	}
	if err == nil && !f.state.Load().loaded {
		err = f.fail(provider.ErrUnavailable, f.absent())
	}
	return err
}

// absent says why there is no list although no refresh has failed.
func (f *Feed[T]) absent() error {
	if f.o.ReadOnly {
		return errNotLoaded
	}
	return errInterrupted
}

var errInterrupted = errors.New("the last download was interrupted; the next one is made when its time has come")

// downloads reports whether any source is a URL.
func (f *Feed[T]) downloads() bool {
	return slices.ContainsFunc(f.parts, func(p *part) bool { return p.client != nil })
}

// downloadDue reports whether it is time for a download. A time that is further
// away than any that was ever chosen comes from a clock that was wrong.
func (f *Feed[T]) downloadDue(now time.Time) bool {
	due := f.state.Load().due
	return f.downloads() && !f.o.ReadOnly && (!now.Before(due) || due.Sub(now) > f.o.Interval+backoffSlack(f.o.Interval))
}

// awaited reports whether there is no list yet, and another process may be
// downloading it: the download was reserved before this process began.
func (f *Feed[T]) awaited() bool {
	return f.keeps() && f.downloads() && !f.state.Load().loaded
}

// backoffSlack is by how much a delay may be longer than the interval.
func backoffSlack(interval time.Duration) time.Duration { return interval/4 + time.Minute }

// changedFiles returns the parts whose files are not as they were when they were
// last read, and how those are now.
func (f *Feed[T]) changedFiles() map[*part]os.FileInfo {
	changed := make(map[*part]os.FileInfo)
	for _, p := range f.parts {
		if p.client != nil {
			continue
		}
		is, _ := os.Stat(p.File) // nil if there is an error
		if unchanged(is, p.was) || is == nil && p.err != nil && p.was == nil {
			continue
		}
		changed[p] = is
	}
	return changed
}

// fetched is what a source returned.
type fetched struct {
	body               string
	sum                [sha256.Size]byte // of the body
	etag, lastModified string
	same               bool // the source says that nothing has changed
	unread             bool // a file could not be read
	err                error
}

// load loads what is due, and files that have changed. It returns the next state, or
// nil if ctx ended first.
func (f *Feed[T]) load(ctx context.Context, now time.Time, files map[*part]os.FileInfo) (*state[T], error) {
	due := f.downloadDue(now)
	if due && f.o.Dir != "" || f.awaited() {
		unlock, err := f.lock(ctx)
		if err != nil {
			return nil, f.fail(provider.ErrUnavailable, err)
		}
		defer unlock()
		if f.readShared(now) || !due { // another process was faster
			if due = f.downloadDue(now); !due && len(files) == 0 {
				return nil, f.state.Load().err
			}
		}
	}
	s := f.state.Load()
	if due {
		f.reserve(s, now)
	}
	results := make([]*fetched, len(f.parts))
	var group errgroup.Group
	group.SetLimit(atOnce)
	for i, p := range f.parts {
		_, changed := files[p]
		if p.client == nil && !changed && p.err == nil || p.client != nil && !due {
			continue // a file that was refused may have been so because of another
		}
		group.Go(func() error {
			results[i] = f.fetch(ctx, p)
			return nil
		})
	}
	_ = group.Wait()
	if ctx.Err() != nil && due {
		for _, r := range results {
			if r != nil && r.err != nil && cutOff(ctx, r.err) {
				return nil, r.err
			}
		}
	}
	return f.take(s, now, results, files, due)
}

// cutOff reports whether a download failed with err because ctx ended, and not
// because of the feed's own timeout.
func cutOff(ctx context.Context, err error) bool {
	_, limited := ctx.Deadline()
	return errors.Is(err, context.Canceled) || limited && errors.Is(err, context.DeadlineExceeded)
}

// take makes the next state of what the sources have returned.
func (f *Feed[T]) take(s *state[T], now time.Time, results []*fetched, files map[*part]os.FileInfo, due bool) (*state[T], error) {
	next := *s
	next.err, next.shrunk = nil, false
	for i, p := range f.parts {
		if is, changed := files[p]; changed {
			if p.was = is; results[i].unread {
				p.was = nil // nothing shows when it can be read
			}
		}
	}
	var whole error // why the list as a whole is refused
	if f.isNews(results) {
		var table *Table[T]
		var skipped int
		if table, skipped, whole = f.assemble(results); whole == nil && s.loaded {
			whole = f.check(table, s.table)
		}
		next.shrunk = errors.Is(whole, errShrunk)
		if whole == nil && f.isNews(results) {
			differs := f.changes.add(s.table, table) // before there is a version to be forgotten
			if differs || !s.loaded {                // and not only the time in the list's header
				next.changedAt = now.UTC()
			}
			f.write(results, next.changedAt)
			next.loaded, next.snapshot, next.table, next.skipped = true, false, table, skipped
		}
	}
	var failures []error
	current := next.loaded
	for i, p := range f.parts {
		switch r := results[i]; {
		case r == nil:
		case r.err == nil && whole != nil && !r.same:
			p.err = f.fail(provider.ErrBadResponse, whole)
		default:
			if p.err = r.err; r.err == nil && !r.same {
				p.accept(r, len(f.parts) > 1)
			}
		}
		switch r := results[i]; {
		case p.err == nil:
			continue
		case r != nil && r.err != nil: // not refused because of another
			failures = slices.Insert(failures, 0, p.err)
		default:
			failures = append(failures, p.err)
		}
		current = false
	}
	if current || next.loaded && next.checkedAt.IsZero() { // then most of its sources are
		next.checkedAt, next.snapshot = now.UTC(), false
		if next.table.Len() > 0 {
			next.lastNonEmpty = next.checkedAt
		}
	}
	switch len(failures) {
	case 0:
	case 1:
		next.err = failures[0]
	default:
		next.err = fmt.Errorf("%w (and %d more of %d sources)", failures[0], len(failures)-1, len(f.parts))
	}
	if due {
		next.failures, next.due = 0, now.Add(f.o.Interval)
		if next.err != nil {
			next.failures = s.failures + 1
			next.due = now.Add(f.retry(results, next.failures))
		}
		f.keep(&next)
	}
	return &next, next.err
}

// isNews reports whether a source has returned another list than the last one.
func (f *Feed[T]) isNews(results []*fetched) bool {
	for i, r := range results {
		if r != nil && r.err == nil && !r.same && !(f.parts[i].loaded && f.parts[i].sum == r.sum) {
			return true
		}
	}
	return false
}

// assemble builds a table of what the sources have returned and, for the others,
// of what they returned last. A part that cannot be used is marked as failed. The
// error says why the list as a whole is refused.
func (f *Feed[T]) assemble(results []*fetched) (table *Table[T], skipped int, err error) {
	for {
		bodies := make([]string, len(f.parts))
		loaded := 0
		for i, p := range f.parts {
			switch r := results[i]; {
			case r != nil && r.err == nil && !r.same:
				bodies[i] = r.body
			case p.loaded:
				bodies[i] = p.body
			default:
				continue
			}
			loaded++
		}
		if f.o.Operator && loaded < len(f.parts) {
			return nil, 0, errors.New("the list is not used as long as a part of it cannot be read")
		}
		table, skipped, err = f.build(bodies)
		wrong, isPart := errors.AsType[*partError](err)
		if !isPart || f.o.Operator || len(f.parts) == 1 || results[wrong.part] == nil {
			return table, skipped, err
		}
		results[wrong.part].err = f.fail(provider.ErrBadResponse, wrong.err)
	}
}

// accept makes what a source has returned the present version of a part.
func (p *part) accept(r *fetched, keep bool) {
	p.loaded, p.sum, p.etag, p.lastModified = true, r.sum, r.etag, r.lastModified
	if keep { // for when another part changes
		p.body = r.body
	}
}

// retry returns how long after a failure the next download is due. All sources are
// then asked again, so it is soon only if no request has reached a publisher, and no
// sooner than any of them wants.
func (f *Feed[T]) retry(results []*fetched, failures int) time.Duration {
	asked, wait := false, f.o.Spacing
	for i, p := range f.parts {
		r := results[i]
		if p.client == nil || r == nil {
			continue
		}
		asked = asked || !provider.Unsent(r.err)
		if e, ok := errors.AsType[*provider.Error](r.err); ok {
			wait = max(wait, min(e.RetryAfter, f.o.Interval))
		}
	}
	if !asked {
		return backoff.Delay(min(unsentRetry, f.o.Interval), f.o.Interval, failures)
	}
	return max(wait, backoff.Delay(f.o.Spacing, f.o.Interval, failures))
}

// fetch reads a source.
func (f *Feed[T]) fetch(ctx context.Context, p *part) *fetched {
	if p.client == nil {
		body, err := f.read(p.File)
		unread := err != nil
		if err == nil {
			body, err = unpack(body, f.o.MaxBody)
		}
		if err == nil && len(body) == 0 && !f.o.Operator {
			err = errEmpty
		}
		if err != nil {
			return &fetched{unread: unread, err: f.fail(provider.ErrUnavailable, fmt.Errorf("%s: %w", p.File, err))}
		}
		return &fetched{body: string(body), sum: sha256.Sum256(body)}
	}
	req := rest.Request{Header: http.Header{}}
	if p.loaded && p.etag != "" {
		req.Header.Set("If-None-Match", p.etag)
	}
	if p.loaded && p.lastModified != "" {
		req.Header.Set("If-Modified-Since", p.lastModified)
	}
	resp, err := p.client.Do(ctx, req)
	if err != nil {
		return &fetched{err: err}
	}
	if f.o.Refusal != nil {
		if err := f.o.Refusal(resp); err != nil {
			return &fetched{err: err}
		}
	}
	switch {
	case resp.Status == http.StatusOK:
		body, err := unpack(resp.Body, f.o.MaxBody)
		if err != nil {
			return &fetched{err: resp.BadResponse(err)}
		}
		if len(bytes.TrimSpace(body)) == 0 && !f.o.Operator { // an empty list says more than nothing
			return &fetched{err: resp.BadResponse(errEmpty)}
		}
		return &fetched{body: string(body), sum: sha256.Sum256(body), etag: resp.Header.Get("ETag"), lastModified: resp.Header.Get("Last-Modified")}
	case resp.Status == http.StatusNotModified && len(req.Header) > 0:
		return &fetched{same: true}
	}
	return &fetched{err: resp.StatusError()}
}

// read returns what a file holds. To open a pipe would wait for its other end.
func (f *Feed[T]) read(path string) ([]byte, error) {
	info, err := os.Stat(path)
	switch {
	case err != nil:
		return nil, errors.Unwrap(err)
	case !info.Mode().IsRegular():
		return nil, errors.New("not a regular file")
	case info.Size() > f.o.MaxBody:
		return nil, fmt.Errorf("larger than %d bytes", f.o.MaxBody)
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, errors.Unwrap(err)
	}
	defer file.Close()
	body, err := io.ReadAll(io.LimitReader(file, f.o.MaxBody+1))
	if err != nil {
		return nil, err
	}
	if int64(len(body)) > f.o.MaxBody {
		return nil, fmt.Errorf("larger than %d bytes", f.o.MaxBody)
	}
	return body, nil
}
