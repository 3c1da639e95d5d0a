package aggregate_test

import (
	"encoding/json"
	"fmt"
	"maps"
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

// at returns an opinion of that age.
func at(age time.Duration, name string, v provider.Verdict) aggregate.Evidence {
	return aggregate.Evidence{Finding: &provider.Finding{Provider: name, Verdict: v, ObservedAt: now.Add(-age)}}
}

func fresh(name string, v provider.Verdict) aggregate.Evidence { return at(0, name, v) }

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
			policy:   aggregate.Weighted{Groups: map[string]string{"a": "copies", "b": "copies"}},
			evidence: []aggregate.Evidence{fresh("b", malicious), fresh("a", malicious)},
			verdict:  suspicious, score: 0.4, decisive: []string{"a"},
		},
		"a group that disagrees with itself": {
			policy: aggregate.Weighted{
				Groups: map[string]string{"a": "x", "b": "x", "c": "x"}, OtherConfidence: 0.6,
			},
			evidence: []aggregate.Evidence{fresh("a", malicious), fresh("b", benign), fresh("c", benign)},
			verdict:  suspicious, score: 0, conflict: true, decisive: []string{"a"},
		},
		"a group that calls it benign": {
			policy:   aggregate.Weighted{Groups: map[string]string{"a": "x", "b": "x"}, OtherConfidence: 0.6},
			evidence: []aggregate.Evidence{at(time.Hour, "a", benign), fresh("b", benign)},
			verdict:  benign, score: -0.6, decisive: []string{"b"},
		},
		"a group taken apart": {
			policy:   aggregate.Weighted{Groups: map[string]string{"feodo": ""}},
			evidence: []aggregate.Evidence{fresh("feodo", malicious), fresh("threatfox", malicious)},
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
			policy:   aggregate.Weighted{Malicious: 0.9, Suspicious: 0.8, Benign: 0.9, Strong: 1},
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious)},
			verdict:  unknown, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"exactly malicious": {
			policy:   aggregate.Weighted{OtherConfidence: 0.5},
			evidence: []aggregate.Evidence{fresh("custom", malicious)},
			verdict:  malicious, score: 0.5, decisive: []string{"custom"},
		},
		"exactly suspicious": {
			policy:   aggregate.Weighted{OtherConfidence: 0.3},
			evidence: []aggregate.Evidence{fresh("custom", suspicious)},
			verdict:  suspicious, score: 0.15, decisive: []string{"custom"},
		},
		"exactly benign": {
			policy:   aggregate.Weighted{OtherConfidence: 0.5},
			evidence: []aggregate.Evidence{fresh("custom", benign)},
			verdict:  benign, score: -0.5, decisive: []string{"custom"},
		},
		"exactly strong": { // in binary, 1 - 0.9*0.9 is less than 0.19
			policy: aggregate.Weighted{
				Confidence: map[string]float64{"a": 0.1, "b": 0.1, "c": 0.5}, Strong: 0.19,
			},
			evidence: []aggregate.Evidence{fresh("a", malicious), fresh("b", malicious), fresh("c", benign)},
			verdict:  suspicious, score: -0.31, conflict: true, decisive: []string{"a", "b"},
		},
		"no confidence": {
			policy:   aggregate.Weighted{Confidence: map[string]float64{"abuseipdb": 0}, OtherConfidence: -1},
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), fresh("custom", malicious)},
			verdict:  unknown, decisive: []string{"abuseipdb", "custom"},
		},

		"authority clears": {
			policy:   aggregate.Weighted{Authoritative: []string{"allow"}},
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), at(365*day, "allow", benign)},
			verdict:  benign, score: -1, decisive: []string{"allow"},
		},
		"authority condemns": {
			policy:   aggregate.Weighted{Authoritative: []string{"deny"}, Confidence: map[string]float64{"deny": 0}},
			evidence: []aggregate.Evidence{fresh("greynoise", benign), fresh("deny", malicious)},
			verdict:  malicious, score: 1, decisive: []string{"deny"},
		},
		"authority suspects": {
			policy:   aggregate.Weighted{Authoritative: []string{"watch", "also"}},
			evidence: []aggregate.Evidence{fresh("abuseipdb", malicious), fresh("watch", suspicious), fresh("also", suspicious)},
			verdict:  suspicious, score: 1, decisive: []string{"also", "watch"},
		},
		"most severe of the authorities": {
			policy:   aggregate.Weighted{Authoritative: []string{"watch", "deny"}},
			evidence: []aggregate.Evidence{fresh("watch", suspicious), fresh("deny", malicious)},
			verdict:  malicious, score: 1, decisive: []string{"deny"},
		},
		"authorities disagree": {
			policy:   aggregate.Weighted{Authoritative: []string{"allow", "deny"}},
			evidence: []aggregate.Evidence{fresh("allow", benign), fresh("deny", suspicious), fresh("abuseipdb", malicious)},
			verdict:  suspicious, score: 0, conflict: true, decisive: []string{"deny"},
		},
		"authority that cannot tell": {
			policy:   aggregate.Weighted{Authoritative: []string{"allow"}},
			evidence: []aggregate.Evidence{fresh("allow", unknown), fresh("abuseipdb", malicious)},
			verdict:  malicious, score: 0.7, decisive: []string{"abuseipdb"},
		},
		"authority without opinion": {
			policy:   aggregate.Weighted{Authoritative: []string{"allow"}},
			evidence: []aggregate.Evidence{fresh("allow", none), fresh("abuseipdb", malicious)},
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
	want := aggregate.Decision{Verdict: malicious, Policy: "weighted/1", Score: 0.55}
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
	r.Age, r.Weight, r.Group, r.Ignored = time.Hour, 0.898, "abuse_ch", aggregate.Dependent
	want.Reasons = append(want.Reasons, r)
	require.Equal(t, want, d)

	d = aggregate.Weighted{Authoritative: []string{"allow"}}.Decide([]aggregate.Evidence{
		fresh("abuseipdb", malicious), fresh("allow", benign), fresh("custom", unknown),
	}, now)
	require.Equal(t, []aggregate.Ignored{aggregate.Outranked, "", aggregate.NoOpinion},
		[]aggregate.Ignored{d.Reasons[0].Ignored, d.Reasons[1].Ignored, d.Reasons[2].Ignored})
	require.Equal(t, 1., d.Reasons[1].Weight)
}

