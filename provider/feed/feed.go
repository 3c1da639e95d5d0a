// Package feed answers from lists that are loaded as a whole: networks in memory,
// looked up by address. Package feodo and package lists are made with it.
//
// A [Feed] loads its list from URLs, from files, or from both, whenever
// [Feed.Refresh] is called and it is time. There is no background goroutine. A
// lookup never waits for a download: until there is a list, it fails at once.
//
// A new version replaces the old one as a whole, or not at all: if it is not what
// the list is supposed to be, the old one stays in use. With [Options].Dir, the
// list and the time of its next download survive a restart, and the processes
// that share the directory make one download between them.
package feed

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// Defaults and bounds of [Options].
const (
	DefaultInterval = time.Hour
	MinInterval     = 5 * time.Minute
	DefaultTimeout  = 2 * time.Minute
	DefaultMaxBody  = 64 << 20
)

// Source is where a list, or a part of it, is published.
type Source struct {
	// URL is downloaded. It is never shown beyond its host, as it may hold a key.
	URL string
	// BaseURL is what the operator configured to be used in place of URL; empty
	// for nothing. If it has neither a path nor a query, those of URL are kept.
	BaseURL string
	// Key is how the publisher is given an API key, if there is one.
	Key rest.Key
	// File is a file to be read in place of a URL. It is watched: each Refresh
	// looks whether it has changed.
	File string
	// Syntax is how the source writes the list. What has another syntax is refused, so
	// name it where you know it: messages are easily taken for a list of any syntax.
	Syntax Syntax
	// Label is what Options.Row is told about the rows' origin.
	Label string
}

// Options configure a [Feed]. Provider, Sources and Row are required.
type Options[T any] struct {
	// Provider is the name that errors carry, and that files in Dir are named
	// after.
	Provider string
	// Sources are the parts of the list. Their rows together are the list.
	Sources []Source
	// Format says which parts of a row matter.
	Format Format
	// Row returns what a row means, or false if it does not count. It is given the
	// label of the row's source and the row's fields, as many as Format.Fields or,
	// in a list without names, as the row has. The texts are parts of the whole
	// list: clone what is kept of them.
	Row func(label string, fields []string) (T, bool)
	// Merge returns what two rows with the same network mean. Nil means that the
	// later one counts.
	Merge func(a, b T) T
	// Refusal returns the error that the publisher's own error body means, whatever
	// the status; nil for an answer that is none, which is then judged by its
	// status. Nil means that the publisher has no such bodies.
	Refusal func(*rest.Response) error
	// MayBeEmpty says that an empty list is legitimate if it says that it is one: it
	// is an empty JSON array, has a header of CSV or a comment with the number of
	// rows, or is an object with an empty array and Source.Syntax is JSONObject. Such
	// a list may also shrink without limit.
	MayBeEmpty bool
	// AnyWidth says that networks of any width are legitimate.
	AnyWidth bool
	// Operator says that the list is the operator's own: it may be short, shrink
	// without limit, be empty, and hold special-purpose addresses. Every row must
	// be right. A JSON object with an empty array is refused as with MayBeEmpty.
	Operator bool
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// MaxBody is the greatest size of a source's list in bytes, compressed or not.
	// Zero means DefaultMaxBody.
	MaxBody int64
	// Interval is the time from one download to the next, at least MinInterval.
	// Zero means DefaultInterval.
	Interval time.Duration
	// Spacing is the least time from one request that the publisher may have seen to
	// the next, whatever became of it, also across restarts. Zero means an hour, or
	// Interval if that is less.
	Spacing time.Duration
	// Cadence is how often the publisher promises a new version. Zero: no promise.
	// The list is stale once it could not be found to be current for three times
	// as long.
	Cadence time.Duration
	// Timeout limits a download if the caller's context has no deadline. Zero
	// means DefaultTimeout.
	Timeout time.Duration
	// Dir is the directory where the list is kept across restarts. Empty: nowhere.
	// A source must not be one of the files that the list is kept in.
	Dir string
	// ReadOnly says that Refresh reads files, and what Dir holds, and neither downloads
	// nor writes anything.
	ReadOnly bool
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

func (o *Options[T]) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.Row == nil, "Row is missing")
	refuse(len(o.Sources) == 0, "Sources is empty; name a URL or a file")
	refuse(o.Interval != 0 && o.Interval < MinInterval, "Interval is %v; publishers want no less than %v", o.Interval, MinInterval)
	refuse(o.MaxBody < 0, "MaxBody is %d; it must not be negative", o.MaxBody)
	refuse(o.Timeout < 0, "Timeout is %v; it must not be negative", o.Timeout)
	refuse(o.Spacing < 0 || o.Spacing > max(o.Interval, DefaultInterval), "Spacing is %v; it must not be negative or more than Interval", o.Spacing)
	refuse(o.Cadence < 0, "Cadence is %v; it must not be negative", o.Cadence)
	for _, s := range o.Sources {
		refuse(s.File != "" && (s.URL != "" || s.BaseURL != ""), "a source has both a URL and a file")
		refuse(s.File != "" && o.Dir != "" && o.keepsIn(s.File), "the file %s is where the list is kept once it was read; rename it, or keep lists in another directory", s.File)
		refuse(s.Syntax < AnySyntax || s.Syntax > ExitNodes, "a source's Syntax is %d; there is none like that", int(s.Syntax))
	}
	return errors.Join(errs...)
}

