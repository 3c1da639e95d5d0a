package storetest

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

func leaseExcludes(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	f.take(a)
	f.expect("a claim under somebody's lease", f.claim(func(r *store.ClaimRequest) { r.Owner = "another" }).Records)
	f.expect("a claim by the same owner", f.claim().Records)
	f.expect("a claim by a worker whose clock is ahead", f.claim(at(f.now.AddDate(1, 0, 0))).Records)
	f.expect("a claim by ID", f.claim(only(a)).Records)
}

const shortLease = 250 * time.Millisecond

// expiring claims with a short lease.
func (f *fixture) expiring(want store.Attacker, edit ...func(*store.ClaimRequest)) store.Record {
	f.Helper()
	c := f.claim(append(edit, func(r *store.ClaimRequest) { r.Lease = shortLease })...)
	f.expect("a claim with a short lease", c.Records, want)
	return c.Records[0]
}

// reclaim repeats a claim until it returns something.
func (f *fixture) reclaim(edit ...func(*store.ClaimRequest)) []store.Record {
	f.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for range 1000 {
		if recs := f.claim(edit...).Records; len(recs) > 0 {
			return recs
		}
		<-poll.C
	}
	f.Fatal("a lease of ", shortLease, " did not expire within 10 s")
	return nil
}

func leaseExpires(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	start := time.Now()
	lost := f.expiring(a)
	recs := f.reclaim()
	if lasted := time.Since(start); lasted < shortLease-5*time.Millisecond {
		f.Errorf("a lease of %v lasted %v", shortLease, lasted)
	}
	f.expect("a claim after the lease expired", recs, a)
	if recs[0].Fence <= lost.Fence {
		f.Errorf("the second claim has fence %d after %d; want a greater one", recs[0].Fence, lost.Fence)
	}
	f.refused([]store.Attacker{a}, f.update(lost, f.fresh("late", a.Addr())))
	f.save(f.update(recs[0], f.fresh("prompt", a.Addr())))
	if rec := f.get(a.ID); rec.Entry("prompt") == nil || rec.Entry("late") != nil {
		f.Errorf("the ledger is %+v; want the entry that the second lease stored", rec.Entries)
	}
}

// leaseExpiresUnfinished is about attackers that are not claimed because they
// are due: what made them claimable outlives a worker that crashed.
func leaseExpiresUnfinished(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	f.schedule(all[0], time.Time{}, awaits("a"))
	f.schedule(all[1], time.Time{}, excluded("a"))
	grant, added := grants(map[string]int{"a": 1}), providers("a", "b")
	f.expiring(all[0], grant)
	f.expiring(all[1], added)
	f.expect("a claim of what waited, after the lease expired", f.reclaim(grant, limit(1)), all[0])
	f.expect("a claim for a new provider, after the lease expired", f.reclaim(added, limit(1)), all[1])
}

func fenceRefusesLostLease(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	old := f.take(all[1])
	f.release(f.now, store.Lease{ID: old.ID, Fence: old.Fence})
	recs := f.claim().Records
	f.expect("a claim", recs, all...)
	if recs[1].Fence <= old.Fence {
		f.Fatalf("the second claim has fence %d after %d; want a greater one", recs[1].Fence, old.Fence)
	}
	ups := []store.Update{
		f.update(recs[0], f.fresh("a", all[0].Addr())),
		f.update(old, f.fresh("a", all[1].Addr())),
		f.update(recs[2], f.fresh("a", all[2].Addr())),
	}
	f.refused(all[1:2], ups...)
	for i, want := range []uint64{1, 0, 1} {
		rec := f.get(all[i].ID)
		if rec.Revision != want || len(rec.Entries) != int(want) {
			f.Errorf("attacker %d has revision %d and %d entries; want %d of each", i, rec.Revision, len(rec.Entries), want)
		}
	}
	f.expect("a claim under the lease that is good", f.claim().Records)
	f.save(f.update(recs[1]))
	f.refused(all[1:2], f.update(recs[1]))
	never := f.attacker(7)
	f.observe(never)
	f.refused([]store.Attacker{never}, f.update(store.Record{Attacker: never}))
}

func fenceSurvivesForget(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	old := f.take(a)
	f.forget(a.ID)
	f.observe(a)
	f.refused([]store.Attacker{a}, f.update(old))
	f.take(a)
	f.refused([]store.Attacker{a}, f.update(old))
}

func fenceAdmitsOneSave(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	rec := f.take(a)
	const savers = 16
	var (
		wg   sync.WaitGroup
		errs [savers]error
	)
	for i := range savers {
		u := f.update(rec)
		u.Revision = uint64(100 + i)
		wg.Go(func() { errs[i] = f.store.Save(f.ctx, u) })
	}
	wg.Wait()
	var won []uint64
	for i, err := range errs {
		if err == nil {
			won = append(won, uint64(100+i))
		} else if !errors.Is(err, store.ErrConflict) {
			f.Errorf("Save: %v; want an error that wraps ErrConflict", err)
		}
	}
	if len(won) != 1 {
		f.Fatalf("%d of %d saves under one fence succeeded; want 1", len(won), savers)
	}
	if got := f.get(a.ID).Revision; got != won[0] {
		f.Errorf("the revision is %d; want %d, which the save that succeeded stored", got, won[0])
	}
}

