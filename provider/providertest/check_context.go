package providertest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// soon is when contexts end that end on their own.
const soon = 100 * time.Millisecond

// checkCanceledBefore checks that a lookup whose context is done fails at once
// and asks nobody.
func checkCanceledBefore(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	if err := r.refresh(tb.Context()); err != nil {
		tb.Fatalf("Refresh: %v", err)
	}
	received := func() int {
		if r.server == nil {
			return 0
		}
		return r.server.Calls(r.Source)
	}
	before := received()
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	done := make(chan reply, 1)
	go func() {
		f, err := r.p.Lookup(ctx, r.known)
		done <- reply{f, err}
	}()
	got := r.await(tb, done)
	if !errors.Is(got.err, context.Canceled) {
		tb.Errorf("Lookup with a canceled context: %v; want an error that wraps context.Canceled", got.err)
	}
	checkNoAnswer(tb, got)
	if received() > before {
		tb.Error("Lookup with a canceled context made a request")
	}
}

// checkCanceledDuring checks that a lookup ends when its context does while
// the source takes its time to answer.
func checkCanceledDuring(tb testing.TB, h Harness) {
	checkCanceledAt(tb, h, upstream.Hang)
}

// checkCanceledInBody is the same while the body trickles in.
func checkCanceledInBody(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	checkCanceledAt(tb, h, upstream.Drip)
}

func checkCanceledAt(tb testing.TB, h Harness, f upstream.Failure) {
	tb.Helper()
	r := newRig(tb, h)
	if !r.fail(tb, f) {
		tb.Skipf("the provider cannot be made to %v", f)
	}
	got := r.cancelUnderWay(tb, tb.Context(), f)
	if !errors.Is(got.err, context.Canceled) {
		tb.Errorf("Lookup whose context was canceled: %v; want an error that wraps context.Canceled", got.err)
	}
	checkNoAnswer(tb, got)
}

// cancelUnderWay makes a lookup and cancels it once the source has its request, or,
// if the failure is [upstream.Drip], has begun to answer.
func (r *rig) cancelUnderWay(tb testing.TB, ctx context.Context, f upstream.Failure) reply {
	tb.Helper()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := r.start(ctx, r.known)
	if r.tap != nil {
		reached := r.tap.sent
		if f == upstream.Drip {
			reached = r.tap.heard
		}
		select {
		case <-reached:
		case got := <-done:
			tb.Fatalf("Lookup returned before the source answered: %v", got.err)
		case <-time.After(r.Patience):
			tb.Fatalf("no request came through Endpoint.Transport within %v; the provider has to make all its requests through it", r.Patience)
		}
	} else {
		defer time.AfterFunc(soon, cancel).Stop()
		<-ctx.Done()
	}
	cancel()
	return r.await(tb, done)
}

// checkDeadline checks that a source that takes too long is unavailable.
func checkDeadline(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	if !r.fail(tb, upstream.Hang) {
		tb.Skip("the provider cannot be made to hang")
	}
	ctx, cancel := context.WithTimeout(tb.Context(), soon)
	defer cancel()
	done := r.start(ctx, r.known)
	<-ctx.Done()
	got := r.await(tb, done)
	if !errors.Is(got.err, context.DeadlineExceeded) {
		tb.Errorf("Lookup whose deadline passed: %v; want an error that wraps context.DeadlineExceeded", got.err)
	}
	if kind := provider.Kind(got.err); kind != provider.ErrUnavailable {
		tb.Errorf("Lookup whose deadline passed: %v is of the kind %q; want %q", got.err, kind, provider.ErrUnavailable)
	}
	checkNoAnswer(tb, got)
}

// checkNoAnswer checks that what came with an error says nothing.
func checkNoAnswer(tb testing.TB, got reply) {
	tb.Helper()
	if got.err != nil && (got.finding.Known || got.finding.Verdict != provider.None) {
		tb.Errorf("Lookup failed (%v) and yet returned %+v", got.err, got.finding)
	}
}
