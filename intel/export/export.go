// Package export makes block lists, in forms that firewalls read, of the attackers in a
// store that may be blocked according to a policy.
//
// A block list hurts whoever is on it by mistake. So nothing is exported that is
// an own network, a private or other special-purpose address, or known to be
// harmless (see [Report]), and an export of too great a share of the internet
// fails. A list that is going to be published holds nothing that rests only on
// sources whose terms forbid that.
package export

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"math"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Options say which attackers are exported. The zero value exports those whose
// verdict is malicious.
type Options struct {
	// Verdicts are the verdicts of which one is needed: malicious, suspicious or
	// both. Default: malicious.
	Verdicts []provider.Verdict
	// MinScore is the score that the decision must have at least, from 0 to 1.
	// Policies that do not weigh give all decisions the score 0. Default: 0.
	MinScore float64
	// MinSources is the number of independent sources that must hold the attacker
	// for malicious or suspicious. Sources of one group count once, and a source
	// does not count beside one that it is derived from. Default: 1.
	MinSources int
	// MaxAge leaves out attackers that were not seen for that long. The others are
	// blocked until they have not been seen for MaxAge. Default: no limit.
	MaxAge time.Duration
	// Lifetime is how long an attacker is blocked at least, counted from the
	// export, if there is no MaxAge. It is rounded up to a full hour, so that the
	// list changes once an hour at most if nothing else does. Default: 24 h.
	Lifetime time.Duration
	// Own are networks that are never exported, beside all special-purpose ones.
	Own []netip.Prefix
	// MaxShare is the greatest share of all IPv4 addresses that an export may hold,
	// from 0 to 1. Collect returns [ErrTooMany] if it is exceeded. Default: 0.001,
	// which is 4,294,967 addresses. An IPv6 address is far too small a share to
	// count.
	MaxShare float64
	// AllowEmpty lets [List.WriteFile] replace a list that has entries by one that has
	// none, which unblocks everybody.
	AllowEmpty bool
	// Profiles are the profiles of the sources, by name.
	Profiles map[string]provider.Profile
	// Publish leaves out what rests only on sources whose profile says NoRepublish.
	// A source without a profile counts as one of these. The others are not named
	// in the list, and it has no scores, because the scores rest on all sources.
	Publish bool
	// Now is the time of the export. Default: time.Now().
	Now time.Time
}

// ErrTooMany is returned by [Collect] if the list would hold more than MaxShare of
// the internet.
var ErrTooMany = errors.New("too great a share of the internet")

// ErrEmpty is returned by [List.WriteFile] if the list is empty and the file is not.
var ErrEmpty = errors.New("the new list is empty")

// defaultMaxShare is how much of the internet is exported at most by default.
const defaultMaxShare = 0.001

func (o Options) withDefaults() Options {
	if len(o.Verdicts) == 0 {
		o.Verdicts = []provider.Verdict{provider.Malicious}
	}
	if o.MinSources == 0 {
		o.MinSources = 1
	}
	if o.Lifetime == 0 {
		o.Lifetime = 24 * time.Hour
	}
	if o.MaxShare == 0 {
		o.MaxShare = defaultMaxShare
	}
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	o.Now = o.Now.UTC()
	return o
}

// Validate returns an error that names every option that makes no sense.
func (o Options) Validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("export: Options."+format, args...))
		}
	}
	for _, v := range o.Verdicts {
		refuse(v != provider.Malicious && v != provider.Suspicious,
			"Verdicts has %q; only malicious and suspicious attackers can be blocked", v.String())
	}
	refuse(!(o.MinScore >= 0 && o.MinScore <= 1), "MinScore is %v; it must be from 0 to 1", o.MinScore)
	refuse(o.MinSources < 0, "MinSources is %d; it must not be negative", o.MinSources)
	refuse(o.MaxAge < 0, "MaxAge is %v; it must not be negative", o.MaxAge)
	refuse(o.Lifetime < 0, "Lifetime is %v; it must not be negative", o.Lifetime)
	refuse(!(o.MaxShare >= 0 && o.MaxShare <= 1), "MaxShare is %v; it must be from 0 to 1", o.MaxShare)
	return errors.Join(errs...)
}

// Entry is one address of a list.
type Entry struct {
	// Addr is the address, in the form of [provider.Canonical].
	Addr netip.Addr
	// ID is the attacker that has it; the one seen last if there are several.
	ID uuid.UUID
	// Verdict and Score are the decision's. Score is 0 in a list to be published.
	Verdict provider.Verdict
	Score   float64
	// Sources are the names of the sources that hold the attacker for malicious or
	// suspicious, in order. The slice must not be modified.
	Sources []string
	// FirstSeen and LastSeen are when the attacker was seen, and Expires is until
	// when it may be blocked; all in UTC.
	FirstSeen, LastSeen, Expires time.Time
}

// Report says what became of the attackers that were looked at: those with one of
// the verdicts that are exported, and seen since MaxAge.
type Report struct {
	// Attackers is the number of attackers that were looked at. Several may have
	// one address.
	Attackers int `json:"attackers"`
	// Exported is the number of addresses in the list.
	Exported int `json:"exported"`
	// NoAddress counts the attackers whose address is the text of none.
	NoAddress int `json:"no_address"`
	// Special counts the attackers with a private or other special-purpose
	// address, and Own those in Options.Own.
	Special int `json:"special"`
	Own     int `json:"own"`
	// Harmless counts the attackers that a source knows to be harmless, for example
	// because they are a research scanner or a well-known service, unless the
	// operator's own list condemns them.
	Harmless int `json:"harmless"`
	// LowScore and FewSources count those below MinScore and MinSources.
	LowScore   int `json:"low_score"`
	FewSources int `json:"few_sources"`
	// Unpublishable counts the attackers that Publish left out: all that speaks for
	// their verdict comes from sources that forbid republishing.
	Unpublishable int `json:"unpublishable"`
}