// Feed is a list that is kept up to date. It is safe for concurrent use.
type Feed[T any] struct {
	o     Options[T]
	state atomic.Pointer[state[T]]

	mu      sync.Mutex
	loading chan struct{} // closed when the running refresh ends; nil if none runs

	// Only the refresh that runs uses the fields below.
	parts    []*part
	restored bool // what Dir holds was read

	changes changes[T]
	unused  atomic.Bool           // the list was not in use before, and what follows from that is not done
	unkept  atomic.Pointer[error] // why the last file could not be written
}

// part is one source and what was last loaded from it.
type part struct {
	Source
	client *rest.Client // nil for a file
	place  string       // identifies the source, without revealing it

	loaded       bool
	sum          [sha256.Size]byte // of the body
	body         string            // unpacked; only if there are several parts
	etag         string
	lastModified string
	was          os.FileInfo // of a file, when it was last read; nil if there was none
	err          error       // of the last attempt
}

// state is what a feed knows between two refreshes. It is immutable.
type state[T any] struct {
	loaded       bool // there is a list; it may be empty
	table        *Table[T]
	skipped      int       // rows that were left out
	checkedAt    time.Time // when the list was last found to be current
	changedAt    time.Time // since when its rows are these
	lastNonEmpty time.Time
	shrunk       bool // the last version was refused for its size
	snapshot     bool // read from Dir, and not found to be current since

	due      time.Time // of the next download
	failures int       // since the last success
	err      error     // of the last refresh
}

// New returns a feed. It makes no request and reads no file. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New[T any](o Options[T]) (*Feed[T], error) {
	errs := []error{o.validate()}
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Spacing == 0 {
		o.Spacing = min(time.Hour, o.Interval)
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	f := &Feed[T]{o: o}
	for _, s := range o.Sources {
		p := &part{Source: s, place: place(s)}
		if s.File == "" {
			var err error
			p.client, err = rest.New(rest.Options{
				Provider: o.Provider, URL: s.URL, BaseURL: s.BaseURL, Key: s.Key, Transport: o.Transport,
				MaxBody: o.MaxBody, Timeout: o.Timeout, Now: o.Now,
			})
			errs = append(errs, err)
		}
		f.parts = append(f.parts, p)
	}
	errs = append(errs, provider.ValidateName(o.Provider))
	if err := rest.ConfigError(o.Provider, errs...); err != nil {
		return nil, err
	}
	f.state.Store(&state[T]{})
	return f, nil
}

// Name returns [Options].Provider.
func (f *Feed[T]) Name() string { return f.o.Provider }

