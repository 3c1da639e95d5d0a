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
	checkCanceledAt(tb, h, upstream.Hang, func(t *tap) <-chan struct{} { return t.sent })
}

// checkCanceledInBody is the same while the body trickles in.
func checkCanceledInBody(tb testing.TB, h Harness) {
	skipWithoutHTTP(tb, h)
	checkCanceledAt(tb, h, upstream.Drip, func(t *tap) <-chan struct{} { return t.heard })
}

func checkCanceledAt(tb testing.TB, h Harness, f upstream.Failure, reached func(*tap) <-chan struct{}) {
	tb.Helper()
	r := newRig(tb, h)
	if !r.fail(tb, f) {
		tb.Skipf("the provider cannot be made to %v", f)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	defer cancel()
	done := r.start(ctx, r.known)
	if r.tap != nil {
		select {
		case <-reached(r.tap):
		case got := <-done:
			tb.Fatalf("Lookup returned before the source answered: %v", got.err)
		}
	} else {
		defer time.AfterFunc(soon, cancel).Stop()
		<-ctx.Done()
	}
	cancel()
	got := r.await(tb, done)
	if !errors.Is(got.err, context.Canceled) {
		tb.Errorf("Lookup whose context was canceled: %v; want an error that wraps context.Canceled", got.err)
	}
	checkNoAnswer(tb, got)
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
