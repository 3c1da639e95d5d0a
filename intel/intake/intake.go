// Package intake takes sightings of attackers into a store: from files that it
// follows across rotation, from connections, from HTTP requests and from the bus.
//
//	in, err := intake.New(intake.Options{Store: s, Wake: worker.Wake})
//	...
//	group.Go(func() error { return in.Follow(ctx, "/var/log/cowrie/cowrie.json") })
//
// An attacker is identified by [store.AttackerID]. It belongs to nobody else: do
// not use this package on a store whose attackers another program adds, such as
// DECNET's.
//
// Nothing is accepted before it is stored. While the store fails, a file is not
// read on, a connection is not read on, and a request is answered with 503.
package intake

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"time"

	"github.com/decnet/enrich/intel/sighting"
	"github.com/decnet/enrich/internal/backoff"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Options configures an [Intake].
type Options struct {
	// Store receives the attackers. It must implement [store.Registrar], and
	// [store.Positions] for [Intake.Follow]. Required.
	Store store.Store
	// Allow reports whether an address may be an attacker's. It is passed canonical
	// addresses. Nil means the zero [provider.Guard], which allows the globally
	// reachable ones; the method Allows of a Guard with Own excludes networks of
	// your own as well.
	Allow func(netip.Addr) bool
	// Wake is called after attackers were stored, for example the method Wake of an
	// intel.Worker. Nil means that nothing is called.
	Wake func()
	// Host distinguishes files of the same path on several machines that share a
	// store. It must stay the same when the program is started again. Empty is
	// right for a store that only one machine uses.
	Host string
	// Poll is the time between two looks at a followed file. Default: 200 ms.
	Poll time.Duration
	// Logger receives what an operator should see. Nil means slog.Default().
	Logger *slog.Logger
}

// Intake takes sightings into a store. Its methods are safe for concurrent use.
type Intake struct {
	options   Options
	registrar store.Registrar
	positions store.Positions // nil if the store is none
	log       *slog.Logger
	requests  chan struct{} // a place for each request under way
	combiner  combiner      // of their attackers
}

// New returns an Intake. It does no I/O. The error says what the store lacks.
func New(o Options) (*Intake, error) {
	if o.Store == nil {
		return nil, errors.New("intake: Options.Store is missing")
	}
	in := &Intake{options: o, log: o.Logger, requests: make(chan struct{}, maxRequests)}
	var ok bool
	if in.registrar, ok = store.As[store.Registrar](o.Store); !ok {
		return nil, errors.New("intake: attackers cannot be added to the store: it is no store.Registrar")
	}
	in.positions, _ = store.As[store.Positions](o.Store)
	if in.log == nil {
		in.log = slog.Default()
	}
	if in.options.Poll <= 0 {
		in.options.Poll = 200 * time.Millisecond
	}
	if in.options.Allow == nil {
		in.options.Allow = provider.Guard{}.Allows
	}
	if in.options.Wake == nil {
		in.options.Wake = func() {}
	}
	return in, nil
}

func (in *Intake) reader() sighting.Options {
	return sighting.Options{Allow: in.options.Allow}
}

// maxBatch is how many attackers are stored at once.
const maxBatch = 1000

// batch collects attackers, each once, with the first and the last time at which
// each was seen.
type batch struct {
	at   map[netip.Addr]int
	list []store.Attacker
}

func (b *batch) add(addr netip.Addr, seen time.Time) {
	now := time.Now()
	if seen.IsZero() || seen.After(now) { // a clock may be wrong
		seen = now
	}
	seen = seen.UTC()
	i, ok := b.at[addr]
	if !ok {
		if b.at == nil {
			b.at = make(map[netip.Addr]int)
		}
		b.at[addr] = len(b.list)
		b.list = append(b.list, store.Attacker{ID: store.AttackerID(addr), IP: addr.String(), FirstSeen: seen, LastSeen: seen})
		return
	}
	a := &b.list[i]
	if seen.Before(a.FirstSeen) {
		a.FirstSeen = seen
	}
	if seen.After(a.LastSeen) {
		a.LastSeen = seen
	}
}

func (b *batch) reset() {
	clear(b.at)
	b.list = b.list[:0]
}

// observe stores attackers.
func (in *Intake) observe(ctx context.Context, attackers []store.Attacker) error {
	return in.stored(in.registrar.Observe(ctx, attackers...))
}

// stored wakes the worker after a call that stores attackers and returns the call's
// error, unless it only names attackers that the store rejects for good, which is
// logged.
func (in *Intake) stored(err error) error {
	rejected, ok := errors.AsType[*store.ObserveError](err)
	if ok || err == nil {
		in.options.Wake()
	}
	if ok && !errors.Is(err, store.ErrLocked) { // then trying again helps
		in.log.Error("the store rejects attackers", "error", rejected)
		return nil
	}
	return err
}

// persist calls store until it succeeds or ctx is done, and reports the error of
// ctx. What is written to the log names what could not be stored.
func (in *Intake) persist(ctx context.Context, what string, store func() error) error {
	for failures := 0; ; {
		err := store()
		switch {
		case err == nil:
			if failures > 0 {
				in.log.Info("storing attackers again", "from", what)
			}
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if failures++; failures == 1 {
			in.log.Error("cannot store attackers; not reading on meanwhile", "from", what, "error", err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(backoff.Delay(100*time.Millisecond, 10*time.Second, failures)):
		}
	}
}

// reportRead logs what an input held.
func (in *Intake) reportRead(what string, r sighting.Report) {
	if r.Lines == 0 {
		return
	}
	args := []any{"from", what, "lines", r.Lines, "sightings", r.Sightings}
	if left := r.Left(); left != "" {
		args = append(args, "left_out", left)
	}
	if r.Sightings == 0 {
		in.log.Warn("read, and took no address", args...)
		return
	}
	in.log.Info("read", args...)
}
