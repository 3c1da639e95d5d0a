package rest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/netip"
	"net/url"
	"slices"
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

	keyless bool     // the request carried no key
	refusal []string // of the client's key
	proxy   string   // that could read and change the answer, as scheme, host and port
}

// Decode parses the body, whatever the status, into v; see [Decode]. The error
// is that of [Response.BadResponse].
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
// service sends. If it is a web page, or err is of [Decode] and says that it is no
// JSON, the service did not send it: that is a [provider.ErrUnavailable], which is
// not held against the address.
func (r *Response) BadResponse(err error) *provider.Error {
	e := &provider.Error{Provider: r.Provider, Kind: provider.ErrBadResponse, StatusCode: r.Status, Err: err}
	if _, ok := errors.AsType[foreign](err); ok || r.isPage() {
		e.Kind, e.Err = provider.ErrUnavailable, errors.New(r.between())
		if err != nil {
			e.Err = fmt.Errorf("%w; %s", err, r.between())
		}
	}
	return e
}

// StatusError returns what the status means at every service:
//
//   - 401, 402 and 403 are [provider.ErrUnauthorized] if the service itself says
//     so, in the form of [Key].Refusal, and else [provider.ErrUnavailable];
//   - 429 is [provider.ErrRateLimited];
//   - 5xx and redirects are [provider.ErrUnavailable], and so is every other status
//     with a web page, which is not the service's answer: a proxy or the protection
//     of a network has put it there;
//   - everything else is [provider.ErrBadResponse].
//
// RetryAfter is what the answer says. The text of a redirect names the origin
// that the service has moved to.
func (r *Response) StatusError() *provider.Error {
	e := r.BadResponse(nil)
	e.RetryAfter = retryAfter(r.Header, r.At)
	switch s := r.Status; {
	case s == http.StatusTooManyRequests:
		e.Kind, e.Err = provider.ErrRateLimited, nil
	case s >= 500 && s <= 599:
		e.Kind, e.Err = provider.ErrUnavailable, nil
		if r.proxy != "" {
			e.Err = errors.New("the answer came through the proxy " + r.proxy)
		}
	case refuses(s) && !r.isRefusal(), s >= 400 && r.isForeign():
		e.Kind, e.Err = provider.ErrUnavailable, errors.New(r.between())
	case refuses(s) && r.keyless:
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the service refuses a call without a key")
	case s == http.StatusUnauthorized:
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the key is missing, wrong or revoked")
	case refuses(s):
		e.Kind, e.Err = provider.ErrUnauthorized, errors.New("the key does not permit this call")
	case s >= 300 && s <= 399 && s != http.StatusNotModified:
		e.Kind, e.Err = provider.ErrUnavailable, errors.New("redirects are not followed"+r.movedTo())
	case e.Kind == provider.ErrBadResponse:
		e.Err = errors.New("unexpected status")
	}
	return e
}

// refuses reports whether a status is the refusal of a call, for its key or for
// another reason.
func refuses(status int) bool {
	return status == http.StatusUnauthorized || status == http.StatusPaymentRequired || status == http.StatusForbidden
}

// isRefusal reports whether an answer that refuses is the service's own. What
// protects a network refuses by 403, in JSON too if that is accepted, and so the
// form decides. A 401 is about credentials wherever it comes from: JSON of any form
// will do, and so will the header that belongs to it.
func (r *Response) isRefusal() bool {
	var object map[string]json.RawMessage
	isObject := Decode(r.Body, &object) == nil && object != nil
	switch {
	case r.isPage():
		return false
	case r.Status == http.StatusUnauthorized:
		return isObject || r.Header.Get("WWW-Authenticate") != ""
	}
	named := func(member string) bool { return object[member] != nil }
	return isObject && (len(r.refusal) == 0 || slices.ContainsFunc(r.refusal, named))
}

// isForeign reports whether the body is not the service's. Where nobody was given
// a key, or a proxy could answer, only JSON counts as the service's.
func (r *Response) isForeign() bool {
	return r.isPage() || (r.keyless || r.proxy != "") && !json.Valid(withoutBOM(r.Body))
}

// isPage reports whether the body is a web page, or what a content delivery network
// sends to programs in place of one.
func (r *Response) isPage() bool {
	kind, _, _ := strings.Cut(strings.ToLower(r.Header.Get("Content-Type")), ";")
	body := bytes.TrimSpace(withoutBOM(r.Body))
	return strings.Contains(kind, "html") || bytes.HasPrefix(body, []byte("<")) ||
		bytes.HasPrefix(body, []byte("error code: ")) || bytes.Contains(body, []byte(`"cloudflare_error":`))
}

// between says who answered instead of the service.
func (r *Response) between() string {
	if r.proxy != "" {
		return "the proxy " + r.proxy + ", or something behind it, answered in place of the service"
	}
	return "something in between answered in place of the service"
}

// movedTo returns what to say about where a redirect leads. It names the origin
// alone: a path may hold a key, and so may a query.
func (r *Response) movedTo() string {
	to, err := url.Parse(r.Header.Get("Location"))
	if err != nil || r.Header.Get("Location") == "" {
		return ""
	}
	if to.Host == "" {
		return ": the service has moved to another path of the same origin; configure its new URL"
	}
	if to.Scheme == "" {
		to.Scheme = "https"
	}
	if where := origin(to); where != "" {
		return ": the service has moved to " + where + "; configure its new URL"
	}
	return ""
}

// retryAfter returns the wait that the header Retry-After asks for, given as
// seconds or as a date (RFC 9110, section 10.2.3). It is zero without such a
// header, if it makes no sense, and if the date has passed. A number that is too
// great becomes the longest Duration.
func retryAfter(h http.Header, now time.Time) time.Duration {
	text := strings.TrimSpace(h.Get("Retry-After"))
	n, err := strconv.ParseUint(text, 10, 64)
	switch {
	case err == nil && n <= math.MaxInt64/uint64(time.Second):
		return time.Duration(n) * time.Second
	case err == nil, errors.Is(err, strconv.ErrRange) && strings.Trim(text, "0123456789") == "":
		return math.MaxInt64
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
	epoch, err := strconv.ParseUint(strings.TrimSpace(r.Header.Get(name)), 10, 64)
	if err != nil || epoch > lastSecond {
		return 0
	}
	return max(time.Unix(int64(epoch), 0).Sub(r.At), 0)
}

// Usage returns what the headers X-RateLimit-Limit, -Remaining and -Reset say
// about an allowance over the given window. It is nil if they do not say how
// many calls are left.
func (r *Response) Usage(window time.Duration) *provider.Usage {
	number := func(name string) (int, bool) {
		n, err := strconv.ParseUint(strings.TrimSpace(r.Header.Get(name)), 10, 31)
		return int(n), err == nil
	}
	limit, ok := number("X-Ratelimit-Limit") // in canonical form, which Get need not make
	remaining, ok2 := number("X-Ratelimit-Remaining")
	if !ok || !ok2 || limit <= 0 {
		return nil
	}
	u := &provider.Usage{Limit: limit, Remaining: remaining, Window: window}
	if wait := r.ResetAfter("X-Ratelimit-Reset"); wait > 0 {
		u.Reset = r.At.Add(wait)
	}
	return u
}

// lastSecond is the end of the year 9999.
const lastSecond = 253402300799
