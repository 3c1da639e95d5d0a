package aggregate_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

// ranks are profiles of sources as they declare them.
var ranks = map[string]provider.Profile{
	"greynoise":    {Confidence: 0.8},
	"abuseipdb":    {Confidence: 0.7, NoRepublish: true},
	"feodo":        {Confidence: 0.95, Group: "abuse_ch", Rank: provider.RankVerified},
	"threatfox":    {Confidence: 0.9, Group: "abuse_ch", Rank: provider.RankVerified},
	"scanners":     {Confidence: 0.9, Rank: provider.RankVerified, Local: true},
	"drop":         {Confidence: 0.9, Rank: provider.RankVerified, Local: true},
	"ipsum":        {DerivedFrom: []string{"blocklist_de", "cins"}, Local: true},
	"blocklist_de": {Local: true},
	"tor":          {Local: true},
	"allow":        {Rank: provider.RankOperator, Local: true},
	"deny":         {Rank: provider.RankOperator, Local: true},
}

// TestPrecedence is what the policies promise about sources of different ranks.
// Both decide alike unless weighted says otherwise.
func TestPrecedence(t *testing.T) {
	for name, tt := range map[string]struct {
		said     map[string]provider.Verdict
		stale    []string
		verdict  provider.Verdict
		weighted provider.Verdict // none: the same
		conflict bool
		outranks string // names whom, if anybody is outranked
	}{
		// Malicious, suspicious, benign, unknown, none.
		"malicious":  {said: map[string]provider.Verdict{"abuseipdb": malicious, "greynoise": suspicious}, verdict: malicious},
		"suspicious": {said: map[string]provider.Verdict{"abuseipdb": suspicious, "greynoise": unknown}, verdict: suspicious},
		"benign":     {said: map[string]provider.Verdict{"greynoise": benign, "abuseipdb": unknown, "feodo": none}, verdict: benign},
		"unknown":    {said: map[string]provider.Verdict{"greynoise": unknown, "feodo": none}, verdict: unknown},
		"none":       {said: map[string]provider.Verdict{"tor": none, "feodo": none}, verdict: none},

		// A benign opinion silences the harmful ones of lower rank.
		"scanner and ipsum":     {said: map[string]provider.Verdict{"scanners": benign, "ipsum": suspicious}, verdict: benign, outranks: "scanners"},
		"scanner and abuseipdb": {said: map[string]provider.Verdict{"scanners": benign, "abuseipdb": malicious}, verdict: benign, outranks: "scanners"},
		"own allow and abuseipdb": {
			said: map[string]provider.Verdict{"allow": benign, "abuseipdb": malicious}, verdict: benign, outranks: "allow",
		},
		"own allow and everything": {
			said: map[string]provider.Verdict{
				"allow": benign, "abuseipdb": malicious, "greynoise": malicious, "threatfox": malicious, "feodo": malicious, "drop": malicious,
				"ipsum": suspicious, "blocklist_de": suspicious,
			},
			verdict: benign, outranks: "allow",
		},
		"scanner, not known elsewhere": {said: map[string]provider.Verdict{"scanners": benign, "abuseipdb": unknown}, verdict: benign},
		"reputation silences nothing": {
			said: map[string]provider.Verdict{"greynoise": benign, "ipsum": suspicious}, verdict: suspicious, weighted: benign, conflict: true,
		},

		// Not so ThreatFox, Feodo, DROP and the operator's deny list.
		"scanner and threatfox": {said: map[string]provider.Verdict{"scanners": benign, "threatfox": malicious}, verdict: malicious, conflict: true},
		"scanner and feodo":     {said: map[string]provider.Verdict{"scanners": benign, "feodo": suspicious}, verdict: suspicious, conflict: true},
		"scanner and drop":      {said: map[string]provider.Verdict{"scanners": benign, "drop": malicious}, verdict: malicious, conflict: true},
		"own deny and scanner":  {said: map[string]provider.Verdict{"deny": malicious, "scanners": benign}, verdict: malicious, outranks: "deny"},
		"scanner, threatfox and ipsum": {
			said:    map[string]provider.Verdict{"scanners": benign, "threatfox": malicious, "ipsum": suspicious},
			verdict: malicious, conflict: true, outranks: "scanners",
		},

		// The operator's allow list overrides everything except their deny list.
		"allow and deny": {said: map[string]provider.Verdict{"allow": benign, "deny": malicious}, verdict: malicious, conflict: true},
		"allow and deny and scanner and abuseipdb": {
			said:    map[string]provider.Verdict{"allow": benign, "deny": malicious, "scanners": benign, "abuseipdb": malicious},
			verdict: malicious, conflict: true, outranks: "allow deny",
		},

		// Rank alone never silences a harmful opinion.
		"drop":                    {said: map[string]provider.Verdict{"drop": malicious}, verdict: malicious},
		"deny as a suspicion":     {said: map[string]provider.Verdict{"deny": suspicious, "abuseipdb": malicious}, verdict: malicious},
		"feodo's history":         {said: map[string]provider.Verdict{"feodo": suspicious, "abuseipdb": malicious}, verdict: malicious},
		"threatfox and greynoise": {said: map[string]provider.Verdict{"threatfox": malicious, "greynoise": benign}, verdict: malicious, outranks: "threatfox"},
		"outranked itself":        {said: map[string]provider.Verdict{"deny": malicious, "scanners": benign, "ipsum": suspicious}, verdict: malicious, outranks: "deny"},
		"the same rank contradicts": {
			said: map[string]provider.Verdict{"greynoise": benign, "abuseipdb": malicious}, verdict: malicious, weighted: suspicious, conflict: true,
		},

		// What is stale silences nothing, unless it is the operator's.
		"old scanner list": {
			said: map[string]provider.Verdict{"scanners": benign, "abuseipdb": malicious}, stale: []string{"scanners"},
			verdict: malicious, weighted: suspicious, conflict: true,
		},
		"old allow list": {
			said: map[string]provider.Verdict{"allow": benign, "threatfox": malicious}, stale: []string{"allow"},
			verdict: benign, outranks: "allow",
		},
		"threatfox is down, and there is a scanner": {
			said: map[string]provider.Verdict{"scanners": benign, "threatfox": malicious}, stale: []string{"threatfox"},
			verdict: malicious, conflict: true,
		},
		"threatfox is down": {
			said: map[string]provider.Verdict{"greynoise": benign, "threatfox": malicious}, stale: []string{"threatfox"},
			verdict: malicious, conflict: true,
		},

		// A list from one sensor is one witness, and so is its copy.
		"ipsum and blocklist.de": {said: map[string]provider.Verdict{"ipsum": suspicious, "blocklist_de": suspicious}, verdict: suspicious},
		"ipsum":                  {said: map[string]provider.Verdict{"ipsum": suspicious, "blocklist_de": none}, verdict: suspicious},
	} {
		t.Run(name, func(t *testing.T) {
			var evidence []aggregate.Evidence
			for source, v := range tt.said {
				e := of(ranks[source], fresh(source, v))
				for _, name := range tt.stale {
					e.Stale = e.Stale || name == source
				}
				evidence = append(evidence, e)
			}
			for _, p := range []aggregate.Policy{aggregate.Strongest{}, aggregate.Weighted{}} {
				verdict, conflict := tt.verdict, tt.conflict
				if _, ok := p.(aggregate.Weighted); ok && tt.weighted != none {
					verdict = tt.weighted
					conflict = conflict && verdict != benign
				}
				d := p.Decide(evidence, now)
				require.Equal(t, verdict, d.Verdict, "%s: %s", p.Name(), d)
				require.Equal(t, conflict, d.Conflict, "%s: %s", p.Name(), d)
				if conflict {
					require.Contains(t, d.String(), ", in conflict with ")
				}
				by := map[string]bool{}
				for _, r := range d.Reasons {
					if r.Ignored == aggregate.Outranked {
						by[r.By] = true
						require.Contains(t, tt.outranks, r.By, "%s: %s", p.Name(), d)
					}
				}
				require.Equal(t, tt.outranks != "", len(by) > 0, "%s: %s", p.Name(), d)
			}
		})
	}
}

