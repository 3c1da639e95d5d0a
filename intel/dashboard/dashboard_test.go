package dashboard_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/dashboard"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// filled returns a store with attackers whose texts are hostile.
func filled(tb testing.TB, attackers int, text string) (*memstore.Store, []uuid.UUID) {
	tb.Helper()
	s := memstore.New()
	var ids []uuid.UUID
	for n := range attackers {
		ids = append(ids, uuid.New())
		now := time.Now().UTC().Add(-time.Duration(n) * time.Minute)
		addr := netip.AddrFrom4([4]byte{45, 9, byte(n >> 8), byte(n)})
		require.NoError(tb, s.Observe(tb.Context(), store.Attacker{ID: ids[n], IP: addr.String(), LastSeen: now}))
		c, err := s.Claim(tb.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 1, Only: ids[n:]})
		require.NoError(tb, err)
		f := &provider.Finding{Provider: "custom", Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: now, Attrs: map[string]any{
			"name": text, "list": []string{text, "b"}, "numbers": []int64{1, 2}, "score": 0.5, "nothing": nil,
		}}
		d := aggregate.Strongest{}.Decide([]aggregate.Evidence{{Finding: f}}, now)
		require.NoError(tb, s.Save(tb.Context(), store.Update{
			Lease: store.Lease{ID: ids[n], Fence: c.Records[0].Fence}, IP: addr.String(), Revision: 1, SavedAt: now, Decision: &d,
			Entries: []store.Entry{{Provider: "custom", State: store.Fresh, Finding: f, Expires: now.Add(time.Hour)}, {Provider: "other", Error: text, Failures: 2}},
			Changed: []string{"custom"}, Due: now.Add(time.Hour),
		}))
	}
	return s, ids
}

func get(tb testing.TB, h http.Handler, target string) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(tb.Context(), http.MethodGet, target, http.NoBody))
	return w
}

var status = intel.Status{
	Running: true, Backlog: &intel.Backlog{Due: 1234567, Waiting: map[string]int{"custom": 7}, Readers: map[string]int{"https://siem.example.org": 31}, DrainSeconds: 7200},
	Providers: []intel.ProviderStatus{
		{Name: "custom", State: "quota exhausted", Mend: "correct the key", Quotas: []intel.QuotaStatus{{Limit: 25, Seconds: 604800, Reset: time.Now().Add(50 * time.Hour)}}},
		{Name: "drop_v4", State: "unproven", List: &provider.ListStatus{Loaded: true, Rows: 1234, LoadedAt: time.Now().Add(-3 * time.Hour), Shrunk: true, FromSnapshot: true, Error: "<b>"}},
		{Name: "tor", State: "unproven", List: &provider.ListStatus{}},
	},
	Relisting: 77,
}

func TestIndex(t *testing.T) {
	s, ids := filled(t, 60, "plain")
	feed := httpapi.NewFeed()
	rec, err := s.Get(t.Context(), ids[0])
	require.NoError(t, err)
	feed.Saved(intel.SavedInfo{Record: rec, Answered: []string{"custom"}, Changed: true})
	h := dashboard.New(s, dashboard.Options{Feed: feed, Status: func(context.Context) (intel.Status, error) { return status, nil }})
	w := get(t, h, "/")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "text/html; charset=utf-8", w.Header().Get("Content-Type"))
	body := w.Body.String()
	require.Equal(t, 50+1, strings.Count(body, `href="/attackers/`))
	for _, want := range []string{`rel="next"`, "1\u202f234\u202f567", "about 2 hours", "25 of 25 in 7 days", "correct the key",
		"1\u202f234 networks", "3 hours ago", "much shorter", "not checked since", "error: &lt;b&gt;", "not updated", "being loaded", "77 attackers", "<dt>for https://siem.example.org</dt><dd>31</dd>", "Recent changes", `class="malicious" x="442"`} {
		require.Contains(t, body, want)
	}
	policy := w.Header().Get("Content-Security-Policy")
	require.Contains(t, policy, "default-src 'none'")
	require.NotContains(t, policy, "unsafe")
	require.NotRegexp(t, regexp.MustCompile(`(?i)(src|href|action)="(https?:)?//`), body)
	require.NotRegexp(t, regexp.MustCompile(`(?i)<script>|<style|\sstyle=|\son[a-z]+=`), body)

	next := regexp.MustCompile(`rel="next" href="([^"]+)"`).FindStringSubmatch(body)[1]
	w = get(t, h, strings.ReplaceAll(next, "&amp;", "&"))
	require.Equal(t, 10+1, strings.Count(w.Body.String(), `href="/attackers/`))
	require.Contains(t, get(t, h, "/?text=45.9.0.7&verdict=malicious").Body.String(), `value="45.9.0.7"`)
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/?verdict=malicious", http.NoBody)
	r.Header.Set("X-Part", "results")
	part := httptest.NewRecorder()
	h.ServeHTTP(part, r)
	require.Regexp(t, `^<section id="results"`, part.Body.String())
	require.Regexp(t, `</section>\s*$`, part.Body.String())
	require.Equal(t, 50, strings.Count(part.Body.String(), `href="/attackers/`))
	require.Contains(t, get(t, h, "/?verdict=benign").Body.String(), "No attacker matches")
	for _, bad := range []string{"/?verdict=evil", "/?cursor=x", "/?nonsense=1"} {
		w := get(t, h, bad)
		require.Equal(t, http.StatusBadRequest, w.Code)
		require.Contains(t, w.Body.String(), `role="alert"`)
	}
	empty := get(t, dashboard.New(memstore.New(), dashboard.Options{}), "/").Body.String()
	require.Contains(t, empty, "No attacker has been seen yet")
	require.Contains(t, empty, "No verdict in the last 14 days")
}

