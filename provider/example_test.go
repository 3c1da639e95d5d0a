package provider_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"time"

	"github.com/decnet/enrich/provider"
)

// A provider that answers from the operator's own list. An address that is not
// on the list is not known, which is no opinion and no error.
func ExampleFunc() {
	listed := map[netip.Addr]provider.Verdict{netip.MustParseAddr("45.155.205.233"): provider.Malicious}
	mine := provider.Func{ID: "mine", Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		verdict, known := listed[addr]
		return provider.Finding{
			Provider: "mine", Addr: addr, Known: known, Verdict: verdict,
			Attrs: map[string]any{"listed": known}, ObservedAt: time.Now().UTC(), TTL: time.Hour,
		}, nil
	}}
	for _, text := range []string{"45.155.205.233", "193.32.162.7"} {
		f, err := mine.Lookup(context.Background(), netip.MustParseAddr(text))
		if err != nil {
			panic(err)
		}
		fmt.Printf("%s: known %v, verdict %q\n", f.Addr, f.Known, f.Verdict)
	}
	// Output:
	// 45.155.205.233: known true, verdict "malicious"
	// 193.32.162.7: known false, verdict ""
}

// An error says which provider failed, how, and when to ask again.
func ExampleError() {
	var err error = &provider.Error{
		Provider: "mine", Kind: provider.ErrRateLimited, StatusCode: 429, RetryAfter: time.Minute,
	}
	err = fmt.Errorf("asking about 45.155.205.233: %w", err)

	fmt.Println(err)
	fmt.Println(errors.Is(err, provider.ErrRateLimited))
	if e, ok := errors.AsType[*provider.Error](err); ok {
		fmt.Println("ask again in", e.RetryAfter)
	}
	// Output:
	// asking about 45.155.205.233: mine: rate limited (HTTP 429) (retry after 1m0s)
	// true
	// ask again in 1m0s
}

// A guard keeps private addresses in, also those inside of IPv6 addresses, and
// the operator's own networks.
func ExampleGuard() {
	guard := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("45.9.148.0/24")}}
	for _, text := range []string{"45.155.205.233", "45.9.148.3", "192.168.1.5", "64:ff9b::c0a8:105"} {
		fmt.Println(text, guard.Allows(netip.MustParseAddr(text)))
	}
	// Output:
	// 45.155.205.233 true
	// 45.9.148.3 false
	// 192.168.1.5 false
	// 64:ff9b::c0a8:105 false
}

// Quotas are written as an operator writes them in a configuration.
func ExampleParseQuotas() {
	quotas, err := provider.ParseQuotas("25/week, 5/day")
	if err != nil {
		panic(err)
	}
	for _, q := range quotas {
		fmt.Println(q.Calls, "calls in", q.Window)
	}
	// Output:
	// 25 calls in 168h0m0s
	// 5 calls in 24h0m0s
}
