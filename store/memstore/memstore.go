// Package memstore keeps records in memory. It is the reference implementation
// of package store, the model the conformance suite compares others with, and
// the store for tests and for programs that need not remember.
package memstore

import (
	"context"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/store"
)

// Store is a [store.Store] in memory that also implements [store.Registrar],
// [store.Positions], [store.Answers], [store.Outbox], [store.QuotaLedger],
// [store.Lister], [store.ByAddress], [store.Statistician] and [store.Pruner]. Its methods are safe for
// concurrent use. Leases run on the clock of the machine.
//
// Use [New] to make one.
type Store struct {
	mu     sync.Mutex
	rows   map[uuid.UUID]*row
	fence  uint64 // the last one given out, to whichever attacker
	byAddr map[netip.Addr][]*row

	// Where rows stand, see place.
	ready    queue             // due already, newest first
	sleeping queue             // due at a time, earliest first
	leases   queue             // leased, first to expire first
	parked   queue             // made due by nothing but a new provider
	waiting  map[string]*queue // by provider: unleased rows waiting for it, greatest rank and newest first
	longest  map[string]*queue // the same rows, first those that have been waiting longest
	sharing  map[about]*queue  // by what they wait for: the rows of waiting
	lacking  map[string]*queue // by provider ever claimed with: parked rows without an entry of it

	outbox                     // for the bus
	readers map[string]*outbox // for others, by name

	budgets   map[string]budget
	positions map[string][]byte

	latest time.Time // what the clock said last
	looked time.Time // Now of the claim that last looked for rows that are due too late
}

var _ interface {
	store.Store
	store.Registrar
	store.Positions
	store.Answers
	store.Outbox
	store.Readers
	store.Forgetter
	store.QuotaLedger
	store.Lister
	store.ByAddress
	store.Counter
	store.Statistician
	store.Pruner
} = (*Store)(nil)

// New returns an empty store.
func New() *Store {
	s := &Store{
		rows:      make(map[uuid.UUID]*row),
		byAddr:    make(map[netip.Addr][]*row),
		ready:     queue{key: newest},
		sleeping:  queue{key: func(r *row) key { return key{r.due, 0} }},
		leases:    queue{key: func(r *row) key { return key{r.until, 0} }},
		parked:    queue{key: newest},
		waiting:   make(map[string]*queue),
		longest:   make(map[string]*queue),
		sharing:   make(map[about]*queue),
		lacking:   make(map[string]*queue),
		readers:   make(map[string]*outbox),
		budgets:   make(map[string]budget),
		positions: make(map[string][]byte),
	}
	s.outbox = *newOutbox(s)
	return s
}

// Get implements [store.Store].
func (s *Store) Get(ctx context.Context, id uuid.UUID) (store.Record, error) {
	if err := ctx.Err(); err != nil {
		return store.Record{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r := s.rows[id]
	if r == nil {
		return store.Record{}, fmt.Errorf("%w: %s", store.ErrNotFound, id)
	}
	return r.record(), nil
}

// row is one attacker: its record, its schedule and its lease.
type row struct {
	store.Attacker
	seen     int64         // LastSeen in microseconds
	entries  []store.Entry // sorted; replaced as a whole, never modified
	decision aggregate.Decision
	revision uint64
	cachedAt time.Time

	due    int64  // microseconds, atOnce or never
	ahead  int64  // from when on being seen makes it due, microseconds or never
	fence  uint64 // of the last claim
	valid  bool   // the fence has not been used up by Save or Release
	moved  bool   // the address has changed since the last claim
	leased bool
	until  int64 // end of the lease in microseconds
	lasts  int64 // length of the lease in microseconds

	place slot    // in ready, sleeping, leases or parked
	also  []*slot // in queues of waiting or of lacking
}

// Values of row.due that are not times.
const (
	atOnce = math.MinInt64
	never  = math.MaxInt64
)

// record returns a copy that shares nothing but findings with the row.
func (r *row) record() store.Record {
	rec := store.Record{
		Attacker: r.Attacker,
		Entries:  slices.Clone(r.entries),
		Decision: r.decision,
		Revision: r.revision,
		CachedAt: r.cachedAt,
	}
	rec.Decision.Reasons = slices.Clone(r.decision.Reasons)
	return rec
}

// entry returns the entry of the named provider, or nil.
func (r *row) entry(provider string) *store.Entry {
	for i := range r.entries {
		if r.entries[i].Provider == provider {
			return &r.entries[i]
		}
	}
	return nil
}

// precise returns t as a database would keep it: in UTC, to the microsecond.
func precise(t time.Time) time.Time {
	return t.UTC().Truncate(time.Microsecond)
}
