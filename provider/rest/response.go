package rest

import (
	"errors"
	"math"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
)

// Response is an answer, read to its end.
type Response struct {
	Provider string    // the client's
	At       time.Time // when the answer arrived, in UTC
	Status   int
	Header   http.Header
	// Body is decompressed. It is nil if the status is 400 or more and the body
	// could not be read: the status says enough.
	Body []byte
}

// Decode parses the body, whatever the status, into v; see [Decode]. The error
// is a [*provider.Error] of kind [provider.ErrBadResponse].
func (r *Response) Decode(v any) error {
	if err := Decode(r.Body, v); err != nil {
		return r.BadResponse(err)
	}
	return nil
}

// Finding returns a finding about addr with Provider, Addr, ObservedAt and Raw,
// which is the body, and with empty attributes.
func (r *Response) Finding(addr netip.Addr) provider.Finding {
	return provider.Finding{
		Provider: r.Provider, Addr: addr, Attrs: map[string]any{}, Raw: Raw(r.Body), ObservedAt: r.At,
	}
}

// BadResponse returns a [provider.ErrBadResponse]: the answer is not what the
// service sends.
func (r *Response) BadResponse(err error) *provider.Error {
	return &provider.Error{Provider: r.Provider, Kind: provider.ErrBadResponse, StatusCode: r.Status, Err: err}
}

// StatusError returns what the status means at every service: 401, 402 and 403
// are [provider.ErrUnauthorized], 429 is [provider.ErrRateLimited], 5xx is
// [provider.ErrUnavailable] and everything else, a redirect too, is
// [provider.ErrBadResponse]. RetryAfter is what the answer says.
func (r *Response) StatusError() *provider.Error {
	e := r.BadResponse(nil)
	e.RetryAfter = retryAfter(r.Header, r.At)
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

// retryAfter returns the wait that the header Retry-After asks for, given as
// seconds or as a date (RFC 9110, section 10.2.3). It is zero without such a
// header, if it makes no sense, and if the date has passed. A number that is too
// great becomes the longest Duration.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	if digits(text) {
		return seconds(text)
	}
	if at, err := http.ParseTime(text); err == nil {
		return max(at.Sub(now), 0)
	}
	return 0
}

// ResetAfter returns how long after the answer the time is that the named header
// gives in seconds since 1970. It is zero if the header gives none, or a time
// that has passed.
func (r *Response) ResetAfter(name string) time.Duration {
	text := strings.TrimSpace(r.Header.Get(name))
	if !digits(text) {
		return 0
	}
	epoch, err := strconv.ParseInt(text, 10, 64)
	if err != nil || epoch > lastSecond {
		return 0
	}
	return max(time.Unix(epoch, 0).Sub(r.At), 0)
}

// Usage returns what the headers X-RateLimit-Limit, -Remaining and -Reset say
// about an allowance over the given window. It is nil if they do not say how
// many calls are left.
func (r *Response) Usage(window time.Duration) *provider.Usage {
	number := func(name string) (int, bool) {
		text := strings.TrimSpace(r.Header.Get(name))
		n, err := strconv.ParseInt(text, 10, 32)
		return int(n), err == nil && digits(text)
	}
	limit, ok := number("X-RateLimit-Limit")
	remaining, ok2 := number("X-RateLimit-Remaining")
	if !ok || !ok2 || limit <= 0 {
		return nil
	}
	u := &provider.Usage{Limit: limit, Remaining: remaining, Window: window}
	if wait := r.ResetAfter("X-RateLimit-Reset"); wait > 0 {
		u.Reset = r.At.Add(wait)
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
