package aggregate_test

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

const day = 24 * time.Hour

// profiles are those of the sources in these tests. They are without ranks, so
// that opinions are weighed; TestPrecedence is about ranks.
var profiles = map[string]provider.Profile{
	"feodo":     {Confidence: 0.95, Group: "abuse_ch"},
	"threatfox": {Confidence: 0.9, Group: "abuse_ch"},
	"greynoise": {Confidence: 0.8},
	"abuseipdb": {Confidence: 0.7},
}

// at returns an opinion of that age.
func at(age time.Duration, name string, v provider.Verdict) aggregate.Evidence {
	return aggregate.Evidence{
		Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-age)},
		Profile: profiles[name],
	}
}

func fresh(name string, v provider.Verdict) aggregate.Evidence { return at(0, name, v) }

// of returns the evidence as that of a source with another profile.
func of(p provider.Profile, e aggregate.Evidence) aggregate.Evidence {
	e.Profile = p
	return e
}

// operator returns the evidence as the operator's.
func operator(e aggregate.Evidence) aggregate.Evidence { return ranked(provider.RankOperator, e) }

func TestWeighted(t *testing.T) {
	for name, tt := range map[string]struct {
		policy   aggregate.Weighted
		evidence []aggregate.Evidence
		verdict  provider.Verdict
		score    float64
		conflict bool
		decisive []string
	}{
		"nothing":    {},
		"no opinion": {evidence: []aggregate.Evidence{fresh("feodo", none), fresh("threatfox", none)}},
		"unknown": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", unknown), fresh("feodo", none)},
			verdict:  unknown, decisive: []string{"abuseipdb"},
		},
		"one that is trusted": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), fresh("greynoise", unknown)},
			verdict:  malicious, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"one that is not known": {
			evidence: []aggregate.Evidence{fresh("custom", malicious)},
			verdict:  suspicious, score: 0.4, decisive: []string{"custom"},
		},
		"two that are not known": {
			evidence: []aggregate.Evidence{fresh("custom", malicious), fresh("other", malicious)},
			verdict:  malicious, score: 0.64, decisive: []string{"custom", "other"},
		},
		"independent witnesses": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), fresh("greynoise", malicious)},
			verdict:  malicious, score: 0.94, decisive: []string{"abuseipdb", "greynoise"},
		},
		"suspicions do not convict": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", suspicious), fresh("feodo", suspicious), fresh("greynoise", suspicious)},
			verdict:  suspicious, score: 0.795, decisive: []string{"abuseipdb", "feodo", "greynoise"},
		},
		"one voice of a group": {
			evidence: []aggregate.Evidence{fresh("feodo", malicious), fresh("threatfox", malicious)},
			verdict:  malicious, score: 0.95, decisive: []string{"feodo"},
		},
		"the weightier voice of a group": {
			evidence: []aggregate.Evidence{fresh("feodo", suspicious), fresh("threatfox", malicious)},
			verdict:  malicious, score: 0.9, decisive: []string{"threatfox"},
		},
		"the first of equal voices": {
			evidence: []aggregate.Evidence{
				of(provider.Profile{Group: "copies"}, fresh("b", malicious)), of(provider.Profile{Group: "copies"}, fresh("a", malicious)),
			},
			verdict: suspicious, score: 0.4, decisive: []string{"a"},
		},
		"a group that disagrees with itself": {
			policy: aggregate.Weighted{DefaultConfidence: 0.6},
			evidence: []aggregate.Evidence{
				of(provider.Profile{Group: "x"}, fresh("a", malicious)), of(provider.Profile{Group: "x"}, fresh("b", benign)),
				of(provider.Profile{Group: "x"}, fresh("c", benign)),
			},
			verdict: suspicious, score: 0, conflict: true, decisive: []string{"a"},
		},
		"a group that calls it benign": {
			policy: aggregate.Weighted{DefaultConfidence: 0.6},
			evidence: []aggregate.Evidence{
				of(provider.Profile{Group: "x"}, at(time.Hour, "a", benign)), of(provider.Profile{Group: "x"}, fresh("b", benign)),
			},
			verdict: benign, score: -0.6, decisive: []string{"b"},
		},
		"a group taken apart": {
			evidence: []aggregate.Evidence{of(provider.Profile{Confidence: 0.95}, fresh("feodo", malicious)), fresh("threatfox", malicious)},
			verdict:  malicious, score: 0.995, decisive: []string{"feodo", "threatfox"},
		},
		"half of it after a half-life": {
			evidence: []aggregate.Evidence{at(14*day, "abuseipdb", malicious)},
			verdict:  suspicious, score: 0.35, decisive: []string{"abuseipdb"},
		},
		"another half-life": {
			policy:   aggregate.Weighted{HalfLife: time.Hour},
			evidence: []aggregate.Evidence{at(3*time.Hour, "abuseipdb", malicious)},
			verdict:  unknown, score: 0.088, decisive: []string{"abuseipdb"},
		},
		"all its weight gone": {
			evidence: []aggregate.Evidence{at(365*day, "abuseipdb", malicious), fresh("feodo", none)},
			verdict:  unknown, decisive: []string{"abuseipdb"},
		},
		"from the future": {
			evidence: []aggregate.Evidence{at(-day, "abuseipdb", malicious)},
			verdict:  malicious, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"of no time": {
			evidence: []aggregate.Evidence{{Finding: &provider.Finding{Provider: "abuseipdb", Verdict: malicious}}},
			verdict:  unknown, decisive: []string{"abuseipdb"},
		},
		"benign": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), fresh("abuseipdb", unknown)},
			verdict:  benign, score: -0.8, decisive: []string{"greynoise"},
		},
		"benign once": {
			evidence: []aggregate.Evidence{at(14*day, "greynoise", benign)},
			verdict:  unknown, score: -0.4, decisive: []string{"greynoise"},
		},
		"benign against a faint suspicion": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), at(14*day, "abuseipdb", suspicious)},
			verdict:  benign, score: -0.625, decisive: []string{"greynoise"},
		},
		"benign against a suspicion": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), fresh("abuseipdb", suspicious)},
			verdict:  unknown, score: -0.45, decisive: []string{"abuseipdb", "greynoise"},
		},
		"strong evidence both ways": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), fresh("abuseipdb", malicious)},
			verdict:  suspicious, score: -0.1, conflict: true, decisive: []string{"abuseipdb"},
		},
		"strong evidence of harm outlives any defence": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), fresh("abuseipdb", benign), fresh("feodo", malicious)},
			verdict:  suspicious, score: 0.01, conflict: true, decisive: []string{"feodo"},
		},
		"malicious and suspicious are no conflict": {
			evidence: []aggregate.Evidence{fresh("greynoise", suspicious), fresh("abuseipdb", malicious)},
			verdict:  malicious, score: 0.82, decisive: []string{"abuseipdb", "greynoise"},
		},
		"other thresholds": {
			policy:   aggregate.Weighted{Malicious: 0.9, Suspicious: 0.8, Benign: 0.9},
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious)},
			verdict:  unknown, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"exactly malicious": {
			policy:   aggregate.Weighted{DefaultConfidence: 0.5},
			evidence: []aggregate.Evidence{fresh("custom", malicious)},
			verdict:  malicious, score: 0.5, decisive: []string{"custom"},
		},
		"exactly suspicious": {
			policy:   aggregate.Weighted{DefaultConfidence: 0.3},
			evidence: []aggregate.Evidence{fresh("custom", suspicious)},
			verdict:  suspicious, score: 0.15, decisive: []string{"custom"},
		},
		"exactly benign": {
			policy:   aggregate.Weighted{DefaultConfidence: 0.5},
			evidence: []aggregate.Evidence{fresh("custom", benign)},
			verdict:  benign, score: -0.5, decisive: []string{"custom"},
		},
		"exactly strong": { // in binary, 1 - 0.9*0.9 is less than 0.19
			policy: aggregate.Weighted{Malicious: 0.19},
			evidence: []aggregate.Evidence{
				of(provider.Profile{Confidence: 0.1}, fresh("a", malicious)), of(provider.Profile{Confidence: 0.1}, fresh("b", malicious)),
				of(provider.Profile{Confidence: 0.5}, fresh("c", benign)),
			},
			verdict: suspicious, score: -0.31, conflict: true, decisive: []string{"a", "b"},
		},
		"no confidence": {
			policy:   aggregate.Weighted{DefaultConfidence: -1},
			evidence: []aggregate.Evidence{of(provider.Profile{Confidence: 0.0004}, fresh("abuseipdb", malicious)), fresh("custom", malicious)},
			verdict:  unknown, decisive: []string{"abuseipdb", "custom"},
		},

		"copy beside its source": {
			evidence: []aggregate.Evidence{
				fresh("b", malicious), of(provider.Profile{Confidence: 0.9, DerivedFrom: []string{"x", "b"}}, fresh("a", malicious)),
			},
			verdict: suspicious, score: 0.4, decisive: []string{"b"},
		},
		"copy of a source without an opinion": {
			evidence: []aggregate.Evidence{
				fresh("b", unknown), fresh("c", none), of(provider.Profile{Confidence: 0.9, DerivedFrom: []string{"b", "c"}}, fresh("a", malicious)),
			},
			verdict: malicious, score: 0.9, decisive: []string{"a"},
		},
		"copy of a source that disagrees": {
			evidence: []aggregate.Evidence{
				fresh("greynoise", benign), of(provider.Profile{Confidence: 0.9, DerivedFrom: []string{"greynoise"}}, fresh("a", malicious)),
			},
			verdict: benign, score: -0.8, decisive: []string{"greynoise"},
		},
		"copy of a source whose opinion has no weight left": {
			evidence: []aggregate.Evidence{
				at(365*day, "b", malicious), of(provider.Profile{DerivedFrom: []string{"b"}}, fresh("a", malicious)),
			},
			verdict: suspicious, score: 0.4, decisive: []string{"a"},
		},
		"copy of a copy": {
			evidence: []aggregate.Evidence{
				fresh("a", suspicious), of(provider.Profile{DerivedFrom: []string{"a"}}, fresh("b", suspicious)),
				of(provider.Profile{DerivedFrom: []string{"b"}}, fresh("c", suspicious)),
			},
			verdict: suspicious, score: 0.2, decisive: []string{"a"},
		},
		"copy silences nothing": {
			evidence: []aggregate.Evidence{
				fresh("abuseipdb", malicious), fresh("b", benign),
				of(provider.Profile{Rank: provider.RankVerified, DerivedFrom: []string{"b"}}, fresh("a", benign)),
			},
			verdict: suspicious, score: 0.3, decisive: []string{"abuseipdb"},
		},
		"copy that does not count is no voice of its group": {
			evidence: []aggregate.Evidence{
				fresh("b", malicious), of(provider.Profile{Confidence: 0.9, Group: "x", DerivedFrom: []string{"b"}}, fresh("a", malicious)),
				of(provider.Profile{Group: "x"}, fresh("c", malicious)),
			},
			verdict: malicious, score: 0.64, decisive: []string{"b", "c"},
		},
		"derived from itself": {
			evidence: []aggregate.Evidence{of(provider.Profile{DerivedFrom: []string{"a"}}, fresh("a", malicious))},
			verdict:  suspicious, score: 0.4, decisive: []string{"a"},
		},

		"verified harm outranks reputation": {
			evidence: []aggregate.Evidence{
				fresh("greynoise", benign), fresh("abuseipdb", benign), ranked(provider.RankVerified, fresh("feodo", suspicious)),
			},
			verdict: suspicious, score: 0.475, decisive: []string{"feodo"},
		},
		"verified harm that is stale outranks nothing and is not outvoted": {
			evidence: []aggregate.Evidence{
				fresh("greynoise", benign), stale(ranked(provider.RankVerified, at(2*day, "threatfox", malicious))),
			},
			verdict: malicious, score: 0.015, conflict: true, decisive: []string{"threatfox"},
		},
		"verified harm that has lost its weight is outvoted": {
			evidence: []aggregate.Evidence{
				ranked(provider.RankVerified, fresh("greynoise", benign)), ranked(provider.RankVerified, at(60*day, "threatfox", malicious)),
			},
			verdict: benign, score: -0.754, conflict: true, decisive: []string{"greynoise"},
		},

		"operator clears": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), operator(at(365*day, "allow", benign))},
			verdict:  benign, score: -1, decisive: []string{"allow"},
		},
		"operator condemns": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), of(provider.Profile{Confidence: 1e-9, Rank: provider.RankOperator}, fresh("deny", malicious))},
			verdict:  malicious, score: 1, decisive: []string{"deny"},
		},
		"operator suspects": {
			evidence: []aggregate.Evidence{fresh("greynoise", benign), operator(fresh("watch", suspicious)), operator(fresh("also", suspicious))},
			verdict:  suspicious, score: 1, decisive: []string{"also", "watch"},
		},
		"operator's suspicion silences no conviction": {
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), operator(fresh("watch", suspicious)), operator(fresh("also", suspicious))},
			verdict:  malicious, score: 1, decisive: []string{"abuseipdb"},
		},
		"most severe of the operator's lists": {
			evidence: []aggregate.Evidence{operator(fresh("watch", suspicious)), operator(fresh("deny", malicious))},
			verdict:  malicious, score: 1, decisive: []string{"deny"},
		},
		"operator's lists disagree": {
			evidence: []aggregate.Evidence{operator(fresh("allow", benign)), operator(fresh("deny", suspicious)), fresh("abuseipdb", malicious)},
			verdict:  suspicious, score: 0, conflict: true, decisive: []string{"deny"},
		},
		"operator who cannot tell": {
			evidence: []aggregate.Evidence{operator(fresh("allow", unknown)), fresh("abuseipdb", malicious)},
			verdict:  malicious, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"operator without opinion": {
			evidence: []aggregate.Evidence{operator(fresh("allow", none)), fresh("abuseipdb", malicious)},
			verdict:  malicious, score: 0.7, decisive: []string{"abuseipdb"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, tt.policy.Validate())
			d := tt.policy.Decide(tt.evidence, now)
			require.Equal(t, tt.verdict, d.Verdict)
			require.Equal(t, tt.score, d.Score)
			require.Equal(t, tt.conflict, d.Conflict)
			require.Equal(t, append([]string{}, tt.decisive...), decisive(d))
		})
	}
}

