package intel

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel/internal/gate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// The interfaces an embedder implements, so that one import is enough.
type (
	// Provider is an alias of [provider.Provider].
	Provider = provider.Provider
	// Store is an alias of [store.Store].
	Store = store.Store
	// Bus is an alias of [bus.Bus].
	Bus = bus.Bus
)

// Config configures a [Worker]. Only Store is required: the zero value of
// every other field stands for the default given with it.
type Config struct {
	// Store holds the attackers. The worker does not close it.
	Store Store
	// Bus wakes the worker and carries what it announces. Nil means to poll
	// only and to announce nothing. The worker does not close it.
	Bus Bus
	// Readers are the readers of the store's outbox beside the bus, for example
	// webhooks: each event is also kept for them until they have read it. The store
	// must be a [store.Readers]. It must not be modified after NewWorker.
	Readers []string
	// IgnoreControl makes the worker ignore [TopicControl], so that no event can
	// stop it. Default: an event {"action":"stop"} ends Run with [ErrStopped].
	IgnoreControl bool
	// Providers are asked about every attacker they apply to. There may be
	// none: the worker then stays up and writes nothing.
	Providers []Provider
	// Policy decides on the verdict. Default: aggregate.Strongest{}. NewWorker
	// returns the error of its method Validate() error, if it has one, and
	// rejects names in its Sources() []string that no provider has.
	Policy aggregate.Policy
	// Profiles replaces what providers declare about how much their opinions are
	// worth: Confidence, Group, DerivedFrom and Rank, by provider name. To change
	// one of the four, start from the provider's own profile. Local cannot be
	// changed, NoRepublish can only be set. It must not be modified after
	// NewWorker. Default: what the providers declare.
	Profiles map[string]provider.Profile
	// Spending decides who is asked about first when a provider cannot be asked
	// about all.
	Spending Spending
	// Guard decides which addresses may be named to a remote provider. The zero
	// Guard lets every globally reachable address through. When a network leaves
	// Guard.Own or what Guard.OwnFunc returns, a worker makes the attackers in it due
	// within seconds, if the store is a store.ByAddress; also when it left while no
	// worker ran, if the store is a store.Positions.
	Guard provider.Guard
	// Owner names this worker in leases and in health events. Default: host
	// name, process number and a random part.
	Owner string

	// PollInterval is the time between two looks at the store when nothing
	// wakes the worker. Default: 60 s. With more, what store/sqlstore finds
	// only by its sweep over all attackers, a part at each look, is found later in
	// proportion.
	PollInterval time.Duration
	// TTL is how long a finding is fresh whose provider did not say. Default:
	// 24 h. What a provider says counts up to 31 days, or up to TTL if that is longer.
	TTL time.Duration
	// Freshness sets how long the findings of single providers are fresh, by
	// provider name. It must not be modified after NewWorker.
	Freshness map[string]Freshness
	// RefreshFor is how long after an attacker was last seen the findings about it
	// are refreshed. After that, a provider that has answered is not queried again
	// until the attacker is seen again: the last decision stands, with findings marked
	// as stale. A provider that has never answered is still queried, after all others.
	// Default: 30 days. Negative: forever.
	RefreshFor time.Duration
	// RefreshAhead is the fraction of a finding's life after which it is
	// replaced early if the attacker was seen again and the provider has calls
	// to spare: it works, and more than half of each of its quotas is left.
	// Default: 0.5. Negative: never.
	RefreshAhead float64
	// Jitter is the fraction, below 1, by which each TTL is shortened at random
	// so that what was learnt together does not expire together. Default: 0.1.
	// Negative: none.
	Jitter float64
	// MaxStale is the age at which an expired finding stops counting for the
	// verdict, which the next pass then decides anew. Default: 30 days.
	MaxStale time.Duration

	// Batch is the greatest number of attackers claimed at once. Fewer are if Lease
	// leaves no time to work on so many, and at most 65,536. Default: 50.
	Batch int
	// Concurrency is the number of attackers worked on at once, and the number
	// of lookups of one provider at once if it sets no limit of its own.
	// Default: 64.
	Concurrency int
	// Lease is how long a claimed attacker is this worker's alone. It must be
	// at least twice LookupTimeout and MaxWait together. Default: 2 min, or
	// that minimum if it is more.
	Lease time.Duration
	// LookupTimeout is the deadline of one lookup. Default: 10 s.
	LookupTimeout time.Duration
	// MaxWait is how long a lookup may wait for its provider's limits before it
	// is put off. Default: 1 s.
	MaxWait time.Duration
	// Patience is how long a record waits for its slowest provider. What has
	// been learnt by then is saved and announced, the rest follows. A provider
	// that took longer is not waited for again until it has answered in time. No
	// record waits for longer than Lease leaves time for beside one lookup. Default:
	// 1 s.
	Patience time.Duration
	// RetryMin is the delay before a failed lookup is tried again; it doubles
	// with every further failure up to RetryMax and varies by a fifth. Defaults:
	// 1 min and 1 h. A provider's Retry-After counts if it is longer, up to
	// 24 h. A provider that fails for everybody, refuses our key or has enough of
	// us is left alone for a time of its own, and lookups wait for it meanwhile.
	RetryMin, RetryMax time.Duration

	// ShutdownGrace is how long lookups may go on after Run's context ended.
	// Default: 10 s. Negative: not at all.
	ShutdownGrace time.Duration
	// HealthInterval is the time between two health events. Default: 30 s.
	// Negative: none.
	HealthInterval time.Duration
	// OutboxMaxAge is the age at which an event that could not be published is
	// dropped. Default: 7 days.
	OutboxMaxAge time.Duration

	// KeepRaw is how long raw answers are kept; findings stay. Run removes older
	// ones at its start and then once a day, Drain at its end, from a Store that is a
	// [store.Pruner], which it must be if KeepRaw is set. Default: for ever. Run
	// then only removes, once a day, what is left of attackers that are gone.
	KeepRaw time.Duration

	// Logger receives what an operator should see. Default: slog.Default().
	Logger *slog.Logger
	// Hooks are called on the way, see [Hooks].
	Hooks Hooks
}

