package aggregate

import (
	"errors"
	"fmt"
	"hash/fnv"
	"math"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// Weighted is a policy that weighs opinions instead of believing the worst. The
// zero value is ready to use: a zero field stands for the default given with
// it. It may be used concurrently if nobody modifies it.
//
// An opinion weighs as much as its source is trusted, half of that after each
// half-life of its age, and half if it is only a suspicion. An opinion of the
// operator's rank weighs 1 at any age. Weights are rounded to thousandths, so
// that they are the same on every machine; an opinion whose weight rounds to
// zero does not count. Age counts from when the opinion was formed. The expiry
// of a finding has no effect on its weight.
//
// Opinions that do not count: a copy, while one of the sources that it is
// derived from has an opinion; an opinion that is outranked (see the package
// documentation); and of each group, on each side, all but the one of greatest
// weight.
//
// The harmful opinions (malicious, suspicious) add up like independent
// witnesses: weights of 0.7 and 0.5 make a harm of 1 - 0.3*0.5 = 0.85. The
// benign opinions add up in the same way. The score is harm minus harmlessness,
// and the thresholds turn it into a verdict, with these rules:
//
//   - The verdict is never more severe than the most severe opinion: two
//     suspicions do not convict.
//   - The verdict is at least what a single harmful opinion of
//     [provider.RankVerified] or above suffices for, whatever contradicts it
//     without outranking it.
//   - The verdict is at least suspicious where harm alone reaches Malicious.
//   - The verdict is benign only if there is a benign opinion, and unknown where
//     the opinions do not suffice for more.
//
// A decision has Conflict set if harm alone reaches Malicious and harmlessness
// alone reaches Benign, and if two opinions of RankVerified or above contradict
// each other without one outranking the other.
//
// The verdict never moves away from an opinion that becomes more recent or
// whose source becomes more trusted, unless copies of that source have an
// opinion: they stop counting as soon as the source's own opinion has weight.
type Weighted struct {
	// DefaultConfidence is the confidence of sources whose profile has none.
	// Default: 0.4; one such source makes an attacker suspicious, and two make
	// it malicious. Negative: they do not count.
	DefaultConfidence float64
	// HalfLife is the age at which an opinion weighs half. Default: 14 days.
	HalfLife time.Duration
	// Malicious is the score from which on the verdict is malicious, above 0 and
	// at most 1. Default: 0.5.
	Malicious float64
	// Suspicious is the score from which on the verdict is suspicious, above 0
	// and at most Malicious. Default: 0.15.
	Suspicious float64
	// Benign is the harmlessness that makes the verdict benign: the score, with
	// its sign removed, from which on it is. Above 0 and at most 1. Default: 0.5.
	Benign float64
}

var weightedDefaults = Weighted{
	DefaultConfidence: 0.4, HalfLife: 14 * 24 * time.Hour, Malicious: 0.5, Suspicious: 0.15, Benign: 0.5,
}

// Validate returns an error that names every field that makes no sense. Decide
// never fails: it uses the default for such a field.
func (p Weighted) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("aggregate: Weighted."+format, args...))
		}
	}
	refuse(!(p.DefaultConfidence <= 1), "DefaultConfidence is %v; it must be at most 1", p.DefaultConfidence)
	refuse(p.HalfLife < 0, "HalfLife is %v; it must not be negative", p.HalfLife)
	for _, t := range []struct {
		name  string
		value float64
	}{{"Malicious", p.Malicious}, {"Suspicious", p.Suspicious}, {"Benign", p.Benign}} {
		refuse(t.value != 0 && !isThreshold(t.value), "%s is %v; it must be above 0 and at most 1", t.name, t.value)
	}
	e := p.effective()
	refuse(e.Suspicious > e.Malicious, "Suspicious is %v; it must not be above Malicious, %v", e.Suspicious, e.Malicious)
	return errors.Join(errs...)
}

func isThreshold(t float64) bool { return t > 0 && t <= 1 }