func TestWeightedExplains(t *testing.T) {
	d := aggregate.Weighted{}.Decide([]aggregate.Evidence{
		at(time.Hour+500*time.Millisecond, "threatfox", malicious), stale(at(14*day, "greynoise", benign)),
		fresh("feodo", malicious), fresh("abuseipdb", unknown), at(365*day, "custom", malicious), fresh("other", none),
	}, now)
	reason := func(name string, v provider.Verdict, age time.Duration) aggregate.Reason {
		return aggregate.Reason{Provider: name, Verdict: v, ObservedAt: now.Add(-age), Age: age}
	}
	want := aggregate.Decision{Verdict: malicious, Policy: "weighted/2", Score: 0.55}
	r := reason("abuseipdb", unknown, 0)
	r.Ignored = aggregate.NoOpinion
	want.Reasons = append(want.Reasons, r)
	r = reason("custom", malicious, 365*day)
	r.Ignored = aggregate.Weightless
	want.Reasons = append(want.Reasons, r)
	r = reason("feodo", malicious, 0)
	r.Weight, r.Group, r.Decisive = 0.95, "abuse_ch", true
	want.Reasons = append(want.Reasons, r)
	r = reason("greynoise", benign, 14*day)
	r.Weight, r.Stale = 0.4, true
	want.Reasons = append(want.Reasons, r)
	r = reason("other", none, 0)
	r.Ignored = aggregate.NoOpinion
	want.Reasons = append(want.Reasons, r)
	r = reason("threatfox", malicious, time.Hour+500*time.Millisecond)
	r.Age, r.Weight, r.Group, r.Ignored, r.By = time.Hour, 0.898, "abuse_ch", aggregate.Dependent, "feodo"
	want.Reasons = append(want.Reasons, r)
	require.Equal(t, want, d)

	d = aggregate.Weighted{}.Decide([]aggregate.Evidence{
		fresh("abuseipdb", malicious), operator(fresh("allow", benign)), fresh("custom", unknown),
		of(provider.Profile{DerivedFrom: []string{"b", "abuseipdb"}}, fresh("ipsum", suspicious)),
	}, now)
	require.Equal(t, []aggregate.Ignored{aggregate.Outranked, "", aggregate.NoOpinion, aggregate.Derived},
		[]aggregate.Ignored{d.Reasons[0].Ignored, d.Reasons[1].Ignored, d.Reasons[2].Ignored, d.Reasons[3].Ignored})
	require.Equal(t, []string{"allow", "", "", "abuseipdb"},
		[]string{d.Reasons[0].By, d.Reasons[1].By, d.Reasons[2].By, d.Reasons[3].By})
	require.Equal(t, 1., d.Reasons[1].Weight)
	require.Equal(t, provider.RankOperator, d.Reasons[1].Rank)
}

