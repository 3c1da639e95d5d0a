package upstream_test

import (
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

var four = []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.ThreatFox, upstream.Feodo}

func TestOptionsAreChecked(t *testing.T) {
	_, err := upstream.Start(upstream.Options{
		Addr:   "45.155.205.233:80",
		Keys:   map[upstream.Source][]string{upstream.Feodo: {"k"}},
		Quotas: map[upstream.Source][]upstream.Quota{upstream.Custom: nil, upstream.GreyNoise: {{Calls: 1}}},
	})
	require.ErrorContains(t, err, "not a loopback address")
	require.ErrorContains(t, err, "feodo does not check keys")
	require.ErrorContains(t, err, "custom is not one of the four services")
	require.ErrorContains(t, err, "1 calls in 0s is not a quota")

	s := start(t, upstream.Options{})
	_, err = upstream.Start(upstream.Options{Addr: strings.TrimPrefix(s.URL(), "http://")})
	require.ErrorIs(t, err, syscall.EADDRINUSE)
}

func TestRollingQuota(t *testing.T) {
	now := time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)
	s := start(t, upstream.Options{
		Now:    func() time.Time { return now },
		Quotas: map[upstream.Source][]upstream.Quota{upstream.GreyNoise: {{Calls: 2, Window: 7 * 24 * time.Hour}}},
	})
	s.SetProfile(addr, upstream.Attacker)
	status := func() int { return ask(t, s, upstream.GreyNoise, addr).StatusCode }
	require.Equal(t, 200, status())
	now = now.Add(time.Hour)
	require.Equal(t, 200, status())
	refused := ask(t, s, upstream.GreyNoise, addr)
	require.Equal(t, http.StatusTooManyRequests, refused.StatusCode)
	require.JSONEq(t, `{"plan":"Community","rate_limit":"2-W","message":"You have exceeded your provisioned rate limit."}`, refused.body)
	require.Empty(t, refused.Header.Get("Retry-After"))
	now = now.Add(7*24*time.Hour - time.Hour - 1)
	require.Equal(t, 429, status(), "a nanosecond early")
	now = now.Add(1)
	require.Equal(t, 200, status(), "the first call is a week old")
	require.Equal(t, 429, status(), "the second is not")
}

func TestCalendarQuota(t *testing.T) {
	now := time.Date(2026, 11, 23, 23, 59, 30, 0, time.UTC)
	day := upstream.Quota{Calls: 2, Window: 24 * time.Hour, Calendar: true}
	s := start(t, upstream.Options{Now: func() time.Time { return now }})
	s.SetQuota(upstream.AbuseIPDB, upstream.Quota{Calls: 1000, Window: time.Hour}, day)
	for _, left := range []string{"1", "0"} {
		a := ask(t, s, upstream.AbuseIPDB, addr)
		require.Equal(t, 200, a.StatusCode)
		require.Equal(t, "2", a.Header.Get("X-RateLimit-Limit"))
		require.Equal(t, left, a.Header.Get("X-RateLimit-Remaining"))
	}
	a := ask(t, s, upstream.AbuseIPDB, addr)
	require.Equal(t, http.StatusTooManyRequests, a.StatusCode)
	require.JSONEq(t, `{"errors":[{"detail":"Daily rate limit of 2 requests exceeded for this endpoint. See headers for additional details.","status":429}]}`, a.body)
	require.Equal(t, "0", a.Header.Get("X-RateLimit-Remaining"))
	require.Equal(t, "30", a.Header.Get("Retry-After"))
	require.Equal(t, strconv.FormatInt(now.Add(30*time.Second).Unix(), 10), a.Header.Get("X-RateLimit-Reset"))
	now = now.Add(30 * time.Second)
	require.Equal(t, 200, ask(t, s, upstream.AbuseIPDB, addr).StatusCode)

	s.SetQuota(upstream.AbuseIPDB, upstream.Quota{Window: time.Hour})
	require.Equal(t, 429, ask(t, s, upstream.AbuseIPDB, addr).StatusCode, "a quota of no calls")
	s.SetQuota(upstream.AbuseIPDB)
	require.Equal(t, 200, ask(t, s, upstream.AbuseIPDB, addr).StatusCode)
	require.Panics(t, func() { s.SetQuota(upstream.Feodo, upstream.Quota{Calls: 1}) })
}

