package aggregate_test

import (
	"fmt"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

func ExampleStrongest() {
	evidence := []aggregate.Evidence{
		{Finding: &provider.Finding{Provider: "greynoise", Verdict: provider.Unknown}},
		{Finding: &provider.Finding{Provider: "abuseipdb", Verdict: provider.Malicious}, Stale: true},
		{Finding: &provider.Finding{Provider: "feodo"}}, // not listed, no opinion
	}
	d := aggregate.Strongest{}.Decide(evidence, time.Now())
	fmt.Println(d.Verdict)
	for _, r := range d.Reasons {
		fmt.Printf("%s: %s, stale %v, decisive %v\n", r.Provider, r.Verdict, r.Stale, r.Decisive)
	}
	// Output:
	// malicious
	// abuseipdb: malicious, stale true, decisive true
	// greynoise: unknown, stale false, decisive false
}

// An operator's allow list outranks every provider.
func ExampleStrongest_authoritative() {
	policy := aggregate.Strongest{Authoritative: []string{"allow_list"}}
	d := policy.Decide([]aggregate.Evidence{
		{Finding: &provider.Finding{Provider: "abuseipdb", Verdict: provider.Malicious}},
		{Finding: &provider.Finding{Provider: "allow_list", Verdict: provider.Benign}},
	}, time.Now())
	fmt.Println(d.Verdict)
	// Output: benign
}