// sources are the providers of random evidence.
var sources = []string{"a", "abuseipdb", "allow", "b", "c", "feodo", "greynoise", "threatfox"}

func randomWeighted(rnd *rand.Rand) aggregate.Weighted {
	var p aggregate.Weighted
	if rnd.IntN(2) == 0 {
		p.DefaultConfidence = rnd.Float64()
		p.HalfLife = time.Duration(1 + rnd.Int64N(int64(30*day)))
		p.Malicious = 0.05 + 0.95*rnd.Float64()
		p.Suspicious = p.Malicious * (0.01 + 0.99*rnd.Float64())
		p.Benign = 0.05 + 0.95*rnd.Float64()
	}
	return p
}

// randomProfile returns the profile of the named source in these tests or one
// that is made up. Sources derive from those before them.
func randomProfile(rnd *rand.Rand, i int) provider.Profile {
	p := profiles[sources[i]]
	if rnd.IntN(2) == 0 {
		p.Confidence = rnd.Float64()
	}
	if rnd.IntN(3) == 0 {
		p.Group = []string{"", "x", "y"}[rnd.IntN(3)]
	}
	if rnd.IntN(3) == 0 {
		p.Rank = rnd.IntN(3)
	}
	if i > 0 && rnd.IntN(6) == 0 {
		p.DerivedFrom = []string{"nobody", sources[rnd.IntN(i)]}
	}
	return p
}

