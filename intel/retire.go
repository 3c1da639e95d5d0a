package intel

import (
	"time"

	"github.com/decnet/enrich/store"
)

// retirement is when the findings about an attacker are refreshed no more, as the
// attacker was not seen for Config.RefreshFor. The zero retirement is never.
type retirement time.Time

// retires returns when the findings about an attacker are refreshed no more. An
// attacker that was last seen more than RefreshFor after now, by a clock that was wrong,
// was seen at an unknown time.
func (c *Config) retires(r *store.Record, now time.Time) retirement {
	if c.RefreshFor < 0 || r.LastSeen.IsZero() {
		return retirement{}
	}
	seen, latest := r.LastSeen, now.Add(c.RefreshFor)
	if seen.After(latest) { // by a clock that was wrong
		seen = r.FirstSeen
	}
	if seen.After(latest) {
		return retirement(now)
	}
	return retirement(seen.Add(c.RefreshFor))
}

// by reports whether nothing is refreshed any more at a time.
func (r retirement) by(at time.Time) bool {
	return !time.Time(r).IsZero() && !at.Before(time.Time(r))
}

// keeps reports whether the finding of an entry, nil for none, is kept as it is at
// now: there is one that is not from the future, and it is refreshed no more.
func (l *ledger) keeps(e *store.Entry, now time.Time) bool {
	return e != nil && e.Finding != nil && l.retires.by(now) && !e.Finding.ObservedAt.After(now.Add(clockSlack))
}

// retire ends the attempts to refresh the finding of an entry.
func (l *ledger) retire(e *store.Entry) {
	if e.State != store.Fresh {
		l.move(e, store.Fresh, time.Time{})
	}
}
