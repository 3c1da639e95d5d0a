// Package aggregate turns what several providers said about an attacker into
// one verdict. A [Policy] is a pure function: it does no I/O, and equal
// evidence at equal times gives equal decisions.
package aggregate

import (
	"cmp"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
)

// Evidence is one provider's finding as a policy sees it.
type Evidence struct {
	// Finding is what the provider said. It is shared: do not modify it.
	Finding *provider.Finding
	// Stale says that the finding has outlived its TTL and was not replaced
	// yet, for example because the provider is down.
	Stale bool
}

// Policy decides. Its methods are safe for concurrent use.
type Policy interface {
	// Name identifies the policy and its version, like "strongest/1". Change it
	// whenever the same evidence would be decided differently.
	Name() string
	// Decide returns the verdict on evidence, which holds at most one finding
	// per provider and may be empty, as of now. It keeps no reference to the
	// slice.
	Decide(evidence []Evidence, now time.Time) Decision
}

// Decision is a verdict that explains itself. The zero value is the decision
// that nothing is known.
//
// Stores keep decisions as JSON, those of older versions too: a field that is
// missing there has its zero value.
type Decision struct {
	// Verdict is the combined opinion; [provider.None] if no provider has one.
	Verdict provider.Verdict `json:"verdict"`
	// Policy is the name of the policy that decided.
	Policy string `json:"policy,omitempty"`
	// Score is the balance of the evidence, from -1, harmless, to 1, harmful.
	// It is zero if the policy does not weigh.
	Score float64 `json:"score,omitempty"`
	// Conflict says that strong evidence points both ways, so that somebody
	// should look. It is false if the policy does not weigh.
	Conflict bool `json:"conflict,omitempty"`
	// Reasons are the opinions that were considered, in order of provider name.
	Reasons []Reason `json:"reasons,omitempty"`
}

// Reason is one opinion behind a [Decision]. Weight, Age, Group and Ignored
// are left zero by policies that do not weigh.
type Reason struct {
	// Provider is the name of the provider whose opinion it is.
	Provider string `json:"provider"`
	// Verdict is that opinion.
	Verdict provider.Verdict `json:"verdict"`
	// ObservedAt is when it was formed.
	ObservedAt time.Time `json:"observed_at"`
	// Stale says that it had outlived its TTL when the decision was made.
	Stale bool `json:"stale,omitempty"`
	// Decisive says that without this opinion, or others like it, the verdict
	// would have been another.
	Decisive bool `json:"decisive,omitempty"`
	// Weight is what the opinion weighs, from 0 to 1.
	Weight float64 `json:"weight,omitempty"`
	// Age is how long before the decision the opinion was formed, in whole
	// seconds. JSON has it in nanoseconds.
	Age time.Duration `json:"age,omitempty"`
	// Group names the sources that the opinion is not independent of. It is
	// empty if the source stands alone.
	Group string `json:"group,omitempty"`
	// Ignored says why the opinion did not count. It is empty if it did.
	Ignored Ignored `json:"ignored,omitempty"`
}

// Ignored is why an opinion did not count, in words. A policy may have reasons
// of its own.
type Ignored string

// Why opinions do not count.
const (
	// NoOpinion: the provider answered and has none, or cannot tell.
	NoOpinion Ignored = "no opinion"
	// Weightless: it is too old, or the policy gives its source no confidence.
	Weightless Ignored = "weightless"
	// Dependent: a source of the same group says so with at least that weight.
	Dependent Ignored = "dependent"
	// Outranked: an authoritative provider has an opinion.
	Outranked Ignored = "outranked"
)

// Strongest is the default policy: the strongest opinion wins, in the order
// malicious, suspicious, benign, unknown; a finding without an opinion does not
// count. The zero value is ready to use.
type Strongest struct {
	// Authoritative are the names of providers that outrank all others, such as
	// an operator's own allow or deny list: if any of them has an opinion other
	// than unknown, only theirs count. It must not be modified after the first
	// use.
	Authoritative []string
}

// Name returns "strongest/1".
func (Strongest) Name() string { return "strongest/1" }

// Decide implements [Policy].
func (s Strongest) Decide(evidence []Evidence, _ time.Time) Decision {
	d := Decision{Policy: s.Name()}
	authority := false
	for _, e := range evidence {
		f := e.Finding
		if f.Verdict == provider.None {
			continue
		}
		if d.Reasons == nil {
			d.Reasons = make([]Reason, 0, len(evidence))
		}
		d.Reasons = append(d.Reasons, Reason{
			Provider: f.Provider, Verdict: f.Verdict, ObservedAt: f.ObservedAt, Stale: e.Stale,
		})
		outranks := f.Verdict > provider.Unknown && slices.Contains(s.Authoritative, f.Provider)
		switch {
		case outranks && !authority:
			authority, d.Verdict = true, f.Verdict
		case outranks == authority:
			d.Verdict = max(d.Verdict, f.Verdict)
		}
	}
	for i := range d.Reasons {
		r := &d.Reasons[i]
		r.Decisive = r.Verdict == d.Verdict && (!authority || slices.Contains(s.Authoritative, r.Provider))
	}
	slices.SortFunc(d.Reasons, func(a, b Reason) int {
		return cmp.Compare(a.Provider, b.Provider)
	})
	return d
}
