package intel

import (
	"context"
	"sync"
	"time"

	"github.com/decnet/enrich/store"
)

// maxOwed is how many leases are remembered at most. Others expire by themselves.
const maxOwed = 10_000

// owed are leases that could not be released, as while a disk is full. Without them
// their attackers would be due only when the leases expire.
type owed struct {
	mu     sync.Mutex
	leases []store.Lease
}

func (o *owed) add(leases []store.Lease) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.leases = append(o.leases, leases[:min(len(leases), maxOwed-len(o.leases))]...)
}

func (o *owed) take() []store.Lease {
	o.mu.Lock()
	defer o.mu.Unlock()
	leases := o.leases
	o.leases = nil
	return leases
}

// releaseOwed releases what is owed; the attackers are due at once. A lease that has
// expired meanwhile is skipped by the store.
func (w *Worker) releaseOwed(ctx context.Context) {
	leases := w.owed.take()
	if len(leases) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, releaseTimeout)
	defer cancel()
	if w.config.Store.Release(ctx, time.Now().UTC(), leases...) != nil {
		w.owed.add(leases) // the claim that follows says why
	}
}