func randomFindings(rnd *rand.Rand) []aggregate.Evidence {
	var evidence []aggregate.Evidence
	for i, name := range sources {
		if rnd.IntN(5) < 2 {
			continue
		}
		e := at(time.Duration(rnd.Int64N(int64(40*day))), name, provider.Verdict(rnd.IntN(5)))
		e.Stale, e.Profile = rnd.IntN(2) == 0, randomProfile(rnd, i)
		evidence = append(evidence, e)
	}
	return evidence
}

// reasonOf returns the reason a decision has from the named provider.
func reasonOf(d aggregate.Decision, name string) *aggregate.Reason {
	for i := range d.Reasons {
		if d.Reasons[i].Provider == name {
			return &d.Reasons[i]
		}
	}
	return nil
}

// without returns the evidence but for what keep refuses.
func without(evidence []aggregate.Evidence, drop func(e aggregate.Evidence) bool) []aggregate.Evidence {
	return slices.DeleteFunc(slices.Clone(evidence), drop)
}

// changed returns the evidence with the i-th changed.
func changed(evidence []aggregate.Evidence, i int, change func(e *aggregate.Evidence)) []aggregate.Evidence {
	evidence = slices.Clone(evidence)
	f := *evidence[i].Finding
	evidence[i].Finding = &f
	change(&evidence[i])
	return evidence
}

