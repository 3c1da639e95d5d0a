package export

import (
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// collector judges records and keeps what is exported.
type collector struct {
	Options
	expires int64 // of all entries, if there is no MaxAge
	report  Report
	judged  map[uuid.UUID]struct{}

	rows     []row
	harmless map[netip.Addr]bool // addresses that are left out whoever has them
	sources  [][]string
	index    map[string]uint32 // into sources, by the names joined
}

func newCollector(o Options) *collector {
	return &collector{
		Options: o, expires: o.Now.Truncate(time.Hour).Add(o.Lifetime + time.Hour).UnixMicro(),
		judged: make(map[uuid.UUID]struct{}), harmless: make(map[netip.Addr]bool), index: make(map[string]uint32),
	}
}

// add judges a record that was not judged yet, and keeps it if it is exported.
func (c *collector) add(rec *store.Record) {
	if _, again := c.judged[rec.ID]; again {
		return
	}
	c.judged[rec.ID] = struct{}{}
	c.report.Attackers++
	addr := rec.Addr()
	if why := c.refuse(rec, addr); why != nil {
		*why++
		return
	}
	sources := c.accusers(rec.Decision.Reasons)
	switch {
	case c.Publish && !c.publishable(rec.Decision.Reasons):
		c.report.Unpublishable++
		return
	case rec.Decision.Score < c.MinScore:
		c.report.LowScore++
		return
	case c.independent(sources) < c.MinSources:
		c.report.FewSources++
		return
	}
	r := row{
		addr: addr, id: rec.ID, verdict: rec.Decision.Verdict, score: float32(rec.Decision.Score),
		first: rec.FirstSeen.UnixMicro(), last: rec.LastSeen.UnixMicro(), expires: c.expires, sources: c.intern(sources),
	}
	if c.Publish {
		r.score = 0
	}
	if c.MaxAge > 0 {
		r.expires = earlier(rec.LastSeen, c.Now).Add(c.MaxAge).UnixMicro()
	}
	c.rows = append(c.rows, r)
}

// earlier returns the earlier of two times: a sighting in the future is one now.
func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// refuse returns the counter of the guard that keeps a record out of every list, or
// nil.
func (c *collector) refuse(rec *store.Record, addr netip.Addr) *int {
	switch {
	case !addr.IsValid():
		return &c.report.NoAddress
	case !(provider.Guard{}).Allows(addr):
		return &c.report.Special
	case len(c.Own) > 0 && !(provider.Guard{Own: c.Own}).Allows(addr):
		return &c.report.Own
	case isHarmless(rec):
		c.harmless[addr] = true
		return &c.report.Harmless
	}
	return nil
}

// commonService is the attribute by which GreyNoise marks well-known services.
const commonService = "riot"

// isHarmless reports whether a source knows that the address is harmless, whatever
// others say: a benign opinion, or GreyNoise's list of common services. The
// operator's own condemnation overrides that.
func isHarmless(rec *store.Record) bool {
	harmless := false
	for i := range rec.Decision.Reasons {
		r := &rec.Decision.Reasons[i]
		if counts(r) && r.Rank >= provider.RankOperator {
			return false
		}
		harmless = harmless || r.Verdict == provider.Benign
	}
	for i := range rec.Entries {
		if f := rec.Entries[i].Finding; f != nil {
			common, _ := f.Attrs[commonService].(bool)
			harmless = harmless || common
		}
	}
	return harmless
}

// counts reports whether a reason is a harmful opinion that counted.
func counts(r *aggregate.Reason) bool { return r.Ignored == "" && r.Verdict > provider.Benign }

// mayPublish reports whether a source allows republishing.
func (c *collector) mayPublish(name string) bool {
	profile, known := c.Profiles[name]
	return known && !profile.NoRepublish
}

// publishable reports whether an opinion that decided comes from a source that
// allows republishing.
func (c *collector) publishable(reasons []aggregate.Reason) bool {
	return slices.ContainsFunc(reasons, func(r aggregate.Reason) bool {
		return r.Decisive && counts(&r) && c.mayPublish(r.Provider)
	})
}

// accusers returns the names of the sources with a harmful opinion, in order.
// Those that forbid republishing are left out of a list to be published.
func (c *collector) accusers(reasons []aggregate.Reason) []string {
	var names []string
	for i := range reasons {
		if r := &reasons[i]; counts(r) && (!c.Publish || c.mayPublish(r.Provider)) {
			names = append(names, r.Provider)
		}
	}
	return names
}

// independent counts the sources that do not depend on each other.
func (c *collector) independent(names []string) (n int) {
	var groups []string
	for _, name := range names {
		profile := c.Profiles[name]
		switch {
		case c.derives(name, names, nil):
		case profile.Group == "":
			n++
		case !slices.Contains(groups, profile.Group):
			groups = append(groups, profile.Group)
			n++
		}
	}
	return n
}

// derives reports whether a source copies one of the named ones, directly or
// through others that are not in passed.
func (c *collector) derives(name string, named, passed []string) bool {
	for _, from := range c.Profiles[name].DerivedFrom {
		if slices.Contains(passed, from) || from == name {
			continue
		}
		if slices.Contains(named, from) || c.derives(from, named, append(passed, name)) {
			return true
		}
	}
	return false
}

// intern returns the index of these names in c.sources.
func (c *collector) intern(names []string) uint32 {
	key := strings.Join(names, " ")
	i, ok := c.index[key]
	if !ok {
		i = uint32(len(c.sources))
		c.sources, c.index[key] = append(c.sources, names), i
	}
	return i
}
