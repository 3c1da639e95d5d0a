package providertest_test

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
)

func ExampleFake() {
	attacker := netip.MustParseAddr("45.155.205.233")
	fake := providertest.NewFake("mine").On(attacker,
		providertest.Reply{Err: &provider.Error{Provider: "mine", Kind: provider.ErrUnavailable}},
		providertest.Reply{Finding: provider.Finding{Known: true, Verdict: provider.Malicious}},
	)
	for range 3 {
		f, err := fake.Lookup(context.Background(), attacker)
		fmt.Println(f.Verdict, err)
	}
	fmt.Println(fake.CallsFor(attacker), "calls")
	// Output:
	//  mine: unavailable
	// malicious <nil>
	// malicious <nil>
	// 3 calls
}
