package httpx

import (
	"math"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestStatusError(t *testing.T) {
	t.Parallel()
	for status, kind := range map[int]error{
		200: provider.ErrBadResponse,
		204: provider.ErrBadResponse,
		301: provider.ErrBadResponse,
		304: provider.ErrBadResponse,
		400: provider.ErrBadResponse,
		401: provider.ErrUnauthorized,
		402: provider.ErrUnauthorized,
		403: provider.ErrUnauthorized,
		404: provider.ErrBadResponse,
		429: provider.ErrRateLimited,
		500: provider.ErrUnavailable,
		503: provider.ErrUnavailable,
		599: provider.ErrUnavailable,
		999: provider.ErrBadResponse,
	} {
		err := StatusError("test", &Response{Status: status, Header: http.Header{"Retry-After": {"7"}}}, noon)
		require.Equal(t, kind, provider.Kind(err), status)
		require.Equal(t, status, err.StatusCode)
		require.Equal(t, 7*time.Second, err.RetryAfter)
		require.Equal(t, "test", err.Provider)
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"":                               0,
		"0":                              0,
		" 120 ":                          2 * time.Minute,
		"-5":                             0,
		"+5":                             0,
		"1.5":                            0,
		"soon":                           0,
		"9223372036":                     9223372036 * time.Second,
		"9223372037":                     math.MaxInt64,
		"99999999999999999999999999999":  math.MaxInt64,
		"Mon, 23 Nov 2026 12:00:30 GMT":  30 * time.Second,
		"Mon, 23 Nov 2026 11:59:30 GMT":  0,
		"Monday, 23-Nov-26 12:01:00 GMT": time.Minute,
		"Mon Nov 23 12:00:01 2026":       time.Second,
		"Fri, 31 Dec 9999 23:59:59 GMT":  math.MaxInt64,
	} {
		require.Equal(t, want, RetryAfter(http.Header{"Retry-After": {text}}, noon), text)
	}
	require.Zero(t, RetryAfter(nil, noon))
}

func TestResetAfter(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{
		"":                     0,
		"0":                    0,
		"-1":                   0,
		"1795435290":           30 * time.Second,
		"1795435200":           0,
		"253402300800":         0,
		"99999999999999999999": 0,
	} {
		require.Equal(t, want, ResetAfter(http.Header{"X-Reset": {text}}, "X-Reset", noon.Add(time.Minute)), text)
	}
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "Mon, 23 Nov 2026 12:00:30 GMT", "99999999999999999999", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := http.Header{"Retry-After": {s}}
		require.GreaterOrEqual(t, RetryAfter(h, noon), time.Duration(0))
		require.GreaterOrEqual(t, ResetAfter(h, "Retry-After", noon), time.Duration(0))
	})
}
