package httpapi_test

import (
	"compress/gzip"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/httpapi"
)

// call sends a request with headers to a server.
func call(t *testing.T, method, url string, headers ...string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, http.NoBody)
	require.NoError(t, err)
	for i := 0; i < len(headers); i += 2 {
		if headers[i] == "Host" {
			r.Host = headers[i+1]
		} else {
			r.Header.Set(headers[i], headers[i+1])
		}
	}
	client := http.Client{Transport: &http.Transport{DisableCompression: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(r)
	require.NoError(t, err)
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	require.NoError(t, resp.Body.Close())
	return resp, string(body)
}

func TestHost(t *testing.T) {
	server := httptest.NewServer(httpapi.New(filled(t), httpapi.Options{Hosts: []string{"Enrich.Example:8089", "10.1.2.3"}}))
	defer server.Close()
	for host, want := range map[string]int{
		"": 200, "localhost": 200, "localhost:1234": 200, "LOCALHOST.": 200, "127.0.0.1:9": 200, "127.9.9.9": 200, "[::1]": 200, "[::1]:80": 200,
		"x.localhost": 200, "enrich.example": 200, "ENRICH.example:1": 200, "10.1.2.3:80": 200,
		"evil.example": 421, "localhost.evil.example": 421, "127.0.0.1.evil.example": 421, "10.1.2.4": 421, "notlocalhost": 421, "[2001:db8::1]": 421,
	} {
		for _, path := range []string{"/healthz", "/api/v1/openapi.json", "/nothing"} {
			resp, _ := call(t, http.MethodGet, server.URL+path, "Host", host)
			if want == 421 || path != "/nothing" {
				require.Equal(t, want, resp.StatusCode, host)
			}
		}
	}
	open := httptest.NewServer(httpapi.New(filled(t), httpapi.Options{Hosts: []string{httpapi.AnyHost}}))
	defer open.Close()
	resp, _ := call(t, http.MethodGet, open.URL+"/healthz", "Host", "evil.example")
	require.Equal(t, 200, resp.StatusCode)
}

func TestBearerToken(t *testing.T) {
	page := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "page") })
	h := httpapi.New(filled(t), httpapi.Options{
		Authorize: httpapi.BearerToken("right"), Pages: page, Public: map[string]http.Handler{"/public.js": page}, Feed: httpapi.NewFeed(),
	})
	guarded := []string{"/api", "/api/v1/nothing", "/api/v1/openapi.json", intelPath(known.String()), "/api/v1/intel/attackers", "/api/v1/intel/events", "/", "/page"}
	for _, target := range guarded {
		for _, auth := range []string{"", "Bearer", "Bearer ", "Bearer wrong", "bearer rightx", "Basic cmlnaHQ=", "right", "Basic " + "eDp3cm9uZw=="} {
			r := httptest.NewRequest(http.MethodGet, target, http.NoBody)
			r.Header.Set("Authorization", auth)
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			require.Equal(t, http.StatusUnauthorized, w.Code, "%s %q", target, auth)
			require.Contains(t, w.Header().Get("WWW-Authenticate"), "Bearer")
			require.NotContains(t, w.Body.String(), "right")
		}
	}
	for _, target := range []string{"/healthz", "/readyz", "/public.js"} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, target, http.NoBody))
		require.Equal(t, 200, w.Code, target)
	}
	r := httptest.NewRequest(http.MethodGet, intelPath(known.String()), http.NoBody)
	r.Header.Set("Authorization", "bearer right")
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)

	r = httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.SetBasicAuth("anybody", "right")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, 200, w.Code)
	r = httptest.NewRequest(http.MethodPost, "/api/v1/nothing", http.NoBody) // another site could send that
	r.SetBasicAuth("anybody", "right")
	w = httptest.NewRecorder()
	h.ServeHTTP(w, r)
	require.Equal(t, http.StatusUnauthorized, w.Code)

	// A person is asked on pages, and for what a page of this server loads.
	for _, c := range []struct {
		target, site, auth string
		asked              bool
	}{
		{"/", "", "", true}, {"/page", "cross-site", "Basic eDp3cm9uZw==", true}, {"/api/v1/nothing", "", "", false},
		{"/api/v1/nothing", "same-origin", "", true}, {"/api/v1/nothing", "same-origin", "Bearer wrong", false}, {"/api/v1/nothing", "same-site", "", false},
	} {
		r := httptest.NewRequest(http.MethodGet, c.target, http.NoBody)
		r.Header.Set("Sec-Fetch-Site", c.site)
		if c.auth != "" {
			r.Header.Set("Authorization", c.auth)
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, r)
		require.Equal(t, c.asked, len(w.Header().Values("WWW-Authenticate")) == 2, c)
	}

	nobody := httpapi.BearerToken("")(page)
	r = httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	r.Header.Set("Authorization", "Bearer ")
	w = httptest.NewRecorder()
	nobody.ServeHTTP(w, r)
	require.Equal(t, http.StatusUnauthorized, w.Code)
}

