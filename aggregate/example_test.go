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

// An operator's allow list outranks every other source.
func ExampleStrongest_rank() {
	d := aggregate.Strongest{}.Decide([]aggregate.Evidence{
		{Finding: &provider.Finding{Provider: "abuseipdb", Verdict: provider.Malicious}},
		{
			Finding: &provider.Finding{Provider: "allow_list", Verdict: provider.Benign},
			Profile: provider.Profile{Rank: provider.RankOperator},
		},
	}, time.Now())
	fmt.Println(d.Verdict)
	// Output: benign
}

// A decision explains itself in a sentence.
func ExampleDecision_String() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	says := func(name string, rank int, v provider.Verdict, ago time.Duration) aggregate.Evidence {
		return aggregate.Evidence{
			Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-ago)},
			Profile: provider.Profile{Rank: rank},
		}
	}
	threatfox := says("threatfox", provider.RankVerified, provider.Malicious, 50*time.Hour)
	scanners := says("scanners", provider.RankVerified, provider.Benign, time.Minute)
	abuseipdb := says("abuseipdb", provider.RankReputation, provider.Benign, time.Minute)
	ipsum := says("ipsum", provider.RankReputation, provider.Suspicious, time.Minute)

	var policy aggregate.Strongest
	fmt.Println(policy.Decide([]aggregate.Evidence{threatfox, abuseipdb}, now))
	fmt.Println(policy.Decide([]aggregate.Evidence{scanners, ipsum}, now))
	fmt.Println(policy.Decide([]aggregate.Evidence{scanners, threatfox, ipsum}, now))
	fmt.Println(policy.Decide(nil, now))
	// Output:
	// malicious: threatfox (malicious, 2 days old) decides; abuseipdb (benign) is outranked
	// benign: scanners (benign) decides; ipsum (suspicious) is outranked
	// malicious: threatfox (malicious, 2 days old) decides, in conflict with scanners (benign); ipsum (suspicious) is outranked
	// no verdict: no source has an opinion
}

// Weighted explains how it came to its verdict, here with sources that
// contradict each other.
func ExampleWeighted() {
	now := time.Date(2026, 11, 24, 12, 0, 0, 0, time.UTC)
	said := func(name string, v provider.Verdict, ago time.Duration, profile provider.Profile) aggregate.Evidence {
		return aggregate.Evidence{
			Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-ago)}, Profile: profile,
		}
	}
	d := aggregate.Weighted{}.Decide([]aggregate.Evidence{
		said("sensors", provider.Benign, time.Hour, provider.Profile{Confidence: 0.8}),
		said("reports", provider.Malicious, 7*24*time.Hour, provider.Profile{Confidence: 0.7}),
		said("bots", provider.Suspicious, time.Hour, provider.Profile{Confidence: 0.95, Group: "lab"}),
		said("lab_history", provider.Malicious, 60*24*time.Hour, provider.Profile{Confidence: 0.9, Group: "lab"}),
		said("mirror", provider.Malicious, time.Hour, provider.Profile{DerivedFrom: []string{"reports"}}),
	}, now)
	fmt.Printf("%s by %s, score %v, conflict %v\n", d.Verdict, d.Policy, d.Score, d.Conflict)
	for _, r := range d.Reasons {
		fmt.Printf("%-11s %-10s %v old, weighs %v, decisive %v", r.Provider, r.Verdict, r.Age, r.Weight, r.Decisive)
		if r.Ignored != "" {
			fmt.Printf(", ignored: %s, by %s", r.Ignored, r.By)
		}
		fmt.Println()
	}
	fmt.Println(d)
	// Output:
	// suspicious by weighted/2, score -0.064, conflict true
	// bots        suspicious 1h0m0s old, weighs 0.474, decisive true
	// lab_history malicious  1440h0m0s old, weighs 0.046, decisive false, ignored: dependent, by bots
	// mirror      malicious  1h0m0s old, weighs 0.399, decisive false, ignored: derived, by reports
	// reports     malicious  168h0m0s old, weighs 0.495, decisive true
	// sensors     benign     1h0m0s old, weighs 0.798, decisive false
	// suspicious: bots (suspicious, 1 hour old) and reports (malicious, 7 days old) decide, in conflict with sensors (benign, 1 hour old); mirror (malicious, 1 hour old) only repeats its sources; lab_history (malicious, 60 days old) is in a group that already counts
}

// The fingerprint of a policy changes with the profiles that it decides by.
func ExampleFingerprint() {
	fmt.Println(aggregate.Fingerprint(aggregate.Strongest{}, nil))
	fmt.Println(aggregate.Fingerprint(aggregate.Weighted{HalfLife: 7 * 24 * time.Hour}, map[string]provider.Profile{
		"deny": {Rank: provider.RankOperator},
	}))
	// Output:
	// strongest/2
	// weighted/2+7480ef84@2d73bfa1
}