// check fails the test unless the policy decides on the evidence as every
// policy of its kind has to.
func check(t *testing.T, rnd *rand.Rand, p aggregate.Weighted, evidence []aggregate.Evidence) {
	t.Helper()
	require.NoError(t, p.Validate())
	d := p.Decide(evidence, now)
	profile := map[string]provider.Profile{}
	for _, e := range evidence {
		require.NoError(t, e.Profile.Validate())
		profile[e.Finding.Provider] = e.Profile
	}

	// Every finding is a reason, as it was given.
	require.Equal(t, p.Name(), d.Policy)
	require.Len(t, d.Reasons, len(evidence))
	for _, e := range evidence {
		r := reasonOf(d, e.Finding.Provider)
		require.NotNil(t, r)
		require.Equal(t, e.Finding.Verdict, r.Verdict)
		require.Equal(t, e.Finding.ObservedAt, r.ObservedAt)
		require.Equal(t, e.Stale, r.Stale)
		require.Equal(t, e.Profile.Rank, r.Rank)
		require.Equal(t, max(now.Sub(r.ObservedAt), 0).Truncate(time.Second), r.Age)
		require.True(t, r.Weight >= 0 && r.Weight <= 1, "%+v", r)
		require.Equal(t, r.Verdict <= unknown, r.Ignored == aggregate.NoOpinion)
		require.False(t, r.Weight == 0 && r.Ignored == "", "%+v", r)
		require.False(t, r.Decisive && r.Ignored != "" && d.Verdict > unknown, "%+v", r)

		// A copy counts while none of its sources has an opinion of any weight.
		copied := r.Weight > 0 && slices.ContainsFunc(d.Reasons, func(o aggregate.Reason) bool {
			return o.Weight > 0 && slices.Contains(e.Profile.DerivedFrom, o.Provider)
		})
		require.Equal(t, copied, r.Ignored == aggregate.Derived)
	}

	// Of the others, those are outranked that the rules say.
	voices := without(evidence, func(e aggregate.Evidence) bool {
		r := reasonOf(d, e.Finding.Provider)
		return r.Weight == 0 || r.Ignored == aggregate.Derived
	})
	for i := range voices {
		r := reasonOf(d, voices[i].Finding.Provider)
		require.Equal(t, silenced(voices, &voices[i]), r.Ignored == aggregate.Outranked, "%+v", *r)
		if r.Ignored != "" { // and it says by whom
			o := reasonOf(d, r.By)
			require.NotNil(t, o)
			if r.Ignored == aggregate.Outranked {
				require.Greater(t, o.Rank, r.Rank)
				require.NotEqual(t, o.Verdict == benign, r.Verdict == benign)
			} else {
				require.Equal(t, r.Group, o.Group)
				require.Empty(t, o.Ignored)
			}
		}
	}

	// The score and the flag follow from what counts, by hand.
	chance, worst, verified := [2]float64{1, 1}, none, [2]bool{}
	for i := range d.Reasons {
		r := &d.Reasons[i]
		side := 0
		if r.Verdict > benign {
			side = 1
		}
		if r.Ignored == "" {
			chance[side] *= 1 - r.Weight
			verified[side] = verified[side] || r.Rank >= provider.RankVerified
		}
		if r.Weight > 0 && r.Ignored != aggregate.Outranked && r.Ignored != aggregate.Derived {
			worst = max(worst, r.Verdict)
		}
	}
	harm, good := 1-chance[1], 1-chance[0]
	require.InDelta(t, harm-good, d.Score, 0.0021)
	limits := [2]float64{p.Benign, p.Malicious}
	for i := range limits {
		if limits[i] == 0 {
			limits[i] = 0.5
		}
	}
	if math.Abs(harm-limits[1]) > 0.001 && math.Abs(good-limits[0]) > 0.001 {
		strong := harm > limits[1] && good > limits[0]
		require.Equal(t, strong || verified[0] && verified[1], d.Conflict, "%#v", d)
	}
	require.LessOrEqual(t, d.Verdict, max(worst, unknown), "more than any opinion: %#v", d)
	for _, r := range d.Reasons { // no verified harm is outvoted
		if r.Rank >= provider.RankVerified && r.Ignored == "" && r.Verdict > benign && r.Weight >= limits[1] {
			require.GreaterOrEqual(t, d.Verdict, r.Verdict)
		}
	}

	// Without opinions there is none. Everything but unknown is somebody's opinion.
	opinions := 0
	for _, e := range evidence {
		if e.Finding.Verdict != none {
			opinions++
		}
	}
	require.Equal(t, opinions == 0, d.Verdict == none)
	if d.Verdict != none {
		require.NotEmpty(t, decisive(d))
	}
	if d.Verdict > unknown {
		rest := without(evidence, func(e aggregate.Evidence) bool {
			r := reasonOf(d, e.Finding.Provider)
			return (r.Verdict == benign) == (d.Verdict == benign) &&
				(r.Decisive || r.Ignored == aggregate.Dependent || r.Ignored == aggregate.Derived)
		})
		require.NotEqual(t, d.Verdict, p.Decide(rest, now).Verdict)
		noBenign := without(evidence, func(e aggregate.Evidence) bool { return e.Finding.Verdict == benign })
		require.NotEqual(t, benign, p.Decide(noBenign, now).Verdict, "benign without a benign finding")
		require.False(t, p.Decide(noBenign, now).Conflict)
	}

	// Order does not matter, and the evidence is left alone.
	shuffled := slices.Clone(evidence)
	rnd.Shuffle(len(shuffled), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
	require.Equal(t, d, p.Decide(shuffled, now))

	// What has no opinion, or cannot tell, changes nothing but the reasons.
	opinionated := without(evidence, func(e aggregate.Evidence) bool { return e.Finding.Verdict <= unknown })
	o := p.Decide(opinionated, now)
	require.Equal(t, o.Score, d.Score)
	require.Equal(t, o.Conflict, d.Conflict)
	if o.Verdict != none {
		require.Equal(t, o.Verdict, d.Verdict)
		for i := range o.Reasons {
			require.Equal(t, o.Reasons[i], *reasonOf(d, o.Reasons[i].Provider))
		}
	}

	for i, e := range evidence {
		name, v := e.Finding.Provider, e.Finding.Verdict
		if v <= unknown {
			continue
		}
		copied := slices.ContainsFunc(evidence, func(e aggregate.Evidence) bool {
			return slices.Contains(e.Profile.DerivedFrom, name)
		})
		// Older evidence never weighs more, and moves the verdict away.
		older := p.Decide(changed(evidence, i, func(e *aggregate.Evidence) {
			e.Finding.ObservedAt = e.Finding.ObservedAt.Add(-time.Duration(rnd.Int64N(int64(20 * day))))
		}), now)
		require.LessOrEqual(t, reasonOf(older, name).Weight, reasonOf(d, name).Weight)
		if !copied {
			towards(t, v, older, d)
		}

		// More confidence moves it towards.
		confidence := 1e-9 + rnd.Float64()*(1-1e-9)
		less := p.Decide(changed(evidence, i, func(e *aggregate.Evidence) { e.Profile.Confidence = confidence }), now)
		confidence += (1 - confidence) * rnd.Float64()
		more := p.Decide(changed(evidence, i, func(e *aggregate.Evidence) { e.Profile.Confidence = confidence }), now)
		require.LessOrEqual(t, reasonOf(less, name).Weight, reasonOf(more, name).Weight)
		if !copied {
			towards(t, v, less, more)
		}

		// A group says on each side what its weightiest member says.
		r := reasonOf(d, name)
		if r.Group == "" || r.Ignored != "" {
			continue
		}
		unlike := false // a dependent member that has more to its opinion than weight
		alone := without(evidence, func(e aggregate.Evidence) bool {
			other := reasonOf(d, e.Finding.Provider)
			dependent := other.Group == r.Group && (other.Verdict > benign) == (r.Verdict > benign) && other.Ignored == aggregate.Dependent
			if dependent {
				require.LessOrEqual(t, other.Weight, r.Weight, "%s is left out for a lighter one", other.Provider)
				unlike = unlike || other.Rank != r.Rank || other.Stale != r.Stale || slices.ContainsFunc(evidence, func(e aggregate.Evidence) bool {
					return slices.Contains(e.Profile.DerivedFrom, other.Provider)
				})
			}
			return dependent
		})
		if !unlike {
			a := p.Decide(alone, now)
			require.Equal(t, a.Score, d.Score)
			require.Equal(t, a.Conflict, d.Conflict)
		}
	}
}

// towards fails the test if going from one decision to the other goes away
// from the verdict.
func towards(t *testing.T, v provider.Verdict, from, to aggregate.Decision) {
	t.Helper()
	rank := map[provider.Verdict]int{benign: 0, unknown: 1, suspicious: 2, malicious: 3}
	if v == benign {
		from, to = to, from
	}
	require.LessOrEqual(t, from.Score, to.Score)
	require.LessOrEqual(t, rank[from.Verdict], rank[to.Verdict], "%#v\n%#v", from, to)
}

func TestWeightedProperties(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	verdicts, conflicts := map[provider.Verdict]int{}, 0
	for range 1500 {
		p, evidence := randomWeighted(rnd), randomFindings(rnd)
		check(t, rnd, p, evidence)
		d := p.Decide(evidence, now)
		verdicts[d.Verdict]++
		if d.Conflict {
			conflicts++
		}
	}
	for _, v := range []provider.Verdict{none, unknown, benign, suspicious, malicious} {
		require.Greater(t, verdicts[v], 5, "the random evidence is too uniform: %v", verdicts)
	}
	require.Greater(t, conflicts, 50)
}

func FuzzWeighted(f *testing.F) {
	f.Add(uint64(1), []byte{4, 10, 2, 10, 1, 0})
	f.Add(uint64(2), []byte("\x04\x00\x02\x00\x03\x00\x04\x00\x02\x00\x03\x00\x04\x00\x02\x00"))
	f.Fuzz(func(t *testing.T, seed uint64, findings []byte) {
		rnd := rand.New(rand.NewPCG(seed, 7))
		p := randomWeighted(rnd)
		var evidence []aggregate.Evidence
		for i := 0; i+1 < len(findings) && i/2 < len(sources); i += 2 {
			age := time.Duration(int8(findings[i+1])) * 12 * time.Hour
			e := at(age, sources[i/2], provider.Verdict(findings[i]%5))
			e.Stale, e.Profile = findings[i]&128 != 0, randomProfile(rnd, i/2)
			evidence = append(evidence, e)
		}
		check(t, rnd, p, evidence)
	})
}

// Every order of a conflict with dependents gives the very same decision.
func TestWeightedInEveryOrder(t *testing.T) {
	evidence := []aggregate.Evidence{
		at(day, "feodo", suspicious), at(2*day, "threatfox", malicious), at(3*day, "greynoise", benign),
		at(4*day, "abuseipdb", malicious), of(provider.Profile{DerivedFrom: []string{"greynoise", "abuseipdb"}}, at(5*day, "custom", suspicious)),
	}
	want := aggregate.Weighted{}.Decide(evidence, now)
	orders := 0
	var permute func(n int)
	permute = func(n int) {
		if n == len(evidence) {
			orders++
			require.Equal(t, want, aggregate.Weighted{}.Decide(evidence, now))
			return
		}
		for i := n; i < len(evidence); i++ {
			evidence[n], evidence[i] = evidence[i], evidence[n]
			permute(n + 1)
			evidence[n], evidence[i] = evidence[i], evidence[n]
		}
	}
	permute(0)
	require.Equal(t, 120, orders)
}

func TestWeightedName(t *testing.T) {
	const plain = "weighted/2"
	for what, p := range map[string]aggregate.Weighted{
		"zero":    {},
		"written": {DefaultConfidence: 0.4, HalfLife: 14 * day, Malicious: 0.5, Suspicious: 0.15, Benign: 0.5},
		"refused": {DefaultConfidence: 7, HalfLife: -1, Malicious: math.NaN()},
	} {
		require.Equal(t, plain, p.Name(), what)
	}
	names := map[string]string{plain: "the default"}
	for what, p := range map[string]aggregate.Weighted{
		"default confidence": {DefaultConfidence: 0.5},
		"no confidence":      {DefaultConfidence: -1},
		"half-life":          {HalfLife: 13 * day},
		"malicious":          {Malicious: 0.6},
		"suspicious":         {Suspicious: 0.6},
		"benign":             {Benign: 0.6},
		"two of them":        {Malicious: 0.6, Benign: 0.6},
	} {
		name := p.Name()
		require.Regexp(t, `^weighted/2\+[0-9a-f]{8}$`, name, what)
		require.NotContains(t, names, name, "%s has the name of %s", what, names[name])
		names[name] = what
		require.Equal(t, name, p.Decide(nil, now).Policy)
	}

	// What is stored today is to be recognized by later versions.
	require.Equal(t, "weighted/2+b8c6b08e", aggregate.Weighted{DefaultConfidence: 0.3, HalfLife: 7 * day}.Name())
}

func TestWeightedValidate(t *testing.T) {
	nan := math.NaN()
	for want, p := range map[string]aggregate.Weighted{
		"DefaultConfidence is NaN":                                   {DefaultConfidence: nan},
		"DefaultConfidence is 1.1; it must be at most 1":             {DefaultConfidence: 1.1},
		"HalfLife is -1s":                                            {HalfLife: -time.Second},
		"Malicious is 1.1; it must be above 0 and at most 1":         {Malicious: 1.1},
		"Suspicious is NaN":                                          {Suspicious: nan},
		"Benign is -0.5":                                             {Benign: -0.5},
		"Benign is +Inf":                                             {Benign: math.Inf(1)},
		"Suspicious is 0.6; it must not be above Malicious, 0.5":     {Suspicious: 0.6},
		"Suspicious is 0.15; it must not be above Malicious, 0.1":    {Malicious: 0.1},
		"HalfLife is -1s; it must not be negative\naggregate: Weigh": {HalfLife: -time.Second, Benign: 2},
	} {
		err := p.Validate()
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "aggregate: Weighted.")
	}
	for _, p := range []aggregate.Weighted{
		{}, {DefaultConfidence: 1}, {Malicious: 1, Suspicious: 1, Benign: 1}, {HalfLife: 1},
	} {
		require.NoError(t, p.Validate())
	}
}

