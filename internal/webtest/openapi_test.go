package webtest

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/getkin/kin-openapi/openapi3filter"
	"github.com/getkin/kin-openapi/routers/gorillamux"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/intel/intake"
	"github.com/decnet/enrich/provider"
)

// validated returns a client whose every answer is checked against the document that
// the server itself gives out.
func validated(t *testing.T, s *site) *http.Client {
	t.Helper()
	doc, err := openapi3.NewLoader().LoadFromData([]byte(document(t, s)))
	require.NoError(t, err)
	require.NoError(t, doc.Validate(t.Context()))
	doc.Servers = nil // any host
	router, err := gorillamux.NewRouter(doc)
	require.NoError(t, err)
	return &http.Client{Transport: roundTripper(func(r *http.Request) (*http.Response, error) {
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			return nil, err
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			return nil, err
		}
		resp.Body = io.NopCloser(bytes.NewReader(body))
		find := r
		route, params, err := router.FindRoute(find)
		for _, method := range []string{http.MethodGet, http.MethodPost} { // the same path answers
			if err != nil {
				find = r.Clone(r.Context())
				find.Method = method
				route, params, err = router.FindRoute(find)
			}
		}
		require.NoError(t, err, r.URL.Path)
		in := &openapi3filter.ResponseValidationInput{
			RequestValidationInput: &openapi3filter.RequestValidationInput{Request: find, PathParams: params, Route: route},
			Status:                 resp.StatusCode, Header: resp.Header,
			Options: &openapi3filter.Options{IncludeResponseStatus: true, ExcludeResponseBody: r.Method == http.MethodHead || resp.StatusCode == http.StatusNotModified},
		}
		in.SetBodyBytes(body)
		require.NoError(t, openapi3filter.ValidateResponse(t.Context(), in), "%s %s: %d %.300s", r.Method, r.URL, resp.StatusCode, body)
		return resp, nil
	})}
}

// document returns the document that a server gives out.
func document(t *testing.T, s *site) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), "GET", s.URL+"/api/v1/openapi.json", http.NoBody)
	require.NoError(t, err)
	r.Header.Set("Authorization", "Bearer right")
	resp, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	text, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return string(text)
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestOpenAPI: every kind of answer is as the document says.
func TestOpenAPI(t *testing.T) {
	openapi3filter.RegisterBodyDecoder("text/event-stream", openapi3filter.FileBodyDecoder)
	s := newSite(t, 21, nil)
	client := validated(t, s)
	call := func(method, path string, want int, headers ...string) *http.Response {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+path, http.NoBody)
		require.NoError(t, err)
		for i := 0; i < len(headers); i += 2 {
			if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
				r.Host = headers[i+1]
			}
		}
		resp, err := client.Do(r)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode, path)
		return resp
	}
	for n := range 7 {
		path := "/api/v1/attackers/" + idOf(n).String() + "/intel"
		if n == 6 {
			call("GET", path, 404)
		} else {
			tag := call("GET", path, 200).Header.Get("ETag")
			call("GET", path, 304, "If-None-Match", tag)
		}
		call("GET", path+"/explain", 200)
		call("GET", path+"/explain?raw=true", 200)
		call("GET", path+"/explain?format=text", 200)
		call("GET", path+"/explain?format=xml", 400)
		call("HEAD", path+"/explain", 200)
		call("POST", path, 405)
		call("GET", path, 421, "Host", "evil.example")
	}
	unknown := "/api/v1/attackers/" + uuid.NewString() + "/intel"
	call("GET", unknown, 404)
	call("GET", unknown+"/explain", 404)
	call("GET", "/api/v1/attackers/x/intel", 404)
	for _, query := range []string{"", "?limit=3", "?verdict=malicious,none", "?text=45.9", "?source=feodo&limit=1", "?enriched=true&changed_since=720h"} {
		call("GET", "/api/v1/intel/attackers"+query, 200)
	}
	call("GET", "/api/v1/intel/attackers?verdict=evil", 400)
	call("GET", "/api/v1/intel/attackers?cursor=x", 400)
	call("GET", "/api/v1/intel/status", 200)
	call("GET", "/api/v1/openapi.json", 200)
	call("HEAD", "/api/v1/intel/events", 200)
	call("GET", "/api/v1/intel/events?x=1", 400)
	call("POST", "/api/v1/intel/events", 405)
	for _, path := range []string{"/healthz", "/readyz"} {
		call("GET", path, 200)
		call("POST", path, 405)
		call("GET", path, 421, "Host", "evil.example")
	}
	// Hostile text in every field is still a document of that form.
	for i, text := range hostile {
		id := uuid.New()
		s.save(t, attackerWith(id, 1000+i), entriesWith(text, 1000+i))
		call("GET", "/api/v1/attackers/"+id.String()+"/intel", 200)
		call("GET", "/api/v1/attackers/"+id.String()+"/intel/explain?raw=true", 200)
	}
	call("GET", "/api/v1/intel/attackers?limit=500", 200)

	require.NotContains(t, document(t, s), "/api/v1/observations", "a route that is not served")
	unserved, err := http.Post(s.URL+"/api/v1/observations", "application/json", http.NoBody)
	require.NoError(t, err)
	require.NoError(t, unserved.Body.Close())
	require.Equal(t, 404, unserved.StatusCode)

	guarded := newSite(t, 1, func(_ *site, o *httpapi.Options) { o.Authorize = httpapi.BearerToken("right") })
	for _, path := range []string{"/api/v1/attackers/" + idOf(0).String() + "/intel", "/api/v1/attackers/x/intel/explain", "/api/v1/intel/attackers", "/api/v1/intel/status", "/api/v1/intel/events", "/api/v1/openapi.json"} {
		r, err := http.NewRequestWithContext(t.Context(), "GET", guarded.URL+path, http.NoBody)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		require.Equal(t, 401, resp.StatusCode)
		require.True(t, strings.HasPrefix(resp.Header.Get("Content-Type"), "application/"))
		require.NoError(t, resp.Body.Close())
	}
}

