package storetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// lease is longer than any check runs.
const lease = time.Hour

// fixture is a store under test, with calls that fail the test where a check
// expects success.
type fixture struct {
	testing.TB
	ctx   context.Context
	store store.Store
	reg   store.Registrar
	now   time.Time // the time of the check, as it can be stored
}

func setUp(tb testing.TB, h Harness) *fixture {
	tb.Helper()
	return on(tb, h.New(tb))
}

func on(tb testing.TB, s store.Store) *fixture {
	tb.Helper()
	reg, ok := store.As[store.Registrar](s)
	if !ok {
		tb.Fatal("the store is no store.Registrar; the suite needs one to put attackers into it")
	}
	return &fixture{TB: tb, ctx: tb.Context(), store: s, reg: reg, now: time.Now().UTC().Truncate(time.Microsecond)}
}

// optional returns the store as T, and skips the test if it is none.
func optional[T any](f *fixture) T {
	f.Helper()
	t, ok := store.As[T](f.store)
	if !ok {
		f.Skipf("the store is no %T", (*T)(nil))
	}
	return t
}

// attacker makes up the n-th attacker; the smaller n, the later it was seen.
func (f *fixture) attacker(n int) store.Attacker {
	seen := f.now.Add(-time.Duration(n) * time.Minute)
	return store.Attacker{ID: uuid.New(), IP: address(n).String(), FirstSeen: seen.Add(-time.Hour), LastSeen: seen}
}

// attackers makes up n attackers, newest first, and registers them, oldest
// first.
func (f *fixture) attackers(n int) []store.Attacker {
	f.Helper()
	all := make([]store.Attacker, n)
	for i := range all {
		all[i] = f.attacker(i)
	}
	reversed := slices.Clone(all)
	slices.Reverse(reversed)
	f.observe(reversed...)
	return all
}

func address(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{45, 9, byte(n >> 8), byte(n)})
}

func (f *fixture) observe(attackers ...store.Attacker) {
	f.Helper()
	if err := f.reg.Observe(f.ctx, attackers...); err != nil {
		f.Fatalf("Observe: %v", err)
	}
}

func (f *fixture) forget(ids ...uuid.UUID) {
	f.Helper()
	if err := f.reg.Forget(f.ctx, ids...); err != nil {
		f.Fatalf("Forget: %v", err)
	}
}

// request returns an ordinary request, as edit changes it.
func (f *fixture) request(edit ...func(*store.ClaimRequest)) store.ClaimRequest {
	req := store.ClaimRequest{Now: f.now, Owner: "storetest", Lease: lease, Limit: 100}
	for _, e := range edit {
		e(&req)
	}
	return req
}

func (f *fixture) claim(edit ...func(*store.ClaimRequest)) store.Claimed {
	f.Helper()
	c, err := f.store.Claim(f.ctx, f.request(edit...))
	if err != nil {
		f.Fatalf("Claim: %v", err)
	}
	return c
}

// Edits of requests.

func at(now time.Time) func(*store.ClaimRequest) {
	return func(r *store.ClaimRequest) { r.Now = now }
}

func limit(n int) func(*store.ClaimRequest) {
	return func(r *store.ClaimRequest) { r.Limit = n }
}

func grants(calls map[string]int) func(*store.ClaimRequest) {
	g := make(map[string]store.Grant, len(calls))
	for name, n := range calls {
		g[name] = store.Grant{Calls: n}
	}
	return func(r *store.ClaimRequest) { r.Grants = g }
}

func providers(names ...string) func(*store.ClaimRequest) {
	return func(r *store.ClaimRequest) { r.Providers = names }
}

func only(attackers ...store.Attacker) func(*store.ClaimRequest) {
	return func(r *store.ClaimRequest) { r.Only = ids(attackers) }
}

func ids(attackers []store.Attacker) []uuid.UUID {
	out := make([]uuid.UUID, len(attackers))
	for i, a := range attackers {
		out[i] = a.ID
	}
	return out
}

// take claims one attacker, due or not.
func (f *fixture) take(a store.Attacker) store.Record {
	f.Helper()
	c := f.claim(only(a))
	f.expect("a claim of one attacker by ID", c.Records, a)
	return c.Records[0]
}

// expect fails the test unless the records are those of the attackers, in
// order.
func (f *fixture) expect(what string, got []store.Record, want ...store.Attacker) {
	f.Helper()
	gotIDs := make([]uuid.UUID, len(got))
	for i := range got {
		gotIDs[i] = got[i].ID
	}
	if !slices.Equal(gotIDs, ids(want)) {
		f.Fatalf("%s returned %d attackers %v; want %d %v", what, len(got), gotIDs, len(want), ids(want))
	}
}