// withDefaults returns c with every zero field replaced by its default.
func (c Config) withDefaults() Config {
	if c.Policy == nil {
		c.Policy = aggregate.Strongest{}
	}
	if c.Owner == "" {
		host, _ := os.Hostname() // a nameless host is fine
		c.Owner = fmt.Sprintf("%s-%d-%s", host, os.Getpid(), uuid.NewString()[:8])
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	orDuration := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	orDuration(&c.PollInterval, 60*time.Second)
	orDuration(&c.TTL, 24*time.Hour)
	orDuration(&c.MaxStale, 30*24*time.Hour)
	orDuration(&c.RefreshFor, 30*24*time.Hour)
	orDuration(&c.LookupTimeout, 10*time.Second)
	orDuration(&c.MaxWait, time.Second)
	orDuration(&c.Patience, time.Second)
	orDuration(&c.RetryMin, time.Minute)
	orDuration(&c.RetryMax, max(time.Hour, c.RetryMin))
	orDuration(&c.ShutdownGrace, 10*time.Second)
	orDuration(&c.HealthInterval, 30*time.Second)
	orDuration(&c.OutboxMaxAge, 7*24*time.Hour)
	orDuration(&c.Lease, max(2*time.Minute, c.minLease()))
	if c.Jitter == 0 {
		c.Jitter = 0.1
	}
	c.Jitter = max(c.Jitter, 0)
	switch {
	case c.RefreshAhead == 0:
		c.RefreshAhead = 0.5
	case c.RefreshAhead < 0:
		c.RefreshAhead = 1
	}
	if c.Spending.Rank == nil {
		c.Spending.Rank = UndecidedFirst
	}
	if c.Spending.Fair == 0 {
		c.Spending.Fair = 1. / 8
	}
	c.Spending.Fair = max(c.Spending.Fair, 0)
	c.ShutdownGrace = max(c.ShutdownGrace, 0)
	if c.Batch == 0 {
		c.Batch = 50
	}
	if c.Concurrency == 0 {
		c.Concurrency = 64
	}
	return c
}

func (c *Config) minLease() time.Duration { return 2 * (c.LookupTimeout + c.MaxWait) }

// longest is how long the lookups of one attacker take at most. A shared deadline may
// come a hundredth late.
func (c *Config) longest() time.Duration { return c.MaxWait + c.LookupTimeout + c.LookupTimeout/100 }

// patience returns Patience, or less if Lease leaves no time for that and a lookup.
func (c *Config) patience() time.Duration { return min(c.Patience, (c.Lease-c.longest())/101*100) }

// load returns how many attackers a claim asks for, and how many of those claimed
// may be left for later while the next claim is made. All are worked on and saved
// before their leases run out: otherwise another worker makes the same calls again.
// Concurrency goroutines work on them. Each has an attacker for one turn, in which the
// record waits for Patience at most.
func (c *Config) load() (batch, queue int) {
	turn := c.patience() + c.patience()/100 + 1 // the deadline is shared; division rounds down
	turns := max(1, (c.Lease-c.longest()-linger)/turn)
	workers := min(c.Concurrency, maxClaimed)
	room := int(min(int64(workers)*int64(min(turns, maxClaimed)), maxClaimed))
	batch = min(c.Batch, room)
	return batch, min(2*batch+4*workers, room-batch)
}

// maxClaimed is the greatest number of claimed attackers that no goroutine of a worker
// works on yet.
const maxClaimed = 1 << 16

// validate reports everything that is wrong with a Config that has its
// defaults. It returns the providers as they identify themselves.
func (c *Config) validate() ([]gate.Identity, error) {
	var errs []error
	ids, idErr := identify(c.Providers)
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("intel: Config."+format, args...))
		}
	}
	refuse(c.Store == nil, "Store is nil; set it, for example to memstore.New()")
	for _, d := range []struct {
		name string
		d    time.Duration
	}{
		{"PollInterval", c.PollInterval}, {"TTL", c.TTL}, {"MaxStale", c.MaxStale}, {"Lease", c.Lease},
		{"LookupTimeout", c.LookupTimeout}, {"MaxWait", c.MaxWait}, {"Patience", c.Patience},
		{"RetryMin", c.RetryMin}, {"RetryMax", c.RetryMax}, {"OutboxMaxAge", c.OutboxMaxAge},
		{"KeepRaw", c.KeepRaw},
	} {
		refuse(d.d < 0, "%s is %v; it must not be negative", d.name, d.d)
	}
	_, prunes := store.As[store.Pruner](c.Store)
	refuse(c.KeepRaw > 0 && !prunes, "KeepRaw is %v; the Store cannot remove raw answers, as it is no store.Pruner", c.KeepRaw)
	_, reads := store.As[store.Readers](c.Store)
	refuse(len(c.Readers) > 0 && !reads, "Readers is %q; the Store has an outbox for the bus at most, as it is no store.Readers", c.Readers)
	for i, name := range c.Readers {
		refuse(name == "" || len(name) > store.MaxReader || strings.ContainsFunc(name, func(r rune) bool { return r <= ' ' || r > '~' }),
			"Readers has %q; a name is 1 to %d ASCII letters, digits and punctuation marks", name, store.MaxReader)
		refuse(slices.Contains(c.Readers[:i], name), "Readers has %q twice", name)
	}
	refuse(!(c.Jitter < 1), "Jitter is %v; it must be below 1", c.Jitter)
	refuse(!(c.RefreshAhead <= 1), "RefreshAhead is %v; it must be at most 1", c.RefreshAhead)
	refuse(!(c.Spending.Fair <= 1), "Spending.Fair is %v; it must be at most 1", c.Spending.Fair)
	for _, name := range slices.Sorted(maps.Keys(c.Freshness)) {
		own := c.Freshness[name]
		refuse(own.Known < 0 || own.Unknown < 0, "Freshness[%q] is %v and %v; neither may be negative", name, own.Known, own.Unknown)
		refuse(!slices.ContainsFunc(ids, func(id gate.Identity) bool { return id.Name == name }),
			"Freshness names %q; there is no such provider", name)
	}
	refuse(c.Batch < 0, "Batch is %d; it must not be negative", c.Batch)
	refuse(c.Concurrency < 0, "Concurrency is %d; it must not be negative", c.Concurrency)
	refuse(c.RetryMax < c.RetryMin, "RetryMax is %v; it must not be below RetryMin, %v", c.RetryMax, c.RetryMin)
	refuse(c.Lease < c.minLease(), "Lease is %v; it must be at least twice LookupTimeout and MaxWait together, %v", c.Lease, c.minLease())
	if p, ok := c.Policy.(interface{ Validate() error }); ok {
		if err := p.Validate(); err != nil {
			refuse(true, "Policy: %w", err)
		}
	}
	return ids, errors.Join(append(errs, idErr, c.validateProfiles(ids))...)
}

