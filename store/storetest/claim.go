package storetest

import (
	"errors"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

func claimNewestFirst(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(10)
	f.expect("the first claim of 4", f.claim(limit(4)).Records, all[:4]...)
	f.expect("the second claim of 4", f.claim(limit(4)).Records, all[4:8]...)
	f.expect("the third claim of 4", f.claim(limit(4)).Records, all[8:]...)
	f.expect("a claim when all are claimed", f.claim(limit(4)).Records)
}

func claimNeverEnriched(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	old, future := f.attacker(0), f.attacker(1)
	old.FirstSeen, old.LastSeen = f.now.AddDate(-20, 0, 0), f.now.AddDate(-10, 0, 0)
	future.LastSeen = f.now.AddDate(0, 0, 1)
	f.observe(old, future)
	recs := f.claim().Records
	f.expect("a claim", recs, future, old)
	for i, want := range []store.Attacker{future, old} {
		f.same("Claim", recs[i], store.Record{Attacker: want})
		if recs[i].Fence == 0 {
			f.Error("a claimed record has no fence")
		}
		f.same("Get", f.get(want.ID), store.Record{Attacker: want})
		if fence := f.get(want.ID).Fence; fence != 0 {
			f.Errorf("a record that Get returns has the fence %d; want 0", fence)
		}
	}
}

func claimDueBoundary(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	due := f.now.Add(time.Hour)
	f.schedule(a, due)
	f.expect("a claim a microsecond before it is due", f.claim(at(due.Add(-time.Microsecond))).Records)
	f.expect("a claim at the time it is due", f.claim(at(due)).Records, a)
}

func claimOnly(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(5)
	later, leased, other := all[0], all[1], all[2]
	f.schedule(later, f.now.Add(time.Hour))
	f.take(leased)
	unknown := f.attacker(9)
	c := f.claim(only(all[4], unknown, all[3], later, all[4], leased))
	f.expect("a claim by ID", c.Records, later, all[3], all[4])
	for _, rec := range c.Records {
		f.save(f.update(rec)) // the lease must be good
	}
	f.expect("a claim by ID of 1", f.claim(only(all[3], all[4]), limit(1)).Records, all[3])
	f.expect("a claim of the others", f.claim().Records, other)
}

func claimRefusesNonsense(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	for what, edit := range map[string]func(*store.ClaimRequest){
		"no owner":           func(r *store.ClaimRequest) { r.Owner = "" },
		"no time":            func(r *store.ClaimRequest) { r.Now = time.Time{} },
		"no lease":           func(r *store.ClaimRequest) { r.Lease = 0 },
		"a negative lease":   func(r *store.ClaimRequest) { r.Lease = -time.Second },
		"a limit of zero":    func(r *store.ClaimRequest) { r.Limit = 0 },
		"a limit below zero": func(r *store.ClaimRequest) { r.Limit = -1 },
	} {
		if _, err := f.store.Claim(f.ctx, f.request(edit)); !errors.Is(err, store.ErrInvalid) {
			f.Errorf("a claim with %s returned %v; want an error that wraps ErrInvalid", what, err)
		}
	}
	f.expect("a proper claim after that", f.claim().Records, a)
}

// claimGreatestLimit is about claims whose limit and grants are the greatest numbers
// there are.
func claimGreatestLimit(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(4)
	f.schedule(all[1], f.now.Add(time.Hour), awaits("a"))
	f.schedule(all[2], time.Time{}, excluded("a"))
	c := f.claim(limit(math.MaxInt), providers("a", "b"), func(r *store.ClaimRequest) {
		r.Grants = map[string]store.Grant{"a": {Calls: math.MaxInt, Oldest: math.MaxInt}}
	})
	f.expect("a claim with the greatest limit", c.Records, all...)
	if !c.NextDue.IsZero() {
		f.Errorf("NextDue of a claim of everything is %v; want none", c.NextDue)
	}
	for _, rec := range c.Records {
		f.save(f.update(rec)) // the lease must be good
	}
	f.expect("a claim by ID with the greatest limit", f.claim(limit(math.MaxInt), only(all...)).Records, all...)
}

func claimConcurrently(tb testing.TB, h Harness) {
	const claimers, attackers = 32, 320
	f := setUp(tb, h)
	f.attackers(attackers)
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		times = make(map[uuid.UUID]int)
	)
	claim := func() (int, error) {
		c, err := f.store.Claim(f.ctx, f.request(limit(7)))
		mu.Lock()
		defer mu.Unlock()
		for _, rec := range c.Records {
			times[rec.ID]++
		}
		return len(c.Records), err
	}
	for range claimers {
		wg.Go(func() {
			for {
				if n, err := claim(); err != nil {
					f.Errorf("Claim: %v", err)
					return
				} else if n == 0 {
					return
				}
			}
		})
	}
	wg.Wait()
	for n := 1; n > 0; { // what a claimer passed over because another was looking at it
		var err error
		if n, err = claim(); err != nil {
			f.Fatalf("Claim: %v", err)
		}
	}
	if len(times) != attackers {
		f.Errorf("%d claimers got %d attackers; want all %d", claimers, len(times), attackers)
	}
	for id, n := range times {
		if n > 1 {
			f.Errorf("attacker %s was claimed %d times", id, n)
		}
	}
}