func TestQuotaRefusalsOfTheOthers(t *testing.T) {
	s := start(t, upstream.Options{})
	for source, want := range map[upstream.Source]string{upstream.ThreatFox: `{"query_status":"rate_limited"}`, upstream.Feodo: "Too Many Requests"} {
		s.SetQuota(source, upstream.Quota{Window: time.Hour})
		a := ask(t, s, source, addr)
		require.Equal(t, 429, a.StatusCode)
		require.Equal(t, want, a.body)
	}
}

func TestCallsAreCountedAndRemembered(t *testing.T) {
	s := start(t, upstream.Options{Keep: 3})
	client := newClient(t)
	for range 4 {
		do(t, client, request(t, s, upstream.AbuseIPDB, addr))
	}
	r := request(t, s, upstream.AbuseIPDB, other)
	r.Header.Set("User-Agent", "probe")
	do(t, client, r)
	require.Equal(t, 5, s.Calls(upstream.AbuseIPDB))
	require.Equal(t, 4, s.CallsFor(upstream.AbuseIPDB, addr))
	require.Equal(t, 1, s.CallsFor(upstream.AbuseIPDB, other))
	require.Zero(t, s.Calls(upstream.GreyNoise))
	require.Equal(t, 1, s.Peak(upstream.AbuseIPDB))

	kept := s.Requests(upstream.AbuseIPDB)
	require.Len(t, kept, 3)
	require.Equal(t, addr, kept[0].Addr)
	last := kept[2]
	require.Equal(t, other, last.Addr)
	require.Equal(t, "GET", last.Method)
	require.Equal(t, "/api/v2/check?ipAddress=193.32.162.7&maxAgeInDays=90&verbose", last.URI)
	require.Equal(t, "probe", last.Header.Get("User-Agent"))

	do(t, client, request(t, s, upstream.ThreatFox, addr))
	require.Equal(t, `{"query":"search_ioc","search_term":"45.155.205.233"}`, s.Requests(upstream.ThreatFox)[0].Body)
	require.Equal(t, 1, s.CallsFor(upstream.ThreatFox, addr))

	s.ResetCalls()
	require.Zero(t, s.Calls(upstream.AbuseIPDB))
	require.Zero(t, s.CallsFor(upstream.AbuseIPDB, addr))
	require.Empty(t, s.Requests(upstream.AbuseIPDB))

	none := start(t, upstream.Options{Keep: -1})
	ask(t, none, upstream.GreyNoise, addr)
	require.Equal(t, 1, none.Calls(upstream.GreyNoise))
	require.Empty(t, none.Requests(upstream.GreyNoise))
}

func TestDelayAndPeak(t *testing.T) {
	s := start(t, upstream.Options{})
	s.Delay(upstream.GreyNoise, 30*time.Millisecond)
	client := newClient(t)
	began := time.Now()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			resp, err := client.Do(request(t, s, upstream.GreyNoise, addr))
			if err == nil {
				_, _ = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
		})
	}
	wg.Wait()
	require.GreaterOrEqual(t, time.Since(began), 30*time.Millisecond)
	require.Greater(t, s.Peak(upstream.GreyNoise), 1)
	require.Equal(t, 8, s.Calls(upstream.GreyNoise))
}

func TestCloseReleasesHangingHandlers(t *testing.T) {
	s := start(t, upstream.Options{})
	s.Fail(upstream.GreyNoise, upstream.Hang)
	s.Fail(upstream.ThreatFox, upstream.Drip)
	s.Delay(upstream.Feodo, time.Hour)
	client := newClient(t)
	var wg sync.WaitGroup
	for _, source := range []upstream.Source{upstream.GreyNoise, upstream.ThreatFox, upstream.Feodo} {
		r := request(t, s, source, addr)
		wg.Go(func() {
			resp, err := client.Do(r)
			if err == nil {
				_, err = io.Copy(io.Discard, resp.Body)
				resp.Body.Close()
			}
			if err == nil {
				t.Errorf("%v answered", source)
			}
		})
	}
	for s.Calls(upstream.GreyNoise)+s.Calls(upstream.ThreatFox)+s.Calls(upstream.Feodo) < 3 {
		runtime.Gosched()
	}
	s.Close()
	wg.Wait()
	s.Close()
}