// String describes the report in one line.
func (r Report) String() string {
	text := fmt.Sprintf("exported %d addresses of %d attackers", r.Exported, r.Attackers)
	var left []string
	for _, c := range []struct {
		n    int
		what string
	}{
		{r.NoAddress, "without an address"}, {r.Special, "private or special-purpose"}, {r.Own, "in own networks"},
		{r.Harmless, "known to be harmless"}, {r.LowScore, "with too low a score"}, {r.FewSources, "with too few independent sources"},
		{r.Unpublishable, "that rest only on sources that forbid republishing"},
	} {
		if c.n > 0 {
			left = append(left, fmt.Sprintf("%d %s", c.n, c.what))
		}
	}
	if left != nil {
		text += "; left out " + strings.Join(left, ", ")
	}
	return text
}

// List is what [Collect] found. It does not change and may be used concurrently.
type List struct {
	// At is when it was collected.
	At time.Time
	// Report says what was exported and what was left out.
	Report  Report
	rows    []row
	sources [][]string

	allowEmpty bool
}

// row is an entry in less memory. Times are in microseconds since 1970.
type row struct {
	addr                 netip.Addr
	id                   uuid.UUID
	first, last, expires int64
	score                float32
	sources              uint32 // index into List.sources
	verdict              provider.Verdict
}

// Len returns the number of entries.
func (l *List) Len() int { return len(l.rows) }

// All returns the entries in order of address, IPv4 first.
func (l *List) All() iter.Seq[Entry] {
	return func(yield func(Entry) bool) {
		for i := range l.rows {
			if !yield(l.entry(&l.rows[i])) {
				return
			}
		}
	}
}

func (l *List) entry(r *row) Entry {
	return Entry{
		Addr: r.addr, ID: r.id, Verdict: r.verdict, Score: math.Round(float64(r.score)*1000) / 1000, Sources: l.sources[r.sources],
		FirstSeen: time.UnixMicro(r.first).UTC(), LastSeen: time.UnixMicro(r.last).UTC(), Expires: time.UnixMicro(r.expires).UTC(),
	}
}

// pageSize is how many records are read at once. Larger pages take more memory and
// hardly less time.
const pageSize = 256

// Collect reads the attackers that may be blocked from the store, page by page. An
// attacker that is seen again meanwhile is exported all the same, unless that
// sighting is older than the export. The memory that Collect needs grows with the
// number of attackers that have one of the verdicts, by about 150 bytes for each.
func Collect(ctx context.Context, s store.Lister, o Options) (*List, error) {
	if err := o.Validate(); err != nil {
		return nil, err
	}
	c := newCollector(o.withDefaults())
	began := time.Now()
	req := store.ListRequest{Verdicts: c.Verdicts, NoRaw: true, OnlyTrue: commonService}
	if c.MaxAge > 0 {
		req.SeenSince = c.Now.Add(-c.MaxAge)
	}
	if err := c.readAll(ctx, s, req); err != nil {
		return nil, err
	}
	// An attacker that was seen again has moved to the front of the listing, past
	// the page at which the reading was.
	req.SeenSince = began
	if err := c.readAll(ctx, s, req); err != nil {
		return nil, err
	}
	return c.list()
}

// readAll judges all records that a request lists.
func (c *collector) readAll(ctx context.Context, s store.Lister, req store.ListRequest) error {
	for req.Limit = pageSize; ; {
		page, err := s.List(ctx, req)
		if err != nil {
			return fmt.Errorf("export: list attackers: %w", err)
		}
		for i := range page.Records {
			c.add(&page.Records[i])
		}
		if req.Cursor = page.Next; req.Cursor == "" {
			return nil
		}
	}
}

// list returns the list of what was collected.
func (c *collector) list() (*List, error) {
	slices.SortFunc(c.rows, compare)
	rows := c.rows[:0]
	for i := range c.rows {
		r := &c.rows[i]
		switch last := len(rows) - 1; {
		case c.harmless[r.addr]: // by what is known under another UUID
		case last >= 0 && rows[last].addr == r.addr:
			rows[last].merge(r)
		default:
			rows = append(rows, *r)
		}
	}
	c.report.Exported = len(rows)
	v4 := 0
	for v4 < len(rows) && rows[v4].addr.Is4() {
		v4++
	}
	if most := c.MaxShare * (1 << 32); float64(v4) > most {
		return nil, fmt.Errorf("export: %d IPv4 addresses are %w: at most %.0f, a share of %v, may be exported", v4, ErrTooMany, most, c.MaxShare)
	}
	return &List{At: c.Now, Report: c.report, rows: rows, sources: c.sources, allowEmpty: c.AllowEmpty}, nil
}

// compare puts IPv4 addresses first, and of several attackers with one address the
// one seen last.
func compare(a, b row) int {
	return cmp.Or(a.addr.Compare(b.addr), cmp.Compare(b.last, a.last), bytes.Compare(a.id[:], b.id[:]))
}

// merge adds another attacker with the same address.
func (r *row) merge(other *row) {
	r.first = min(r.first, other.first)
	r.expires = max(r.expires, other.expires)
	if other.verdict > r.verdict || other.verdict == r.verdict && other.score > r.score {
		r.verdict, r.score, r.sources = other.verdict, other.score, other.sources
	}
}