func (f *fixture) get(id uuid.UUID) store.Record {
	f.Helper()
	rec, err := f.store.Get(f.ctx, id)
	if err != nil {
		f.Fatalf("Get(%s): %v", id, err)
	}
	return rec
}

func (f *fixture) save(updates ...store.Update) {
	f.Helper()
	if err := f.store.Save(f.ctx, updates...); err != nil {
		f.Fatalf("Save: %v", err)
	}
}

// refused saves and fails the test unless exactly the given attackers' updates
// are refused because their lease was lost.
func (f *fixture) refused(want []store.Attacker, updates ...store.Update) {
	f.Helper()
	failed := f.failed(f.store.Save(f.ctx, updates...))
	for id, err := range failed {
		if !errors.Is(err, store.ErrConflict) {
			f.Fatalf("Save: attacker %s: %v; want an error that wraps ErrConflict", id, err)
		}
	}
	sorted := func(list []uuid.UUID) []uuid.UUID {
		slices.SortFunc(list, func(a, b uuid.UUID) int { return slices.Compare(a[:], b[:]) })
		return list
	}
	if got := slices.Collect(maps.Keys(failed)); !slices.Equal(sorted(got), sorted(ids(want))) {
		f.Fatalf("Save refused the updates of %v; want %v", got, ids(want))
	}
}

// failed returns what a SaveError names, and fails the test if err is another
// error.
func (f *fixture) failed(err error) map[uuid.UUID]error {
	f.Helper()
	if err == nil {
		return nil
	}
	e, ok := errors.AsType[*store.SaveError](err)
	if !ok {
		f.Fatalf("Save failed as a whole: %v", err)
	}
	return e.Failed
}

func (f *fixture) release(due time.Time, leases ...store.Lease) {
	f.Helper()
	if err := f.store.Release(f.ctx, due, leases...); err != nil {
		f.Fatalf("Release: %v", err)
	}
}

// update returns an update that gives the record these entries, stores every
// finding in them, and makes the attacker due in a day.
func (f *fixture) update(rec store.Record, entries ...store.Entry) store.Update {
	u := store.Update{
		Lease:    store.Lease{ID: rec.ID, Fence: rec.Fence},
		Due:      f.now.Add(24 * time.Hour),
		IP:       rec.IP,
		Entries:  entries,
		Revision: rec.Revision,
	}
	for _, e := range entries {
		if e.Finding != nil {
			u.Changed = append(u.Changed, e.Provider)
		}
	}
	if len(u.Changed) > 0 {
		u.Revision++
		u.SavedAt = f.now
		u.Decision = &aggregate.Decision{
			Verdict: provider.Suspicious,
			Policy:  "storetest/1",
			Reasons: []aggregate.Reason{{Provider: u.Changed[0], Verdict: provider.Suspicious, ObservedAt: f.now, Decisive: true}},
		}
	}
	return u
}

// enrich takes the attacker and stores a fresh finding of each named provider.
func (f *fixture) enrich(a store.Attacker, names ...string) store.Record {
	f.Helper()
	rec := f.take(a)
	var entries []store.Entry
	for _, name := range names {
		entries = append(entries, f.fresh(name, rec.Addr()))
	}
	f.save(f.update(rec, entries...))
	return f.get(a.ID)
}

// schedule takes the attacker and stores a schedule without findings.
func (f *fixture) schedule(a store.Attacker, due time.Time, entries ...store.Entry) {
	f.Helper()
	u := f.update(f.take(a), entries...)
	u.Due = due
	f.save(u)
}

func (f *fixture) fresh(name string, addr netip.Addr) store.Entry {
	return store.Entry{
		Provider: name, State: store.Fresh, Expires: f.now.Add(24 * time.Hour),
		Finding: &provider.Finding{
			Provider: name, Addr: addr, Known: true, Verdict: provider.Suspicious,
			Attrs:      map[string]any{"score": int64(42), "tags": []string{"ssh", "telnet"}},
			Raw:        json.RawMessage(fmt.Sprintf(`{"by":%q,"about":%q}`, name, addr)),
			ObservedAt: f.now, TTL: 24 * time.Hour,
		},
	}
}

func awaits(name string) store.Entry {
	return store.Entry{Provider: name, State: store.Waiting}
}

func excluded(name string) store.Entry {
	return store.Entry{Provider: name, State: store.NotApplicable}
}

// event makes up an event to announce an update.
func (f *fixture) event() *bus.Event {
	return &bus.Event{
		ID: uuid.NewString(), Topic: "attacker.intel.enriched", Type: "intel.enriched",
		Time: f.now, Payload: json.RawMessage(`{"providers":["greynoise"],"text":"ü"}`),
	}
}
