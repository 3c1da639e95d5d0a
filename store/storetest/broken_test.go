package storetest_test

import (
	"context"
	"net/netip"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/storetest"
)

// broken is a store that a seeded bug can be put into: each call goes to the
// function of that name if there is one, and to a good store otherwise.
type broken struct {
	*memstore.Store
	mu     sync.Mutex
	fences map[uuid.UUID]uint64 // of the last claim of each attacker

	claim       func(store.ClaimRequest) (store.Claimed, error)
	claimed     func(store.ClaimRequest, *store.Claimed) // changes what a claim returns
	get         func(uuid.UUID) (store.Record, error)
	read        func(*store.Record) // changes what Get returns
	save        func([]store.Update) error
	update      func(*store.Update) // changes what Save stores
	release     func(due time.Time, leases []store.Lease) error
	observe     func([]store.Attacker) error
	forget      func([]uuid.UUID) error
	position    func(name string) ([]byte, error)
	observeAt   func(name string, doc []byte, attackers []store.Attacker) error
	unseen      func(before time.Time, limit int) (int, error)
	answers     func(time.Time, []netip.Addr) ([]store.Answer, error)
	turn        func(owner string, lasting time.Duration) (bool, error)
	unpublished func(time.Duration, int) ([]bus.Event, error)
	published   func([]string) error
	expire      func(time.Duration) (int, error)
	outboxOf    func(reader string) store.Outbox
	budget      func(provider string) ([]byte, uint64, error)
	swap        func(provider string, version uint64, doc []byte) (bool, error)
	list        func(store.ListRequest) (store.Page, error)
	found       func(ids []uuid.UUID) []uuid.UUID   // changes what ByAddress returns
	within      func([]netip.Prefix) []netip.Prefix // changes what it is asked for
	count       func(store.CountRequest) ([]store.Count, error)
	stats       func(time.Time) (store.Stats, error)
	prune       func(before time.Time) (store.Pruned, error)

	patient map[string]bool // calls that do not look at their context
}

func newBroken(breakIt func(b *broken)) *broken {
	b := &broken{Store: memstore.New(), fences: make(map[uuid.UUID]uint64), patient: make(map[string]bool)}
	breakIt(b)
	return b
}

// brokenHarness makes stores with the bug, which keep what they hold when they
// are reopened.
func brokenHarness(breakIt func(b *broken)) storetest.Harness {
	return storetest.Harness{
		New:    func(testing.TB) store.Store { return newBroken(breakIt) },
		Reopen: func(_ testing.TB, s store.Store) store.Store { return s },
	}
}

var background = context.Background()

func (b *broken) context(ctx context.Context, call string) context.Context {
	if b.patient[call] {
		return context.WithoutCancel(ctx)
	}
	return ctx
}

// fence returns the fence of the attacker's last claim.
func (b *broken) fence(id uuid.UUID) uint64 {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.fences[id]
}

// steal ends every lease there is.
func (b *broken) steal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for id, fence := range b.fences {
		_ = b.Store.Release(background, time.Now(), store.Lease{ID: id, Fence: fence})
	}
}

func (b *broken) Claim(ctx context.Context, req store.ClaimRequest) (c store.Claimed, err error) {
	if err := b.context(ctx, "Claim").Err(); err != nil {
		return c, err
	}
	if b.claim != nil {
		c, err = b.claim(req)
	} else {
		c, err = b.Store.Claim(background, req)
	}
	b.mu.Lock()
	for _, rec := range c.Records {
		b.fences[rec.ID] = rec.Fence
	}
	b.mu.Unlock()
	if b.claimed != nil {
		b.claimed(req, &c)
	}
	return c, err
}

func (b *broken) Get(ctx context.Context, id uuid.UUID) (store.Record, error) {
	ctx = b.context(ctx, "Get")
	if b.get != nil && ctx.Err() == nil {
		return b.get(id)
	}
	rec, err := b.Store.Get(ctx, id)
	if b.read != nil && err == nil {
		b.read(&rec)
	}
	return rec, err
}

func (b *broken) Save(ctx context.Context, updates ...store.Update) error {
	ctx = b.context(ctx, "Save")
	if b.save != nil && ctx.Err() == nil {
		return b.save(updates)
	}
	changed := append([]store.Update{}, updates...)
	if b.update != nil {
		for i := range changed {
			changed[i].Entries = append([]store.Entry{}, changed[i].Entries...)
			b.update(&changed[i])
		}
	}
	return b.Store.Save(ctx, changed...)
}

func (b *broken) Release(ctx context.Context, due time.Time, leases ...store.Lease) error {
	ctx = b.context(ctx, "Release")
	if b.release != nil && ctx.Err() == nil {
		return b.release(due, leases)
	}
	return b.Store.Release(ctx, due, leases...)
}

func (b *broken) Observe(ctx context.Context, attackers ...store.Attacker) error {
	ctx = b.context(ctx, "Observe")
	if b.observe != nil && ctx.Err() == nil {
		return b.observe(attackers)
	}
	return b.Store.Observe(ctx, attackers...)
}

