package storetest

import (
	"errors"
	"maps"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

func addressChanged(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	a, other := all[0], all[1]
	before := f.enrich(a, "a")
	rec := f.take(a)
	moved := a
	moved.IP = "45.10.1.1"
	f.observe(moved)
	want := before
	want.IP = moved.IP

	u := f.update(rec, f.fresh("a", a.Addr()), f.fresh("b", a.Addr()))
	u.Event = f.event()
	f.save(u, f.update(f.take(other), f.fresh("a", other.Addr())))
	f.same("Get after an update for an address that has changed", f.get(a.ID), want)
	if f.get(other.ID).Revision != 1 {
		f.Error("an update was not stored because another in the same save was dropped")
	}
	if events := f.unpublished(0, 9); len(events) > 0 {
		f.Errorf("the event of an update that was dropped is in the outbox: %+v", events)
	}
	recs := f.claim().Records
	f.expect("a claim after an update was dropped", recs, moved)
	f.save(f.update(recs[0], f.fresh("b", moved.Addr())))
	if rec := f.get(a.ID); rec.Revision != 2 || rec.Entry("b") == nil {
		f.Errorf("after an update for the new address the record is %+v", rec)
	}

	// A lost lease is lost, whatever the address is: the lease that is good
	// must survive it.
	old := f.take(moved)
	f.release(f.now, store.Lease{ID: old.ID, Fence: old.Fence})
	good := f.take(moved)
	old.IP = a.IP
	f.refused([]store.Attacker{a}, f.update(old))
	f.save(f.update(good))
}

func addressRespelled(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a, b := f.attacker(0), f.attacker(1)
	a.IP, b.IP = "45.9.148.3", "2a01:4f8:c17:b8f::2"
	f.observe(a, b)
	for _, rec := range f.claim().Records {
		respelled := map[uuid.UUID]string{a.ID: "::ffff:45.9.148.3", b.ID: "2A01:04F8:0C17:0B8F:0:0:0:2"}[rec.ID]
		rec.IP = respelled
		f.save(f.update(rec, f.fresh("a", rec.Addr())))
		if got := f.get(rec.ID); got.Revision != 1 {
			f.Errorf("an update for the address %s was not stored, although the attacker's is %s", respelled, got.IP)
		}
		again := rec.Attacker
		f.observe(again)
	}
	f.expect("a claim after the same addresses were observed in another spelling", f.claim().Records)
}

func addressShared(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a, b, c := f.attacker(0), f.attacker(1), f.attacker(2)
	b.IP, c.IP = a.IP, a.IP
	f.observe(a, b, c)
	recs := f.claim().Records
	f.expect("a claim of three with one address", recs, a, b, c)
	f.save(f.update(recs[0], f.fresh("a", a.Addr())))
	f.same("Get of one with the same address", f.get(b.ID), store.Record{Attacker: b})
	f.save(f.update(recs[1], f.fresh("b", b.Addr())))
	f.forget(a.ID)
	got := f.get(b.ID)
	if got.Revision != 1 || len(got.Entries) != 1 || got.Entries[0].Provider != "b" {
		f.Errorf("after another with the same address was forgotten the record is %+v; want it as it was saved", got)
	}
	f.save(f.update(recs[2], f.fresh("c", c.Addr())))
}

func observe(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	a := all[0]
	before := f.enrich(a, "a")
	f.enrich(all[1], "a")
	f.enrich(all[2], "a")

	inside := a
	inside.FirstSeen, inside.LastSeen = a.FirstSeen.Add(time.Second), a.LastSeen.Add(-time.Second)
	f.observe(inside)
	f.same("Get after an observation inside the known span", f.get(a.ID), before)
	outside := a
	outside.FirstSeen, outside.LastSeen = a.FirstSeen.Add(-time.Second), a.LastSeen.Add(time.Second)
	f.observe(outside)
	want := before
	want.FirstSeen, want.LastSeen = outside.FirstSeen, outside.LastSeen
	f.same("Get after an observation outside the known span", f.get(a.ID), want)
	f.expect("a claim after observations of the same address", f.claim().Records)

	moved := outside
	moved.IP = "45.10.1.1"
	f.observe(moved)
	want.IP = moved.IP
	f.same("Get after an observation with another address", f.get(a.ID), want)
	f.expect("a claim after an observation with another address", f.claim().Records, moved)

	// The order of claims follows what was seen last.
	for _, x := range all[1:] {
		f.schedule(x, f.now)
	}
	latest := all[2]
	latest.LastSeen = f.now.Add(time.Hour)
	f.observe(latest)
	f.expect("a claim after the older attacker was seen again", f.claim().Records, all[2], all[1])
}

func observeRejects(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	known := f.attacker(0)
	before := f.enrich(f.add(known), "a")
	var all []store.Attacker
	for i, ip := range []string{
		"45.9.1.1", "not an address", " 45.9.1.3\t", "45.9.148.300", "", "45.9.148.3:22", "2a01:4f8::7%eth0", "45.9.148.0/24", "[2a01:4f8::9]",
		"\x00\xff%s", "45.9.1.11",
	} {
		a := f.attacker(i + 1)
		a.IP = ip
		all = append(all, a)
	}
	all[10].ID = uuid.Nil
	moved := known
	moved.IP, moved.LastSeen = "elsewhere", f.now.Add(time.Minute)
	all = append(all, moved)
	f.rejected([]int{1, 3, 4, 5, 7, 8, 9, 10, 11}, f.reg.Observe(f.ctx, all...))
	want := []store.Attacker{all[0], all[2], all[6]}
	want[1].IP, want[2].IP = "45.9.1.3", "2a01:4f8::7"
	recs := f.claim().Records
	f.expect("a claim after some attackers were rejected", recs, want...)
	for i, rec := range recs {
		if rec.IP != want[i].IP || !rec.Addr().IsValid() {
			f.Errorf("the address is %q; want %q", rec.IP, want[i].IP)
		}
		f.save(f.update(rec, f.fresh("a", rec.Addr())))
	}
	f.same("Get of a known attacker whose sighting was rejected", f.get(known.ID), before)
	f.observe(all[0], all[2], all[6])
	f.expect("a claim after the others were observed again", f.claim().Records)
	f.rejected([]int{0, 1}, f.reg.Observe(f.ctx, all[1], all[10]))
	f.expect("a claim after all attackers were rejected", f.claim().Records)
}

// add adds an attacker and returns it.
func (f *fixture) add(a store.Attacker) store.Attacker {
	f.Helper()
	f.observe(a)
	return a
}

// rejected fails the test unless err says that the attackers at exactly these
// indices of a call were rejected.
func (f *fixture) rejected(want []int, err error) {
	f.Helper()
	e, ok := errors.AsType[*store.ObserveError](err)
	if !ok {
		f.Fatalf("Observe returned %v; want an ObserveError", err)
	}
	if got := slices.Sorted(maps.Keys(e.Rejected)); !slices.Equal(got, want) {
		f.Fatalf("Observe rejected the attackers %v; want %v", got, want)
	}
	for i, err := range e.Rejected {
		if !errors.Is(err, store.ErrInvalid) {
			f.Errorf("Observe rejected attacker %d with %v; want an error that wraps ErrInvalid", i, err)
		}
	}
}

func observeFillsTimes(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	never, once := f.attacker(0), f.attacker(1)
	never.FirstSeen, never.LastSeen = time.Time{}, time.Time{}
	once.FirstSeen = time.Time{}
	f.observe(never, once)
	got := f.get(never.ID)
	const slack = 5 * time.Second // between the store's clock and ours
	if got.LastSeen.Before(f.now.Add(-slack)) || got.LastSeen.After(time.Now().Add(slack)) || !got.FirstSeen.Equal(got.LastSeen) {
		f.Errorf("an attacker without times was seen from %v to %v; want now", got.FirstSeen, got.LastSeen)
	}
	if got := f.get(once.ID); !got.FirstSeen.Equal(once.LastSeen) {
		f.Errorf("an attacker last seen at %v was first seen at %v; want the same", once.LastSeen, got.FirstSeen)
	}
}

func forget(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(4)
	f.enrich(all[0], "a")
	f.schedule(all[1], time.Time{}, awaits("a"))
	f.forget(all[0].ID, all[1].ID, f.attacker(9).ID, all[2].ID)
	for i, a := range all[:3] {
		if rec, err := f.store.Get(f.ctx, a.ID); !errors.Is(err, store.ErrNotFound) {
			f.Errorf("Get of forgotten attacker %d returned %+v, %v; want an error that wraps ErrNotFound", i, rec, err)
		}
	}
	f.expect("a claim after three of four were forgotten",
		f.claim(at(f.now.AddDate(1, 0, 0)), grants(map[string]int{"a": 9})).Records, all[3])
	f.observe(all[0])
	f.same("Get of one observed again after it was forgotten", f.get(all[0].ID), store.Record{Attacker: all[0]})
	f.expect("a claim after one was observed again", f.claim().Records, all[0])
}

func forgetUnseen(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Forgetter](f)
	all := f.attackers(8) // each last seen a minute before the one ahead of it
	for _, a := range all {
		f.enrich(a, "a")
	}
	before := all[2].LastSeen
	unseen := func(what string, limit, want int) {
		f.Helper()
		if n, err := s.ForgetUnseen(f.ctx, before, limit); n != want || err != nil {
			f.Fatalf("ForgetUnseen %s returned %d, %v; want %d", what, n, err, want)
		}
	}
	leased := f.take(all[6])
	again := all[7]
	again.LastSeen = f.now
	f.observe(again)
	unseen("with a limit of 2", 2, 2)
	unseen("with the greatest limit", math.MaxInt, 1)
	unseen("with nothing left to forget", 9, 0)
	for i, a := range all {
		_, err := f.store.Get(f.ctx, a.ID)
		if gone := errors.Is(err, store.ErrNotFound); gone != (i >= 3 && i <= 5) {
			f.Errorf("Get of attacker %d, of whom 3 to 5 were not seen again and are not leased, returned %v", i, err)
		}
	}
	f.release(f.now, store.Lease{ID: leased.ID, Fence: leased.Fence})
	unseen("after a lease ended", 9, 1)
}
