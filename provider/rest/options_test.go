package rest

import (
	"errors"
	"io"
	"log"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func discardLog() *log.Logger { return log.New(io.Discard, "", 0) }

func TestOrigin(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"https://api.example.com":       "https://api.example.com",
		"https://api.example.com/":      "https://api.example.com",
		"http://127.0.0.1:8080":         "http://127.0.0.1:8080",
		"HTTP://[2001:db8::1]:8080/":    "http://[2001:db8::1]:8080",
		"https://api.example.com:65535": "https://api.example.com:65535",
	} {
		got, err := origin(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got)
	}
	for in, why := range map[string]string{
		"":                               "does not start with http",
		"api.example.com":                "does not start with http",
		"localhost:8080":                 "does not start with http",
		"ftp://sesame-5d0c":              "does not start with http",
		"file:///sesame-5d0c":            "does not start with http",
		"https://":                       "has no host",
		"https://:443":                   "has no host",
		"https://me:sesame-5d0c@a.test":  "has a user name",
		"https://a.test/sesame-5d0c":     "has a path",
		"https://a.test?key=sesame-5d0c": "has a query",
		"https://a.test/?":               "has a query",
		"https://a.test#sesame-5d0c":     "has a fragment",
		"https://a.test:0":               "has a port",
		"https://a.test:65536":           "has a port",
		"https://a.test:":                "has a port",
		"https://a.test:sesame-5d0c":     "is not a URL",
		"https://a.test\nsesame-5d0c":    "is not a URL",
	} {
		_, err := origin(in)
		require.ErrorContains(t, err, why, in)
		requireSafe(t, err)
	}
}

func TestNewRefusesBadBaseURL(t *testing.T) {
	t.Parallel()
	_, err := New(Options{Provider: "test", Origin: "https://a.test", BaseURL: "b.test"})
	require.ErrorContains(t, err, "BaseURL")
}

func TestKey(t *testing.T) {
	t.Parallel()
	key, err := Key("  abc-DEF_0123=~\r\n", "TEST_KEY", true)
	require.NoError(t, err)
	require.Equal(t, "abc-DEF_0123=~", key)

	key, err = Key(" ", "TEST_KEY", false)
	require.NoError(t, err)
	require.Empty(t, key)

	_, err = Key(" ", "TEST_KEY", true)
	require.ErrorContains(t, err, "TEST_KEY")

	for _, bad := range []string{secret + "\r\nX: y", secret + " " + secret, secret + "\x00", secret + "é", secret + "\x7f", "\ufeff" + secret} {
		_, err = Key(bad, "TEST_KEY", false)
		require.Error(t, err)
		requireSafe(t, err)
	}
}

func TestConfigError(t *testing.T) {
	t.Parallel()
	require.NoError(t, ConfigError("test", nil, nil))
	one, two := errors.New("one"), errors.New("two")
	err := ConfigError("test", one, nil, two)
	require.ErrorIs(t, err, provider.ErrConfig)
	require.ErrorIs(t, err, one)
	require.ErrorIs(t, err, two)
}