func (b *broken) Forget(ctx context.Context, ids ...uuid.UUID) error {
	ctx = b.context(ctx, "Forget")
	if b.forget != nil && ctx.Err() == nil {
		return b.forget(ids)
	}
	return b.Store.Forget(ctx, ids...)
}

func (b *broken) Position(ctx context.Context, name string) ([]byte, error) {
	ctx = b.context(ctx, "Position")
	if b.position != nil && ctx.Err() == nil {
		return b.position(name)
	}
	return b.Store.Position(ctx, name)
}

func (b *broken) ObserveAt(ctx context.Context, name string, doc []byte, attackers ...store.Attacker) error {
	ctx = b.context(ctx, "ObserveAt")
	if b.observeAt != nil && ctx.Err() == nil {
		return b.observeAt(name, doc, attackers)
	}
	return b.Store.ObserveAt(ctx, name, doc, attackers...)
}

func (b *broken) ForgetUnseen(ctx context.Context, before time.Time, limit int) (int, error) {
	ctx = b.context(ctx, "ForgetUnseen")
	if b.unseen != nil && ctx.Err() == nil {
		return b.unseen(before, limit)
	}
	return b.Store.ForgetUnseen(ctx, before, limit)
}

func (b *broken) Answers(ctx context.Context, now time.Time, addrs ...netip.Addr) ([]store.Answer, error) {
	ctx = b.context(ctx, "Answers")
	if b.answers != nil && ctx.Err() == nil {
		return b.answers(now, addrs)
	}
	return b.Store.Answers(ctx, now, addrs...)
}

func (b *broken) Turn(ctx context.Context, owner string, lasting time.Duration) (bool, error) {
	ctx = b.context(ctx, "Turn")
	if b.turn != nil && ctx.Err() == nil {
		return b.turn(owner, lasting)
	}
	return b.Store.Turn(ctx, owner, lasting)
}

func (b *broken) Unpublished(ctx context.Context, age time.Duration, limit int) ([]bus.Event, error) {
	ctx = b.context(ctx, "Unpublished")
	if b.unpublished != nil && ctx.Err() == nil {
		return b.unpublished(age, limit)
	}
	return b.Store.Unpublished(ctx, age, limit)
}

func (b *broken) Published(ctx context.Context, ids ...string) error {
	ctx = b.context(ctx, "Published")
	if b.published != nil && ctx.Err() == nil {
		return b.published(ids)
	}
	return b.Store.Published(ctx, ids...)
}

func (b *broken) Expire(ctx context.Context, age time.Duration) (int, error) {
	ctx = b.context(ctx, "Expire")
	if b.expire != nil && ctx.Err() == nil {
		return b.expire(age)
	}
	return b.Store.Expire(ctx, age)
}

func (b *broken) OutboxOf(reader string) store.Outbox {
	if b.outboxOf != nil {
		return b.outboxOf(reader)
	}
	return b.Store.OutboxOf(reader)
}

func (b *broken) Budget(ctx context.Context, provider string) ([]byte, uint64, error) {
	ctx = b.context(ctx, "Budget")
	if b.budget != nil && ctx.Err() == nil {
		return b.budget(provider)
	}
	return b.Store.Budget(ctx, provider)
}

func (b *broken) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (bool, error) {
	ctx = b.context(ctx, "SwapBudget")
	if b.swap != nil && ctx.Err() == nil {
		return b.swap(provider, version, doc)
	}
	return b.Store.SwapBudget(ctx, provider, version, doc)
}

func (b *broken) ByAddress(ctx context.Context, networks []netip.Prefix) ([]uuid.UUID, error) {
	if b.within != nil {
		networks = b.within(networks)
	}
	ids, err := b.Store.ByAddress(b.context(ctx, "ByAddress"), networks)
	if b.found != nil {
		ids = b.found(ids)
	}
	return ids, err
}

func (b *broken) List(ctx context.Context, req store.ListRequest) (store.Page, error) {
	ctx = b.context(ctx, "List")
	if b.list != nil && ctx.Err() == nil {
		return b.list(req)
	}
	return b.Store.List(ctx, req)
}

func (b *broken) Count(ctx context.Context, req store.CountRequest) ([]store.Count, error) {
	ctx = b.context(ctx, "Count")
	if b.count != nil && ctx.Err() == nil {
		return b.count(req)
	}
	return b.Store.Count(ctx, req)
}

func (b *broken) Stats(ctx context.Context, now time.Time) (store.Stats, error) {
	ctx = b.context(ctx, "Stats")
	if b.stats != nil && ctx.Err() == nil {
		return b.stats(now)
	}
	return b.Store.Stats(ctx, now)
}

func (b *broken) Prune(ctx context.Context, before time.Time) (store.Pruned, error) {
	ctx = b.context(ctx, "Prune")
	if b.prune != nil && ctx.Err() == nil {
		return b.prune(before)
	}
	return b.Store.Prune(ctx, before)
}
