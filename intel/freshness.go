package intel

import (
	"cmp"
	"time"

	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Freshness is how long the findings of one provider are fresh. A zero field
// leaves it to the finding's own TTL, and if that is zero to [Config].TTL.
type Freshness struct {
	// Known is for findings about addresses that the provider has.
	Known time.Duration
	// Unknown is for the answer that it does not have the address, which
	// mostly stays true for longer.
	Unknown time.Duration
}

// ttl returns how long a finding is fresh, before jitter.
func (c *Config) ttl(f provider.Finding) time.Duration {
	own := c.Freshness[f.Provider]
	ttl := own.Known
	if !f.Known {
		ttl = own.Unknown
	}
	return cmp.Or(ttl, min(f.TTL, max(provider.Month, c.TTL)), c.TTL)
}

// ahead returns from when on a new sighting of the attacker may replace the
// finding of an entry, which is fresh.
func (c *Config) ahead(e *store.Entry) time.Time {
	life := e.Expires.Sub(e.Finding.ObservedAt)
	return e.Finding.ObservedAt.Add(time.Duration(c.RefreshAhead * float64(life)))
}

// aheadRest is how long an attacker that was seen again is left alone if there
// was no budget to spare for it.
const aheadRest = time.Hour

// early reports whether an entry that is fresh is to be asked about again,
// because the attacker was seen since and the provider has calls to spare.
func (c *Config) early(l *ledger, e *store.Entry, now time.Time, st func() gate.Status) bool {
	seen := l.record.LastSeen
	return c.RefreshAhead < 1 && seen.After(e.Finding.ObservedAt) && !seen.After(now.Add(clockSlack)) && !now.Before(c.ahead(e)) && st().Idle
}

// sightingsFrom returns from when on being seen again is to make the attacker
// due: when the first of its fresh findings may be replaced early, or has expired
// without being refreshed. It is zero for never.
func (c *Config) sightingsFrom(l *ledger, names []string, now time.Time) (from time.Time) {
	for _, name := range names {
		e := l.record.Entry(name)
		if e == nil || e.State != store.Fresh || e.Finding == nil {
			continue
		}
		if (l.retires.by(e.Expires) || l.retires.by(now)) && (from.IsZero() || e.Expires.Before(from)) {
			from = e.Expires
		}
		if c.RefreshAhead >= 1 {
			continue
		}
		at := c.ahead(e)
		if !at.After(now) { // there was nothing to spare
			at = now.Add(aheadRest)
		}
		if at.Before(e.Expires) && (from.IsZero() || at.Before(from)) {
			from = at
		}
	}
	return from
}
