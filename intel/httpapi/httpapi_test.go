package httpapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
	"github.com/decnet/enrich/store/memstore"
)

var (
	known   = uuid.MustParse("3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11")
	unknown = uuid.MustParse("00000000-0000-4000-8000-000000000000")
)

var at = time.Date(2026, 2, 28, 23, 59, 59, 123456000, time.UTC)

// filled returns a store with an attacker about whom something is known, and
// one about whom nothing was learnt.
func filled(tb testing.TB) *memstore.Store {
	tb.Helper()
	s := memstore.New()
	require.NoError(tb, s.Observe(tb.Context(), store.Attacker{ID: known, IP: "45.155.205.233", LastSeen: at}))
	c, err := s.Claim(tb.Context(), store.ClaimRequest{Now: at, Owner: "test", Lease: time.Minute, Limit: 1})
	require.NoError(tb, err)
	require.Len(tb, c.Records, 1)
	f := &provider.Finding{
		Provider: "abuseipdb", Addr: c.Records[0].Addr(), Known: true, Verdict: provider.Malicious,
		Attrs: map[string]any{"score": int64(100), "categories": []int64{18, 22}}, Raw: json.RawMessage(`{"totalReports":5}`),
		ObservedAt: at, TTL: time.Hour,
	}
	require.NoError(tb, s.Save(tb.Context(), store.Update{
		Lease: store.Lease{ID: known, Fence: c.Records[0].Fence}, IP: c.Records[0].IP, Revision: 1, SavedAt: at,
		Entries:  []store.Entry{{Provider: "abuseipdb", Finding: f, Expires: at.Add(time.Hour)}},
		Changed:  []string{"abuseipdb"},
		Decision: &aggregate.Decision{Verdict: provider.Malicious},
	}))
	require.NoError(tb, s.Observe(tb.Context(), store.Attacker{ID: unknown, IP: "45.155.205.233", LastSeen: at}))
	return s
}

// ask sends a request to h, and checks what is common to all answers.
func ask(tb testing.TB, h http.Handler, method, target string) *httptest.ResponseRecorder {
	tb.Helper()
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequestWithContext(tb.Context(), method, target, http.NoBody))
	checkCommon(tb, w)
	return w
}

func checkCommon(tb testing.TB, w *httptest.ResponseRecorder) {
	tb.Helper()
	require.Equal(tb, "nosniff", w.Header().Get("X-Content-Type-Options"))
	require.Contains(tb, w.Header().Get("Content-Security-Policy"), "default-src 'none'")
	if w.Header().Get("ETag") != "" {
		require.Equal(tb, "private, no-cache", w.Header().Get("Cache-Control"))
	} else {
		require.Equal(tb, "no-store", w.Header().Get("Cache-Control"))
	}
	var object map[string]any
	require.NoError(tb, json.Unmarshal(w.Body.Bytes(), &object), "%s", w.Body)
	contentType := w.Header().Get("Content-Type")
	if w.Code == http.StatusOK {
		require.Equal(tb, "application/json", contentType)
		return
	}
	require.NotEmpty(tb, object["detail"])
	if contentType == "application/json" { // DECNET's own route
		require.Len(tb, object, 1)
		return
	}
	require.Equal(tb, "application/problem+json", contentType)
	require.Len(tb, object, 4)
	require.InDelta(tb, w.Code, object["status"], 0)
}

// detail returns what an answer that is not a success says.
func detail(tb testing.TB, w *httptest.ResponseRecorder) string {
	tb.Helper()
	var object struct{ Detail string }
	require.NoError(tb, json.Unmarshal(w.Body.Bytes(), &object), "%s", w.Body)
	return object.Detail
}

func intelPath(id string) string { return "/api/v1/attackers/" + id + "/intel" }

func TestIntel(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{})
	dashed := known.String()
	for _, id := range []string{dashed, strings.ReplaceAll(dashed, "-", ""), strings.ToUpper(dashed)} {
		w := ask(t, h, http.MethodGet, intelPath(id))
		require.Equal(t, http.StatusOK, w.Code)
		var row map[string]any
		require.NoError(t, json.Unmarshal(w.Body.Bytes(), &row))
		require.Len(t, row, 4+len(decnet.Columns)+3)
		require.Subset(t, row, map[string]any{
			"attacker_uuid": dashed, "attacker_ip": "45.155.205.233", "schema_version": 1.0,
			"abuseipdb_score": 100.0, "abuseipdb_categories": []any{18.0, 22.0},
			"abuseipdb_raw": map[string]any{"totalReports": 5.0}, "abuseipdb_queried_at": "2026-02-28T23:59:59.123456Z",
			"greynoise_classification": nil, "greynoise_tags": []any{}, "greynoise_raw": map[string]any{}, "greynoise_queried_at": nil,
			"feodo_listed": nil, "aggregate_verdict": "malicious",
			"cached_at": "2026-02-28T23:59:59.123456Z", "expires_at": "2026-03-01T00:59:59.123456Z",
		})
		for _, c := range decnet.Columns {
			require.Contains(t, row, c.Name)
		}
	}
}

