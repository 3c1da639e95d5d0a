// Package lists has the lists that this module knows, as a table of data, and the
// operator's own lists. Each is a provider that answers from memory, so it costs
// no call and tells nobody outside which addresses are looked up.
//
// # What their findings say
//
// Known tells whether the address is listed. A list of scanners says benign, a
// block list suspicious or malicious, a label nothing. A finding about a listed
// address has the attributes listed (true), network (that of the row) and those
// of the list. A benign opinion whose network is not a single address, or that is
// the operator's, spares the calls to the providers that it outranks.
package lists

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/rest"
	"github.com/decnet/enrich/provider/threatfox"
)

// Options configure a list.
type Options struct {
	// Places replace where the list is published: URLs, or names of files.
	// Default: the publisher's.
	Places []string
	// KeyFunc returns the API key of the service that List.Key names.
	KeyFunc func() string
	// Dir is the directory where the list is kept across restarts; see
	// [feed.Options]. Empty: nowhere.
	Dir string
	// ReadOnly says that nothing is downloaded and nothing written; see
	// [feed.Options].
	ReadOnly bool
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

// Provider answers from a list. It implements [provider.Provider],
// [provider.Limited], [provider.Profiled] and [provider.Listing], and is safe for
// concurrent use. A lookup never waits: until the list is loaded it fails.
type Provider struct {
	feed    *feed.Feed[*row]
	name    string
	profile provider.Profile
	limits  provider.Limits
}

// row is what a list has about a network. Rows that say the same share one.
type row struct {
	verdict provider.Verdict
	attrs   map[string]any
}

// New returns the provider of a built-in list. It makes no request. The error
// wraps [provider.ErrConfig] and names every option that is wrong. The list named
// [ExportThreatFox] is a provider named threatfox.
func New(name string, o Options) (provider.Provider, error) {
	l, ok := Find(name)
	if !ok {
		return nil, rest.ConfigError("lists", fmt.Errorf("there is no list named %.40q; the lists are %s", name, strings.Join(Names(false), ", ")))
	}
	sources := l.Sources
	if len(o.Places) > 0 {
		sources = places(o.Places)
	}
	if l.Name == ExportThreatFox {
		if len(o.Places) == 0 {
			sources = nil
		}
		return threatfox.NewExport(threatfox.ExportOptions{KeyFunc: o.KeyFunc, Sources: sources, Dir: o.Dir, ReadOnly: o.ReadOnly, Transport: o.Transport, Now: o.Now})
	}
	if l.Key != "" {
		sources = slices.Clone(sources)
		for i := range sources {
			if sources[i].File == "" {
				sources[i].Key = rest.Key{
					Header: "Key", Func: o.KeyFunc, Required: len(o.Places) == 0,
					Name: "DECNET_" + strings.ToUpper(l.Key) + "_API_KEY",
				}
			}
		}
	}
	l.Profile.Local = true
	p := &Provider{name: l.Name, profile: l.Profile}
	var err error
	p.feed, err = feed.New(feed.Options[*row]{
		Provider: l.Name, Sources: sources, Format: l.format, Row: l.rows(), Merge: l.merge(), AnyWidth: l.anyWide,
		Interval: l.Interval, Spacing: l.Spacing, Cadence: l.Cadence,
		Dir: o.Dir, ReadOnly: o.ReadOnly, Transport: o.Transport, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	return p, nil
}

// places returns the sources that URLs and names of files are.
func places(texts []string) (sources []feed.Source) {
	for _, text := range texts {
		text = strings.TrimSpace(text)
		file, isFile := strings.CutPrefix(text, "file://")
		switch {
		case text == "":
		case !isFile && strings.Contains(text, "://"): // what is no URL of ours is refused, and not shown
			sources = append(sources, feed.Source{URL: text})
		default:
			sources = append(sources, feed.Source{File: file})
		}
	}
	return sources
}

// rows returns the function that makes rows. It makes one of all that say the
// same.
func (l *List) rows() func(label string, fields []string) (*row, bool) {
	same := map[string]*row{}
	var key strings.Builder
	return func(label string, fields []string) (*row, bool) {
		key.Reset()
		key.WriteString(label)
		if l.attrs != nil {
			for _, f := range fields {
				key.WriteByte(0)
				key.WriteString(f)
			}
		}
		if r, ok := same[key.String()]; ok {
			return r, r != nil
		}
		r := &row{verdict: l.Verdict, attrs: map[string]any{}}
		if l.attrs != nil {
			if r.attrs = l.attrs(label, fields); r.attrs == nil {
				same[strings.Clone(key.String())] = nil
				return nil, false
			}
		}
		if l.opinion != nil {
			r.verdict = l.opinion(r.attrs)
		}
		r.attrs["listed"] = true
		if len(same) > maxSame {
			clear(same)
		}
		same[strings.Clone(key.String())] = r
		return r, true
	}
}

// maxSame is how many different rows are compared with the next one.
const maxSame = 100_000

// merge returns the function that merges rows of a network that several parts of
// the list have.
func (l *List) merge() func(a, b *row) *row {
	if len(l.format.Fields) == 0 || l.format.Fields[0] != "list" {
		return nil
	}
	return func(a, b *row) *row { return joined(a, b) }
}

// joined returns a row with the names of two.
func joined(a, b *row) *row {
	one, _ := a.attrs["names"].([]string)
	two, _ := b.attrs["names"].([]string)
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(one, two))))
	if slices.Equal(all, one) {
		return a
	}
	attrs := maps.Clone(a.attrs)
	attrs["names"] = all
	return &row{a.verdict, attrs}
}

