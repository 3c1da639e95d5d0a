package feed_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/rest"
)

var (
	listed   = netip.MustParseAddr("45.155.205.233")
	unlisted = netip.MustParseAddr("193.32.162.7")
)

// publisher is a transport that answers with its list.
type publisher struct {
	mu       sync.Mutex
	status   int           // default 200
	header   http.Header   // of answers
	body     string        // of answers
	delay    time.Duration // before an answer
	err      error         // instead of an answer
	requests []*http.Request
}

func (p *publisher) RoundTrip(r *http.Request) (*http.Response, error) {
	p.mu.Lock()
	p.requests = append(p.requests, r)
	resp := &http.Response{StatusCode: p.status, Header: p.header.Clone(), Body: io.NopCloser(bytes.NewReader([]byte(p.body)))}
	delay, err := p.delay, p.err
	p.mu.Unlock()
	if resp.StatusCode == 0 {
		resp.StatusCode = http.StatusOK
	}
	select {
	case <-r.Context().Done():
		return nil, r.Context().Err()
	case <-time.After(delay):
		return resp, err
	}
}

func (p *publisher) set(change func(*publisher)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
}

func (p *publisher) calls() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.requests)
}

func (p *publisher) last() *http.Request {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.requests[len(p.requests)-1]
}

func (p *publisher) publish(body string) {
	p.set(func(p *publisher) { p.body, p.status, p.err = body, 0, nil })
}

const oneEntry = `{"45.155.205.233":7}`

var errShape = errors.New("not an object of numbers")

func decode(body []byte) (map[netip.Addr]int, error) {
	var list map[netip.Addr]int
	if json.Unmarshal(body, &list) != nil {
		return nil, errShape
	}
	return list, nil
}

func options(p *publisher) feed.Options[int] {
	return feed.Options[int]{Provider: "test", URL: "https://list.example/list.json", Transport: p, Decode: decode}
}

func newFeed(t *testing.T, p *publisher) *feed.Feed[int] {
	t.Helper()
	f, err := feed.New(options(p))
	require.NoError(t, err)
	return f
}

func requireListed(t *testing.T, f *feed.Feed[int]) {
	t.Helper()
	a, err := f.Lookup(t.Context(), listed)
	require.NoError(t, err)
	require.True(t, a.Listed)
	require.Equal(t, 7, a.Value)
}

func TestNewRefusesNonsense(t *testing.T) {
	t.Parallel()
	_, err := feed.New(feed.Options[int]{Provider: "Test", BaseURL: "x", Interval: time.Minute, MaxBody: -1, Timeout: -1})
	require.ErrorIs(t, err, provider.ErrConfig)
	for _, option := range []string{"Test", "URL", "Decode", "Interval", "MaxBody", "Timeout"} {
		require.ErrorContains(t, err, option)
	}
}

func TestFirstLookupLoads(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry, delay: time.Second}
		f := newFeed(t, p)
		require.Equal(t, feed.Stats{}, f.Stats())
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				a, err := f.Lookup(t.Context(), listed)
				if err != nil || !a.Listed || a.Value != 7 || a.LoadedAt.IsZero() {
					t.Errorf("%+v, %v", a, err)
				}
			})
			wg.Go(func() {
				if err := f.Refresh(t.Context()); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		require.Equal(t, 1, p.calls())
		require.Equal(t, "https://list.example/list.json", p.last().URL.String())
		a, err := f.Lookup(t.Context(), unlisted)
		require.NoError(t, err)
		require.Equal(t, feed.Answer[int]{LoadedAt: time.Now().UTC()}, a)
		require.Equal(t, feed.Stats{
			Loaded: true, Entries: 1, LoadedAt: time.Now().UTC(), LastNonEmpty: time.Now().UTC(), NextLoad: time.Now().Add(time.Hour),
		}, f.Stats())
	})
}

func TestLoadsAgainAfterTheInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: `{}`}
		o := options(p)
		o.Interval = feed.MinInterval
		f, err := feed.New(o)
		require.NoError(t, err)
		require.NoError(t, f.Refresh(t.Context()))
		p.publish(oneEntry)
		time.Sleep(feed.MinInterval - 1)
		a, err := f.Lookup(t.Context(), listed)
		require.NoError(t, err)
		require.False(t, a.Listed)
		require.Equal(t, 1, p.calls())
		time.Sleep(time.Nanosecond)
		requireListed(t, f)
		require.Equal(t, 2, p.calls())
	})
}

func TestEmptyListIsFresh(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry}
		f := newFeed(t, p)
		require.NoError(t, f.Refresh(t.Context()))
		full := time.Now().UTC()
		p.publish(`{}`)
		time.Sleep(time.Hour)
		for range 3 {
			a, err := f.Lookup(t.Context(), listed)
			require.NoError(t, err)
			require.False(t, a.Listed)
		}
		require.Equal(t, 2, p.calls())
		s := f.Stats()
		require.True(t, s.Loaded)
		require.Zero(t, s.Entries)
		require.Equal(t, time.Now().UTC(), s.LoadedAt)
		require.Equal(t, full, s.LastNonEmpty)
	})
}

func TestConditionalRequests(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const modified = "Mon, 23 Nov 2026 12:00:00 GMT"
		p := &publisher{body: oneEntry, header: http.Header{"Etag": {`W/"a"`}, "Last-Modified": {modified}}}
		o := options(p)
		o.Key = rest.Key{Header: "Auth-Key", Func: func() string { return "k" }}
		f, err := feed.New(o)
		require.NoError(t, err)
		require.NoError(t, f.Refresh(t.Context()))
		require.NotContains(t, p.last().Header, "If-None-Match")
		require.NotContains(t, p.last().Header, "If-Modified-Since")

		p.set(func(p *publisher) { p.status, p.body = http.StatusNotModified, "" })
		for range 2 { // what a 304 was about is remembered as well
			time.Sleep(time.Hour)
			require.NoError(t, f.Refresh(t.Context()))
			require.Equal(t, `W/"a"`, p.last().Header.Get("If-None-Match"))
			require.Equal(t, modified, p.last().Header.Get("If-Modified-Since"))
			require.Equal(t, "k", p.last().Header.Get("Auth-Key"))
			requireListed(t, f)
			require.Equal(t, time.Now().UTC(), f.Stats().LoadedAt)
			require.Equal(t, time.Now().UTC(), f.Stats().LastNonEmpty)
		}
		require.Equal(t, 3, p.calls())

		p.set(func(p *publisher) { p.status, p.body, p.header = 0, `{}`, nil })
		time.Sleep(time.Hour)
		require.NoError(t, f.Refresh(t.Context()))
		time.Sleep(time.Hour)
		require.NoError(t, f.Refresh(t.Context()))
		require.NotContains(t, p.last().Header, "If-None-Match")
	})
}

func TestUnaskedNotModifiedIsAnError(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := newFeed(t, &publisher{status: http.StatusNotModified})
		require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrBadResponse)
		require.False(t, f.Stats().Loaded)
	})
}

func TestClock(t *testing.T) {
	t.Parallel()
	p := &publisher{body: oneEntry}
	now := time.Date(2026, 11, 23, 13, 0, 0, 0, time.FixedZone("CET", 3600))
	o := options(p)
	o.Now = func() time.Time { return now }
	f, err := feed.New(o)
	require.NoError(t, err)
	a, err := f.Lookup(t.Context(), listed)
	require.NoError(t, err)
	require.Equal(t, now.UTC(), a.LoadedAt)
	now = now.Add(time.Hour)
	require.NoError(t, f.Refresh(t.Context()))
	require.Equal(t, 2, p.calls())
}

func BenchmarkLookup(b *testing.B) {
	f, err := feed.New(options(&publisher{body: oneEntry}))
	if err != nil {
		b.Fatal(err)
	}
	if err := f.Refresh(b.Context()); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if a, err := f.Lookup(b.Context(), listed); err != nil || !a.Listed {
				b.Errorf("%+v, %v", a, err)
				return
			}
		}
	})
}
