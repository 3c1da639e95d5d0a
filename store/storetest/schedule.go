package storetest

import (
	"testing"
	"time"

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

func mixedOrder(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(8)
	f.schedule(all[0], time.Time{}, awaits("a"))
	f.schedule(all[2], time.Time{}, excluded("a"))
	f.schedule(all[3], f.now, f.fresh("a", all[3].Addr()))
	f.schedule(all[5], time.Time{}, awaits("a"))
	f.schedule(all[6], time.Time{}, excluded("a"))
	every := func(r *store.ClaimRequest) {
		r.Grants, r.Providers = map[string]int{"a": 8}, []string{"a", "b"}
	}
	f.expect("a claim of 5 for several reasons", f.claim(every, limit(5)).Records, all[:5]...)
	f.expect("a claim of the rest", f.claim(every).Records, all[5:]...)
}
