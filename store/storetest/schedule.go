package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

func parked(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	a, control := all[0], all[1]
	f.schedule(a, time.Time{}, excluded("a"), excluded("b"))
	f.schedule(control, f.now.Add(time.Hour), excluded("a"))
	ages := at(f.now.AddDate(50, 0, 0))
	f.expect("a claim after 50 years", f.claim(ages, limit(1)).Records, control)
	for _, names := range [][]string{nil, {"a"}, {"b", "a"}} {
		f.expect("a claim by a worker without a new provider", f.claim(ages, providers(names...)).Records)
	}
	grown := providers("a", "b", "c")
	recs := f.claim(grown).Records
	f.expect("a claim by a worker with a new provider", recs, a)
	f.expect("another claim by a worker with that provider", f.claim(grown).Records)

	u := f.update(recs[0], excluded("a"), excluded("b"), excluded("c"))
	u.Due = time.Time{}
	f.save(u)
	f.expect("a claim after the new provider did not apply", f.claim(ages, grown).Records)
	f.expect("a claim by a worker with fewer providers", f.claim(ages, providers("a")).Records)
	f.expect("a claim by a worker with yet another provider", f.claim(providers("b", "d")).Records, a)

	// One that is parked after the store has heard of all its providers.
	late := f.attacker(5)
	f.observe(late)
	f.schedule(late, time.Time{}, excluded("a"))
	f.expect("a claim by a worker with no new provider for the latest", f.claim(providers("a")).Records)
	f.expect("a claim by a worker with a new provider for the latest", f.claim(providers("a", "c")).Records, late)
}

func waiting(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(7)
	for i, a := range all {
		switch i {
		case 2:
			f.schedule(a, f.now.Add(time.Hour), awaits("b"))
		case 4:
			f.schedule(a, f.now.Add(time.Hour), f.fresh("a", a.Addr()))
		default:
			f.schedule(a, f.now.Add(time.Hour), f.fresh("c", a.Addr()), awaits("a"))
		}
	}
	f.expect("a claim without grants", f.claim().Records)
	f.expect("a claim with a grant of none", f.claim(grants(map[string]int{"a": 0, "b": -1})).Records)
	f.expect("a claim with a grant for another provider", f.claim(grants(map[string]int{"c": 5})).Records)
	f.expect("a claim with a grant of 3", f.claim(grants(map[string]int{"a": 3})).Records, all[0], all[1], all[3])
	c := f.claim(grants(map[string]int{"a": 1, "b": 5}))
	f.expect("a claim with grants for two", c.Records, all[2], all[5])
	f.expect("a claim with a grant of more than wait", f.claim(grants(map[string]int{"a": 9})).Records, all[6])

	// What was asked no longer waits.
	f.save(f.update(c.Records[0], f.fresh("b", all[2].Addr())))
	f.expect("a claim with a grant for one that has been asked", f.claim(grants(map[string]int{"b": 5})).Records)
}

func waitingOrDue(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(4)
	f.schedule(all[0], f.now, awaits("a"))
	f.schedule(all[1], time.Time{}, awaits("a"))
	f.schedule(all[2], f.now, awaits("a"))
	f.schedule(all[3], f.now.Add(time.Hour), awaits("a"))
	f.expect("a claim with a grant of 1 and two that are due anyway",
		f.claim(grants(map[string]int{"a": 1})).Records, all[0], all[1], all[2])
	f.expect("a claim of one that waits, when it is due", f.claim(at(f.now.Add(time.Hour))).Records, all[3])
}

// waitsSince returns an entry that waits for a provider.
func (f *fixture) waitsSince(name string, rank int, since time.Duration) store.Entry {
	return store.Entry{Provider: name, State: store.Waiting, Rank: rank, Since: f.now.Add(-since)}
}

func waitingRank(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(7)
	for i, rank := range []int{0, -3, 5, 0, 5, -3, 0} {
		f.schedule(all[i], time.Time{}, f.waitsSince("a", rank, 0), f.waitsSince("b", -rank, 0))
	}
	f.expect("a claim of the 3 of the greatest rank", f.claim(grants(map[string]int{"a": 3})).Records, all[0], all[2], all[4])
	rec := f.claim(grants(map[string]int{"b": 1})).Records
	f.expect("a claim with another provider's ranks", rec, all[1])
	f.save(f.update(rec[0], f.waitsSince("a", 9, 0)))
	f.expect("a claim after a rank has changed", f.claim(grants(map[string]int{"a": 1})).Records, all[1])
	f.expect("a claim of the next 2", f.claim(grants(map[string]int{"a": 2})).Records, all[3], all[6])
	f.expect("a claim of the rest", f.claim(grants(map[string]int{"a": 9})).Records, all[5])
}

func waitingLongest(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(8)
	hours := []time.Duration{1, 7, 2, 0, 5, 6, 3, 4}
	for i, a := range all {
		f.schedule(a, time.Time{}, f.waitsSince("a", 0, hours[i]*time.Hour))
	}
	grant := func(calls, oldest int) func(*store.ClaimRequest) {
		return func(r *store.ClaimRequest) { r.Grants = map[string]store.Grant{"a": {Calls: calls, Oldest: oldest}} }
	}
	f.expect("a claim of 3, of which 2 have been waiting longest", f.claim(grant(3, 2)).Records, all[0], all[1], all[5])
	f.expect("a claim of 1, were it not for the limit", f.claim(grant(9, 9), limit(1)).Records, all[4])
	f.expect("a claim of 2 of those that have been waiting longest", f.claim(grant(2, 5)).Records, all[6], all[7])
	f.expect("a claim of none", f.claim(grant(0, 5)).Records)
	f.expect("a claim of the rest", f.claim(grant(9, 1)).Records, all[2], all[3])
}

