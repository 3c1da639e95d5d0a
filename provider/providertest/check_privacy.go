package providertest

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// everyFailure are the ways to fail that end by themselves.
var everyFailure = []upstream.Failure{
	upstream.Reset, upstream.Cut, upstream.Truncated, upstream.HTML, upstream.WrongTypes,
	upstream.Unauthorized, upstream.Payment, upstream.Forbidden, upstream.RateLimited,
	upstream.ServerError, upstream.Unavailable, upstream.Redirect,
}

// checkSecret checks that the key is in no URL, error or finding, and that
// errors hold neither a URL's query nor what a source sent.
func checkSecret(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	if f, err := r.ask(tb.Context(), r.known); err == nil {
		checkSilent(tb, r, "finding", fmt.Sprintf("%+v %s", f.Attrs, f.Raw))
	}
	for _, f := range everyFailure {
		r := newRig(tb, h)
		if !r.fail(tb, f) {
			continue
		}
		if _, err := r.ask(tb.Context(), r.known); err != nil {
			checkSilent(tb, r, "error", fmt.Sprintf("%v\n%+v", err, err))
		}
	}
	if r = newRig(tb, h); r.fail(tb, upstream.Hang) {
		ctx, cancel := context.WithTimeout(tb.Context(), soon)
		defer cancel()
		if got := r.await(tb, r.start(ctx, r.known)); got.err != nil {
			checkSilent(tb, r, "error", fmt.Sprintf("%v\n%+v", got.err, got.err))
		}
	}
	if r.server != nil { // a connection that is refused
		r = newRig(tb, h)
		r.server.Close()
		if _, err := r.ask(tb.Context(), r.known); err != nil {
			checkSilent(tb, r, "error", fmt.Sprintf("%v\n%+v", err, err))
		}
	}
}

// checkSilent checks that text, and the requests made so far, give away nothing.
func checkSilent(tb testing.TB, r *rig, what, text string) {
	tb.Helper()
	if strings.Contains(text, key) {
		tb.Errorf("the key is in the %s: %s", what, text)
	}
	if what == "error" && strings.Contains(text, upstream.Canary) {
		tb.Errorf("a part of the response is in the error: %s", text)
	}
	if r.tap == nil {
		return
	}
	for _, s := range r.tap.seen() {
		if strings.Contains(s, key) {
			tb.Errorf("the key is in the URL of a request: %s", s)
		}
		if u, err := url.Parse(s); err == nil && what == "error" && u.RawQuery != "" && strings.Contains(text, u.RawQuery) {
			tb.Errorf("the query of a URL is in the error: %s", text)
		}
	}
}

// checkAnonymous checks that requests do not tell who makes them.
func checkAnonymous(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	r := newRig(tb, h)
	r.must(tb, r.known)
	if strays := r.tap.strays(); len(strays) > 0 {
		tb.Errorf("requests that were not for the base URL: %q", strays)
	}
	requests := r.server.Requests(r.Source)
	if len(requests) == 0 {
		tb.Error("Lookup made no request to the base URL")
	}
	for _, req := range requests {
		if req.Header.Get("User-Agent") == "" {
			tb.Error("a request has no User-Agent")
		}
		for _, name := range []string{"From", "Referer", "Origin", "Via", "Forwarded", "X-Forwarded-For", "Cookie"} {
			if _, ok := req.Header[name]; ok {
				tb.Errorf("a request has the header %s", name)
			}
		}
		head := strings.ToLower(headText(req.Header) + req.URI + req.Body)
		for _, word := range []string{"enrich", "decnet", "honeypot"} {
			if strings.Contains(head, word) {
				tb.Errorf("a request contains the word %q", word)
			}
		}
		if strings.Contains(req.URI+req.Body, key) {
			tb.Error("the key is in the URL or the body of a request; it belongs in a header")
		}
	}
}

func headText(h http.Header) string {
	var b strings.Builder
	for name, values := range h {
		fmt.Fprintf(&b, "%s: %s\n", name, strings.Join(values, ", "))
	}
	return b.String()
}
