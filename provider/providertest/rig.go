package providertest

import (
	"context"
	"net/netip"
	"testing"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// key is the secret that providers are given.
const key = "b7e1f0c2d94a4f55-s3cret"

var (
	someAddr  = netip.MustParseAddr("45.155.205.233")
	otherAddr = netip.MustParseAddr("193.32.162.7")
	ipv6Addr  = netip.MustParseAddr("2a0e:97c0::1")
)

// rig is a provider set up for one check.
type rig struct {
	Harness
	p      provider.Provider
	server *upstream.Server // nil if the provider makes no HTTP requests
	tap    *tap             // likewise
	known  netip.Addr
}

func newRig(tb testing.TB, h Harness) *rig {
	tb.Helper()
	if h.New == nil {
		tb.Fatal("Harness.New is missing")
	}
	for _, f := range h.Waived {
		if f != upstream.Truncated {
			tb.Fatalf("Harness.Waived has %q; only %q can be waived", f, upstream.Truncated)
		}
	}
	if h.Patience == 0 {
		h.Patience = 5 * time.Second
	}
	r := &rig{Harness: h}
	at := Endpoint{Key: key}
	if h.Source != upstream.None {
		server, err := upstream.Start(upstream.Options{Handler: h.Handler, Refusal: h.Refusal})
		if err != nil {
			tb.Fatal(err)
		}
		tb.Cleanup(server.Close)
		r.server, r.tap = server, newTap(server.URL())
		tb.Cleanup(r.tap.CloseIdleConnections)
		at.BaseURL, at.Transport = server.URL(), r.tap
	}
	if r.played() {
		if !r.Known.IsValid() {
			r.Known = someAddr
		}
		if !r.Unknown.IsValid() {
			r.Unknown = otherAddr
		}
		r.server.SetProfile(r.Known, upstream.C2)
		r.server.SetProfile(r.Unknown, upstream.Unseen)
	}
	if r.known = r.Known; !r.known.IsValid() {
		r.known = someAddr
	}
	r.make(tb, at)
	return r
}

// make calls Harness.New, which has to return.
func (r *rig) make(tb testing.TB, at Endpoint) {
	tb.Helper()
	made := make(chan provider.Provider, 1)
	go func() {
		defer close(made) // also if New ends the test
		made <- r.New(tb, at)
	}()
	timer := time.NewTimer(4 * r.Patience)
	defer timer.Stop()
	select {
	case r.p = <-made:
	case <-timer.C:
		tb.Fatalf("Harness.New did not return within %v; a provider is made without asking anybody", 4*r.Patience)
	}
	switch {
	case r.p != nil:
	case tb.Skipped():
		tb.SkipNow()
	case tb.Failed():
		tb.FailNow()
	default:
		tb.Fatal("Harness.New returned nil")
	}
}

// played reports whether the source is one whose answers the suite knows.
func (r *rig) played() bool {
	return r.Source != upstream.None && r.Source != upstream.Custom
}

// fail orders trouble and reports whether the provider can have it.
func (r *rig) fail(tb testing.TB, f upstream.Failure) bool {
	if r.server != nil {
		r.server.Fail(r.Source, f)
		return true
	}
	return r.Fail != nil && r.Fail(tb, r.p, f)
}

// refresh loads the data of a provider that has to be loaded.
func (r *rig) refresh(ctx context.Context) error {
	if b, ok := provider.As[provider.Refresher](r.p); ok {
		return b.Refresh(ctx)
	}
	return nil
}

// ask does what it takes to get an answer from the provider's source.
func (r *rig) ask(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	if err := r.refresh(ctx); err != nil {
		return provider.Finding{}, err
	}
	return r.p.Lookup(ctx, addr)
}

// must is ask about an address that there is an answer for.
func (r *rig) must(tb testing.TB, addr netip.Addr) provider.Finding {
	tb.Helper()
	f, err := r.ask(tb.Context(), addr)
	if err != nil {
		tb.Fatalf("Lookup(%v): %v; want a finding", addr, err)
	}
	return f
}

// requests returns the number of requests made so far.
func (r *rig) requests() int {
	if r.tap == nil {
		return 0
	}
	return max(r.tap.count(), r.server.Calls(r.Source))
}

// reply is what a lookup returned.
type reply struct {
	finding provider.Finding
	err     error
}

// start asks in the background.
func (r *rig) start(ctx context.Context, addr netip.Addr) <-chan reply {
	done := make(chan reply, 1)
	go func() {
		f, err := r.ask(ctx, addr)
		done <- reply{f, err}
	}()
	return done
}

// await waits for a lookup whose context is done, as long as patience lasts.
func (r *rig) await(tb testing.TB, done <-chan reply) reply {
	tb.Helper()
	timer := time.NewTimer(r.Patience)
	defer timer.Stop()
	select {
	case got := <-done:
		return got
	case <-timer.C:
		tb.Fatalf("Lookup did not return within %v of its context being done", r.Patience)
		return reply{}
	}
}

func skipWithoutHTTP(tb testing.TB, h Harness) {
	tb.Helper()
	if h.Source == upstream.None {
		tb.Skip("the provider makes no HTTP requests")
	}
}