func TestConditionalAndGzip(t *testing.T) {
	server := httptest.NewServer(httpapi.New(filled(t), httpapi.Options{}))
	defer server.Close()
	url := server.URL + intelPath(known.String())
	plain, body := call(t, http.MethodGet, url)
	tag := plain.Header.Get("ETag")
	require.True(t, strings.HasPrefix(tag, `W/"1-`), tag)
	require.Empty(t, plain.Header.Get("Content-Encoding"))
	for _, match := range []string{tag, strings.TrimPrefix(tag, "W/"), `"x", ` + tag, "*"} {
		resp, body := call(t, http.MethodGet, url, "If-None-Match", match)
		require.Equal(t, http.StatusNotModified, resp.StatusCode, match)
		require.Empty(t, body)
		require.Equal(t, tag, resp.Header.Get("ETag"))
	}
	resp, _ := call(t, http.MethodGet, url, "If-None-Match", `"x"`)
	require.Equal(t, 200, resp.StatusCode)

	for accept, want := range map[string]bool{"gzip": true, "br, gzip;q=0.5": true, "*": true, "GZIP": true, "gzip;q=0": false, "br": false, "gzip;q=0, *": false, "gzip;q=x": false} {
		resp, text := call(t, http.MethodGet, server.URL+"/api/v1/openapi.json", "Accept-Encoding", accept)
		require.Equal(t, want, resp.Header.Get("Content-Encoding") == "gzip", accept)
		require.Contains(t, resp.Header.Get("Vary"), "Accept-Encoding")
		if want {
			z, err := gzip.NewReader(strings.NewReader(text))
			require.NoError(t, err)
			unpacked, err := io.ReadAll(z)
			require.NoError(t, err)
			require.True(t, json.Valid(unpacked))
		}
	}
	require.NotEmpty(t, body)
}

func TestCORS(t *testing.T) {
	const origin = "https://decnet.example"
	server := httptest.NewServer(httpapi.New(filled(t), httpapi.Options{Origins: []string{origin}, Authorize: httpapi.BearerToken("right")}))
	defer server.Close()
	url := server.URL + intelPath(known.String())
	resp, _ := call(t, http.MethodOptions, url, "Origin", origin, "Access-Control-Request-Method", "GET", "Access-Control-Request-Headers", "authorization")
	require.Equal(t, http.StatusNoContent, resp.StatusCode) // a browser sends no token along
	require.Equal(t, origin, resp.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, resp.Header.Get("Access-Control-Allow-Headers"), "Authorization")
	resp, _ = call(t, http.MethodGet, url, "Origin", origin, "Authorization", "Bearer right")
	require.Equal(t, 200, resp.StatusCode)
	require.Equal(t, origin, resp.Header.Get("Access-Control-Allow-Origin"))
	require.Contains(t, resp.Header.Get("Vary"), "Origin")
	require.Empty(t, resp.Header.Get("Access-Control-Allow-Credentials"))
	for _, other := range []string{"https://evil.example", "null", "https://decnet.example.evil"} {
		resp, _ = call(t, http.MethodGet, url, "Origin", other, "Authorization", "Bearer right")
		require.Empty(t, resp.Header.Get("Access-Control-Allow-Origin"))
		resp, _ = call(t, http.MethodOptions, url, "Origin", other, "Access-Control-Request-Method", "GET")
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode)
	}
}
