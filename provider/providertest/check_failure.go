package providertest

import (
	"errors"
	"slices"
	"testing"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// checkUnauthorized checks that a refused key is recognized as one.
func checkUnauthorized(tb testing.TB, h Harness) {
	for _, f := range []upstream.Failure{upstream.Unauthorized, upstream.Payment, upstream.Forbidden} {
		expect(tb, h, f, provider.ErrUnauthorized)
	}
}

// checkRateLimited checks that a limit is recognized as one, and that the wait
// the source asked for is handed on.
func checkRateLimited(tb testing.TB, h Harness) {
	err := expect(tb, h, upstream.RateLimited, provider.ErrRateLimited, provider.ErrQuotaExhausted)
	if err == nil {
		return
	}
	if e, ok := errors.AsType[*provider.Error](err); !ok || e.RetryAfter != upstream.RetryAfter {
		tb.Errorf("Lookup of a source that says 429 with Retry-After: %v; want a *provider.Error with RetryAfter %v", err, upstream.RetryAfter)
	}
}

// checkUnavailable checks that a source that is down is recognized as such.
func checkUnavailable(tb testing.TB, h Harness) {
	for _, f := range []upstream.Failure{upstream.ServerError, upstream.Unavailable, upstream.Reset} {
		expect(tb, h, f, provider.ErrUnavailable)
	}
}

// checkBadResponse checks that what is not an answer is not taken for one.
func checkBadResponse(tb testing.TB, h Harness) {
	for _, f := range []upstream.Failure{
		upstream.Cut, upstream.Truncated, upstream.HTML, upstream.WrongTypes, upstream.Huge, upstream.GzipBomb,
	} {
		expect(tb, h, f, provider.ErrBadResponse, provider.ErrUnavailable)
	}
}

// checkRedirect checks that no redirect is followed.
func checkRedirect(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	expect(tb, h, upstream.Redirect, provider.ErrBadResponse, provider.ErrUnavailable)
}

// expect makes a provider fail in the given way and checks that the error is of
// one of the kinds. It returns nil if the provider cannot fail that way.
func expect(tb testing.TB, h Harness, f upstream.Failure, kinds ...error) error {
	tb.Helper()
	if h.waived(f) {
		return nil
	}
	r := newRig(tb, h)
	if !r.fail(tb, f) {
		return nil
	}
	finding, err := r.ask(tb.Context(), r.known)
	if err == nil {
		tb.Errorf("Lookup in spite of failure %q: %+v; want an error", f, finding)
		return nil
	}
	if kind := provider.Kind(err); !slices.Contains(kinds, kind) {
		tb.Errorf("Lookup with failure %q: %v is of the kind %q; want %q", f, err, kind, kinds)
	}
	if e, ok := errors.AsType[*provider.Error](err); ok && e.Provider != r.p.Name() {
		tb.Errorf("Lookup with failure %q: the error names the provider %q; its name is %q", f, e.Provider, r.p.Name())
	}
	if r.server != nil && r.server.Redirected() > 0 {
		tb.Errorf("a redirect was followed")
	}
	checkNoAnswer(tb, reply{finding, err})
	return err
}

// checkOneCall checks that a lookup, or the load of bulk data, is one request
// through the transport it was given, whatever the answer.
func checkOneCall(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	for _, f := range []upstream.Failure{
		upstream.Well, upstream.RateLimited, upstream.ServerError, upstream.Unavailable, upstream.Forbidden, upstream.HTML,
	} {
		r := newRig(tb, h)
		r.fail(tb, f)
		_, err := r.ask(tb.Context(), r.known)
		if (err == nil) != (f == upstream.Well) {
			tb.Errorf("Lookup of a source that is %v: %v", f, err)
		}
		if n := r.server.Calls(r.Source); n != 1 {
			tb.Errorf("Lookup of a source that is %v: the source got %d requests; want 1", f, n)
		}
		if n := r.tap.count(); n != 1 {
			tb.Errorf("Lookup of a source that is %v: %d requests through the transport; want 1", f, n)
		}
	}
}
