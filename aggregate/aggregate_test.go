package aggregate_test

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

const (
	none       = provider.None
	unknown    = provider.Unknown
	benign     = provider.Benign
	suspicious = provider.Suspicious
	malicious  = provider.Malicious
)

var now = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func says(name string, v provider.Verdict) aggregate.Evidence {
	return aggregate.Evidence{Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-time.Hour)}}
}

func stale(e aggregate.Evidence) aggregate.Evidence {
	e.Stale = true
	return e
}

// decisive returns the names of the providers whose opinion was.
func decisive(d aggregate.Decision) []string {
	names := []string{}
	for _, r := range d.Reasons {
		if r.Decisive {
			names = append(names, r.Provider)
		}
	}
	return names
}

func TestStrongest(t *testing.T) {
	for name, tt := range map[string]struct {
		authoritative []string
		evidence      []aggregate.Evidence
		verdict       provider.Verdict
		decisive      []string
	}{
		"nothing":             {nil, nil, none, []string{}},
		"no opinion":          {nil, []aggregate.Evidence{says("a", none), says("b", none)}, none, []string{}},
		"unknown":             {nil, []aggregate.Evidence{says("a", unknown)}, unknown, []string{"a"}},
		"unknown over none":   {nil, []aggregate.Evidence{says("a", none), says("b", unknown)}, unknown, []string{"b"}},
		"benign over unknown": {nil, []aggregate.Evidence{says("a", benign), says("b", unknown)}, benign, []string{"a"}},
		"suspicious over benign": {
			nil, []aggregate.Evidence{says("a", benign), says("b", suspicious)}, suspicious, []string{"b"},
		},
		"malicious over all": {
			nil,
			[]aggregate.Evidence{says("a", suspicious), says("b", malicious), says("c", benign), says("d", unknown), says("e", none)},
			malicious, []string{"b"},
		},
		"several agree": {
			nil, []aggregate.Evidence{says("a", malicious), says("b", benign), says("c", malicious)},
			malicious, []string{"a", "c"},
		},
		"stale counts": {
			nil, []aggregate.Evidence{stale(says("a", malicious)), says("b", benign)}, malicious, []string{"a"},
		},

		"authority clears": {
			[]string{"allow"}, []aggregate.Evidence{says("a", malicious), says("allow", benign)}, benign, []string{"allow"},
		},
		"authority condemns": {
			[]string{"deny"}, []aggregate.Evidence{says("a", benign), says("deny", malicious)}, malicious, []string{"deny"},
		},
		"authority agrees with others": {
			[]string{"deny"}, []aggregate.Evidence{says("a", malicious), says("deny", malicious)}, malicious, []string{"deny"},
		},
		"authority without opinion": {
			[]string{"allow"}, []aggregate.Evidence{says("a", malicious), says("allow", none)}, malicious, []string{"a"},
		},
		"authority that cannot tell": {
			[]string{"allow"}, []aggregate.Evidence{says("a", benign), says("allow", unknown)}, benign, []string{"a"},
		},
		"authority alone cannot tell": {
			[]string{"allow"}, []aggregate.Evidence{says("allow", unknown)}, unknown, []string{"allow"},
		},
		"one authority cannot tell, the other can": {
			[]string{"allow", "deny"}, []aggregate.Evidence{says("a", malicious), says("allow", benign), says("deny", unknown)},
			benign, []string{"allow"},
		},
		"strongest of the authorities": {
			[]string{"allow", "deny"}, []aggregate.Evidence{says("allow", benign), says("deny", suspicious), says("a", malicious)},
			suspicious, []string{"deny"},
		},
		"stale authority": {
			[]string{"allow"}, []aggregate.Evidence{stale(says("allow", benign)), says("a", malicious)}, benign, []string{"allow"},
		},
		"authority that was not asked": {
			[]string{"allow"}, []aggregate.Evidence{says("a", suspicious)}, suspicious, []string{"a"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := aggregate.Strongest{Authoritative: tt.authoritative}.Decide(tt.evidence, now)
			require.Equal(t, tt.verdict, d.Verdict)
			require.Equal(t, tt.decisive, decisive(d))
			require.Equal(t, "strongest/1", d.Policy)
		})
	}
}

func TestReasons(t *testing.T) {
	old := stale(says("greynoise", benign))
	old.Finding.ObservedAt = now.Add(-48 * time.Hour)
	d := aggregate.Strongest{}.Decide([]aggregate.Evidence{
		says("threatfox", malicious), old, says("feodo", none), says("abuseipdb", unknown),
	}, now)
	require.Equal(t, aggregate.Decision{
		Verdict: malicious,
		Policy:  "strongest/1",
		Reasons: []aggregate.Reason{
			{Provider: "abuseipdb", Verdict: unknown, ObservedAt: now.Add(-time.Hour)},
			{Provider: "greynoise", Verdict: benign, ObservedAt: now.Add(-48 * time.Hour), Stale: true},
			{Provider: "threatfox", Verdict: malicious, ObservedAt: now.Add(-time.Hour), Decisive: true},
		},
	}, d)
}

