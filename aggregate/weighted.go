package aggregate

import (
	"cmp"
	"errors"
	"fmt"
	"hash/fnv"
	"maps"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/decnet/enrich/provider"
)

// Weighted is a policy that weighs opinions instead of believing the worst. The
// zero value is ready to use: every zero field stands for the default given
// with it. It must not be modified after the first use, and may then be used
// concurrently.
//
// An opinion weighs as much as its source is trusted, half of that after each
// half-life of its age, and half if it is only a suspicion. Weights are rounded
// to thousandths, so that they are the same on every machine; what is less has
// no weight. Age counts from when the opinion was formed. When it expires is
// the worker's choice and not evidence: counted from there, an opinion would
// get younger by being given a longer life.
//
// What speaks for harm (malicious and suspicious) adds up like the chances of
// independent witnesses being right: 0.7 and 0.5 make 1 - 0.3*0.5 = 0.85. What
// speaks for harmlessness (benign) does the same. Sources of one group are no
// independent witnesses: of those that agree only the one of greatest weight
// counts, so that a feed and its copy are one. The score is harm less
// harmlessness, and the thresholds make it a verdict, which besides
//
//   - is never more severe than the most severe opinion of any weight: two
//     suspicions do not convict,
//   - is at least suspicious where the harm is strong, whatever speaks against
//     it,
//   - is benign only if somebody says so, and unknown where opinions do not
//     suffice for more; an unknown weighs nothing, and neither does having no
//     opinion.
//
// Where strong evidence points both ways, the decision is flagged as a
// conflict.
type Weighted struct {
	// Confidence is how far each provider is trusted, from 0, not at all, to 1,
	// blindly. Those not named here keep their defaults: feodo 0.95 and
	// threatfox 0.9, which list what analysts have verified; greynoise 0.8,
	// which reports what its own sensors saw; abuseipdb 0.7, where anybody may
	// report; all others OtherConfidence.
	Confidence map[string]float64
	// OtherConfidence is for providers without a confidence of their own.
	// Default: 0.4, which alone makes an attacker suspicious, and two of which
	// make one malicious. Negative: none, they do not count.
	OtherConfidence float64
	// Groups names for each provider the group of sources it depends on, in the
	// form of [provider.ValidateName]; empty if it depends on none. Those not
	// named here keep their defaults: feodo and threatfox are in abuse_ch, all
	// others in none.
	Groups map[string]string
	// HalfLife is the age at which an opinion weighs half. Default: 14 days.
	HalfLife time.Duration
	// Malicious and Suspicious are the scores from which on the verdict is that.
	// Defaults: 0.5 and 0.15.
	Malicious, Suspicious float64
	// Benign is the score below zero, without its sign, at which the verdict is
	// benign. Default: 0.5.
	Benign float64
	// Strong is how much has to speak for harm, or for harmlessness, to be
	// strong evidence. Default: 0.5.
	Strong float64
	// Authoritative are the names of providers that outrank all others, such as
	// an operator's own allow or deny list: if any of them has an opinion other
	// than unknown, only theirs count, and the most severe of them wins. They
	// are trusted blindly and do not age.
	Authoritative []string
}

// The defaults of Weighted.
const (
	otherConfidence = 0.4
	halfLife        = 14 * 24 * time.Hour
	threshold       = 0.5 // of malicious, of benign and of strong evidence
	suspicion       = 0.15
)

func defaultConfidence(name string) (confidence float64, ok bool) {
	switch name {
	case "feodo":
		return 0.95, true
	case "threatfox":
		return 0.9, true
	case "greynoise":
		return 0.8, true
	case "abuseipdb":
		return 0.7, true
	}
	return 0, false
}

func defaultGroup(name string) string {
	switch name {
	case "feodo", "threatfox":
		return "abuse_ch"
	}
	return ""
}