func nextDue(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	check := func(what string, got, want time.Time) {
		f.Helper()
		if !got.Equal(want) {
			f.Fatalf("NextDue %s is %v; want %v", what, got, want)
		}
	}
	check("of an empty store", f.claim().NextDue, time.Time{})
	all := f.attackers(4)
	soon, later := f.now.Add(time.Hour), f.now.Add(3*time.Hour)
	for _, a := range all[2:] {
		f.schedule(a, later)
	}
	f.schedule(all[0], time.Time{}, excluded("a"))
	f.schedule(all[1], time.Time{}, awaits("a"))
	check("with attackers due later", f.claim().NextDue, later)
	f.schedule(all[3], soon)
	c := f.claim()
	f.expect("a claim of nothing", c.Records)
	check("with attackers due soon and later", c.NextDue, soon)
	c = f.claim(at(soon))
	f.expect("a claim when one is due", c.Records, all[3])
	check("after that one was claimed", c.NextDue, later)
}

func nextDueOfLease(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	within := func(what string, got, from, to time.Time) {
		f.Helper()
		const slack = 5 * time.Second // between the store's clock and ours
		if got.Before(from.Add(-slack)) || got.After(to.Add(slack)) {
			f.Fatalf("NextDue %s is %v; want one from %v to %v", what, got, from, to)
		}
	}
	start := time.Now()
	if c := f.claim(limit(1)); c.NextDue.IsZero() || c.NextDue.After(f.now) {
		f.Fatalf("NextDue with another attacker due is %v; want one not after %v", c.NextDue, f.now)
	}
	c := f.claim(limit(1))
	within("with the other attacker leased", c.NextDue, start.Add(lease), time.Now().Add(lease))
	f.save(f.update(c.Records[0]))
	c = f.claim()
	f.expect("a claim of nothing", c.Records)
	within("with a lease that ends before another is due", c.NextDue, start.Add(lease), time.Now().Add(lease))
	f.schedule(all[1], f.now.Add(time.Minute))
	if got, want := f.claim().NextDue, f.now.Add(time.Minute); !got.Equal(want) {
		f.Fatalf("NextDue with an attacker due before a lease ends is %v; want %v", got, want)
	}
}

func nextDueBeyondLimit(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(6)
	for _, a := range all[:3] {
		f.schedule(a, f.now)
	}
	for len(all) > 2 {
		c := f.claim(limit(2))
		f.expect("a claim of 2", c.Records, all[:2]...)
		all = all[2:]
		if c.NextDue.IsZero() || c.NextDue.After(f.now) {
			f.Fatalf("NextDue with %d more attackers due is %v; want one not after %v", len(all), c.NextDue, f.now)
		}
	}
}