// A copy of several sources is a copy of the first of them, in any order.
func TestWeightedCopyOfSeveral(t *testing.T) {
	for _, from := range [][]string{{"b", "c"}, {"c", "b"}} {
		for _, sources := range [][]string{{"b", "c"}, {"c", "b"}} {
			evidence := []aggregate.Evidence{of(provider.Profile{DerivedFrom: from}, fresh("a", malicious))}
			for _, name := range sources {
				evidence = append(evidence, fresh(name, malicious))
			}
			d := aggregate.Weighted{}.Decide(evidence, now)
			require.Equal(t, aggregate.Derived, d.Reasons[0].Ignored)
			require.Equal(t, "b", d.Reasons[0].By)
		}
	}
}

// Certainty is a confidence like any other.
func TestWeightedCertainty(t *testing.T) {
	d := aggregate.Weighted{}.Decide([]aggregate.Evidence{of(provider.Profile{Confidence: 1}, fresh("a", malicious))}, now)
	require.Equal(t, 1.0, d.Score)
}

// A number that Validate refuses has the effect of the default.
func TestWeightedSurvivesNonsense(t *testing.T) {
	p := aggregate.Weighted{
		DefaultConfidence: 2, HalfLife: math.MinInt64, Malicious: math.NaN(), Suspicious: -1, Benign: math.Inf(-1),
	}
	require.Error(t, p.Validate())
	nonsense := []provider.Profile{
		{Confidence: math.NaN()}, {Confidence: -4}, {Confidence: math.Inf(1)}, {Rank: -1}, {Rank: 3},
		{Group: strings.Repeat("x", 1000)}, {DerivedFrom: []string{"", "\x00"}},
	}
	rnd := rand.New(rand.NewPCG(8, 9))
	for range 300 {
		evidence := randomFindings(rnd)
		for i := range evidence {
			if rnd.IntN(3) == 0 {
				evidence[i].Profile = provider.Profile{}
			}
		}
		want := aggregate.Weighted{}.Decide(evidence, now)
		for i := range evidence {
			if f := evidence[i].Profile; f.Confidence == 0 && f.Group == "" && f.DerivedFrom == nil && f.Rank == 0 {
				evidence[i].Profile = nonsense[rnd.IntN(len(nonsense))]
				require.True(t, evidence[i].Profile.Validate() != nil)
			}
		}
		require.Equal(t, want, p.Decide(evidence, now))
	}
}