// Validate reports everything that makes no sense about p; intel.NewWorker
// asks. Decide never fails: what Validate refuses counts there as the default.
func (p Weighted) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("aggregate: Weighted."+format, args...))
		}
	}
	for _, name := range slices.Sorted(maps.Keys(p.Confidence)) {
		if err := provider.ValidateName(name); err != nil {
			refuse(true, "Confidence: %w", err)
		}
		c := p.Confidence[name]
		refuse(!isConfidence(c), "Confidence[%q] is %v; it must be from 0 to 1", name, c)
	}
	refuse(!(p.OtherConfidence <= 1), "OtherConfidence is %v; it must be at most 1", p.OtherConfidence)
	for _, name := range slices.Sorted(maps.Keys(p.Groups)) {
		if err := provider.ValidateName(name); err != nil {
			refuse(true, "Groups: %w", err)
		}
		if g := p.Groups[name]; !isGroup(g) {
			refuse(true, "Groups[%q]: %w", name, provider.ValidateName(g))
		}
	}
	refuse(p.HalfLife < 0, "HalfLife is %v; it must not be negative", p.HalfLife)
	for _, t := range []struct {
		name  string
		value float64
	}{{"Malicious", p.Malicious}, {"Suspicious", p.Suspicious}, {"Benign", p.Benign}, {"Strong", p.Strong}} {
		refuse(t.value != 0 && !isThreshold(t.value), "%s is %v; it must be above 0 and at most 1", t.name, t.value)
	}
	e := p.effective()
	refuse(e.Suspicious > e.Malicious, "Suspicious is %v; it must not be above Malicious, %v", e.Suspicious, e.Malicious)
	for _, name := range p.Authoritative {
		if err := provider.ValidateName(name); err != nil {
			refuse(true, "Authoritative: %w", err)
		}
	}
	return errors.Join(errs...)
}

func isConfidence(c float64) bool { return c >= 0 && c <= 1 }
func isThreshold(t float64) bool  { return t > 0 && t <= 1 }
func isGroup(g string) bool       { return g == "" || provider.ValidateName(g) == nil }

// effective returns p with numbers in place of what is to be the default.
func (p Weighted) effective() Weighted {
	if p.HalfLife <= 0 {
		p.HalfLife = halfLife
	}
	switch {
	case p.OtherConfidence < 0:
		p.OtherConfidence = 0
	case p.OtherConfidence == 0, !isConfidence(p.OtherConfidence):
		p.OtherConfidence = otherConfidence
	}
	or := func(t *float64, def float64) {
		if !isThreshold(*t) {
			*t = def
		}
	}
	or(&p.Malicious, threshold)
	or(&p.Suspicious, suspicion)
	or(&p.Benign, threshold)
	or(&p.Strong, threshold)
	return p
}

// confidence and group are those of a provider, of a policy that is effective.
func (p *Weighted) confidence(name string) float64 {
	if c, ok := p.Confidence[name]; ok && isConfidence(c) {
		return c
	}
	if c, ok := defaultConfidence(name); ok {
		return c
	}
	return p.OtherConfidence
}

func (p *Weighted) group(name string) string {
	if g, ok := p.Groups[name]; ok && isGroup(g) {
		return g
	}
	return defaultGroup(name)
}

// Name returns "weighted/1", and for a policy that is not all defaults
// "weighted/1+" and a fingerprint of the parameters that are not, in eight
// hexadecimal digits. It stays the same as long as they do.
func (p Weighted) Name() string {
	const name = "weighted/1"
	p = p.effective()
	def := Weighted{OtherConfidence: p.OtherConfidence}
	differs, mark := false, uint32(0)
	add := func(parameter, of, value string) {
		h := fnv.New32a()
		for _, part := range [...]string{parameter, of, value} {
			h.Write([]byte(part)) // never fails
			h.Write([]byte{0})
		}
		differs, mark = true, mark+h.Sum32() // a sum, for maps have no order
	}
	number := func(parameter, of string, value, def float64) {
		if value != def {
			add(parameter, of, strconv.FormatFloat(value, 'g', -1, 64))
		}
	}
	number("other", "", p.OtherConfidence, otherConfidence)
	number("half-life", "", p.HalfLife.Seconds(), halfLife.Seconds())
	number("malicious", "", p.Malicious, threshold)
	number("suspicious", "", p.Suspicious, suspicion)
	number("benign", "", p.Benign, threshold)
	number("strong", "", p.Strong, threshold)
	for source := range p.Confidence {
		number("confidence", source, p.confidence(source), def.confidence(source))
	}
	for source := range p.Groups {
		if g := p.group(source); g != def.group(source) {
			add("group", source, g)
		}
	}
	for i, source := range p.Authoritative {
		if !slices.Contains(p.Authoritative[:i], source) {
			add("authoritative", source, "")
		}
	}
	if !differs {
		return name
	}
	return fmt.Sprintf("%s+%08x", name, mark)
}

