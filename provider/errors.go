package provider

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// The kinds of failure. A lookup that failed says nothing about the address.
var (
	// ErrRateLimited: asked too fast; the source will answer again soon.
	ErrRateLimited = errors.New("rate limited")
	// ErrQuotaExhausted: the plan's allowance is spent until it resets.
	ErrQuotaExhausted = errors.New("quota exhausted")
	// ErrUnauthorized: the key is missing, wrong or revoked, or the plan does
	// not include this call. Asking again does not help.
	ErrUnauthorized = errors.New("unauthorized")
	// ErrUnavailable: the source could not be reached, failed, or took too long.
	ErrUnavailable = errors.New("unavailable")
	// ErrBadResponse: the source answered with something that is not an answer.
	ErrBadResponse = errors.New("bad response")
	// ErrUnsupported: the source does not cover this kind of address.
	ErrUnsupported = errors.New("address not supported")
	// ErrConfig: the provider cannot work as it was configured, for example
	// because a mandatory key is missing. Asking again does not help.
	ErrConfig = errors.New("configuration")
)

// Error is a failed lookup. Both its Kind and its Err are reachable with
// [errors.Is] and [errors.As]. Its text never holds a key, a request header, a
// URL's query or any part of a response body.
type Error struct {
	// Provider is the name of the provider that failed.
	Provider string
	// Kind is one of this package's sentinels.
	Kind error
	// StatusCode is the HTTP status, or zero if there was no HTTP answer.
	StatusCode int
	// RetryAfter is how long the source asked not to be bothered; zero if it
	// did not say. It is what the source said: not checked, not capped.
	RetryAfter time.Duration
	// Unsent says that the request certainly did not reach the source: the host
	// name was not resolved, no connection was made, or a proxy or TLS refused it.
	// The call is then given back to the quota. If in doubt, leave it false. An
	// error of kind ErrUnsupported or ErrConfig without a StatusCode needs no
	// Unsent.
	Unsent bool
	// Usage is what the source said about its allowance; nil if it said nothing.
	Usage *Usage
	// Err says more; it may be nil.
	Err error
}

// Error returns, in this order and as far as known: provider, kind, HTTP
// status, details, and when to try again.
func (e *Error) Error() string {
	var b strings.Builder
	if e.Provider != "" {
		b.WriteString(e.Provider + ": ")
	}
	kind := e.Kind
	if kind == nil {
		kind = ErrUnavailable
	}
	b.WriteString(kind.Error())
	if e.StatusCode != 0 {
		fmt.Fprintf(&b, " (HTTP %d)", e.StatusCode)
	}
	if e.Err != nil {
		if detail := e.detail(kind); detail != "" {
			b.WriteString(": " + detail)
		}
	}
	if e.RetryAfter > 0 {
		fmt.Fprintf(&b, " (retry after %v)", e.RetryAfter)
	}
	return b.String()
}

// detail returns the text of Err without what the text of e says anyway: the
// provider and the kind.
func (e *Error) detail(kind error) string {
	text := e.Err.Error()
	for _, said := range []string{e.Provider, kind.Error()} {
		if text == said {
			return ""
		}
		if said != "" {
			text = strings.TrimPrefix(text, said+": ")
		}
	}
	return text
}

// Unwrap returns Kind and Err, as far as they are set.
func (e *Error) Unwrap() []error {
	var errs []error
	for _, err := range []error{e.Kind, e.Err} {
		if err != nil {
			errs = append(errs, err)
		}
	}
	return errs
}

// Kind returns the sentinel of this package that err wraps. It returns nil for
// nil, and [ErrUnavailable] for an error that wraps none.
func Kind(err error) error {
	if err == nil {
		return nil
	}
	for _, kind := range []error{
		ErrRateLimited, ErrQuotaExhausted, ErrUnauthorized, ErrConfig, ErrBadResponse, ErrUnsupported,
	} {
		if errors.Is(err, kind) {
			return kind
		}
	}
	return ErrUnavailable
}
