package rest

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
		301: provider.ErrUnavailable,
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
		err := (&Response{Provider: "test", At: noon, Status: status, Header: http.Header{"Retry-After": {"7"}}, Body: []byte(`{}`)}).StatusError()
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
		"99999999999999999999999999x":    0,
		"99999999999999999999999999999":  math.MaxInt64,
		"Mon, 23 Nov 2026 12:00:30 GMT":  30 * time.Second,
		"Mon, 23 Nov 2026 11:59:30 GMT":  0,
		"Monday, 23-Nov-26 12:01:00 GMT": time.Minute,
		"Mon Nov 23 12:00:01 2026":       time.Second,
		"Fri, 31 Dec 9999 23:59:59 GMT":  math.MaxInt64,
	} {
		require.Equal(t, want, retryAfter(http.Header{"Retry-After": {text}}, noon), text)
	}
	require.Zero(t, retryAfter(nil, noon))
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
		require.Equal(t, want, (&Response{Header: http.Header{"X-Reset": {text}}, At: noon.Add(time.Minute)}).ResetAfter("X-Reset"), text)
	}
}

func TestUsage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		limit, remaining, reset string
		want                    *provider.Usage
	}{
		{"1000", "993", "", &provider.Usage{Limit: 1000, Remaining: 993}},
		{" 1000 ", " 0 ", "", &provider.Usage{Limit: 1000}},
		{"1000", "0", "1795435230", &provider.Usage{Limit: 1000, Reset: noon.Add(30 * time.Second)}},
		{"1000", "0", "1795435200", &provider.Usage{Limit: 1000}}, // now
		{"1000", "0", "1795430000", &provider.Usage{Limit: 1000}}, // past
		{"1000", "0", "soon", &provider.Usage{Limit: 1000}},
		{"1000", "0", "99999999999999999999", &provider.Usage{Limit: 1000}},
		{"2147483647", "2147483647", "", &provider.Usage{Limit: math.MaxInt32, Remaining: math.MaxInt32}},
		{"", "", "", nil},
		{"1000", "", "", nil},
		{"", "993", "", nil},
		{"0", "0", "", nil},
		{"-1000", "993", "", nil},
		{"1000", "-1", "", nil},
		{"+1000", "993", "", nil},
		{"1000", "9.5", "", nil},
		{"1e3", "993", "", nil},
		{"2147483648", "1", "", nil},
		{"1000", "99999999999999999999", "", nil},
		{"1000, 1000;w=86400", "993", "", nil},
	} {
		h := make(http.Header)
		for name, text := range map[string]string{"Limit": c.limit, "Remaining": c.remaining, "Reset": c.reset} {
			if text != "" {
				h.Set("X-RateLimit-"+name, text)
			}
		}
		if c.want != nil {
			c.want.Window = provider.Day
		}
		got := (&Response{Header: h, At: noon}).Usage(provider.Day)
		if got != nil && !got.Reset.IsZero() {
			require.True(t, got.Reset.Equal(c.want.Reset), "%+v", c)
			got.Reset = c.want.Reset
		}
		require.Equal(t, c.want, got, "%+v", c)
	}
	require.Nil(t, (&Response{At: noon}).Usage(provider.Day))
}

func FuzzUsage(f *testing.F) {
	f.Add("1000", "993", "1795435230")
	f.Add("0", "-1", "")
	f.Add("99999999999", "1e3", "253402300800")
	f.Fuzz(func(t *testing.T, limit, remaining, reset string) {
		u := (&Response{At: noon, Header: http.Header{
			"X-Ratelimit-Limit": {limit}, "X-Ratelimit-Remaining": {remaining}, "X-Ratelimit-Reset": {reset},
		}}).Usage(provider.Day)
		if u != nil {
			require.Positive(t, u.Limit)
			require.GreaterOrEqual(t, u.Remaining, 0)
			require.Equal(t, provider.Day, u.Window)
			require.True(t, u.Reset.IsZero() || u.Reset.After(noon))
		}
	})
}

func FuzzRetryAfter(f *testing.F) {
	for _, s := range []string{"", "120", "-1", "Mon, 23 Nov 2026 12:00:30 GMT", "99999999999999999999", "1e9"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		h := http.Header{"Retry-After": {s}}
		require.GreaterOrEqual(t, retryAfter(h, noon), time.Duration(0))
		require.GreaterOrEqual(t, (&Response{Header: h, At: noon}).ResetAfter("Retry-After"), time.Duration(0))
	})
}