func TestNoIntel(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{})
	for _, id := range []string{unknown.String(), uuid.NewString()} {
		w := ask(t, h, http.MethodGet, intelPath(id))
		require.Equal(t, http.StatusNotFound, w.Code)
		require.Equal(t, `{"detail":"No intel cached for this attacker"}`, w.Body.String())
	}
	for _, id := range []string{
		"45.155.205.233", "x", "%20", "a%2fb", "3f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d1", known.String() + "0",
		"urn:uuid:" + known.String(), "%7B" + known.String() + "%7D", "3f0e8a3698c44a539d7b0f2f1a5a8d1g",
		strings.Repeat("-", 36), "%00", known.String() + "%00", strings.Repeat("a", 5000),
	} {
		w := ask(t, h, http.MethodGet, intelPath(id))
		require.Equal(t, http.StatusNotFound, w.Code, id)
		require.Equal(t, `{"detail":"No intel cached for this attacker"}`, w.Body.String())
	}
	for _, target := range []string{
		"/", "/api", "/api/", "/api/v1", "/api/v1/attackers", "/api/v1/attackers/" + known.String(), "/api/v1/attackers//intel",
		intelPath(known.String()) + "/", "/" + intelPath(known.String()), "/x/.." + intelPath(known.String()),
		"/api/v1/attackers/%2e%2e/intel", intelPath("..%2f.."), "/api/v1/attackers/" + known.String() + "%2fintel", strings.ToUpper(intelPath(known.String())),
		"/api/v1/intel/status", "/healthz/", "/healthz/x", "/readyz/x", "/favicon.ico",
	} {
		w := ask(t, h, http.MethodGet, target)
		require.Equal(t, http.StatusNotFound, w.Code, target)
		require.Equal(t, "Not found", detail(t, w))
	}
}

// withRow is a store beside a table with one row, which DECNET made.
type withRow struct {
	store.Store
	row store.Row
}

func (s withRow) Get(ctx context.Context, id uuid.UUID) (store.Record, error) {
	rec, err := s.Store.Get(ctx, id)
	rec.Row = s.row
	return rec, err
}

// TestRowWithoutAnswers: DECNET writes a row also if no provider answered, and
// its own API answers with it.
func TestRowWithoutAnswers(t *testing.T) {
	h := httpapi.New(withRow{filled(t), store.Row{UUID: "of-decnet", CachedAt: at, ExpiresAt: at}}, httpapi.Options{})
	w := ask(t, h, http.MethodGet, intelPath(unknown.String()))
	require.Equal(t, http.StatusOK, w.Code)
	var row map[string]any
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &row))
	require.Subset(t, row, map[string]any{
		"uuid": "of-decnet", "attacker_uuid": unknown.String(), "aggregate_verdict": nil, "greynoise_queried_at": nil,
		"cached_at": "2026-02-28T23:59:59.123456Z", "expires_at": "2026-02-28T23:59:59.123456Z",
	})
}

// TestQueryIsIgnored: an address in the query is none of ours either.
func TestQueryIsIgnored(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{})
	require.Equal(t, http.StatusOK, ask(t, h, http.MethodGet, intelPath(known.String())+"?ip=1.2.3.4&x=%zz").Code)
	require.Equal(t, http.StatusNotFound, ask(t, h, http.MethodGet, "/api/v1/attackers?ip=45.155.205.233").Code)
}

func TestMethods(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{Status: func(context.Context) (any, error) { return struct{}{}, nil }})
	for _, target := range []string{intelPath(known.String()), intelPath("x"), "/api/v1/intel/status", "/healthz", "/readyz"} {
		for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodPatch, http.MethodOptions, http.MethodTrace, "X"} {
			w := ask(t, h, method, target)
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, "%s %s", method, target)
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
	}
	server := httptest.NewServer(h)
	defer server.Close()
	for _, target := range []string{intelPath(known.String()), intelPath(unknown.String()), intelPath("x"), "/healthz"} {
		get, err := server.Client().Get(server.URL + target)
		require.NoError(t, err)
		require.NoError(t, get.Body.Close())
		head, err := server.Client().Head(server.URL + target)
		require.NoError(t, err)
		require.NoError(t, head.Body.Close())
		require.Equal(t, get.StatusCode, head.StatusCode)
		require.Positive(t, get.ContentLength)
		require.Equal(t, get.ContentLength, head.ContentLength)
	}
}

