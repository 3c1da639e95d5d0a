package providertest

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// checkBatch checks that one call about many addresses says what calls about each of
// them say, and fails as they do.
func checkBatch(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	b, ok := r.p.(provider.Batcher)
	if !ok || b.Batch() < 2 {
		tb.Skip("the provider does not take many addresses at a time")
	}
	addrs := []netip.Addr{r.known}
	if r.Unknown.IsValid() {
		addrs = append(addrs, r.Unknown)
	}
	found, err := b.LookupBatch(tb.Context(), addrs)
	if err != nil {
		tb.Fatalf("LookupBatch(%v): %v; want findings", addrs, err)
	}
	if n := r.requests(); r.tap != nil && n != 1 {
		tb.Errorf("LookupBatch made %d requests; want 1", n)
	}
	for _, addr := range addrs {
		i := slices.IndexFunc(found, func(f provider.Finding) bool { return f.Addr == addr })
		if i < 0 || len(found) != len(addrs) {
			tb.Fatalf("LookupBatch(%v): %d findings, %+v; want one about each", addrs, len(found), found)
		}
		checkFinding(tb, r, found[i], addr)
		one := r.must(tb, addr)
		if found[i].Known != one.Known || found[i].Verdict != one.Verdict {
			tb.Errorf("LookupBatch says %v, %v about %v, and Lookup %v, %v", found[i].Known, found[i].Verdict, addr, one.Known, one.Verdict)
		}
		checkSilent(tb, r, "finding", fmt.Sprintf("%+v %s", found[i].Attrs, found[i].Raw))
	}

	before := r.requests()
	if _, err := b.LookupBatch(tb.Context(), append(addrs, netip.MustParseAddr("10.1.2.3"))); !errors.Is(err, provider.ErrUnsupported) {
		tb.Errorf("LookupBatch with a private address among others: %v; want ErrUnsupported", err)
	}
	ctx, cancel := context.WithCancel(tb.Context())
	cancel()
	if _, err := b.LookupBatch(ctx, addrs); !errors.Is(err, context.Canceled) {
		tb.Errorf("LookupBatch with a context that is done: %v; want context.Canceled", err)
	}
	if n := r.requests(); n != before {
		tb.Errorf("LookupBatch made %d requests that it should not have made", n-before)
	}
	checkBatchFailures(tb, h)
}

// checkBatchFailures checks the errors. A key that single lookups take may be refused
// calls about many addresses: no finding then takes the place of an error.
func checkBatchFailures(tb testing.TB, h Harness) {
	kinds := map[upstream.Failure][]error{
		upstream.RateLimited: {provider.ErrRateLimited, provider.ErrQuotaExhausted},
		upstream.ServerError: {provider.ErrUnavailable}, upstream.Unavailable: {provider.ErrUnavailable},
		upstream.Reset: {provider.ErrUnavailable},
	}
	for _, f := range []upstream.Failure{upstream.Unauthorized, upstream.Payment, upstream.Forbidden} {
		kinds[f] = []error{provider.ErrUnauthorized}
	}
	for _, f := range []upstream.Failure{
		upstream.Cut, upstream.Truncated, upstream.HTML, upstream.WrongTypes, upstream.Huge, upstream.GzipBomb, upstream.Redirect,
	} {
		kinds[f] = []error{provider.ErrBadResponse, provider.ErrUnavailable}
	}
	for f, want := range kinds {
		r := newRig(tb, h)
		if h.waived(f) || !r.fail(tb, f) {
			continue
		}
		b := r.p.(provider.Batcher)
		found, err := b.LookupBatch(tb.Context(), []netip.Addr{r.known})
		switch {
		case err == nil && len(found) == 0 && want[0] == provider.ErrUnauthorized && b.Batch() < 2:
		case err == nil:
			tb.Errorf("LookupBatch in spite of failure %q: %+v; want an error", f, found)
		case !slices.Contains(want, provider.Kind(err)):
			tb.Errorf("LookupBatch with failure %q: %v is of the kind %q; want %q", f, err, provider.Kind(err), want)
		default:
			checkSilent(tb, r, "error", fmt.Sprintf("%v\n%+v", err, err))
		}
		if n := r.requests(); r.tap != nil && n != 1 {
			tb.Errorf("LookupBatch with failure %q made %d requests; want 1", f, n)
		}
	}
}