// TestOpenAPIOfObservations: what is answered to observations is as the document says.
func TestOpenAPIOfObservations(t *testing.T) {
	var posts http.Handler
	s := newSite(t, 0, func(s *site, o *httpapi.Options) {
		in, err := intake.New(intake.Options{Store: s.store, Logger: slog.New(slog.DiscardHandler), Allow: provider.Guard{}.Allows})
		require.NoError(t, err)
		posts = in.Observations()
		o.Authorize = httpapi.BearerToken("right")
		o.Observations = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { posts.ServeHTTP(w, r) })
	})
	client := validated(t, s)
	send := func(method, token, body string, want int) (answer string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.URL+"/api/v1/observations", strings.NewReader(body))
		require.NoError(t, err)
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := client.Do(r)
		require.NoError(t, err)
		require.Equal(t, want, resp.StatusCode)
		text, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(text)
	}
	require.JSONEq(t, `{"accepted":2,"guarded":1,"malformed":1}`,
		send("POST", "right", `[{"address":"45.0.0.1"},{"address":"45.0.0.2","time":"2026-01-02T03:04:05Z"},{"address":"10.0.0.1"},{}]`, 202))
	send("POST", "right", "", 202)
	send("POST", "right", `{"address":"45.0.0.3","pad":"`+strings.Repeat("x", 1<<20)+`"}`, 202)
	send("POST", "wrong", `{"address":"45.0.0.4"}`, 401)
	send("GET", "right", "", 405)
	send("POST", "right", strings.Repeat("x", intake.MaxObservationBytes+1), 413)
	for _, status := range []int{403, 503} {
		posts = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { httpapi.Fail(w, r, status, "not now") })
		send("POST", "right", `{}`, status)
	}
	r, err := http.NewRequestWithContext(t.Context(), "POST", s.URL+"/api/v1/observations", http.NoBody)
	require.NoError(t, err)
	r.Host = "evil.example"
	resp, err := client.Do(r)
	require.NoError(t, err)
	require.Equal(t, 421, resp.StatusCode)
}