func TestHealth(t *testing.T) {
	var err error
	log := new(logtest.Log)
	h := httpapi.New(memstore.New(), httpapi.Options{Ready: func(context.Context) error { return err }, Logger: log.Logger()})
	for _, reason := range []error{nil, errors.New("the database is away"), errors.New("still"), nil} {
		err = reason
		require.Equal(t, `{"status":"ok"}`, ask(t, h, http.MethodGet, "/healthz").Body.String())
		w := ask(t, h, http.MethodGet, "/readyz")
		if err == nil {
			require.Equal(t, http.StatusOK, w.Code)
			require.Equal(t, `{"status":"ready"}`, w.Body.String())
		} else {
			require.Equal(t, http.StatusServiceUnavailable, w.Code)
			require.Equal(t, "Not ready", detail(t, w))
		}
	}
	require.Equal(t, 1, strings.Count(log.String(), "the database is away"))
	require.NotContains(t, log.String(), "still") // said once, until it changes
	require.Equal(t, 1, strings.Count(log.String(), "ready again"))

	require.Equal(t, http.StatusOK, ask(t, httpapi.New(memstore.New(), httpapi.Options{}), http.MethodGet, "/readyz").Code)
}

func TestStatus(t *testing.T) {
	var (
		value any
		err   error
	)
	log := new(logtest.Log)
	h := httpapi.New(memstore.New(), httpapi.Options{
		Status: func(context.Context) (any, error) { return value, err },
		Logger: log.Logger(),
	})
	value = map[string]int{"backlog": 7}
	w := ask(t, h, http.MethodGet, "/api/v1/intel/status")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, `{"backlog":7}`, w.Body.String())

	err = errors.New("innards")
	w = ask(t, h, http.MethodGet, "/api/v1/intel/status")
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.NotContains(t, w.Body.String(), "innards")
	require.Contains(t, log.String(), "innards")

	value, err = func() {}, nil
	w = ask(t, h, http.MethodGet, "/api/v1/intel/status")
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.NotContains(t, w.Body.String(), "func")
}

// TestAuthorize: what is below /api/ is for those who may, whether it exists
// or not; what probes ask is for all.
func TestAuthorize(t *testing.T) {
	guard := func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Header.Get("Authorization") != "Bearer right" {
				w.Header().Set("WWW-Authenticate", "Bearer")
				w.Header().Set("Content-Type", "text/plain")
				w.WriteHeader(http.StatusUnauthorized)
				_, _ = w.Write([]byte("who are you?"))
				return
			}
			next.ServeHTTP(w, r)
		})
	}
	h := httpapi.New(filled(t), httpapi.Options{
		Authorize: guard, Status: func(context.Context) (any, error) { return struct{}{}, nil },
	})
	for target, code := range map[string]int{
		intelPath(known.String()): http.StatusOK, intelPath(unknown.String()): http.StatusNotFound, intelPath("x"): http.StatusNotFound,
		"/api/v1/intel/status": http.StatusOK, "/api/v1/nothing": http.StatusNotFound,
	} {
		for _, method := range []string{http.MethodGet, http.MethodHead, http.MethodPost} {
			w := httptest.NewRecorder()
			r := httptest.NewRequestWithContext(t.Context(), method, target, http.NoBody)
			h.ServeHTTP(w, r)
			require.Equal(t, http.StatusUnauthorized, w.Code, target)
			require.Equal(t, "Bearer", w.Header().Get("WWW-Authenticate"))
			require.Equal(t, "text/plain", w.Header().Get("Content-Type"))
			require.Equal(t, "who are you?", w.Body.String())
			r.Header.Set("Authorization", "Bearer right")
			w = httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if method == http.MethodPost && code != http.StatusNotFound || w.Code == http.StatusMethodNotAllowed {
				require.Equal(t, http.StatusMethodNotAllowed, w.Code)
			} else {
				require.Equal(t, code, w.Code, target)
			}
		}
	}
	for _, target := range []string{"/healthz", "/readyz"} {
		require.Equal(t, http.StatusOK, ask(t, h, http.MethodGet, target).Code)
	}
}

