package providertest

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/decnet/enrich/provider"
)

// Reply is what a [Fake] does at one lookup. The zero Reply is the answer that
// it does not know the address.
type Reply struct {
	// Finding is returned if Err is nil. A zero Provider, Addr or ObservedAt is
	// filled in with the fake's name, the address asked about and the time.
	Finding provider.Finding
	// Err is returned, with the zero Finding, if it is not nil.
	Err error
	// Delay is waited for before anything else, unless the context ends first:
	// then the context's error is returned.
	Delay time.Duration
	// Hang, if not nil, is a channel that the lookup waits for to be closed (or
	// to deliver) whatever happens to its context, as a badly written provider
	// would.
	Hang <-chan struct{}
	// Panic, if not nil, is what the lookup panics with.
	Panic any
}

// Fake is a provider for tests that does as it is told. Its methods are safe
// for concurrent use. The zero Fake has the name "fake", no limits, and knows
// no address; it must not be copied after its first use.
type Fake struct {
	name   string
	limits provider.Limits

	mu        sync.Mutex
	byAddr    map[netip.Addr][]Reply
	otherwise []Reply
	calls     map[netip.Addr]int
	total     int
	inFlight  int
	peak      int
}

// NewFake returns a fake with the given name that makes the given replies to
// lookups of any address, see [Fake.Otherwise].
func NewFake(name string, replies ...Reply) *Fake {
	return (&Fake{name: name}).Otherwise(replies...)
}

// WithLimits sets what Limits returns and returns f. Call it before the first
// use. The fake does not enforce its limits.
func (f *Fake) WithLimits(l provider.Limits) *Fake {
	f.limits = l
	return f
}

// On sets the replies to lookups of addr and returns f. They are made in
// order, and the last again and again. Without replies, what Otherwise says
// holds for addr.
func (f *Fake) On(addr netip.Addr, replies ...Reply) *Fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.byAddr == nil {
		f.byAddr = map[netip.Addr][]Reply{}
	}
	f.byAddr[addr] = slices.Clone(replies)
	return f
}

// Otherwise sets the replies to lookups of addresses that On does not speak of,
// and returns f. They are made in order, and the last again and again.
func (f *Fake) Otherwise(replies ...Reply) *Fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.otherwise = slices.Clone(replies)
	return f
}

// Calls returns the number of lookups so far.
func (f *Fake) Calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.total
}

// CallsFor returns the number of lookups of addr so far.
func (f *Fake) CallsFor(addr netip.Addr) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.calls[addr]
}

// Asked returns the addresses that were looked up, each once, in numeric order.
func (f *Fake) Asked() []netip.Addr {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.SortedFunc(maps.Keys(f.calls), netip.Addr.Compare)
}

// InFlight returns the number of lookups that have not returned.
func (f *Fake) InFlight() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.inFlight
}

// Peak returns the greatest number of lookups that ran at one time.
func (f *Fake) Peak() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.peak
}

// Name implements [provider.Provider].
func (f *Fake) Name() string {
	if f.name == "" {
		return "fake"
	}
	return f.name
}

// Limits implements [provider.Limited].
func (f *Fake) Limits() provider.Limits { return f.limits }

// Lookup implements [provider.Provider]. If ctx is done already, it returns
// the context's error, which counts as a call but uses up no reply.
func (f *Fake) Lookup(ctx context.Context, addr netip.Addr) (provider.Finding, error) {
	reply, err := f.begin(ctx, addr)
	defer f.end()
	if err != nil {
		return provider.Finding{}, err
	}
	if reply.Delay > 0 {
		timer := time.NewTimer(reply.Delay)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-ctx.Done():
			return provider.Finding{}, ctx.Err()
		}
	}
	if reply.Hang != nil {
		<-reply.Hang
	}
	if reply.Panic != nil {
		panic(reply.Panic)
	}
	if reply.Err != nil {
		return provider.Finding{}, reply.Err
	}
	finding := reply.Finding
	if finding.Provider == "" {
		finding.Provider = f.Name()
	}
	if !finding.Addr.IsValid() {
		finding.Addr = addr
	}
	if finding.ObservedAt.IsZero() {
		finding.ObservedAt = time.Now().UTC()
	}
	return finding, nil
}

func (f *Fake) begin(ctx context.Context, addr netip.Addr) (Reply, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[netip.Addr]int{}
	}
	f.calls[addr]++
	f.total++
	f.inFlight++
	f.peak = max(f.peak, f.inFlight)
	if err := ctx.Err(); err != nil {
		return Reply{}, err
	}
	if replies := f.byAddr[addr]; len(replies) > 0 {
		reply, rest := next(replies)
		f.byAddr[addr] = rest
		return reply, nil
	}
	reply, rest := next(f.otherwise)
	f.otherwise = rest
	return reply, nil
}

func (f *Fake) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.inFlight--
}

// next takes the first of the replies, unless it is the last.
func next(replies []Reply) (Reply, []Reply) {
	switch len(replies) {
	case 0:
		return Reply{}, nil
	case 1:
		return replies[0], replies
	}
	return replies[0], replies[1:]
}