// sources are the providers of random evidence; some are dependent, some have
// no confidence of their own.
var sources = []string{"a", "abuseipdb", "allow", "b", "c", "feodo", "greynoise", "threatfox"}

func randomWeighted(rnd *rand.Rand) aggregate.Weighted {
	var p aggregate.Weighted
	if rnd.IntN(2) == 0 {
		p.Confidence, p.Groups = map[string]float64{}, map[string]string{}
		for _, name := range sources {
			if rnd.IntN(2) == 0 {
				p.Confidence[name] = rnd.Float64()
			}
			if rnd.IntN(3) == 0 {
				p.Groups[name] = []string{"", "x", "y"}[rnd.IntN(3)]
			}
		}
		p.HalfLife = time.Duration(1 + rnd.Int64N(int64(30*day)))
		p.Malicious = 0.05 + 0.95*rnd.Float64()
		p.Suspicious = p.Malicious * (0.01 + 0.99*rnd.Float64())
		p.Benign, p.Strong = 0.05+0.95*rnd.Float64(), 0.05+0.95*rnd.Float64()
	}
	if rnd.IntN(4) == 0 {
		p.Authoritative = []string{"allow", "a"}[:1+rnd.IntN(2)]
	}
	return p
}

func randomFindings(rnd *rand.Rand) []aggregate.Evidence {
	var evidence []aggregate.Evidence
	for _, name := range sources {
		if rnd.IntN(5) < 2 {
			continue
		}
		e := at(time.Duration(rnd.Int64N(int64(40*day))), name, provider.Verdict(rnd.IntN(5)))
		e.Stale = rnd.IntN(2) == 0
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

// changed returns the evidence with another finding in place of the i-th.
func changed(evidence []aggregate.Evidence, i int, change func(f *provider.Finding)) []aggregate.Evidence {
	evidence = slices.Clone(evidence)
	f := *evidence[i].Finding
	change(&f)
	evidence[i].Finding = &f
	return evidence
}

// check fails the test unless the policy decides on the evidence as every
// policy of its kind has to.
func check(t *testing.T, rnd *rand.Rand, p aggregate.Weighted, evidence []aggregate.Evidence) {
	t.Helper()
	require.NoError(t, p.Validate())
	d := p.Decide(evidence, now)
	outranks := func(r *aggregate.Reason) bool {
		return r.Verdict > unknown && slices.Contains(p.Authoritative, r.Provider)
	}
	authority := false
	for i := range d.Reasons {
		authority = authority || outranks(&d.Reasons[i])
	}

	// It explains itself: every finding is a reason, told as it was.
	require.Equal(t, p.Name(), d.Policy)
	require.Len(t, d.Reasons, len(evidence))
	for _, e := range evidence {
		r := reasonOf(d, e.Finding.Provider)
		require.NotNil(t, r)
		require.Equal(t, e.Finding.Verdict, r.Verdict)
		require.Equal(t, e.Finding.ObservedAt, r.ObservedAt)
		require.Equal(t, e.Stale, r.Stale)
		require.Equal(t, max(now.Sub(r.ObservedAt), 0).Truncate(time.Second), r.Age)
		require.True(t, r.Weight >= 0 && r.Weight <= 1, "%+v", r)
		require.Equal(t, r.Verdict <= unknown, r.Ignored == aggregate.NoOpinion)
		require.False(t, r.Weight == 0 && r.Ignored == "", "%+v", r)
		require.Equal(t, authority && r.Verdict > unknown && !outranks(r), r.Ignored == aggregate.Outranked)
	}

	// The score and the flag follow from what counts, by hand.
	chance, worst := [2]float64{1, 1}, none
	for i := range d.Reasons {
		r := &d.Reasons[i]
		side := 0
		if r.Verdict > benign {
			side = 1
		}
		if authority && outranks(r) {
			chance[side] = 0
		} else if r.Ignored == "" {
			chance[side] *= 1 - r.Weight
		}
		if r.Weight > 0 && r.Ignored != aggregate.Outranked {
			worst = max(worst, r.Verdict)
		}
	}
	harm, good := 1-chance[1], 1-chance[0]
	require.InDelta(t, harm-good, d.Score, 0.0021)
	strong := p.Strong
	if strong == 0 {
		strong = 0.5
	}
	if math.Abs(harm-strong) > 0.001 && math.Abs(good-strong) > 0.001 {
		require.Equal(t, harm > strong && good > strong, d.Conflict, "%+v", d)
	}
	require.LessOrEqual(t, d.Verdict, max(worst, unknown), "more than anybody said: %+v", d)

	// Without opinions there is none; benign is somebody's word, and so is
	// everything else but unknown.
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
			return (r.Verdict == benign) == (d.Verdict == benign) && (r.Decisive || r.Ignored == aggregate.Dependent)
		})
		if !authority {
			require.NotEqual(t, d.Verdict, p.Decide(rest, now).Verdict)
		}
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
		// Older evidence never weighs more, and moves the verdict away.
		older := p.Decide(changed(evidence, i, func(f *provider.Finding) {
			f.ObservedAt = f.ObservedAt.Add(-time.Duration(rnd.Int64N(int64(20 * day))))
		}), now)
		require.LessOrEqual(t, reasonOf(older, name).Weight, reasonOf(d, name).Weight)
		towards(t, v, older, d)

		// More confidence moves it towards.
		q := p
		q.Confidence = maps.Clone(p.Confidence)
		if q.Confidence == nil {
			q.Confidence = map[string]float64{}
		}
		q.Confidence[name] = rnd.Float64()
		less := q.Decide(evidence, now)
		q.Confidence = maps.Clone(q.Confidence)
		q.Confidence[name] += (1 - q.Confidence[name]) * rnd.Float64()
		more := q.Decide(evidence, now)
		require.LessOrEqual(t, reasonOf(less, name).Weight, reasonOf(more, name).Weight)
		towards(t, v, less, more)

		// A group says on each side what its weightiest member says.
		r := reasonOf(d, name)
		if r.Group == "" || authority || r.Weight == 0 {
			continue
		}
		alone := without(evidence, func(e aggregate.Evidence) bool {
			other := reasonOf(d, e.Finding.Provider)
			return other.Group == r.Group && (other.Verdict > benign) == (r.Verdict > benign) && other.Ignored == aggregate.Dependent
		})
		a := p.Decide(alone, now)
		require.Equal(t, a.Score, d.Score)
		require.Equal(t, a.Conflict, d.Conflict)
		for j := range d.Reasons {
			o := &d.Reasons[j]
			if o.Group == r.Group && (o.Verdict > benign) == (v > benign) && o.Ignored == "" && o.Verdict > unknown {
				require.LessOrEqual(t, r.Weight, o.Weight, "%s is left out for a lighter one", name)
			}
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
	require.LessOrEqual(t, rank[from.Verdict], rank[to.Verdict])
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
			evidence = append(evidence, at(age, sources[i/2], provider.Verdict(findings[i]%5)))
		}
		check(t, rnd, p, evidence)
	})
}

