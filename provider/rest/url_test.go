package rest

import (
	"errors"
	"io"
	"log"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestEndpoint(t *testing.T) {
	t.Parallel()
	const own = "https://api.example.com/v1/host?fields=all"
	for base, want := range map[string]string{
		"":                                  "https://api.example.com/v1/host/1.2.3.4?fields=all&days=30",
		"https://mirror.example":            "https://mirror.example/v1/host/1.2.3.4?fields=all&days=30",
		"https://mirror.example/":           "https://mirror.example/v1/host/1.2.3.4?fields=all&days=30",
		"http://127.0.0.1:8080":             "http://127.0.0.1:8080/v1/host/1.2.3.4?fields=all&days=30",
		"HTTP://[2001:db8::1]:8080/":        "http://[2001:db8::1]:8080/v1/host/1.2.3.4?fields=all&days=30",
		"https://mirror.example:65535":      "https://mirror.example:65535/v1/host/1.2.3.4?fields=all&days=30",
		"https://mirror.example/v2":         "https://mirror.example/v2/1.2.3.4?days=30",
		"https://mirror.example/v2/%2f/":    "https://mirror.example/v2/%2f/1.2.3.4?days=30",
		"https://mirror.example/v2?team=se": "https://mirror.example/v2/1.2.3.4?team=se&days=30",
		"https://mirror.example?team=se":    "https://mirror.example/1.2.3.4?team=se&days=30",
	} {
		e, err := newEndpoint(own, base)
		require.NoError(t, err, base)
		require.Equal(t, want, e.url("/1.2.3.4", "days=30"))
	}
	e, err := newEndpoint("https://api.example.com/v1/", "")
	require.NoError(t, err)
	require.Equal(t, "https://api.example.com/v1/", e.url("", ""))
	for in, why := range map[string]string{
		"api.example.com":               "does not start with http",
		"localhost:8080":                "does not start with http",
		"ftp://sesame-5d0c":             "does not start with http",
		"file:///sesame-5d0c":           "does not start with http",
		"https://":                      "has no host",
		"https://:443":                  "has no host",
		"https://me:sesame-5d0c@a.test": "has a user name",
		"https://a.test#sesame-5d0c":    "has a fragment",
		"https://a.test/sesame-5d0c#":   "has a fragment",
		"https://a.test:0":              "has a port",
		"https://a.test:65536":          "has a port",
		"https://a.test:":               "has a port",
		"https://a.test:sesame-5d0c":    "is not a URL",
		"https://a.test\nsesame-5d0c":   "is not a URL",
		"https://a.test/sesame-5d0c b":  "is not a URL",
		"https://a.test/?sesame-5d0c é": "is not a URL",
	} {
		_, err := newEndpoint(own, in)
		require.ErrorContains(t, err, "BaseURL "+why, in)
		requireSafe(t, err)
	}
}

func FuzzEndpoint(f *testing.F) {
	f.Add("https://a.test/v1/?x=1")
	f.Add("http://[::1]:80")
	f.Fuzz(func(t *testing.T, base string) {
		e, err := newEndpoint("https://api.example.com/v1", base)
		if err != nil {
			return
		}
		u, err := url.Parse(e.url("/1.2.3.4", "days=30"))
		require.NoError(t, err)
		require.Equal(t, e.origin, u.Scheme+"://"+u.Host)
		require.True(t, strings.HasSuffix(u.EscapedPath(), "/1.2.3.4"), u.EscapedPath())
		require.True(t, strings.HasSuffix(u.RawQuery, "days=30"))
		require.Nil(t, u.User)
	})
}

func TestNewReportsEveryOption(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Provider: "Test", BaseURL: "b.test", Key: Key{Func: func() string { return secret + "\n" + secret }}})
	require.ErrorIs(t, err, provider.ErrConfig)
	for _, what := range []string{`name "Test"`, "URL is missing", "KeyFunc", "Key.Header"} {
		require.ErrorContains(t, err, what)
	}
	requireSafe(t, err)
	_, err = New(Options{Provider: "test", URL: "https://a.test", BaseURL: "b.test"})
	require.ErrorContains(t, err, "BaseURL")
}

func TestKey(t *testing.T) {
	t.Parallel()
	get := func(text string, required bool) (string, error) {
		return (&Key{Func: func() string { return text }, Required: required, Name: "TEST_KEY"}).get()
	}
	key, err := get("  abc-DEF_0123=~\r\n", true)
	require.NoError(t, err)
	require.Equal(t, "abc-DEF_0123=~", key)

	key, err = get(" ", false)
	require.NoError(t, err)
	require.Empty(t, key)

	_, err = get(" ", true)
	require.ErrorContains(t, err, "TEST_KEY")
	_, err = (&Key{Required: true}).get()
	require.Error(t, err)
	key, err = (&Key{}).get()
	require.NoError(t, err)
	require.Empty(t, key)

	for _, bad := range []string{secret + "\r\nX: y", secret + " " + secret, secret + "\x00", secret + "é", secret + "\x7f", "\ufeff" + secret} {
		_, err = get(bad, false)
		require.Error(t, err)
		requireSafe(t, err)
	}
}

// The key is read for each request. While there is none, or none that a header
// can hold, nothing is sent.
func TestKeyChangesWhileRunning(t *testing.T) {
	t.Parallel()
	var sent []string
	key := "first"
	c := client(t, Options{
		Key: Key{Header: "x-api-key", Func: func() string { return key }, Required: true},
		Transport: tripper(func(r *http.Request) (*http.Response, error) {
			sent = append(sent, r.Header.Get("X-Api-Key"))
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		}),
	})
	first := c.Account()
	require.Len(t, first, 12)
	for _, next := range []string{"first", " second ", "", secret + "\n" + secret, "third"} {
		key = next
		_, err := ask(t.Context(), c)
		if len(next) > 8 || next == "" {
			require.ErrorIs(t, err, provider.ErrConfig)
			requireSafe(t, err)
			require.Empty(t, c.Account())
			continue
		}
		require.NoError(t, err)
	}
	require.Equal(t, []string{"first", "second", "third"}, sent)
	require.NotEqual(t, first, c.Account())
	require.Empty(t, client(t, Options{}).Account())
}

func TestConfigError(t *testing.T) {
	t.Parallel()
	require.NoError(t, ConfigError("test", nil, nil))
	one, two := errors.New("one"), errors.New("two")
	err := ConfigError("test", one, nil, two)
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorIs(t, err, one)
	require.ErrorIs(t, err, two)
	err = ConfigError("test", ConfigError("test", one), two)
	require.EqualError(t, err, "test: configuration: one\ntwo")
}
