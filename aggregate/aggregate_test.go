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

// ranked returns the evidence as that of a source of the given rank.
func ranked(rank int, e aggregate.Evidence) aggregate.Evidence {
	e.Profile.Rank = rank
	return e
}

// own returns an opinion of the operator's.
func own(name string, v provider.Verdict) aggregate.Evidence {
	return ranked(provider.RankOperator, says(name, v))
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
		evidence []aggregate.Evidence
		verdict  provider.Verdict
		conflict bool
		decisive []string
	}{
		"nothing":             {nil, none, false, []string{}},
		"no opinion":          {[]aggregate.Evidence{says("a", none), says("b", none)}, none, false, []string{}},
		"unknown":             {[]aggregate.Evidence{says("a", unknown)}, unknown, false, []string{"a"}},
		"unknown over none":   {[]aggregate.Evidence{says("a", none), says("b", unknown)}, unknown, false, []string{"b"}},
		"benign over unknown": {[]aggregate.Evidence{says("a", benign), says("b", unknown)}, benign, false, []string{"a"}},
		"suspicious over benign": {
			[]aggregate.Evidence{says("a", benign), says("b", suspicious)}, suspicious, true, []string{"b"},
		},
		"malicious over all": {
			[]aggregate.Evidence{says("a", suspicious), says("b", malicious), says("c", benign), says("d", unknown), says("e", none)},
			malicious, true, []string{"b"},
		},
		"several agree": {
			[]aggregate.Evidence{says("a", malicious), says("b", benign), says("c", malicious)},
			malicious, true, []string{"a", "c"},
		},
		"malicious and suspicious are no conflict": {
			[]aggregate.Evidence{says("a", malicious), says("b", suspicious)}, malicious, false, []string{"a"},
		},
		"stale counts": {
			[]aggregate.Evidence{stale(says("a", malicious)), says("b", benign)}, malicious, true, []string{"a"},
		},

		"operator clears": {
			[]aggregate.Evidence{says("a", malicious), own("allow", benign)}, benign, false, []string{"allow"},
		},
		"operator condemns": {
			[]aggregate.Evidence{says("a", benign), own("deny", malicious)}, malicious, false, []string{"deny"},
		},
		"operator agrees with others": {
			[]aggregate.Evidence{says("a", malicious), own("deny", malicious)}, malicious, false, []string{"a", "deny"},
		},
		"operator without opinion": {
			[]aggregate.Evidence{says("a", malicious), own("allow", none)}, malicious, false, []string{"a"},
		},
		"operator who cannot tell": {
			[]aggregate.Evidence{says("a", benign), own("allow", unknown)}, benign, false, []string{"a"},
		},
		"operator alone cannot tell": {
			[]aggregate.Evidence{own("allow", unknown)}, unknown, false, []string{"allow"},
		},
		"one list of the operator cannot tell, the other can": {
			[]aggregate.Evidence{says("a", malicious), own("allow", benign), own("deny", unknown)},
			benign, false, []string{"allow"},
		},
		"strongest of the operator's lists": {
			[]aggregate.Evidence{own("allow", benign), own("deny", suspicious), says("a", malicious)},
			suspicious, true, []string{"deny"},
		},
		"operator's suspicion silences no conviction": {
			[]aggregate.Evidence{own("watch", suspicious), says("a", malicious), says("b", benign)},
			malicious, false, []string{"a"},
		},
		"stale list of the operator": {
			[]aggregate.Evidence{stale(own("allow", benign)), says("a", malicious)}, benign, false, []string{"allow"},
		},
		"rank that makes no sense is none": {
			[]aggregate.Evidence{ranked(7, says("a", benign)), ranked(-1, says("b", malicious))}, malicious, true, []string{"b"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := aggregate.Strongest{}.Decide(tt.evidence, now)
			require.Equal(t, tt.verdict, d.Verdict)
			require.Equal(t, tt.conflict, d.Conflict)
			require.Equal(t, tt.decisive, decisive(d))
			require.Equal(t, "strongest/2", d.Policy)
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
		Verdict: malicious, Policy: "strongest/2", Conflict: true,
		Reasons: []aggregate.Reason{
			{Provider: "abuseipdb", Verdict: unknown, ObservedAt: now.Add(-time.Hour), Age: time.Hour},
			{Provider: "greynoise", Verdict: benign, ObservedAt: now.Add(-48 * time.Hour), Age: 48 * time.Hour, Stale: true},
			{Provider: "threatfox", Verdict: malicious, ObservedAt: now.Add(-time.Hour), Age: time.Hour, Decisive: true},
		},
	}, d)

	d = aggregate.Strongest{}.Decide([]aggregate.Evidence{
		ranked(provider.RankVerified, says("threatfox", malicious)), old,
	}, now)
	require.Equal(t, aggregate.Decision{
		Verdict: malicious, Policy: "strongest/2",
		Reasons: []aggregate.Reason{
			{
				Provider: "greynoise", Verdict: benign, ObservedAt: now.Add(-48 * time.Hour), Age: 48 * time.Hour, Stale: true,
				Ignored: aggregate.Outranked, By: "threatfox",
			},
			{Provider: "threatfox", Verdict: malicious, ObservedAt: now.Add(-time.Hour), Age: time.Hour, Rank: 1, Decisive: true},
		},
	}, d)
}

func TestNothingKnown(t *testing.T) {
	d := aggregate.Strongest{}.Decide([]aggregate.Evidence{says("feodo", none)}, now)
	require.Equal(t, aggregate.Decision{Policy: "strongest/2"}, d, "an absence of opinion is no reason")
}

