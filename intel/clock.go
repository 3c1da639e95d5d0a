package intel

import (
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// horizon returns the longest time until a refresh or a retry. What is due later was
// scheduled by a clock that was wrong.
func (c *Config) horizon() time.Duration {
	longest := max(provider.Month, c.TTL, 2*c.RetryMax)
	for _, own := range c.Freshness {
		longest = max(longest, own.Known, own.Unknown)
	}
	return longest
}

// trust makes due now what cannot be due as late as the record says, and lets wait from
// now on what cannot have waited since then.
func (l *ledger) trust(c *Config, now time.Time) {
	for i := range l.record.Entries {
		e := &l.record.Entries[i]
		if e.Finding != nil && e.Expires.After(now.Add(c.ttl(*e.Finding)+clockSlack)) {
			e.Expires, l.moved = now.UTC(), true
		}
		if e.State == store.Due && e.Due.After(now.Add(c.horizon()+clockSlack)) {
			e.Due, l.moved = now.UTC(), true
		}
		if e.State == store.Waiting && e.Since.After(now.Add(clockSlack)) {
			e.Since, l.moved = now.UTC(), true
		}
	}
}

// clockSlack is how far apart the clocks of workers may be without being wrong.
const clockSlack = time.Minute