func TestNothingKnown(t *testing.T) {
	d := aggregate.Strongest{}.Decide([]aggregate.Evidence{says("feodo", none)}, now)
	require.Equal(t, aggregate.Decision{Policy: "strongest/1"}, d, "an absence of opinion is no reason")
}

// randomEvidence returns findings of up to six providers.
func randomEvidence(rnd *rand.Rand) []aggregate.Evidence {
	var evidence []aggregate.Evidence
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		if rnd.IntN(3) == 0 {
			continue
		}
		e := says(name, provider.Verdict(rnd.IntN(5)))
		e.Stale = rnd.IntN(2) == 0
		e.Finding.ObservedAt = now.Add(-time.Duration(rnd.IntN(100)) * time.Hour)
		evidence = append(evidence, e)
	}
	return evidence
}

func randomPolicy(rnd *rand.Rand) aggregate.Strongest {
	return aggregate.Strongest{Authoritative: [][]string{nil, {"a"}, {"c", "a"}, {"nobody"}}[rnd.IntN(4)]}
}

// counted returns the evidence that decides by the definition of the policy.
func counted(p aggregate.Strongest, evidence []aggregate.Evidence) []aggregate.Evidence {
	var authorities []aggregate.Evidence
	for _, e := range evidence {
		if slices.Contains(p.Authoritative, e.Finding.Provider) && e.Finding.Verdict > unknown {
			authorities = append(authorities, e)
		}
	}
	if authorities != nil {
		return authorities
	}
	return evidence
}

func TestStrongestProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		p, evidence := randomPolicy(rnd), randomEvidence(rnd)
		before := make([]provider.Finding, len(evidence))
		for i, e := range evidence {
			before[i] = *e.Finding
		}
		order := slices.Clone(evidence)
		d := p.Decide(evidence, now)

		// It is the strongest opinion of those that count.
		want := none
		for _, e := range counted(p, evidence) {
			want = max(want, e.Finding.Verdict)
		}
		require.Equal(t, want, d.Verdict, "%v decided %+v", p, d)

		// Every opinion is a reason, told as it was, and nothing else is.
		opinions := slices.DeleteFunc(slices.Clone(evidence), func(e aggregate.Evidence) bool {
			return e.Finding.Verdict == none
		})
		require.Len(t, d.Reasons, len(opinions))
		for i, e := range opinions { // evidence is made in order of name
			r := d.Reasons[i]
			require.Equal(t, aggregate.Reason{
				Provider: e.Finding.Provider, Verdict: e.Finding.Verdict,
				ObservedAt: e.Finding.ObservedAt, Stale: e.Stale, Decisive: r.Decisive,
			}, r)
		}

		// A verdict has a decisive reason; without all decisive ones it is another.
		require.Equal(t, d.Verdict != none, len(decisive(d)) > 0)
		if d.Verdict != none {
			rest := slices.DeleteFunc(slices.Clone(evidence), func(e aggregate.Evidence) bool {
				return slices.Contains(decisive(d), e.Finding.Provider)
			})
			if len(counted(p, evidence)) == len(evidence) {
				require.NotEqual(t, d.Verdict, p.Decide(rest, now).Verdict)
			}
		}

		// It depends on nothing but the evidence, and leaves that alone.
		require.Equal(t, d, p.Decide(evidence, now.Add(1000*time.Hour)))
		require.Equal(t, order, evidence)
		for i, e := range evidence {
			require.Equal(t, before[i], *e.Finding)
		}
		rnd.Shuffle(len(evidence), func(i, j int) { evidence[i], evidence[j] = evidence[j], evidence[i] })
		require.Equal(t, d, p.Decide(evidence, now))
	}
}

// Staleness changes what is told, never what is decided.
func TestStaleDecidesLikeFresh(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		p, evidence := randomPolicy(rnd), randomEvidence(rnd)
		fresh := slices.Clone(evidence)
		for i := range fresh {
			fresh[i].Stale = false
		}
		got, want := p.Decide(evidence, now), p.Decide(fresh, now)
		require.Equal(t, want.Verdict, got.Verdict)
		require.Equal(t, decisive(want), decisive(got))
	}
}

func BenchmarkStrongest(b *testing.B) {
	evidence := []aggregate.Evidence{
		says("greynoise", unknown), says("abuseipdb", suspicious), says("feodo", none), says("threatfox", malicious),
	}
	b.ReportAllocs()
	for b.Loop() {
		aggregate.Strongest{}.Decide(evidence, now)
	}
}