func TestDecisionAsJSON(t *testing.T) {
	evidence := []aggregate.Evidence{fresh("abuseipdb", malicious), at(time.Hour, "greynoise", benign), fresh("feodo", none)}
	for want, p := range map[string]aggregate.Policy{
		`{"verdict":"malicious","policy":"strongest/2","conflict":true,"reasons":[` +
			`{"provider":"abuseipdb","verdict":"malicious","observed_at":"2026-11-23T12:00:00Z","decisive":true},` +
			`{"provider":"greynoise","verdict":"benign","observed_at":"2026-11-23T11:00:00Z","age":3600000000000}]}`: aggregate.Strongest{},
		`{"verdict":"suspicious","policy":"weighted/2","score":-0.098,"conflict":true,"reasons":[` +
			`{"provider":"abuseipdb","verdict":"malicious","observed_at":"2026-11-23T12:00:00Z","decisive":true,"weight":0.7},` +
			`{"provider":"feodo","verdict":null,"observed_at":"2026-11-23T12:00:00Z","group":"abuse_ch","ignored":"no opinion"},` +
			`{"provider":"greynoise","verdict":"benign","observed_at":"2026-11-23T11:00:00Z","weight":0.798,"age":3600000000000}]}`: aggregate.Weighted{},
	} {
		d := p.Decide(evidence, now)
		got, err := json.Marshal(d)
		require.NoError(t, err)
		require.Equal(t, want, string(got))
		var again aggregate.Decision
		require.NoError(t, json.Unmarshal(got, &again))
		require.Equal(t, d, again)
	}
}

