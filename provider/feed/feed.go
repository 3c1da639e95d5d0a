// Package feed answers from a list that is downloaded as a whole: a snapshot in
// memory, looked up by address. Package feodo is its first user.
//
// There is no background goroutine. The first lookup after a download becomes
// due makes that download. If there is no list yet, all other lookups wait for
// it; if there is an old one, they answer from that. A download that fails
// leaves the old list in use and is not repeated before a backoff has passed. An
// empty list is a list like any other.
package feed

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/netip"
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

// Options configure a [Feed]. Provider, URL and Decode are required.
type Options[T any] struct {
	// Provider is the name that errors carry.
	Provider string
	// URL is where the list is published.
	URL string
	// BaseURL is what the operator configured to be used in place of URL; empty
	// for nothing. If it has neither a path nor a query, those of URL are kept.
	BaseURL string
	// Key is how the publisher is given an API key, if there is one.
	Key rest.Key
	// Transport carries the requests. Nil means one that all providers of the
	// process share.
	Transport http.RoundTripper
	// MaxBody is the greatest size of the list in bytes, compressed or not.
	// Zero means DefaultMaxBody.
	MaxBody int64
	// Decode parses a list. The keys of the map are in the form of
	// [provider.Canonical]; the feed takes the map over. The text of an error
	// must not hold any part of body.
	Decode func(body []byte) (map[netip.Addr]T, error)
	// Interval is the time from one successful download to the next, at least
	// MinInterval. Zero means DefaultInterval.
	Interval time.Duration
	// Timeout limits a download if the caller's context has no deadline. Zero
	// means DefaultTimeout.
	Timeout time.Duration
	// Now is the clock. Nil means time.Now.
	Now func() time.Time
}

func (o *Options[T]) validate() error {
	var errs []error
	if o.Decode == nil {
		errs = append(errs, errors.New("Decode is missing"))
	}
	if o.Interval != 0 && o.Interval < MinInterval {
		errs = append(errs, fmt.Errorf("Interval is %v; publishers want no less than %v", o.Interval, MinInterval))
	}
	if o.MaxBody < 0 {
		errs = append(errs, fmt.Errorf("MaxBody is %d; it must not be negative", o.MaxBody))
	}
	if o.Timeout < 0 {
		errs = append(errs, fmt.Errorf("Timeout is %v; it must not be negative", o.Timeout))
	}
	return errors.Join(errs...)
}

// Feed is a list that is kept up to date. It is safe for concurrent use.
type Feed[T any] struct {
	name     string
	client   *rest.Client
	decode   func([]byte) (map[netip.Addr]T, error)
	interval time.Duration
	now      func() time.Time

	state atomic.Pointer[state[T]]

	mu      sync.Mutex
	loading chan struct{} // closed when the running download ends; nil if none runs
}

// state is what a feed knows between two downloads. It is immutable.
type state[T any] struct {
	loaded       bool // a list was downloaded; it may be empty
	list         map[netip.Addr]T
	loadedAt     time.Time
	lastNonEmpty time.Time
	etag         string
	lastModified string

	due      time.Time // of the next download
	failures int       // since the last success
	err      error     // of the last download
}

// New returns a feed. It makes no request. The error wraps
// [provider.ErrConfig] and names every option that is wrong.
func New[T any](o Options[T]) (*Feed[T], error) {
	optErr := o.validate()
	if o.MaxBody == 0 {
		o.MaxBody = DefaultMaxBody
	}
	if o.Interval == 0 {
		o.Interval = DefaultInterval
	}
	if o.Timeout == 0 {
		o.Timeout = DefaultTimeout
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	client, err := rest.New(rest.Options{
		Provider: o.Provider, URL: o.URL, BaseURL: o.BaseURL, Key: o.Key, Transport: o.Transport,
		MaxBody: o.MaxBody, Timeout: o.Timeout, Now: o.Now,
	})
	if err := rest.ConfigError(o.Provider, optErr, err); err != nil {
		return nil, err
	}
	f := &Feed[T]{
		name:     o.Provider,
		client:   client,
		decode:   o.Decode,
		interval: o.Interval,
		now:      o.Now,
	}
	f.state.Store(&state[T]{})
	return f, nil
}

// Answer is what a list says about one address.
type Answer[T any] struct {
	// Listed tells whether the address is in the list.
	Listed bool
	// Value is what the list has about it; the zero T if it is not listed. It
	// is shared and must not be modified.
	Value T
	// LoadedAt is when the list was last found to be current, in UTC.
	LoadedAt time.Time
}

// Lookup looks up addr, which must be in the form of [provider.Canonical].
//
// If there is no list yet, Lookup downloads it, or waits for the running
// download until ctx ends. The error is then that of the download. If a new
// download is due and none runs, Lookup makes it and then answers, from the old
// list if it failed. Otherwise Lookup answers at once.
func (f *Feed[T]) Lookup(ctx context.Context, addr netip.Addr) (Answer[T], error) {
	if err := ctx.Err(); err != nil {
		return Answer[T]{}, f.canceled(err)
	}
	s := f.state.Load()
	if !s.loaded || f.isDue(s) {
		err := f.refresh(ctx, !s.loaded)
		if s = f.state.Load(); !s.loaded {
			return Answer[T]{}, err
		}
	}
	v, listed := s.list[addr]
	return Answer[T]{Listed: listed, Value: v, LoadedAt: s.loadedAt}, nil
}

// Stats describe a feed.
type Stats struct {
	// Loaded tells whether there is a list.
	Loaded bool
	// Entries is the number of addresses in the list. A list may be empty. If it
	// stays empty, its publisher may have abandoned it.
	Entries int
	// LoadedAt is when the list was last found to be current, in UTC; zero if
	// never.
	LoadedAt time.Time
	// LastNonEmpty is when a current list last held an address, in UTC; zero if
	// never.
	LastNonEmpty time.Time
	// NextLoad is when the next download is due.
	NextLoad time.Time
	// Err is the error of the last download; nil if it succeeded or there was
	// none.
	Err error
}

// Stats returns the present state of the feed.
func (f *Feed[T]) Stats() Stats {
	s := f.state.Load()
	return Stats{
		Loaded:       s.loaded,
		Entries:      len(s.list),
		LoadedAt:     s.loadedAt,
		LastNonEmpty: s.lastNonEmpty,
		NextLoad:     s.due,
		Err:          s.err,
	}
}

func (f *Feed[T]) isDue(s *state[T]) bool { return !f.now().Before(s.due) }

func (f *Feed[T]) canceled(err error) error {
	return &provider.Error{Provider: f.name, Kind: provider.ErrUnavailable, Err: err}
}
