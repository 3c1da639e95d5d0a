package providertest

import (
	"sync"
	"testing"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// checkRefresh checks how a provider of bulk data loads it.
func checkRefresh(tb testing.TB, h Harness) {
	r := newRig(tb, h)
	bulk, ok := provider.As[provider.Refresher](r.p)
	if !ok {
		tb.Skip("the provider needs no refresh")
	}
	if f, err := r.p.Lookup(tb.Context(), r.known); err == nil && r.Known.IsValid() && !f.Known {
		tb.Errorf("Lookup(%v) before the first Refresh: not known; want an error, or the data to be loaded", r.known)
	}
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			if err := bulk.Refresh(tb.Context()); err != nil {
				tb.Errorf("Refresh beside others: %v", err)
			}
		})
	}
	wg.Wait()
	for range 3 {
		if err := bulk.Refresh(tb.Context()); err != nil {
			tb.Errorf("Refresh when its time has not come: %v", err)
		}
	}
	if n := r.requests(); r.server != nil && n != 1 {
		tb.Errorf("19 refreshes, 16 of them at once: %d requests; want 1", n)
	}
	r.must(tb, r.known)

	r = newRig(tb, h)
	if !r.fail(tb, upstream.Unavailable) {
		return
	}
	bulk, _ = provider.As[provider.Refresher](r.p)
	for i := range 3 {
		if err := bulk.Refresh(tb.Context()); err == nil {
			tb.Errorf("Refresh %d of a source that is down succeeded", i+1)
		}
	}
	if n := r.requests(); r.server != nil && n != 1 {
		tb.Errorf("3 refreshes of a source that is down: %d requests; want 1 until the backoff has passed", n)
	}
	if f, err := r.p.Lookup(tb.Context(), r.known); err == nil {
		tb.Errorf("Lookup without data: Known %v, verdict %q; want an error, for nothing is known", f.Known, f.Verdict)
	}
}
