package intel

import (
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Spending says who is asked about first when a provider cannot be asked about
// all: its quota is spent, or it was left alone. The zero value is the default:
// attackers without an opinion before those already decided, among equals the
// most recently seen first, and one call in eight for whoever has been waiting
// longest, so that nobody waits forever.
type Spending struct {
	// Rank returns the rank of an attacker that waits for the named provider:
	// greater ranks go first. It is called when the record is saved, must be
	// safe for concurrent use and must not modify the record. Default:
	// UndecidedFirst.
	Rank func(r *store.Record, provider string) int
	// Fair is the fraction of the calls, at most 1, that goes to the attackers
	// that have been waiting longest, whatever their rank. Default: 1/8.
	// Negative: none, and some may wait forever.
	Fair float64
	// SkipDecided saves calls to a provider with quotas about an attacker whose
	// verdict would be the same whatever the provider said, according to the
	// policy. Such an attacker lacks that provider's details. When a finding
	// expires that the verdict rests on, the question is asked anew.
	SkipDecided bool
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

// settled reports whether the verdict on evidence is the same whatever the
// named provider, which is not among those heard, were to say.
func settled(p aggregate.Policy, evidence []aggregate.Evidence, r *store.Record, name string, now time.Time) bool {
	verdict := p.Decide(evidence, now).Verdict
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
		f := &provider.Finding{Provider: name, Addr: r.Addr(), Known: v > provider.Unknown, Verdict: v, ObservedAt: now}
		if p.Decide(append(others, aggregate.Evidence{Finding: f}), now).Verdict != verdict {
			return false
		}
	}
	return true
}