// randomEvidence returns findings of up to six providers of all ranks.
func randomEvidence(rnd *rand.Rand) []aggregate.Evidence {
	var evidence []aggregate.Evidence
	for _, name := range []string{"a", "b", "c", "d", "e", "f"} {
		if rnd.IntN(3) == 0 {
			continue
		}
		e := ranked(rnd.IntN(3), says(name, provider.Verdict(rnd.IntN(5))))
		e.Stale = rnd.IntN(2) == 0
		e.Finding.ObservedAt = now.Add(-time.Duration(rnd.IntN(100)) * time.Hour)
		evidence = append(evidence, e)
	}
	return evidence
}

// silenced reports whether an opinion of the evidence is silenced, by the rules
// as the package documents them.
func silenced(evidence []aggregate.Evidence, e *aggregate.Evidence) bool {
	return slices.ContainsFunc(evidence, func(by aggregate.Evidence) bool {
		contradicts := by.Finding.Verdict > unknown && e.Finding.Verdict > unknown &&
			(by.Finding.Verdict == benign) != (e.Finding.Verdict == benign)
		mute := by.Stale && by.Profile.Rank != provider.RankOperator
		return contradicts && !mute && by.Profile.Rank > e.Profile.Rank && !silenced(evidence, &by)
	})
}

// counted returns the evidence that is not silenced.
func counted(evidence []aggregate.Evidence) []aggregate.Evidence {
	return slices.DeleteFunc(slices.Clone(evidence), func(e aggregate.Evidence) bool { return silenced(evidence, &e) })
}

// undated returns the decision without the ages of its reasons.
func undated(d aggregate.Decision) aggregate.Decision {
	d.Reasons = slices.Clone(d.Reasons)
	for i := range d.Reasons {
		d.Reasons[i].Age = 0
	}
	return d
}

func TestStrongestProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 5000 {
		p, evidence := aggregate.Strongest{}, randomEvidence(rnd)
		before := make([]provider.Finding, len(evidence))
		for i, e := range evidence {
			before[i] = *e.Finding
		}
		order := slices.Clone(evidence)
		d := p.Decide(evidence, now)

		// It is the strongest opinion of those that count, and a conflict if there
		// is a benign one beside it.
		want, conflict := none, false
		for _, e := range counted(evidence) {
			want = max(want, e.Finding.Verdict)
		}
		for _, e := range counted(evidence) {
			conflict = conflict || want > benign && e.Finding.Verdict == benign
		}
		require.Equal(t, want, d.Verdict, "%#v", d)
		require.Equal(t, conflict, d.Conflict, "%#v", d)

		// Every opinion is a reason, as it was given, and nothing else is.
		opinions := slices.DeleteFunc(slices.Clone(evidence), func(e aggregate.Evidence) bool {
			return e.Finding.Verdict == none
		})
		require.Len(t, d.Reasons, len(opinions))
		for i, e := range opinions { // evidence is made in order of name
			r := d.Reasons[i]
			require.Equal(t, aggregate.Reason{
				Provider: e.Finding.Provider, Verdict: e.Finding.Verdict, ObservedAt: e.Finding.ObservedAt,
				Stale: e.Stale, Age: now.Sub(e.Finding.ObservedAt), Rank: e.Profile.Rank,
				Decisive: r.Decisive, Ignored: r.Ignored, By: r.By,
			}, r)
			require.Equal(t, silenced(evidence, &e), r.Ignored == aggregate.Outranked)
			require.Equal(t, r.Ignored == "", r.By == "")
			require.False(t, r.Decisive && r.Ignored != "")
		}

		// A verdict has a decisive reason; without all decisive ones it is another.
		require.Equal(t, d.Verdict != none, len(decisive(d)) > 0)
		if d.Verdict != none {
			rest := slices.DeleteFunc(slices.Clone(evidence), func(e aggregate.Evidence) bool {
				return slices.Contains(decisive(d), e.Finding.Provider)
			})
			require.NotEqual(t, d.Verdict, p.Decide(rest, now).Verdict)
		}

		// A provider that failed is no evidence, and one without an opinion adds
		// nothing.
		mute := append(slices.Clone(evidence), ranked(provider.RankOperator, says("g", none)))
		require.Equal(t, d, p.Decide(mute, now))

		// A benign opinion more never makes the verdict harmful, and a harmful one
		// more never makes a harmful verdict benign or weaker.
		rank := rnd.IntN(3)
		if d.Verdict <= benign {
			require.LessOrEqual(t, p.Decide(append(slices.Clone(evidence), ranked(rank, says("g", benign))), now).Verdict, benign)
		} else {
			for _, v := range []provider.Verdict{suspicious, malicious} {
				require.LessOrEqual(t, d.Verdict, p.Decide(append(slices.Clone(evidence), ranked(rank, says("g", v))), now).Verdict)
			}
		}

		// It depends on nothing but the evidence, and leaves that alone. Time only
		// makes the reasons older.
		require.Equal(t, undated(d), undated(p.Decide(evidence, now.Add(1000*time.Hour))))
		require.Equal(t, order, evidence)
		for i, e := range evidence {
			require.Equal(t, before[i], *e.Finding)
		}
		rnd.Shuffle(len(evidence), func(i, j int) { evidence[i], evidence[j] = evidence[j], evidence[i] })
		require.Equal(t, d, p.Decide(evidence, now))
	}
}

// Staleness changes what is explained, never what is decided, except that what
// is stale and not the operator's silences nothing.
func TestStaleDecidesLikeFresh(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 1000 {
		p, evidence := aggregate.Strongest{}, randomEvidence(rnd)
		for i := range evidence {
			if evidence[i].Profile.Rank == provider.RankVerified {
				evidence[i].Profile.Rank = provider.RankReputation
			}
		}
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
