// Package aggregate turns what several providers said about an attacker into
// one verdict. A [Policy] is a pure function: it does no I/O, and equal
// evidence at equal times gives equal decisions.
//
// # Rank
//
// A policy knows no source by name. What an opinion is worth is in the
// [provider.Profile] that comes with it. Both policies of this package treat
// its rank alike:
//
//   - An opinion silences the opinions of lower rank that contradict it. A
//     benign opinion silences the harmful ones (malicious, suspicious), a
//     harmful opinion the benign ones. Opinions that agree are never silenced,
//     and rank alone never silences a harmful opinion.
//   - An opinion that is itself silenced silences nothing.
//   - A stale opinion silences nothing, unless it is the operator's own
//     ([provider.RankOperator]), which does not age.
//   - If opinions of equal rank contradict each other, the decision has
//     Conflict set.
package aggregate

import (
	"cmp"
	"fmt"
	"hash/fnv"
	"maps"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// Evidence is one provider's finding as a policy sees it.
type Evidence struct {
	// Finding is what the provider said. It is shared: do not modify it.
	Finding *provider.Finding
	// Profile says how much that is worth. The zero Profile is that of a source
	// that declares none. A field that [provider.Profile.Validate] rejects has
	// the effect of its zero value.
	Profile provider.Profile
	// Stale says that the finding has outlived its TTL and was not replaced
	// yet, for example because the provider is down.
	Stale bool
	// Current says that the source still says the same, as a list does that has the
	// address: the opinion has no age.
	Current bool
}

// Policy decides. Its methods are safe for concurrent use.
//
// Two more methods are optional. If a policy has Validate() error,
// intel.NewWorker returns that error. If it has Sources() []string, these are
// the names of the providers that the policy treats specially, and
// intel.NewWorker rejects a name that no provider has.
type Policy interface {
	// Name identifies the policy, its version and its parameters, like
	// "strongest/2". Change it whenever the same evidence would be decided
	// differently.
	Name() string
	// Decide returns the verdict on evidence as of now. The evidence holds at
	// most one finding per provider, in any order, and may be empty. Decide keeps
	// no reference to the slice.
	Decide(evidence []Evidence, now time.Time) Decision
}

// Fingerprint identifies how a policy decides on findings of providers with the
// given profiles, by name. It is the policy's name, followed by "@" and eight
// hexadecimal digits if any profile bears on a decision. It changes when the
// confidence, group, derivation or rank of a source changes. The rest of a
// profile and profiles without any of these have no effect on it.
func Fingerprint(p Policy, profiles map[string]provider.Profile) string {
	h, differs := fnv.New32a(), false
	for _, name := range slices.Sorted(maps.Keys(profiles)) {
		f := profiles[name]
		if f.Confidence == 0 && f.Group == "" && len(f.DerivedFrom) == 0 && f.Rank == 0 {
			continue
		}
		differs = true
		from := slices.Compact(slices.Sorted(slices.Values(f.DerivedFrom)))
		fmt.Fprintf(h, "%q %v %q %q %d\n", name, f.Confidence, f.Group, from, f.Rank) // never fails
	}
	if !differs {
		return p.Name()
	}
	return fmt.Sprintf("%s@%08x", p.Name(), h.Sum32())
}

// Decision is a verdict that explains itself, in words with [Decision.String].
// The zero value is the decision that nothing is known.
//
// Stores keep decisions as JSON, including those of older versions: a field
// that is missing there has its zero value.
type Decision struct {
	// Verdict is the combined opinion; [provider.None] if no provider has one.
	Verdict provider.Verdict `json:"verdict"`
	// Policy identifies what decided. A policy enters its name, and the worker
	// replaces that by the [Fingerprint].
	Policy string `json:"policy,omitempty"`
	// Score is the balance of the evidence, from -1, harmless, to 1, harmful.
	// It is zero if the policy does not weigh.
	Score float64 `json:"score,omitempty"`
	// Conflict says that opinions contradict each other that do not outrank each
	// other, so that somebody should look. Its two sides are the reasons with an
	// opinion and without Ignored.
	Conflict bool `json:"conflict,omitempty"`
	// Reasons are the opinions that were considered, in order of provider name.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Reason is one opinion behind a [Decision]. Policies that do not weigh leave
// Weight and Group zero.
type Reason struct {
	// Provider is the name of the provider that has this opinion.
	Provider string `json:"provider"`
	// Verdict is the opinion.
	Verdict provider.Verdict `json:"verdict"`
	// ObservedAt is when the opinion was formed.
	ObservedAt time.Time `json:"observed_at"`
	// Stale says that the opinion had outlived its TTL when the decision was
	// made.
	Stale bool `json:"stale,omitempty"`
	// Decisive says that the verdict would have been another without this
	// opinion and the other decisive ones.
	Decisive bool `json:"decisive,omitempty"`
	// Weight is what the opinion weighs, from 0 to 1.
	Weight float64 `json:"weight,omitempty"`
	// Age is how long before the decision the opinion was formed, in whole
	// seconds. JSON has it in nanoseconds.
	Age time.Duration `json:"age,omitempty"`
	// Rank is the rank of the provider, see [provider.Profile].
	Rank int `json:"rank,omitempty"`
	// Group is the group of sources that the provider belongs to. It is empty
	// if the provider stands alone.
	Group string `json:"group,omitempty"`
	// Ignored says why the opinion did not count. It is empty if it did.
	Ignored Ignored `json:"ignored,omitempty"`
	// By is the provider whose opinion is why this one did not count. It is
	// empty if there is none.
	By string `json:"by,omitempty"`
}

// Ignored is why an opinion did not count, in words. A policy may have reasons
// of its own.
type Ignored string

// Why opinions do not count.
const (
	// NoOpinion: the provider answered and has none, or cannot tell.
	NoOpinion Ignored = "no opinion"
	// Weightless: the opinion is too old, or its source is not trusted at all.
	Weightless Ignored = "weightless"
	// Derived: a source that the provider copies has an opinion.
	Derived Ignored = "derived"
	// Dependent: another source of the group is on the same side with at least
	// that weight.
	Dependent Ignored = "dependent"
	// Outranked: an opinion of higher rank contradicts this one.
	Outranked Ignored = "outranked"
)

// Strongest is the default policy: of the opinions that are not silenced by
// rank, the strongest wins, in the order malicious, suspicious, benign,
// unknown. A finding without an opinion does not count. It makes no use of the
// confidence, group and derivation of a source, because it counts no
// witnesses. The zero value is ready to use.
type Strongest struct{}

// Name returns "strongest/2".
func (Strongest) Name() string { return "strongest/2" }

// Decide implements [Policy]. Every opinion, unknown included, becomes a
// reason.
func (s Strongest) Decide(evidence []Evidence, now time.Time) Decision {
	d := Decision{Policy: s.Name()}
	for i := range evidence {
		if evidence[i].Finding.Verdict == provider.None {
			continue
		}
		if d.Reasons == nil {
			d.Reasons = make([]Reason, 0, len(evidence))
		}
		d.Reasons = append(d.Reasons, reason(&evidence[i], now))
	}
	inOrder(d.Reasons)
	silence(d.Reasons)
	for i := range d.Reasons {
		if r := &d.Reasons[i]; r.Ignored == "" {
			d.Verdict = max(d.Verdict, r.Verdict)
		}
	}
	for i := range d.Reasons {
		r := &d.Reasons[i]
		r.Decisive = r.Ignored == "" && r.Verdict == d.Verdict
		d.Conflict = d.Conflict || r.Ignored == "" && r.Verdict == provider.Benign && d.Verdict > provider.Benign
	}
	return d
}

// reason returns the reason that a finding is, before anything is ignored.
func reason(e *Evidence, now time.Time) Reason {
	f := e.Finding
	r := Reason{
		Provider: f.Provider, Verdict: f.Verdict, ObservedAt: f.ObservedAt, Stale: e.Stale,
		Age: max(now.Sub(f.ObservedAt), 0).Truncate(time.Second),
	}
	if e.Current {
		r.Age = 0
	}
	if rank := e.Profile.Rank; rank >= provider.RankReputation && rank <= provider.RankOperator {
		r.Rank = rank
	}
	return r
}

func inOrder(reasons []Reason) {
	slices.SortFunc(reasons, func(a, b Reason) int { return cmp.Compare(a.Provider, b.Provider) })
}

// opinion reports whether the reason is more than that nobody can tell.
func (r *Reason) opinion() bool { return r.Verdict > provider.Unknown }

// harmful reports which of the two sides an opinion is on.
func (r *Reason) harmful() bool { return r.Verdict > provider.Benign }

// power is the rank below which an opinion silences those that contradict it.
func (r *Reason) power() int {
	if r.Stale && r.Rank < provider.RankOperator {
		return provider.RankReputation
	}
	return r.Rank
}

// silence ignores the opinions that are outranked. It needs the reasons in
// order and leaves alone those that are ignored already.
func silence(reasons []Reason) {
	var harm, good *Reason // the opinion of most power on each side
	for i := range reasons {
		r := &reasons[i]
		if r.Ignored != "" || !r.opinion() {
			continue
		}
		top := &good
		if r.harmful() {
			top = &harm
		}
		if *top == nil || r.power() > (*top).power() {
			*top = r
		}
	}
	if harm == nil || good == nil {
		return
	}
	harmPower, goodPower := harm.power(), good.power()
	if harmPower > good.Rank {
		goodPower = provider.RankReputation
	}
	if goodPower > harm.Rank {
		harmPower = provider.RankReputation
	}
	for i := range reasons {
		r := &reasons[i]
		switch {
		case r.Ignored != "" || !r.opinion():
		case r.harmful() && r.Rank < goodPower:
			r.Ignored, r.By = Outranked, good.Provider
		case !r.harmful() && r.Rank < harmPower:
			r.Ignored, r.By = Outranked, harm.Provider
		}
	}
}