// However many providers there are, each takes a bounded part of a decision.
func TestWeightedIsBounded(t *testing.T) {
	var p aggregate.Weighted
	var evidence []aggregate.Evidence
	for i := range 500 {
		name := fmt.Sprintf("p%031d", i)
		e := stale(at(39*day+time.Duration(i)*time.Microsecond, name, suspicious))
		e.Profile.Group = strings.Repeat("g", 32)
		evidence = append(evidence, e)
	}
	require.NoError(t, p.Validate())
	b, err := json.Marshal(p.Decide(evidence, now))
	require.NoError(t, err)
	require.Less(t, len(b), 300*len(evidence))
}

// Deciding is done for every record that is saved.
func TestDecideAllocatesOnlyTheReasons(t *testing.T) {
	evidence := []aggregate.Evidence{fresh("greynoise", benign), fresh("abuseipdb", malicious), fresh("feodo", none)}
	for _, p := range []aggregate.Policy{aggregate.Strongest{}, aggregate.Weighted{}} {
		require.LessOrEqual(t, testing.AllocsPerRun(100, func() { p.Decide(evidence, now) }), 1., p.Name())
	}
}

func BenchmarkWeighted(b *testing.B) {
	evidence := []aggregate.Evidence{
		at(time.Hour, "greynoise", unknown), at(time.Hour, "abuseipdb", suspicious), at(time.Hour, "feodo", none),
		at(time.Hour, "threatfox", malicious),
	}
	for name, p := range map[string]aggregate.Weighted{"default": {}, "tuned": {DefaultConfidence: 0.5, HalfLife: 7 * day}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(evidence, now)
			}
		})
	}
}