// effective returns p with the defaults filled in.
func (p Weighted) effective() Weighted {
	def := &weightedDefaults
	if p.HalfLife <= 0 {
		p.HalfLife = def.HalfLife
	}
	switch {
	case p.DefaultConfidence < 0:
		p.DefaultConfidence = 0
	case !(p.DefaultConfidence > 0 && p.DefaultConfidence <= 1):
		p.DefaultConfidence = def.DefaultConfidence
	}
	or := func(t *float64, def float64) {
		if !isThreshold(*t) {
			*t = def
		}
	}
	or(&p.Malicious, def.Malicious)
	or(&p.Suspicious, def.Suspicious)
	or(&p.Benign, def.Benign)
	return p
}

// Name returns "weighted/2", followed by "+" and a fingerprint of eight
// hexadecimal digits if any parameter is not the default. It depends on nothing
// but the values of these parameters.
func (p Weighted) Name() string {
	const name = "weighted/2"
	def := &weightedDefaults
	p = p.effective()
	if p == *def {
		return name
	}
	h := fnv.New32a()
	for _, f := range []struct {
		parameter  string
		value, def float64
	}{
		{"default-confidence", p.DefaultConfidence, def.DefaultConfidence},
		{"half-life", p.HalfLife.Seconds(), def.HalfLife.Seconds()},
		{"malicious", p.Malicious, def.Malicious},
		{"suspicious", p.Suspicious, def.Suspicious},
		{"benign", p.Benign, def.Benign},
	} {
		if f.value != f.def {
			fmt.Fprintf(h, "%s=%v\n", f.parameter, f.value) // never fails
		}
	}
	return fmt.Sprintf("%s+%08x", name, h.Sum32())
}

// Decide implements [Policy]. Every finding becomes a reason.
func (p Weighted) Decide(evidence []Evidence, now time.Time) Decision {
	d := Decision{Policy: p.Name()}
	if len(evidence) == 0 {
		return d
	}
	p = p.effective()
	d.Reasons = make([]Reason, len(evidence))
	for i := range evidence {
		d.Reasons[i] = p.weigh(&evidence[i], now)
	}
	ignoreCopies(d.Reasons, evidence)
	inOrder(d.Reasons)
	silence(d.Reasons)
	ignoreDependents(d.Reasons)
	harm, good := sum(d.Reasons)
	d.Score = thousandths(harm - good)
	d.Conflict = harm >= p.Malicious && good >= p.Benign || verifiedConflict(d.Reasons)
	d.Verdict = p.verdict(&d, harm)
	markDecisive(&d)
	return d
}

// weigh returns the reason that a finding is, with its weight.
func (p *Weighted) weigh(e *Evidence, now time.Time) Reason {
	r := reason(e, now)
	if g := e.Profile.Group; g != "" && provider.ValidateName(g) == nil {
		r.Group = g
	}
	if !r.opinion() {
		r.Ignored = NoOpinion
		return r
	}
	c := e.Profile.Confidence
	if !(c > 0 && c <= 1) {
		c = p.DefaultConfidence
	}
	w := c * math.Exp2(-r.Age.Seconds()/p.HalfLife.Seconds())
	if r.Verdict == provider.Suspicious {
		w /= 2
	}
	if r.Rank == provider.RankOperator {
		w = 1
	}
	if r.Weight = thousandths(w); r.Weight == 0 {
		r.Ignored = Weightless
	}
	return r
}

// ignoreCopies ignores the opinions of sources that are derived from a source
// that has an opinion. The reasons are in the order of the evidence.
func ignoreCopies(reasons []Reason, evidence []Evidence) {
	for i := range reasons {
		r, from := &reasons[i], evidence[i].Profile.DerivedFrom
		if r.Ignored != "" || len(from) == 0 {
			continue
		}
		for j := range reasons {
			o := &reasons[j]
			if i != j && o.Weight > 0 && slices.Contains(from, o.Provider) && (r.By == "" || o.Provider < r.By) {
				r.Ignored, r.By = Derived, o.Provider
			}
		}
	}
}