func TestAttacker(t *testing.T) {
	const text = "<script>alert(1)</script>\u202e\x1b\"'"
	s, ids := filled(t, 1, text)
	h := dashboard.New(s, dashboard.Options{})
	w := get(t, h, "/attackers/"+ids[0].String())
	require.Equal(t, http.StatusOK, w.Code)
	body := w.Body.String()
	require.Contains(t, body, `<intel-panel uuid="`+ids[0].String()+`">`)
	require.Contains(t, body, `&lt;script&gt;alert(1)&lt;/script&gt;\u{202e}\u{1b}`)
	require.NotContains(t, body, "<script>alert")
	require.NotContains(t, body, "\u202e")
	for _, target := range []string{"/attackers/" + uuid.NewString(), "/attackers/x", "/nothing", "/attackers/"} {
		w := get(t, h, target)
		require.Equal(t, http.StatusNotFound, w.Code, target)
		require.Contains(t, w.Body.String(), "<h1>")
	}
	failing := dashboard.New(broken{}, dashboard.Options{Logger: slog.New(slog.DiscardHandler)})
	require.Equal(t, http.StatusServiceUnavailable, get(t, failing, "/attackers/"+ids[0].String()).Code)
}

type broken struct{ store.Store }

func (broken) Get(context.Context, uuid.UUID) (store.Record, error) {
	return store.Record{}, errors.New("down")
}

// A worker whose status takes long does not keep a page waiting.
func TestSlowStatus(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls atomic.Int32
		h := dashboard.New(memstore.New(), dashboard.Options{Status: func(context.Context) (intel.Status, error) {
			calls.Add(1)
			time.Sleep(10 * time.Second)
			return status, nil
		}})
		start := time.Now()
		for range 5 {
			require.NotContains(t, get(t, h, "/").Body.String(), "25 of 25")
		}
		require.Less(t, time.Since(start), 2*time.Second)
		synctest.Wait()
		require.EqualValues(t, 1, calls.Load())
		time.Sleep(10 * time.Second)
		require.Contains(t, get(t, h, "/").Body.String(), "25 of 25")
		// The next value is waited for only once the last one is old.
		for _, c := range []struct{ after, wait time.Duration }{{100 * time.Second, 0}, {200 * time.Second, 300 * time.Millisecond}} {
			time.Sleep(c.after)
			start = time.Now()
			require.Contains(t, get(t, h, "/").Body.String(), "25 of 25")
			require.Equal(t, c.wait, time.Since(start))
			time.Sleep(10 * time.Second)
		}
		require.EqualValues(t, 3, calls.Load())
	})
}

// The dashboard, with all that it loads, takes at most 60 KiB compressed.
func TestSize(t *testing.T) {
	s, _ := filled(t, 60, "plain")
	h := dashboard.New(s, dashboard.Options{Status: func(context.Context) (intel.Status, error) { return status, nil }})
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	add := func(w *httptest.ResponseRecorder) {
		require.Equal(t, http.StatusOK, w.Code)
		_, err := io.Copy(z, w.Body)
		require.NoError(t, err)
		require.NoError(t, z.Flush())
	}
	add(get(t, h, "/"))
	for path, file := range dashboard.Public() {
		add(get(t, file, path))
	}
	require.NoError(t, z.Close())
	t.Logf("%d bytes", b.Len())
	require.LessOrEqual(t, b.Len(), 60<<10)
}

func TestPanel(t *testing.T) {
	w := get(t, dashboard.Panel(), "/anywhere.js")
	require.Equal(t, "text/javascript; charset=utf-8", w.Header().Get("Content-Type"))
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("If-None-Match", w.Header().Get("ETag"))
	again := httptest.NewRecorder()
	dashboard.Panel().ServeHTTP(again, r)
	require.Equal(t, http.StatusNotModified, again.Code)
	again = httptest.NewRecorder()
	dashboard.Panel().ServeHTTP(again, httptest.NewRequest(http.MethodPost, "/", http.NoBody))
	require.Equal(t, http.StatusMethodNotAllowed, again.Code)
}

// Whatever text a source gives, the page holds it as text.
func FuzzAttacker(f *testing.F) {
	f.Add(`<img src=x onerror=alert(1)>`)
	f.Add("\xed\xa0\x80\u202e\x00")
	f.Fuzz(func(t *testing.T, text string) {
		s, ids := filled(t, 1, text)
		body := get(t, dashboard.New(s, dashboard.Options{}), "/attackers/"+ids[0].String()).Body.String()
		require.Equal(t, 2, strings.Count(body, "<script"))
		require.NotContains(t, body, "<img")
		require.NotContains(t, body, "\u202e")
		require.Contains(t, body, "</html>")
	})
}
