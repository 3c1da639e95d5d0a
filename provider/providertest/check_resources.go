package providertest

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"runtime/pprof"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// checkTransport checks that requests are made through the transport that the
// provider was given. [Run] stops if it fails: every other check would wait.
func checkTransport(tb testing.TB, h Harness) {
	r := newRig(tb, h) // also of one without HTTP: New may hang
	skipWithoutHTTP(tb, h)
	ctx, cancel := context.WithTimeout(tb.Context(), r.Patience)
	defer cancel()
	done := r.start(ctx, r.known)
	select {
	case <-done:
	case <-ctx.Done():
	}
	if r.tap.count() == 0 {
		tb.Fatalf("no request came through Endpoint.Transport within %v; the provider has to make all its requests through it, to Endpoint.BaseURL", r.Patience)
	}
}

// ends are failures after which everything a lookup has used must be given back. A
// lookup of a source that would never finish is canceled.
var ends = []upstream.Failure{
	upstream.Well, upstream.Hang, upstream.Drip, upstream.Cut, upstream.Truncated, upstream.HTML, upstream.WrongTypes,
	upstream.Unauthorized, upstream.Payment, upstream.Forbidden, upstream.RateLimited, upstream.ServerError,
	upstream.Unavailable, upstream.Redirect,
}

// statuses are others that a source, or what is in front of it, may answer with. What
// is to be done with them does not depend on the source.
var statuses = []int{
	http.StatusAccepted, http.StatusMovedPermanently, http.StatusFound, http.StatusSeeOther, http.StatusPermanentRedirect,
	http.StatusBadRequest, http.StatusNotFound, http.StatusRequestTimeout, http.StatusGone, http.StatusUnprocessableEntity,
	http.StatusBadGateway, http.StatusGatewayTimeout,
}

// eachEnd calls check for every way in which a lookup can end. Check makes the
// lookup and returns what was wrong with it. So that a machine that is busy is no
// fault of the provider, only what is wrong three times in a row counts.
func eachEnd(tb testing.TB, h Harness, check func(r *rig, lookup func(context.Context)) (wrong string)) {
	attempt := func(f upstream.Failure, status int, known bool) string {
		r := newRig(tb, h)
		if r.tap != nil {
			r.tap.status = status
		}
		if f != upstream.Well && !r.fail(tb, f) || !known && !r.Unknown.IsValid() {
			return ""
		}
		return check(r, func(ctx context.Context) {
			switch {
			case !known:
				_, _ = r.ask(ctx, r.Unknown)
			case f == upstream.Hang, f == upstream.Drip:
				r.cancelUnderWay(tb, ctx, f)
			default:
				_, _ = r.ask(ctx, r.known)
			}
		})
	}
	end := func(f upstream.Failure, status int, known bool) (wrong string) {
		for range 3 {
			if wrong = attempt(f, status, known); wrong == "" {
				break
			}
		}
		return wrong
	}
	for _, f := range ends {
		if wrong := end(f, 0, true); wrong != "" {
			tb.Fatalf("Lookup of a source that is %v: %s", f, wrong)
		}
	}
	for _, status := range statuses {
		if h.Source == upstream.None {
			break
		}
		f := upstream.ServerError
		if status < http.StatusBadRequest {
			f = upstream.Redirect
		}
		if wrong := end(f, status, true); wrong != "" {
			tb.Fatalf("Lookup of a source that answers with status %d: %s", status, wrong)
		}
	}
	if wrong := end(upstream.Well, 0, false); wrong != "" {
		tb.Fatalf("Lookup of an address that the source does not have: %s", wrong)
	}
}

// checkBodies checks that every body is closed.
func checkBodies(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	eachEnd(tb, h, func(r *rig, lookup func(context.Context)) string {
		lookup(tb.Context())
		if !r.soon(func() bool { return r.tap.open() == 0 }) {
			return "the body of a response was not closed"
		}
		return ""
	})
}

// checkGoroutines checks that no goroutine that a lookup has started outlives it.
func checkGoroutines(tb testing.TB, h Harness) {
	eachEnd(tb, h, func(r *rig, lookup func(context.Context)) string {
		mark := uuid.NewString()
		pprof.Do(tb.Context(), pprof.Labels("providertest", mark), lookup)
		ended := r.soon(func() bool {
			if r.tap != nil {
				r.tap.CloseIdleConnections()
			}
			var b bytes.Buffer
			_ = pprof.Lookup("goroutine").WriteTo(&b, 1) // a buffer takes everything
			return !strings.Contains(b.String(), mark)
		})
		if !ended {
			return "a goroutine that it started is still running"
		}
		return ""
	})
}

// maxIdle is how long a lookup may take beside its request.
const maxIdle = 500 * time.Millisecond

// checkNoSleep checks that a lookup waits for nothing but its request: spacing calls
// is up to the caller.
func checkNoSleep(tb testing.TB, h Harness) {
	eachEnd(tb, h, func(r *rig, lookup func(context.Context)) string {
		start := time.Now()
		lookup(tb.Context())
		took := time.Since(start)
		if r.tap != nil {
			took -= r.tap.spent()
		}
		if took > maxIdle {
			return fmt.Sprintf("it took %v beside its request; a provider never waits, for a limit or anything else", took.Round(time.Millisecond))
		}
		return ""
	})
}

// checkRemote checks that a provider that queries somebody does not claim to answer
// from memory. One that answers from a list it downloads may.
func checkRemote(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	r := newRig(tb, h)
	if _, ok := provider.As[provider.Refresher](r.p); ok {
		tb.Skip("the provider answers from data that it loads")
	}
	if p, ok := provider.As[provider.Profiled](r.p); ok && p.Profile().Local {
		tb.Error("Profile: Local is set, but lookups leave the process")
	}
	if l, ok := provider.As[provider.Limited](r.p); ok && l.Limits().Private {
		tb.Error("Limits: Private is set, but lookups leave the machine")
	}
}

// soon reports whether a condition holds before patience runs out.
func (r *rig) soon(condition func() bool) bool {
	for end := time.Now().Add(min(r.Patience, 5*time.Second)); ; {
		if condition() {
			return true
		}
		if time.Now().After(end) {
			return false
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// waived reports whether the harness waives a failure.
func (h *Harness) waived(f upstream.Failure) bool { return slices.Contains(h.Waived, f) }
