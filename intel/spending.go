package intel

import (
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Spending sets the order in which attackers get the calls of a provider that
// cannot be asked about all of them: its quota is exhausted, or it was paused.
// The zero value is the default: attackers without an opinion go before those
// already decided, and among equals the most recently seen first. One call in
// eight goes to the attacker that has been waiting longest, so that no attacker
// waits forever.
type Spending struct {
	// Rank returns the rank of an attacker that waits for the named provider:
	// greater ranks go first. It is called when the record is saved, must be
	// safe for concurrent use and must not modify the record. Default:
	// UndecidedFirst.
	Rank func(r *store.Record, provider string) int
	// Fair is the fraction of the calls, at most 1, that goes to the attackers
	// that have been waiting longest, whatever their rank. Default: 1/8.
	// Negative: none, so that some attackers may wait forever.
	Fair float64
	// SkipDecided saves calls to a provider with quotas: an attacker is not
	// looked up there if its verdict would be the same whatever the provider
	// answered, according to the policy. Its record then lacks that provider's
	// details. The question is asked again when a finding expires.
	SkipDecided bool
	// DeferDecided keeps the calls of a provider with quotas for attackers without a
	// verdict: one that is decided, by lists for example, is looked up there only
	// while more than half of each quota is left. Set it where nobody needs that
	// provider's details on every attacker.
	DeferDecided bool
}

// UndecidedFirst is the default of [Spending].Rank: 2 for an attacker without a
// verdict, 1 for one whose verdict is unknown, and 0 for all others.
func UndecidedFirst(r *store.Record, _ string) int {
	switch r.Decision.Verdict {
	case provider.None:
		return 2
	case provider.Unknown:
		return 1
	}
	return 0
}

// settled reports whether the verdict on l would be the same whatever the named
// provider answered now.
func (w *Worker) settled(l *ledger, name string, now time.Time) bool {
	policy, evidence := w.config.Policy, w.evidence(l, now)
	verdict := policy.Decide(evidence, now).Verdict
	if verdict == provider.None {
		return false
	}
	others := make([]aggregate.Evidence, 0, len(evidence)+1)
	for _, e := range evidence {
		if e.Finding.Provider != name {
			others = append(others, e)
		}
	}
	for v := provider.None; v <= provider.Malicious; v++ {
		answer := aggregate.Evidence{
			Finding: &provider.Finding{Provider: name, Addr: l.addr, Known: v > provider.Unknown, Verdict: v, ObservedAt: now},
			Profile: w.profiles[name],
		}
		if policy.Decide(append(others, answer), now).Verdict != verdict {
			return false
		}
	}
	return true
}