// Operator configures one of the operator's own lists.
type Operator struct {
	// Name is the name of the provider.
	Name string
	// Allow says that listed addresses are benign. They are malicious otherwise.
	Allow bool
	// Places are URLs, or names of files. All have to be readable.
	Places []string
	// Interval is the time between two downloads of a URL. Default: 15 min.
	Interval time.Duration
	// Dir, ReadOnly, Transport and Now are as in [Options].
	Dir       string
	ReadOnly  bool
	Transport http.RoundTripper
	Now       func() time.Time
}

// NewOperator returns the provider of an operator's own list. It may be short, and
// may contain private networks. A list that holds a row that is no network, or a
// network wider than /8 (IPv4) or /16 (IPv6), is refused as a whole.
func NewOperator(o Operator) (*Provider, error) {
	if o.Interval == 0 {
		o.Interval = 15 * time.Minute
	}
	verdict := provider.Malicious
	if o.Allow {
		verdict = provider.Benign
	}
	only := &row{verdict, map[string]any{"listed": true}}
	sources := places(o.Places)
	if len(sources) == 0 {
		return nil, rest.ConfigError(o.Name, errors.New("no file or URL is named"))
	}
	f, err := feed.New(feed.Options[*row]{
		Provider: o.Name, Sources: sources, Row: func(string, []string) (*row, bool) { return only, true },
		Operator: true, Interval: o.Interval, Spacing: min(o.Interval, time.Hour),
		Dir: o.Dir, ReadOnly: o.ReadOnly, Transport: o.Transport, Now: o.Now,
	})
	if err != nil {
		return nil, err
	}
	return &Provider{
		feed: f, name: o.Name, limits: provider.Limits{Private: true},
		profile: provider.Profile{Confidence: 1, Rank: provider.RankOperator, Local: true},
	}, nil
}

// Name returns the list's name.
func (p *Provider) Name() string { return p.name }

// Limits says that an operator's list may be asked about private addresses.
func (p *Provider) Limits() provider.Limits { return p.limits }

// Profile says how much the list's opinion is worth.
func (p *Provider) Profile() provider.Profile { return p.profile }

// Refresh implements [provider.Refresher].
func (p *Provider) Refresh(ctx context.Context) error { return p.feed.Refresh(ctx) }

// List implements [provider.Listing].
func (p *Provider) List() provider.ListStatus { return p.feed.Status() }

// Changed implements [provider.Listing].
func (p *Provider) Changed(since uint64) ([]netip.Prefix, uint64) { return p.feed.Changed(since) }

// Settled implements [provider.Listing].
func (p *Provider) Settled(version uint64) { p.feed.Settled(version) }

// Places returns where the list comes from: hosts and files.
func (p *Provider) Places() []string { return p.feed.Places() }

// Lookup implements [provider.Provider]. A lookup of an address that is not listed
// allocates nothing.
func (p *Provider) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	addr = provider.Canonical(addr)
	if !addr.IsValid() {
		return provider.Finding{}, &provider.Error{Provider: p.name, Kind: provider.ErrUnsupported}
	}
	if err := ctx.Err(); err != nil {
		return provider.Finding{}, &provider.Error{Provider: p.name, Kind: provider.ErrUnavailable, Err: err}
	}
	a, err := p.feed.Lookup(addr)
	if err != nil {
		return provider.Finding{}, err
	}
	f := provider.Finding{Provider: p.name, Addr: addr, ObservedAt: a.LoadedAt}
	if !a.Listed {
		return f, nil
	}
	r, network := a.Value, a.Network
	if network.IsSingleIP() {
		// A network around it says more about who owns it.
		for around, wider := range p.feed.Table().Containing(addr) {
			if r = joined(r, wider); !around.IsSingleIP() && wider.verdict == r.verdict {
				network = around
				break
			}
		}
	}
	f.Known, f.Verdict = true, r.verdict
	f.Attrs = maps.Clone(r.attrs)
	f.Attrs["network"] = network.String()
	return f, nil
}

var _ interface {
	provider.Provider
	provider.Limited
	provider.Profiled
	provider.Listing
} = (*Provider)(nil)