// reserved are payload keys that a provider's attributes must not produce:
// ours, and those by which consumers address other things.
var reserved = func() []string {
	keys := []string{
		"attacker_uuid", "attacker_ip", "aggregate_verdict", "event_id",
		"source_id", "session_id", "token_id", "identity_uuid", "credential_id",
	}
	for _, c := range decnet.Columns {
		keys = append(keys, c.Name)
	}
	return keys
}()

// identify asks the providers what they are. It refuses those whose names are
// not valid, not unique, or would make their payload keys collide with others,
// and those whose limits make no sense.
func identify(ps []Provider) (ids []gate.Identity, err error) {
	var errs []error
	refuse := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("intel: Config.Providers: "+format, args...))
	}
	var names []string
	for i, p := range ps {
		if p == nil {
			refuse("number %d is nil", i+1)
			continue
		}
		id, err := gate.Identify(p)
		if err != nil {
			refuse("number %d: %w", i+1, err)
			continue
		}
		ids = append(ids, id)
		name := id.Name
		if err := provider.ValidateName(name); err != nil {
			refuse("%w", err)
			continue
		}
		for _, key := range reserved {
			if strings.HasPrefix(key, name+"_") && !hasColumns(name) {
				refuse("the name %q is refused because its attributes could collide with the key %q", name, key)
				break
			}
		}
		for _, other := range names {
			switch {
			case name == other:
				refuse("there are two providers named %q", name)
			case strings.HasPrefix(name, other+"_"), strings.HasPrefix(other, name+"_"):
				refuse("the names %q and %q are refused because keys of one could be keys of the other", other, name)
			}
		}
		names = append(names, name)
		if err := id.Limits.Validate(); err != nil {
			refuse("the limits of %s: %w", name, err)
		}
	}
	return ids, errors.Join(errs...)
}

// hasColumns reports whether attacker_intel has columns for the provider.
func hasColumns(name string) bool {
	return slices.ContainsFunc(decnet.Columns, func(c decnet.Column) bool { return c.Provider == name })
}