// Decide implements [Policy]. Every finding becomes a reason.
func (p Weighted) Decide(evidence []Evidence, now time.Time) Decision {
	d := Decision{Policy: p.Name()}
	if len(evidence) == 0 {
		return d
	}
	p = p.effective()
	d.Reasons = make([]Reason, len(evidence))
	authority := false
	for i, e := range evidence {
		d.Reasons[i] = p.weigh(e, now)
		authority = authority || p.outranks(&d.Reasons[i])
	}
	slices.SortFunc(d.Reasons, func(a, b Reason) int { return cmp.Compare(a.Provider, b.Provider) })

	var harm, good float64
	if authority {
		harm, good = p.obey(d.Reasons)
	} else {
		ignoreDependents(d.Reasons)
		harm, good = sum(d.Reasons)
	}
	d.Score = thousandths(harm - good)
	d.Conflict = harm >= p.Strong && good >= p.Strong
	d.Verdict = p.verdict(&d, harm, authority)
	for i := range d.Reasons {
		r := &d.Reasons[i]
		switch d.Verdict {
		case provider.Malicious, provider.Suspicious:
			r.Decisive = r.Ignored == "" && r.Verdict > provider.Benign && (!authority || r.Verdict == d.Verdict)
		case provider.Benign:
			r.Decisive = r.Ignored == "" && r.Verdict == provider.Benign
		case provider.Unknown: // they all left it there
			r.Decisive = r.Verdict != provider.None
		}
	}
	return d
}

// weigh makes a finding a reason, which counts unless it has no weight.
func (p *Weighted) weigh(e Evidence, now time.Time) Reason {
	f := e.Finding
	r := Reason{
		Provider: f.Provider, Verdict: f.Verdict, ObservedAt: f.ObservedAt, Stale: e.Stale,
		Age:   max(now.Sub(f.ObservedAt), 0).Truncate(time.Second),
		Group: p.group(f.Provider),
	}
	if f.Verdict <= provider.Unknown {
		r.Ignored = NoOpinion
		return r
	}
	w := p.confidence(r.Provider) * math.Exp2(-r.Age.Seconds()/p.HalfLife.Seconds())
	if r.Verdict == provider.Suspicious {
		w /= 2
	}
	if p.outranks(&r) {
		w = 1
	}
	if r.Weight = thousandths(w); r.Weight == 0 {
		r.Ignored = Weightless
	}
	return r
}

// outranks reports whether the reason is an authority's opinion.
func (p *Weighted) outranks(r *Reason) bool {
	return r.Verdict > provider.Unknown && slices.Contains(p.Authoritative, r.Provider)
}

// obey ignores all reasons but those of authorities, which are one voice, and
// returns what that says.
func (p *Weighted) obey(reasons []Reason) (harm, good float64) {
	for i := range reasons {
		r := &reasons[i]
		switch {
		case r.Ignored == NoOpinion:
		case !p.outranks(r):
			r.Ignored = Outranked
		case r.Verdict == provider.Benign:
			good = 1
		default:
			harm = 1
		}
	}
	return harm, good
}

// ignoreDependents leaves one opinion for each group and side: the one of
// greatest weight, and among equals the first.
func ignoreDependents(reasons []Reason) {
	for i := range reasons {
		r := &reasons[i]
		for j := range reasons {
			o := &reasons[j]
			if r.Group != "" && r.Group == o.Group && r.Weight > 0 && r.harmful() == o.harmful() &&
				(o.Weight > r.Weight || o.Weight == r.Weight && j < i) {
				r.Ignored = Dependent
				break
			}
		}
	}
}

// harmful tells the side that an opinion is on.
func (r *Reason) harmful() bool { return r.Verdict > provider.Benign }

// sum adds up what counts, for each side.
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

// verdict draws the conclusion.
func (p *Weighted) verdict(d *Decision, harm float64, authority bool) provider.Verdict {
	verdict, worst := provider.None, provider.None
	for i := range d.Reasons {
		r := &d.Reasons[i]
		if r.Verdict != provider.None {
			verdict = provider.Unknown
		}
		if r.Weight > 0 && r.Ignored != Outranked {
			worst = max(worst, r.Verdict)
		}
	}
	switch {
	case authority, d.Score >= p.Malicious:
		return worst
	case d.Score >= p.Suspicious, harm >= p.Strong:
		return provider.Suspicious
	case d.Score <= -p.Benign:
		return provider.Benign
	}
	return verdict
}

// thousandths rounds to three decimals.
func thousandths(x float64) float64 { return math.Round(x*1000) / 1000 }