// TestBodyLimit: whoever authorizes cannot be made to read without end.
func TestBodyLimit(t *testing.T) {
	read := make(chan error, 1)
	h := httpapi.New(filled(t), httpapi.Options{Authorize: func(next http.Handler) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, err := new(bytes.Buffer).ReadFrom(r.Body)
			read <- err
			next.ServeHTTP(w, r)
		})
	}})
	r := httptest.NewRequestWithContext(t.Context(), http.MethodGet, intelPath(known.String()), strings.NewReader(strings.Repeat("x", 1<<20)))
	h.ServeHTTP(httptest.NewRecorder(), r)
	var tooLong *http.MaxBytesError
	require.ErrorAs(t, <-read, &tooLong)
}

// broken is a store that does not work.
type broken struct {
	store.Store
	get func(ctx context.Context, id uuid.UUID) (store.Record, error)
}

func (b broken) Get(ctx context.Context, id uuid.UUID) (store.Record, error) { return b.get(ctx, id) }

func TestStoreFails(t *testing.T) {
	log := new(logtest.Log)
	h := httpapi.New(broken{get: func(context.Context, uuid.UUID) (store.Record, error) {
		return store.Record{}, errors.New("innards of the database")
	}}, httpapi.Options{Logger: log.Logger()})
	w := ask(t, h, http.MethodGet, intelPath(known.String()))
	require.Equal(t, http.StatusServiceUnavailable, w.Code)
	require.Equal(t, "1", w.Header().Get("Retry-After"))
	require.NotContains(t, w.Body.String(), "innards")
	require.Contains(t, log.String(), "innards")
	require.Contains(t, log.String(), known.String())
	require.Equal(t, http.StatusOK, ask(t, h, http.MethodGet, "/healthz").Code)
}

func TestStorePanics(t *testing.T) {
	log := new(logtest.Log)
	h := httpapi.New(broken{get: func(context.Context, uuid.UUID) (store.Record, error) { panic("innards") }},
		httpapi.Options{Logger: log.Logger(), MaxInFlight: 1})
	for range 3 { // and no slot is lost
		w := ask(t, h, http.MethodGet, intelPath(known.String()))
		require.Equal(t, http.StatusInternalServerError, w.Code)
		require.NotContains(t, w.Body.String(), "innards")
	}
	require.Contains(t, log.String(), "panic; its value is not shown") // which may be a secret
	require.NotContains(t, log.String(), "innards")
	require.Contains(t, log.String(), "TestStorePanics") // the stack
}

// TestAbort: the way to abort a request goes on working.
func TestAbort(t *testing.T) {
	h := httpapi.New(memstore.New(), httpapi.Options{Authorize: func(http.Handler) http.Handler {
		return http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) })
	}})
	require.PanicsWithValue(t, http.ErrAbortHandler, func() { ask(t, h, http.MethodGet, "/api/v1/x") })
}

// TestStoreHangs: a store that heeds no deadline delays nobody for longer than
// the timeout, and does not pile up work.
func TestStoreHangs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		wake := make(chan struct{})
		h := httpapi.New(broken{get: func(context.Context, uuid.UUID) (store.Record, error) {
			<-wake
			return store.Record{}, store.ErrNotFound
		}}, httpapi.Options{MaxInFlight: 3, Timeout: 2 * time.Second})
		var requests sync.WaitGroup
		for range 3 {
			requests.Go(func() {
				started := time.Now()
				w := ask(t, h, http.MethodGet, intelPath(known.String()))
				if w.Code != http.StatusServiceUnavailable || time.Since(started) != 2*time.Second {
					t.Errorf("answer %d after %v", w.Code, time.Since(started))
				}
			})
		}
		busy := func() {
			started := time.Now()
			for _, target := range []string{intelPath(known.String()), "/readyz"} {
				w := ask(t, h, http.MethodGet, target)
				require.Equal(t, http.StatusServiceUnavailable, w.Code)
				require.Equal(t, "1", w.Header().Get("Retry-After"))
			}
			require.Equal(t, http.StatusOK, ask(t, h, http.MethodGet, "/healthz").Code)
			require.Equal(t, started, time.Now())
		}
		synctest.Wait()
		busy()
		requests.Wait()
		busy() // for nobody has come back from the store
		close(wake)
		synctest.Wait()
		require.Equal(t, http.StatusNotFound, ask(t, h, http.MethodGet, intelPath(known.String())).Code)
	})
}

// TestDeadlines: the context of a call ends with the time for the request.
func TestDeadlines(t *testing.T) {
	for timeout, want := range map[time.Duration]time.Duration{
		0: httpapi.DefaultTimeout, -1: httpapi.DefaultTimeout, time.Second: time.Second, time.Hour: httpapi.MaxTimeout,
	} {
		synctest.Test(t, func(t *testing.T) {
			started := time.Now()
			wait := func(ctx context.Context) error {
				deadline, ok := ctx.Deadline()
				require.True(t, ok)
				require.Equal(t, want, deadline.Sub(started))
				<-ctx.Done()
				return ctx.Err()
			}
			log := new(logtest.Log)
			h := httpapi.New(
				broken{get: func(ctx context.Context, _ uuid.UUID) (store.Record, error) { return store.Record{}, wait(ctx) }},
				httpapi.Options{
					Timeout: timeout, Ready: wait, Logger: log.Logger(),
					Status: func(ctx context.Context) (any, error) { return nil, wait(ctx) },
				})
			for _, target := range []string{intelPath(known.String()), "/api/v1/intel/status", "/readyz"} {
				started = time.Now()
				require.Equal(t, http.StatusServiceUnavailable, ask(t, h, http.MethodGet, target).Code)
				require.Equal(t, want, time.Since(started))
			}
			synctest.Wait()
			require.Equal(t, 3, strings.Count(log.String(), context.DeadlineExceeded.Error()))
		})
	}
}

// TestClientLeaves: that is nothing to be alarmed about.
func TestClientLeaves(t *testing.T) {
	log := new(logtest.Log)
	ctx, cancel := context.WithCancel(t.Context())
	h := httpapi.New(broken{get: func(ctx context.Context, _ uuid.UUID) (store.Record, error) {
		cancel()
		<-ctx.Done()
		return store.Record{}, ctx.Err()
	}}, httpapi.Options{Logger: log.Logger(), MaxInFlight: 1})
	h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(ctx, http.MethodGet, intelPath(known.String()), http.NoBody))
	require.Eventually(t, func() bool { // the slot is free
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/readyz", http.NoBody))
		return w.Code == http.StatusOK
	}, 30*time.Second, time.Millisecond)
	require.Empty(t, log.String())
}

func TestConcurrency(t *testing.T) {
	h := httpapi.New(filled(t), httpapi.Options{
		Status: func(context.Context) (any, error) { return struct{}{}, nil },
		Ready:  func(context.Context) error { return nil },
	})
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for _, target := range []string{intelPath(known.String()), "/api/v1/intel/status", "/healthz", "/readyz"} {
				for range 20 {
					w := httptest.NewRecorder()
					h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, target, http.NoBody))
					if w.Code != http.StatusOK {
						t.Errorf("%s: answer %d", target, w.Code)
					}
				}
			}
		})
	}
	clients.Wait()
}

// FuzzPath: whatever the path, the answer is one of ours, the store is asked
// only about what is in it, and only one form of path leads to a row.
func FuzzPath(f *testing.F) {
	for _, path := range []string{
		intelPath(known.String()), intelPath("3f0e8a3698c44a539d7b0f2f1a5a8d11"), intelPath("45.155.205.233"), intelPath("%2e%2e"),
		"/api/v1/attackers/%33f0e8a36-98c4-4a53-9d7b-0f2f1a5a8d11/intel", "//", "/api/v1/../v1/intel/status", "/healthz", "*", "", "%zz",
		"http://host/api/v1/intel/status", "/api/v1/attackers/a%2Fb/intel?x#y",
	} {
		f.Add(path)
	}
	s := filled(f)
	f.Fuzz(func(t *testing.T, target string) {
		u, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		var asked []uuid.UUID
		h := httpapi.New(broken{get: func(ctx context.Context, id uuid.UUID) (store.Record, error) {
			asked = append(asked, id)
			return s.Get(ctx, id)
		}}, httpapi.Options{})
		w := httptest.NewRecorder()
		h.ServeHTTP(w, (&http.Request{Method: http.MethodGet, URL: u, Body: http.NoBody, Header: http.Header{}}).WithContext(t.Context()))
		checkCommon(t, w)

		id, isIntel := strings.CutPrefix(u.Path, "/api/v1/attackers/")
		id, isIntel2 := strings.CutSuffix(strings.TrimSuffix(id, "/explain"), "/intel")
		want, err := uuid.Parse(id)
		plain := err == nil && (len(id) == 36 || len(id) == 32)
		switch w.Code {
		case http.StatusOK:
			switch u.Path {
			case "/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/intel/attackers":
				require.Empty(t, asked)
				return
			}
			require.Equal(t, known, want)
			fallthrough
		case http.StatusNotFound:
			if len(asked) > 0 {
				require.True(t, isIntel && isIntel2 && plain, target)
				require.Equal(t, []uuid.UUID{want}, asked)
			}
		case http.StatusBadRequest: // a query that makes no sense
			require.Empty(t, asked)
		default:
			t.Errorf("%q: answer %d", target, w.Code)
		}
	})
}