func waitingGranted(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(4)
	f.schedule(all[0], time.Time{}, awaits("a"), awaits("b"), awaits("c"))
	f.schedule(all[1], time.Time{}, awaits("b"))
	f.schedule(all[2], f.now, awaits("a"))
	recs := f.claim(grants(map[string]int{"a": 1, "b": 5})).Records
	f.expect("a claim with grants", recs, all[0], all[1], all[2], all[3])
	for i, want := range [][]string{{"a", "b"}, {"b"}, nil, nil} {
		if !slices.Equal(recs[i].Granted, want) {
			f.Errorf("record %d of the claim is granted %q; want %q", i, recs[i].Granted, want)
		}
	}
	if got := f.get(all[0].ID); got.Granted != nil {
		f.Errorf("Get returned a record that is granted %q; want none", got.Granted)
	}
}

// seenAhead is about attackers that are due early because they were seen again.
func seenAhead(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(6)
	due := f.now.Add(24 * time.Hour)
	for i, ahead := range []time.Time{f.now.Add(time.Hour), f.now.Add(time.Hour), {}, f.now.Add(time.Hour), due.Add(time.Hour)} {
		rec := f.take(all[i])
		u := f.update(rec, f.fresh("a", rec.Addr()))
		u.Due, u.Ahead = due, ahead
		f.save(u)
	}
	parked := f.take(all[5])
	u := f.update(parked, excluded("a"))
	u.Due = time.Time{}
	f.save(u)
	seen := func(i int, at time.Time) {
		f.Helper()
		a := all[i]
		a.LastSeen = at
		f.observe(a)
	}
	seen(0, f.now.Add(2*time.Hour))
	seen(1, f.now.Add(time.Minute))
	seen(2, f.now.Add(2*time.Hour))
	seen(3, all[3].LastSeen)
	seen(4, f.now.Add(150*time.Minute))
	seen(5, f.now.Add(2*time.Hour))
	f.expect("a claim before any of it counts", f.claim(at(f.now.Add(59*time.Minute))).Records)
	f.expect("a claim when one may be due early that was seen before", f.claim(at(f.now.Add(time.Hour))).Records, all[1])
	recs := f.claim(at(f.now.Add(2 * time.Hour))).Records
	f.expect("a claim when one was seen that may be due early", recs, all[0])
	f.save(f.update(recs[0], f.fresh("a", all[0].Addr())))
	seen(0, f.now.Add(3*time.Hour))
	f.expect("a claim of one that may no longer be due early", f.claim(at(f.now.Add(4*time.Hour))).Records)
	f.expect("a claim of the rest when they are due", f.claim(at(due)).Records, all[0], all[4], all[2], all[3])
}

// keepDue is about saves that leave the schedule as it is.
func keepDue(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(6)
	due := f.now.Add(time.Hour)
	f.schedule(all[0], due, f.fresh("a", all[0].Addr()))
	f.schedule(all[2], time.Time{}, excluded("a"))
	f.schedule(all[3], time.Time{}, awaits("a"))
	f.schedule(all[4], due, f.fresh("a", all[4].Addr()))
	f.schedule(all[5], due, f.fresh("a", all[5].Addr()))
	for i, a := range all {
		before := f.get(a.ID)
		rec := f.take(a)
		u := store.Update{
			Lease: store.Lease{ID: a.ID, Fence: rec.Fence}, Due: f.now.Add(time.Minute), IP: rec.IP,
			Entries: rec.Entries, Revision: rec.Revision, KeepDue: true,
		}
		if before.Revision > 0 {
			before.Decision = aggregate.Decision{Verdict: provider.Benign, Policy: "storetest/2"}
			u.Decision = &before.Decision
		}
		switch i {
		case 4: // away and back, under the lease
			moved := a
			moved.IP = address(99).String()
			f.observe(moved)
			f.observe(a)
		case 5:
			u.Hold = true
			f.save(u)
			u.Hold = false
		}
		f.save(u)
		f.same("Get after a save that keeps when the attacker is due", f.get(a.ID), before)
	}
	f.expect("a claim of those due at once", f.claim().Records, all[1], all[4])
	f.expect("a claim before the rest is due", f.claim(at(due.Add(-time.Microsecond))).Records)
	f.expect("a claim when the rest is due", f.claim(at(due)).Records, all[0], all[5])
	f.expect("a claim of what waits", f.claim(grants(map[string]int{"a": 9})).Records, all[3])
	f.expect("a claim of what is parked", f.claim(at(f.now.AddDate(50, 0, 0)), providers("a", "b")).Records, all[2])
}

func mixedOrder(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(8)
	f.schedule(all[0], time.Time{}, awaits("a"))
	f.schedule(all[2], time.Time{}, excluded("a"))
	f.schedule(all[3], f.now, f.fresh("a", all[3].Addr()))
	f.schedule(all[5], time.Time{}, awaits("a"))
	f.schedule(all[6], time.Time{}, excluded("a"))
	every := func(r *store.ClaimRequest) {
		r.Grants, r.Providers = map[string]store.Grant{"a": {Calls: 8}}, []string{"a", "b"}
	}
	f.expect("a claim of 5 for several reasons", f.claim(every, limit(5)).Records, all[:5]...)
	f.expect("a claim of the rest", f.claim(every).Records, all[5:]...)
}