// Every order of a conflict with dependents gives the very same decision.
func TestWeightedInEveryOrder(t *testing.T) {
	evidence := []aggregate.Evidence{
		at(day, "feodo", suspicious), at(2*day, "threatfox", malicious), at(3*day, "greynoise", benign),
		at(4*day, "abuseipdb", malicious), at(5*day, "custom", suspicious),
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
	const plain = "weighted/1"
	for what, p := range map[string]aggregate.Weighted{
		"zero":       {},
		"written":    {OtherConfidence: 0.4, HalfLife: 14 * day, Malicious: 0.5, Suspicious: 0.15, Benign: 0.5, Strong: 0.5},
		"repeated":   {Confidence: map[string]float64{"feodo": 0.95, "custom": 0.4}},
		"same group": {Groups: map[string]string{"feodo": "abuse_ch", "greynoise": ""}},
		"refused":    {Confidence: map[string]float64{"feodo": 7}, HalfLife: -1, Malicious: math.NaN()},
		"empty":      {Confidence: map[string]float64{}, Groups: map[string]string{}, Authoritative: []string{}},
	} {
		require.Equal(t, plain, p.Name(), what)
	}
	names := map[string]string{plain: "the default"}
	for what, p := range map[string]aggregate.Weighted{
		"confidence":          {Confidence: map[string]float64{"feodo": 0.9}},
		"another":             {Confidence: map[string]float64{"threatfox": 0.95}},
		"no confidence":       {Confidence: map[string]float64{"feodo": 0}},
		"confidence of mine":  {Confidence: map[string]float64{"custom": 0.9}},
		"other confidence":    {OtherConfidence: 0.5},
		"none for others":     {OtherConfidence: -1},
		"group":               {Groups: map[string]string{"custom": "abuse_ch"}},
		"no group":            {Groups: map[string]string{"feodo": ""}},
		"half-life":           {HalfLife: 13 * day},
		"malicious":           {Malicious: 0.6},
		"suspicious":          {Suspicious: 0.6},
		"benign":              {Benign: 0.6},
		"strong":              {Strong: 0.6},
		"authority":           {Authoritative: []string{"custom"}},
		"another authority":   {Authoritative: []string{"custom2"}},
		"several authorities": {Authoritative: []string{"a", "custom"}},
	} {
		name := p.Name()
		require.Regexp(t, `^weighted/1\+[0-9a-f]{8}$`, name, what)
		require.NotContains(t, names, name, "%s is told apart from %s", what, names[name])
		names[name] = what
		require.Equal(t, name, p.Decide(nil, now).Policy)
	}
	require.Equal(t, aggregate.Weighted{Authoritative: []string{"a", "b"}}.Name(),
		aggregate.Weighted{Authoritative: []string{"b", "a", "b"}}.Name())

	// What is stored today is to be recognized by later versions.
	require.Equal(t, "weighted/1+001db8bc", aggregate.Weighted{
		Confidence: map[string]float64{"abuseipdb": 0.5, "mine": 1}, Groups: map[string]string{"mine": "lists"},
		HalfLife: 7 * day, Authoritative: []string{"allow"},
	}.Name())
}

func TestWeightedValidate(t *testing.T) {
	nan := math.NaN()
	for want, p := range map[string]aggregate.Weighted{
		`Confidence["feodo"] is 1.5; it must be from 0 to 1`:         {Confidence: map[string]float64{"feodo": 1.5}},
		`Confidence["feodo"] is -0.1`:                                {Confidence: map[string]float64{"feodo": -0.1}},
		`Confidence["feodo"] is NaN`:                                 {Confidence: map[string]float64{"feodo": nan}},
		`Confidence: name "Feodo" is not`:                            {Confidence: map[string]float64{"Feodo": 0.5}},
		"OtherConfidence is NaN":                                     {OtherConfidence: nan},
		"OtherConfidence is 1.1; it must be at most 1":               {OtherConfidence: 1.1},
		`Groups: name "" is not`:                                     {Groups: map[string]string{"": "x"}},
		`Groups["feodo"]: name "abuse.ch" is not`:                    {Groups: map[string]string{"feodo": "abuse.ch"}},
		"HalfLife is -1s":                                            {HalfLife: -time.Second},
		"Malicious is 1.1; it must be above 0 and at most 1":         {Malicious: 1.1},
		"Suspicious is NaN":                                          {Suspicious: nan},
		"Benign is -0.5":                                             {Benign: -0.5},
		"Strong is +Inf":                                             {Strong: math.Inf(1)},
		"Suspicious is 0.6; it must not be above Malicious, 0.5":     {Suspicious: 0.6},
		"Suspicious is 0.15; it must not be above Malicious, 0.1":    {Malicious: 0.1},
		`Authoritative: name "allow list" is not`:                    {Authoritative: []string{"allow list"}},
		"HalfLife is -1s; it must not be negative\naggregate: Weigh": {HalfLife: -time.Second, Benign: 2},
	} {
		err := p.Validate()
		require.ErrorContains(t, err, want)
		require.ErrorContains(t, err, "aggregate: Weighted.")
	}
}

// A number that Validate refuses counts as the default.
func TestWeightedSurvivesNonsense(t *testing.T) {
	p := aggregate.Weighted{
		Confidence:      map[string]float64{"feodo": math.NaN(), "abuseipdb": -4, "greynoise": math.Inf(1)},
		OtherConfidence: 2,
		Groups:          map[string]string{"threatfox": strings.Repeat("x", 1000)},
		HalfLife:        math.MinInt64,
		Malicious:       math.NaN(), Suspicious: -1, Benign: math.Inf(-1), Strong: 2,
	}
	require.Error(t, p.Validate())
	rnd := rand.New(rand.NewPCG(8, 9))
	for range 300 {
		evidence := randomFindings(rnd)
		require.Equal(t, aggregate.Weighted{}.Decide(evidence, now), p.Decide(evidence, now))
	}
}

func TestDecisionAsJSON(t *testing.T) {
	evidence := []aggregate.Evidence{fresh("abuseipdb", malicious), at(time.Hour, "greynoise", benign), fresh("feodo", none)}
	for want, p := range map[string]aggregate.Policy{
		`{"verdict":"malicious","policy":"strongest/1","reasons":[` +
			`{"provider":"abuseipdb","verdict":"malicious","observed_at":"2026-11-23T12:00:00Z","decisive":true},` +
			`{"provider":"greynoise","verdict":"benign","observed_at":"2026-11-23T11:00:00Z"}]}`: aggregate.Strongest{},
		`{"verdict":"suspicious","policy":"weighted/1","score":-0.098,"conflict":true,"reasons":[` +
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
	p := aggregate.Weighted{Groups: map[string]string{}}
	var evidence []aggregate.Evidence
	for i := range 500 {
		name := fmt.Sprintf("p%031d", i)
		p.Groups[name] = strings.Repeat("g", 32)
		e := stale(at(39*day+time.Duration(i)*time.Microsecond, name, suspicious))
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
	for name, p := range map[string]aggregate.Weighted{
		"default": {},
		"tuned": {
			Confidence: map[string]float64{"abuseipdb": 0.5, "mine": 1}, Groups: map[string]string{"mine": "lists"},
			HalfLife: 7 * day, Authoritative: []string{"allow"},
		},
	} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				p.Decide(evidence, now)
			}
		})
	}
}
