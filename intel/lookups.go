package intel

import (
	"context"
	"net/netip"
	"slices"

	"github.com/decnet/enrich/intel/internal/gate"
)

// lookups are the lookups of one address that are under way. Only the goroutine
// of the pass uses them; the lookups themselves send to results.
type lookups struct {
	results chan result // has room for all, so that no lookup waits to send
	open    []*source   // whose result was not received yet
	awaited int         // how many of those the record waits for
}

// result is what became of one lookup.
type result struct {
	source  *source
	awaited bool
	outcome *gate.Outcome
}

// start looks up addr at all sources at once. The record waits for those that
// are not slow. A provider that never returns keeps only its own goroutine. A lookup
// that was granted and gathers with others is not waited for either: while a pass
// waits, no other attacker can join it.
func (l *lookups) start(ctx context.Context, pool *pool, addr netip.Addr, sources []*source, granted []string) {
	results := make(chan result, len(sources))
	l.results, l.open = results, sources
	for _, s := range sources {
		awaited := !s.isSlow() && !(s.Gathers() && slices.Contains(granted, s.Name()))
		if awaited {
			l.awaited++
		}
		pool.run(func() {
			results <- result{s, awaited, s.Lookup(ctx, pool.lookup, addr, awaited)}
		})
	}
}

// received takes note that a result was received.
func (l *lookups) received(r result) {
	if r.awaited {
		l.awaited--
	}
	i := slices.Index(l.open, r.source)
	l.open = slices.Delete(l.open, i, i+1)
}