// Answer is what a list says about one address.
type Answer[T any] struct {
	// Listed tells whether a row contains the address.
	Listed bool
	// Network is that of the most specific row, and Value what the list has about
	// it. Value is shared and must not be modified. They are zero if the address is
	// not listed.
	Network netip.Prefix
	Value   T
	// LoadedAt is when the list was last found to be current, in UTC.
	LoadedAt time.Time
}

// Lookup looks up addr. It never waits. If there is no list yet, it returns an
// error that wraps [provider.ErrUnavailable], and the reason if the last
// Refresh failed.
func (f *Feed[T]) Lookup(addr netip.Addr) (a Answer[T], err error) {
	s := f.state.Load()
	if !s.loaded {
		if s.err != nil {
			return a, s.err
		}
		return a, f.fail(provider.ErrUnavailable, errNotLoaded)
	}
	a.LoadedAt = s.checkedAt
	a.Network, a.Value, a.Listed = s.table.Find(addr)
	return a, nil
}

var errNotLoaded = errors.New("the list is not loaded yet")

// Table returns the present version of the list, and nil if there is none.
func (f *Feed[T]) Table() *Table[T] { return f.state.Load().table }

// Status describes the list; see [provider.Listing].
func (f *Feed[T]) Status() provider.ListStatus {
	s := f.state.Load()
	now := f.o.Now()
	st := provider.ListStatus{
		Loaded: s.loaded, Rows: s.table.Len(), Skipped: s.skipped, LoadedAt: s.checkedAt, ChangedAt: s.changedAt,
		LastNonEmpty: s.lastNonEmpty, NextLoad: s.due, FromSnapshot: s.snapshot, Watched: f.watches(), Stale: f.stale(s, now), Shrunk: s.shrunk,
	}
	if s.err != nil {
		st.Error = s.err.Error()
	}
	if err := f.unkept.Load(); err != nil {
		st.Unkept = (*err).Error()
	}
	return st
}

// stale reports whether the list is older than three of its cadences. A file is
// the operator's to keep up to date.
func (f *Feed[T]) stale(s *state[T], now time.Time) bool {
	return s.loaded && f.o.Cadence > 0 && f.downloads() && now.Sub(s.checkedAt) > 3*f.o.Cadence
}

// keeps reports whether files in Dir are written.
func (f *Feed[T]) keeps() bool { return f.o.Dir != "" && !f.o.ReadOnly }

// watches reports whether any source is a file.
func (f *Feed[T]) watches() bool {
	return slices.ContainsFunc(f.parts, func(p *part) bool { return p.client == nil })
}

// Stale reports whether the list is older than three of its cadences.
func (f *Feed[T]) Stale() bool { return f.stale(f.state.Load(), f.o.Now()) }

// Places returns where the list comes from: hosts and files.
func (f *Feed[T]) Places() []string {
	var places []string
	for _, p := range f.parts {
		if shown := p.shown(); len(places) == 0 || places[len(places)-1] != shown {
			places = append(places, shown)
		}
	}
	return places
}

// shown returns where the part comes from, as it may be shown.
func (p *part) shown() string {
	if p.File != "" {
		return p.File
	}
	return host(p.Source)
}

// host returns the host of a source's URL.
func host(s Source) string {
	u := s.URL
	if s.BaseURL != "" {
		u = s.BaseURL
	}
	_, u, _ = strings.Cut(u, "://")
	if i := strings.IndexAny(u, "/?#"); i >= 0 {
		u = u[:i]
	}
	return u
}

func (f *Feed[T]) fail(kind, err error) *provider.Error {
	return &provider.Error{Provider: f.o.Provider, Kind: kind, Err: err}
}

// path returns a file of the feed in Options.Dir.
func (f *Feed[T]) path(suffix string) string {
	return filepath.Join(f.o.Dir, f.o.Provider+suffix)
}

func (f *Feed[T]) canceled(ctx context.Context) error {
	return f.fail(provider.ErrUnavailable, ctx.Err())
}