// ignoreDependents leaves one opinion for each group and side: the one of
// greatest weight, and among equals the first.
func ignoreDependents(reasons []Reason) {
	for i := range reasons {
		r := &reasons[i]
		if r.Ignored != "" || r.Group == "" {
			continue
		}
		best := i
		for j := range reasons {
			o := &reasons[j]
			counts := o.Ignored == "" || o.Ignored == Dependent
			if counts && o.Group == r.Group && o.harmful() == r.harmful() &&
				(o.Weight > reasons[best].Weight || o.Weight == reasons[best].Weight && j < best) {
				best = j
			}
		}
		if best != i {
			r.Ignored, r.By = Dependent, reasons[best].Provider
		}
	}
}

// sum adds up the opinions that count, for each side.
func sum(reasons []Reason) (harm, good float64) {
	noHarm, noGood := 1., 1.
	for i := range reasons {
		switch r := &reasons[i]; {
		case r.Ignored != "":
		case r.harmful():
			noHarm *= 1 - r.Weight
		default:
			noGood *= 1 - r.Weight
		}
	}
	return thousandths(1 - noHarm), thousandths(1 - noGood)
}

// verifiedConflict reports whether opinions of RankVerified or above count on
// both sides.
func verifiedConflict(reasons []Reason) bool {
	var harm, good bool
	for i := range reasons {
		if r := &reasons[i]; r.Ignored == "" && r.Rank >= provider.RankVerified {
			harm, good = harm || r.harmful(), good || !r.harmful()
		}
	}
	return harm && good
}

// verdict draws the conclusion.
func (p *Weighted) verdict(d *Decision, harm float64) provider.Verdict {
	otherwise, worst, least := provider.None, provider.None, provider.None
	for i := range d.Reasons {
		r := &d.Reasons[i]
		if r.Verdict != provider.None {
			otherwise = provider.Unknown
		}
		if r.Ignored != "" && r.Ignored != Dependent {
			continue
		}
		worst = max(worst, r.Verdict)
		if r.harmful() && r.Rank >= provider.RankVerified {
			least = max(least, min(p.severity(r.Weight), r.Verdict))
		}
	}
	if harm >= p.Malicious {
		least = max(least, provider.Suspicious)
	}
	switch verdict := max(least, min(p.severity(d.Score), worst)); {
	case verdict != provider.None:
		return verdict
	case d.Score <= -p.Benign:
		return provider.Benign
	}
	return otherwise
}

// severity returns the verdict that so much harm suffices for, None if for
// none.
func (p *Weighted) severity(harm float64) provider.Verdict {
	switch {
	case harm >= p.Malicious:
		return provider.Malicious
	case harm >= p.Suspicious:
		return provider.Suspicious
	}
	return provider.None
}

// markDecisive marks the reasons that the verdict rests on. A harmful opinion of
// the operator suffices for any score, so only the most severe opinions decide
// beside it.
func markDecisive(d *Decision) {
	operator, severe := false, false
	for i := range d.Reasons {
		if r := &d.Reasons[i]; r.Ignored == "" && r.harmful() {
			operator = operator || r.Rank == provider.RankOperator
			severe = severe || r.Verdict == d.Verdict
		}
	}
	severest := operator && severe // a dependent opinion may be more severe than those that count
	for i := range d.Reasons {
		r := &d.Reasons[i]
		switch d.Verdict {
		case provider.Malicious, provider.Suspicious:
			r.Decisive = r.Ignored == "" && r.harmful() && (!severest || r.Verdict == d.Verdict)
		case provider.Benign:
			r.Decisive = r.Ignored == "" && r.Verdict == provider.Benign
		case provider.Unknown: // no opinion sufficed
			r.Decisive = r.Verdict != provider.None
		}
	}
}

// thousandths rounds to three decimals.
func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }
