package rest

import (
	"errors"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
)

// StatusError returns what the status of r means at every service: 401, 402
// and 403 are [provider.ErrUnauthorized], 429 is [provider.ErrRateLimited], 5xx
// is [provider.ErrUnavailable] and everything else, a redirect too, is
// [provider.ErrBadResponse]. RetryAfter is as the answer says.
func StatusError(name string, r *Response, now time.Time) *provider.Error {
	e := &provider.Error{
		Provider:   name,
		Kind:       provider.ErrBadResponse,
		StatusCode: r.Status,
		RetryAfter: RetryAfter(r.Header, now),
	}
	switch s := r.Status; {
	case s == http.StatusUnauthorized:
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the key is missing, wrong or revoked")
	case s == http.StatusPaymentRequired || s == http.StatusForbidden:
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the key does not permit this call")
	case s == http.StatusTooManyRequests:
		e.Kind = provider.ErrRateLimited
	case s >= 500 && s <= 599:
		e.Kind = provider.ErrUnavailable
	case s >= 300 && s <= 399:
		e.Err = errors.New("redirects are not followed")
	default:
		e.Err = errors.New("unexpected status")
	}
	return e
}

// RetryAfter returns the wait that the header Retry-After asks for, given as
// seconds or as a date (RFC 9110, section 10.2.3). It is zero if there is no
// such header, or it makes no sense, or the date has passed; a number that is
// too great becomes the longest Duration.
func RetryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if digits(text) {
		return seconds(text)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// ResetAfter returns the time from now until the one that the named header
// gives in seconds since 1970, and zero if it gives none or one that has
// passed.
func ResetAfter(h http.Header, name string, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get(name))
	if !digits(text) {
		return 0
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch > lastSecond {
		return 0
	}
	return max(time.Unix(epoch, 0).Sub(now), 0)
}

// Usage returns what the headers X-RateLimit-Limit, -Remaining and -Reset say
// about an allowance over the given window, and nil if they do not say how many
// calls are left.
func Usage(h http.Header, window time.Duration, now time.Time) *provider.Usage {
	number := func(name string) (int, bool) {
		text := strings.TrimSpace(h.Get(name))
		n, err := strconv.ParseInt(text, 10, 32)
		return int(n), err == nil && digits(text)
	}
	limit, ok := number("X-RateLimit-Limit")
	remaining, ok2 := number("X-RateLimit-Remaining")
	if !ok || !ok2 || limit <= 0 {
		return nil
	}
	u := &provider.Usage{Limit: limit, Remaining: remaining, Window: window}
	if wait := ResetAfter(h, "X-RateLimit-Reset", now); wait > 0 {
		u.Reset = now.Add(wait)
	}
	return u
}

// lastSecond is the end of the year 9999.
const lastSecond = 253402300799

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

func seconds(digits string) time.Duration {
	n, err := strconv.ParseInt(digits, 10, 64)
	if err != nil || n > math.MaxInt64/int64(time.Second) {
		return math.MaxInt64
	}
	return time.Duration(n) * time.Second
}