// A copy is no second witness: it gives way while a source of it has an
// opinion, and counts when none has.
func TestOneWitness(t *testing.T) {
	blocklist := of(ranks["blocklist_de"], fresh("blocklist_de", suspicious))
	ipsum := of(ranks["ipsum"], fresh("ipsum", suspicious))
	alone := aggregate.Weighted{}.Decide([]aggregate.Evidence{blocklist}, now)
	both := aggregate.Weighted{}.Decide([]aggregate.Evidence{blocklist, ipsum}, now)
	require.Equal(t, alone.Score, both.Score)
	require.Equal(t, []string{"blocklist_de"}, decisive(both))
	require.Equal(t, "suspicious: blocklist_de (suspicious) decides; ipsum (suspicious) only repeats its sources", both.String())

	d := aggregate.Weighted{}.Decide([]aggregate.Evidence{ipsum}, now)
	require.Equal(t, []string{"ipsum"}, decisive(d))

	// With the same names as independent sources they are two.
	blocklist.Profile, ipsum.Profile = provider.Profile{}, provider.Profile{}
	require.Greater(t, aggregate.Weighted{}.Decide([]aggregate.Evidence{blocklist, ipsum}, now).Score, both.Score)
}

func TestFingerprint(t *testing.T) {
	p := aggregate.Strongest{}
	all := func() map[string]provider.Profile {
		return map[string]provider.Profile{
			"a": {Confidence: 0.5, Group: "g", DerivedFrom: []string{"x", "y"}, Rank: 1}, "b": {Confidence: 0.5},
		}
	}
	none := map[string]provider.Profile{"a": {}, "b": {Local: true, NoRepublish: true, DerivedFrom: []string{}}}
	require.Equal(t, p.Name(), aggregate.Fingerprint(p, nil))
	require.Equal(t, p.Name(), aggregate.Fingerprint(p, none))

	is := aggregate.Fingerprint(p, all())
	require.Regexp(t, `^strongest/2@[0-9a-f]{8}$`, is)
	require.NotEqual(t, is, aggregate.Fingerprint(aggregate.Weighted{}, all()))
	require.NotEqual(t, aggregate.Fingerprint(aggregate.Weighted{HalfLife: time.Hour}, all()), aggregate.Fingerprint(aggregate.Weighted{}, all()))
	with := func(name string, change func(p *provider.Profile)) string {
		profiles := all()
		f := profiles[name]
		change(&f)
		profiles[name] = f
		return aggregate.Fingerprint(p, profiles)
	}
	for range 20 { // whatever the order of the map
		require.Equal(t, is, with("c", func(*provider.Profile) {}))
	}
	for what, same := range map[string]string{
		"local":     with("a", func(p *provider.Profile) { p.Local = true }),
		"republish": with("b", func(p *provider.Profile) { p.NoRepublish = true }),
		"order":     with("a", func(p *provider.Profile) { p.DerivedFrom = []string{"y", "x", "y"} }),
	} {
		require.Equal(t, is, same, what)
	}
	seen := map[string]string{is: "the first"}
	for what, another := range map[string]string{
		"confidence": with("a", func(p *provider.Profile) { p.Confidence = 0.6 }),
		"group":      with("a", func(p *provider.Profile) { p.Group = "h" }),
		"none":       with("a", func(p *provider.Profile) { p.Group = "" }),
		"derivation": with("a", func(p *provider.Profile) { p.DerivedFrom = []string{"x"} }),
		"one name":   with("a", func(p *provider.Profile) { p.DerivedFrom = []string{`x" "y`} }),
		"rank":       with("a", func(p *provider.Profile) { p.Rank = 2 }),
		"other":      with("b", func(p *provider.Profile) { p.Rank = 1 }),
		"another":    with("c", func(p *provider.Profile) { p.Rank = 1 }),
		"not b":      with("b", func(p *provider.Profile) { *p = provider.Profile{} }),
	} {
		require.NotContains(t, seen, another, "%s has the fingerprint of %s", what, seen[another])
		seen[another] = what
	}

	// What is stored today is to be recognized by later versions.
	require.Equal(t, "strongest/2@91e87593", is)
}