func holdKeepsLease(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	rec := f.take(a)
	first := f.update(rec, f.fresh("a", a.Addr()))
	first.Hold, first.Due = true, f.now
	f.save(first)
	if got := f.get(a.ID); got.Revision != 1 || got.Entry("a") == nil {
		f.Fatalf("after a save with Hold the record is %+v; want what was saved", got)
	}
	f.expect("a claim under a lease that was held", f.claim().Records)
	second := f.update(f.get(a.ID), f.fresh("a", a.Addr()), f.fresh("b", a.Addr()))
	second.Fence, second.Due = rec.Fence, f.now
	f.save(second)
	if got := f.get(a.ID); got.Revision != 2 || got.Entry("b") == nil {
		f.Fatalf("after a second save under the same lease the record is %+v; want what was saved", got)
	}
	f.refused([]store.Attacker{a}, second)
	f.expect("a claim after the lease ended", f.claim().Records, a)
}

// holdSavedTogether: the updates of one pass may be stored by one call, and each
// keeps what those before it brought.
func holdSavedTogether(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	before := f.enrich(a, "greynoise", "own")
	rec := f.take(a)
	names := []string{"abuseipdb", "feodo", "greynoise", "late"}
	var ups []store.Update
	for i, name := range names {
		e := f.fresh(name, a.Addr())
		e.Finding.Raw = json.RawMessage(fmt.Sprintf(`{"answer":%d}`, i))
		rec.Entries = slices.DeleteFunc(slices.Clone(rec.Entries), func(e store.Entry) bool { return e.Provider == name })
		rec.Entries = append(rec.Entries, e)
		u := f.update(rec, rec.Entries...)
		u.Changed, u.Revision, u.Hold = []string{name}, rec.Revision+uint64(i)+1, i < len(names)-1
		ups = append(ups, u)
	}
	f.save(ups...)
	last := ups[len(ups)-1]
	want := before
	want.Entries = slices.Clone(last.Entries)
	*want.Entry("own") = *before.Entry("own")
	slices.SortFunc(want.Entries, func(a, b store.Entry) int { return strings.Compare(a.Provider, b.Provider) })
	want.Revision, want.Decision = last.Revision, *last.Decision
	f.same("Get after updates that were saved by one call", f.get(a.ID), want)
	f.expect("a claim after updates that were saved by one call", f.claim(at(last.Due)).Records, a)
}

func release(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	f.schedule(all[0], f.now.Add(time.Hour), f.fresh("a", all[0].Addr()))
	before := f.get(all[0].ID)
	first, second, third := f.take(all[0]), f.take(all[1]), f.take(all[2])
	due := f.now.Add(time.Minute)
	err := f.store.Release(f.ctx, time.Time{}, store.Lease{ID: all[0].ID, Fence: first.Fence})
	if !errors.Is(err, store.ErrInvalid) {
		f.Fatalf("Release without a time returned %v; want an error that wraps ErrInvalid", err)
	}
	f.expect("a claim after a release that was refused", f.claim().Records)
	f.release(f.now, store.Lease{ID: all[0].ID, Fence: first.Fence})
	f.release(due, store.Lease{ID: all[1].ID, Fence: second.Fence}, store.Lease{ID: all[2].ID, Fence: third.Fence})
	f.same("Get after a release", f.get(all[0].ID), before)
	f.refused(all, f.update(first), f.update(second), f.update(third))
	f.expect("a claim after a release that made it due now", f.claim().Records, all[0])
	f.expect("a claim before the time given at release", f.claim(at(due.Add(-time.Microsecond))).Records)
	f.expect("a claim at the time given at release", f.claim(at(due)).Records, all[1:]...)
}

func releaseLostLease(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	old := f.take(all[0])
	f.release(f.now, store.Lease{ID: old.ID, Fence: old.Fence})
	rec, other := f.take(all[0]), f.take(all[1])
	f.release(f.now.Add(time.Hour),
		store.Lease{ID: old.ID, Fence: old.Fence},
		store.Lease{ID: f.attacker(9).ID, Fence: 1},
		store.Lease{ID: other.ID, Fence: other.Fence},
	)
	f.expect("a claim after a lost lease was released", f.claim().Records)
	f.save(f.update(rec))
	f.release(f.now, store.Lease{ID: rec.ID, Fence: rec.Fence}) // lost since the save
	f.expect("a claim after a lease that had ended was released", f.claim().Records)
	f.expect("a claim of one that was released together with lost ones", f.claim(at(f.now.Add(time.Hour))).Records, all[1])
}