func TestUnknownPaths(t *testing.T) {
	s := start(t, upstream.Options{})
	require.Equal(t, 404, ask(t, s, upstream.Custom, addr).StatusCode)
	for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.Feodo} {
		r := request(t, s, source, addr)
		r.Method = http.MethodPut
		require.Equal(t, 405, do(t, newClient(t), r).StatusCode, source)
	}
	r := request(t, s, upstream.ThreatFox, addr)
	r.Body, r.ContentLength = io.NopCloser(strings.NewReader(strings.Repeat("x", 2<<20))), 2<<20
	require.Equal(t, 400, do(t, newClient(t), r).StatusCode)
}

func TestCustomHandler(t *testing.T) {
	s := start(t, upstream.Options{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Mine", "yes")
		w.WriteHeader(http.StatusAccepted)
		_, _ = w.Write(append([]byte("got "), body...))
	})})
	r := request(t, s, upstream.Custom, addr)
	r.Method, r.Body, r.ContentLength = http.MethodPost, io.NopCloser(strings.NewReader("this")), 4
	a := do(t, newClient(t), r)
	require.Equal(t, http.StatusAccepted, a.StatusCode)
	require.Equal(t, "yes", a.Header.Get("X-Mine"))
	require.Equal(t, "got this", a.body)
	s.Fail(upstream.Custom, upstream.Truncated)
	a = ask(t, s, upstream.Custom, addr)
	require.Equal(t, http.StatusAccepted, a.StatusCode)
	require.Equal(t, "go", a.body)
	s.Fail(upstream.Custom, upstream.WrongTypes)
	require.Contains(t, ask(t, s, upstream.Custom, addr).body, upstream.Canary)
	require.Equal(t, 3, s.Calls(upstream.Custom))
}

func FuzzRequest(f *testing.F) {
	f.Add("GET", "/v3/community/45.155.205.233", "")
	f.Add("GET", "/api/v2/check?ipAddress=2a0e:97c0::1&verbose", "")
	f.Add("POST", "/api/v1/", `{"query":"search_ioc","search_term":"45.9.20.7"}`)
	f.Add("POST", "/elsewhere/api/v1/", `{"query":7}`)
	f.Add("GET", "/v3/community/fe80::1%25eth0", "")
	s, err := upstream.Start(upstream.Options{Keep: -1})
	require.NoError(f, err)
	f.Cleanup(s.Close)
	f.Fuzz(func(t *testing.T, method, uri, body string) {
		r, err := http.NewRequestWithContext(context.Background(), method, s.URL(), strings.NewReader(body))
		if err != nil || !strings.HasPrefix(uri, "/") {
			return
		}
		if r.URL, err = r.URL.Parse(uri); err != nil {
			return
		}
		r.RequestURI = uri
		r.Header.Set("Key", "k")
		r.Header.Set("Auth-Key", "k")
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		if w.Code < 200 || w.Code > 499 {
			t.Fatalf("%s %s: status %d", method, uri, w.Code)
		}
	})
}

func BenchmarkServer(b *testing.B) {
	for _, source := range four {
		b.Run(source.String(), func(b *testing.B) {
			s := start(b, upstream.Options{})
			client := newClient(b)
			r := request(b, s, source, addr)
			b.ReportAllocs()
			for b.Loop() {
				r.Body, _ = r.GetBody()
				resp, err := client.Do(r)
				if err != nil {
					b.Fatal(err)
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err = errors.Join(err, resp.Body.Close()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// BenchmarkHandler measures what the server adds to net/http.
func BenchmarkHandler(b *testing.B) {
	for _, source := range four {
		b.Run(source.String(), func(b *testing.B) {
			s := start(b, upstream.Options{})
			r := request(b, s, source, addr)
			r.RequestURI = r.URL.RequestURI()
			b.ReportAllocs()
			for b.Loop() {
				r.Body, _ = r.GetBody()
				s.ServeHTTP(httptest.NewRecorder(), r)
			}
		})
	}
}
