package feed_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
)

func TestBrokenDownloadKeepsTheList(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		spoil func(*publisher)
		kind  error
	}{
		"web page":      {func(p *publisher) { p.body = "<html>" }, provider.ErrBadResponse},
		"truncated":     {func(p *publisher) { p.body = oneEntry[:5] }, provider.ErrBadResponse},
		"other shape":   {func(p *publisher) { p.body = "7" }, provider.ErrBadResponse},
		"not found":     {func(p *publisher) { p.status = 404 }, provider.ErrBadResponse},
		"redirect":      {func(p *publisher) { p.status = 301 }, provider.ErrBadResponse},
		"no content":    {func(p *publisher) { p.status = 204 }, provider.ErrBadResponse},
		"refused":       {func(p *publisher) { p.status = 403 }, provider.ErrUnauthorized},
		"down":          {func(p *publisher) { p.status = 503 }, provider.ErrUnavailable},
		"broken":        {func(p *publisher) { p.err = io.ErrUnexpectedEOF }, provider.ErrUnavailable},
		"too large":     {func(p *publisher) { p.body = string(make([]byte, 2000)) }, provider.ErrBadResponse},
		"takes forever": {func(p *publisher) { p.delay = time.Hour }, provider.ErrUnavailable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: oneEntry}
				o := options(p)
				o.MaxBody, o.Timeout = 1000, 10*time.Second
				f, err := feed.New(o)
				require.NoError(t, err)
				require.NoError(t, f.Refresh(t.Context()))
				loaded := time.Now().UTC()
				time.Sleep(time.Hour)
				p.set(tt.spoil)
				requireListed(t, f) // tries, fails and answers all the same
				require.Equal(t, 2, p.calls())
				for range 3 {
					err := f.Refresh(t.Context())
					require.Equal(t, tt.kind, provider.Kind(err))
					require.Equal(t, err, f.Stats().Err)
					requireListed(t, f)
				}
				require.Equal(t, 2, p.calls())
				require.Equal(t, loaded, f.Stats().LoadedAt)

				p.publish(`{}`)
				p.set(func(p *publisher) { p.delay = 0 })
				time.Sleep(time.Minute)
				require.NoError(t, f.Refresh(t.Context()))
				require.NoError(t, f.Stats().Err)
				require.Zero(t, f.Stats().Entries)
			})
		})
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{status: http.StatusServiceUnavailable}
		f := newFeed(t, p)
		for i, want := range []time.Duration{1, 2, 4, 8, 16, 32, 60, 60, 60} {
			want *= time.Minute
			_, err := f.Lookup(t.Context(), listed)
			require.ErrorIs(t, err, provider.ErrUnavailable)
			require.Equal(t, i+1, p.calls())
			wait := time.Until(f.Stats().NextLoad)
			require.LessOrEqual(t, wait, want)
			require.Greater(t, wait, want*3/4-1)
			time.Sleep(wait - 1)
			_, err = f.Lookup(t.Context(), listed)
			require.ErrorIs(t, err, provider.ErrUnavailable)
			require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrUnavailable)
			require.Equal(t, i+1, p.calls())
			time.Sleep(time.Nanosecond)
		}
		p.publish(oneEntry)
		requireListed(t, f)
		p.set(func(p *publisher) { p.status = http.StatusServiceUnavailable })
		time.Sleep(time.Hour)
		require.Error(t, f.Refresh(t.Context()))
		require.LessOrEqual(t, time.Until(f.Stats().NextLoad), time.Minute) // starts over
	})
}

func TestRetryAfterIsHonoredWithinTheInterval(t *testing.T) {
	t.Parallel()
	for after, want := range map[string]time.Duration{"1800": 30 * time.Minute, "999999999": time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			p := &publisher{status: http.StatusTooManyRequests, header: http.Header{"Retry-After": {after}}}
			f := newFeed(t, p)
			require.ErrorIs(t, f.Refresh(t.Context()), provider.ErrRateLimited)
			require.Equal(t, want, time.Until(f.Stats().NextLoad))
		})
	}
}

func TestOthersAnswerWhileOneRefreshes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry}
		f := newFeed(t, p)
		require.NoError(t, f.Refresh(t.Context()))
		time.Sleep(time.Hour)
		p.publish(`{}`)
		p.set(func(p *publisher) { p.delay = time.Minute })
		var leader feed.Answer[int]
		done := make(chan error, 1)
		go func() {
			var err error
			leader, err = f.Lookup(t.Context(), listed)
			done <- err
		}()
		synctest.Wait()
		start := time.Now()
		for range 10 {
			requireListed(t, f)
		}
		require.Equal(t, start, time.Now())
		require.NoError(t, <-done)
		require.False(t, leader.Listed)
		require.Equal(t, 2, p.calls())
	})
}

func TestCanceledLoadIsNoFailure(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context) (context.Context, context.CancelFunc){
		"canceled": func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, cancel := context.WithCancel(ctx)
			time.AfterFunc(time.Second, cancel)
			return ctx, cancel
		},
		"deadline": func(ctx context.Context) (context.Context, context.CancelFunc) {
			return context.WithTimeout(ctx, time.Second)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				p := &publisher{body: oneEntry, delay: time.Minute}
				f := newFeed(t, p)
				ctx, cancel := end(t.Context())
				defer cancel()
				var wg sync.WaitGroup
				wg.Go(func() {
					_, err := f.Lookup(ctx, listed)
					if !errors.Is(err, context.Canceled) && !errors.Is(err, context.DeadlineExceeded) {
						t.Errorf("the lookup that was cut off: %v", err)
					}
				})
				synctest.Wait() // it loads, and the following wait for it
				for range 8 {
					wg.Go(func() {
						if a, err := f.Lookup(t.Context(), listed); err != nil || !a.Listed {
							t.Errorf("a lookup that waited: %+v, %v", a, err)
						}
					})
				}
				wg.Wait()
				require.Equal(t, 2, p.calls())
				require.NoError(t, f.Stats().Err)
			})
		})
	}
}

func TestWaitingEndsWithTheContext(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry, delay: time.Minute}
		f := newFeed(t, p)
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := f.Refresh(t.Context()); err != nil {
				t.Error(err)
			}
		})
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		_, err := f.Lookup(ctx, listed)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, provider.ErrUnavailable)
		require.Equal(t, time.Second, time.Since(start))
		wg.Wait()
		require.Equal(t, 1, p.calls())

		_, err = f.Lookup(ctx, listed) // done before it starts, list or not
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

func TestCutOffRefreshAnswersFromTheOldList(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry}
		f := newFeed(t, p)
		require.NoError(t, f.Refresh(t.Context()))
		time.Sleep(time.Hour)
		p.set(func(p *publisher) { p.delay = time.Hour })
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		a, err := f.Lookup(ctx, listed)
		require.NoError(t, err)
		require.True(t, a.Listed)
		require.NoError(t, f.Stats().Err)
	})
}

func TestPanicInDecodeHoldsNobodyUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := &publisher{body: oneEntry}
		o := options(p)
		var calls atomic.Int32
		o.Decode = func(body []byte) (map[netip.Addr]int, error) {
			if calls.Add(1) == 1 {
				panic("first")
			}
			return decode(body)
		}
		f, err := feed.New(o)
		require.NoError(t, err)
		require.Panics(t, func() { _ = f.Refresh(t.Context()) })
		requireListed(t, f)
	})
}
