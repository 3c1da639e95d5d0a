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

// Weighted says how it came to its verdict, here on sources that contradict
// each other.
func ExampleWeighted() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	said := func(name string, v provider.Verdict, ago time.Duration) aggregate.Evidence {
		return aggregate.Evidence{Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-ago)}}
	}
	d := aggregate.Weighted{}.Decide([]aggregate.Evidence{
		said("greynoise", provider.Benign, time.Hour),
		said("abuseipdb", provider.Malicious, 7*24*time.Hour),
		said("feodo", provider.Suspicious, time.Hour),
		said("threatfox", provider.Malicious, 60*24*time.Hour),
	}, now)
	fmt.Printf("%s by %s, score %v, conflict %v\n", d.Verdict, d.Policy, d.Score, d.Conflict)
	for _, r := range d.Reasons {
		fmt.Printf("%-9s %-10s %v old, weighs %v, decisive %v", r.Provider, r.Verdict, r.Age, r.Weight, r.Decisive)
		if r.Ignored != "" {
			fmt.Printf(", ignored: %s on others in %s", r.Ignored, r.Group)
		}
		fmt.Println()
	}
	// Output:
	// suspicious by weighted/1, score -0.064, conflict true
	// abuseipdb malicious  168h0m0s old, weighs 0.495, decisive true
	// feodo     suspicious 1h0m0s old, weighs 0.474, decisive true
	// greynoise benign     1h0m0s old, weighs 0.798, decisive false
	// threatfox malicious  1440h0m0s old, weighs 0.046, decisive false, ignored: dependent on others in abuse_ch
}
