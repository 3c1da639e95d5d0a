package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

// The checks of this file are about a clock that was wrong and was then corrected.
// Years is by how much it was ahead.
const years = 26 * 365 * 24 * time.Hour

// shift skips the test unless the harness can shift what the store's clock says.
func (f *fixture) shift(h Harness, by time.Duration) {
	f.Helper()
	if h.Shift == nil {
		f.Skip("the harness has no Shift")
	}
	h.Shift(f.TB, f.store, by)
}

// clockDue: an attacker that is due later than it can be is due now, once.
func clockDue(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	horizon := func(r *store.ClaimRequest) { r.Horizon = 31 * 24 * time.Hour }
	f.schedule(all[0], f.now.Add(years))
	f.schedule(all[1], f.now.Add(9*time.Hour))
	f.schedule(all[2], f.now.Add(31*24*time.Hour))
	f.expect("a claim without a horizon", f.claim().Records)
	recs := f.claim(horizon).Records
	f.expect("a claim with a horizon", recs, all[0])
	u := f.update(recs[0])
	f.save(u)
	f.expect("a claim after it was put off by the right clock", f.claim(horizon).Records)
	f.expect("a claim when they are due", f.claim(horizon, at(f.now.Add(31*24*time.Hour))).Records, all...)
}

// clockLease: a lease that was taken by a clock that was ahead is over.
func clockLease(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(2)
	for _, by := range []time.Duration{9 * time.Hour, years} {
		f.expect("a claim", f.claim().Records, all...)
		f.expect("a claim of leased attackers", f.claim().Records)
		f.shift(h, by)
		recs := f.claim().Records
		f.expect("a claim after the clock was corrected", recs, all...)
		f.release(f.now, store.Lease{ID: recs[0].ID, Fence: recs[0].Fence}, store.Lease{ID: recs[1].ID, Fence: recs[1].Fence})
	}
}

// clockSeen: an attacker that was last seen in the future is seen again today.
func clockSeen(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	seen := func(at time.Time) {
		f.Helper()
		a.LastSeen = at
		f.observe(a)
	}
	seen(f.now.Add(years))
	u := f.update(f.take(a), f.fresh("a", a.Addr()))
	u.Due, u.Ahead = f.now.Add(years), f.now.Add(-time.Hour)
	f.save(u)
	f.expect("a claim before it was seen again", f.claim().Records)
	seen(f.now)
	rec := f.get(a.ID)
	if !rec.LastSeen.Equal(f.now) {
		f.Errorf("an attacker that was seen in the future and then now was last seen at %v; want %v", rec.LastSeen, f.now)
	}
	f.expect("a claim after it was seen again", f.claim().Records, a)
	seen(f.now.Add(-time.Hour))
	if rec := f.get(a.ID); !rec.LastSeen.Equal(f.now) {
		f.Errorf("a sighting of an hour before changed when it was last seen to %v; want %v", rec.LastSeen, f.now)
	}
}

// clockAnswers: a finding from the future hides none about the same address.
func clockAnswers(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Answers](f)
	all := f.attackers(2)
	want := f.answered(all[0], "a", address(1), 1, f.now.Add(time.Hour))
	e := f.fresh("a", address(1))
	e.Finding.ObservedAt, e.Expires = f.now.Add(years), f.now.Add(years+time.Hour)
	f.save(f.update(f.take(all[1]), e))
	if got := f.answers(f.now, address(1)); !slices.Equal(got, []answer{want}) {
		f.Errorf("Answers beside a finding from the future returned %+v; want %+v", got, want)
	}
}

// clockWaiting: an attacker that waits since a time in the future is not behind those
// that begin to wait.
func clockWaiting(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	f.schedule(all[2], time.Time{}, f.waitsSince("a", 0, -years))
	f.schedule(all[0], time.Time{}, f.waitsSince("a", 0, -time.Second))
	f.schedule(all[1], time.Time{}, f.waitsSince("a", 0, time.Hour))
	longest := func(r *store.ClaimRequest) {
		r.Horizon, r.Grants = 31*24*time.Hour, map[string]store.Grant{"a": {Calls: 1, Oldest: 1}}
	}
	first, second := f.claim(longest).Records, f.claim(longest).Records
	if len(first) == 1 && first[0].ID == all[2].ID {
		first, second = second, first
	}
	f.expect("one of two claims of the one that has been waiting longest", first, all[1])
	f.expect("the other one", second, all[2])
}

// clockTurn: a turn that was taken by a clock that was ahead is over.
func clockTurn(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	box := optional[store.Outbox](f)
	mine := func(owner string) bool {
		f.Helper()
		mine, err := box.Turn(f.ctx, owner, time.Minute)
		if err != nil {
			f.Fatalf("Turn: %v", err)
		}
		return mine
	}
	if !mine("a") || mine("b") {
		f.Fatal("Turn did not give the first of two owners the turn")
	}
	f.shift(h, 9*time.Hour)
	if !mine("b") {
		f.Error("a turn that ends in nine hours is still another owner's")
	}
}

// clockOutbox: an event that was saved in the future hides none.
func clockOutbox(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	box := optional[store.Outbox](f)
	all := f.attackers(2)
	var saved []string
	save := func(a store.Attacker) {
		f.Helper()
		u := f.update(f.take(a), f.fresh("a", a.Addr()))
		u.Event = f.event()
		saved = append(saved, u.Event.ID)
		f.save(u)
	}
	save(all[0])
	f.shift(h, years)
	save(all[1])
	f.shift(h, -time.Hour) // it is an hour old, the other one still of the future
	events, err := box.Unpublished(f.ctx, time.Minute, 10)
	if err != nil {
		f.Fatalf("Unpublished: %v", err)
	}
	if len(events) != 2 || events[0].ID != saved[0] || events[1].ID != saved[1] {
		f.Errorf("Unpublished returned %d events although one of two was only saved in the future; want both, as saved", len(events))
	}
	if _, err := box.Expire(f.ctx, 30*time.Minute); err != nil { // it corrects the first
		f.Fatalf("Expire: %v", err)
	}
	f.shift(h, -time.Hour)
	if _, err := box.Expire(f.ctx, 30*time.Minute); err != nil {
		f.Fatalf("Expire: %v", err)
	}
	if events, err = box.Unpublished(f.ctx, 0, 10); err != nil || len(events) > 0 {
		f.Errorf("Unpublished after Expire: %d events, %v; want none", len(events), err)
	}
}

// waitingShared: what one attacker's lookup found serves the others that wait for it.
func waitingShared(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := make([]store.Attacker, 7)
	for i := range all {
		all[i] = f.attacker(i)
		if i < 5 {
			all[i].IP = address(1).String()
		}
	}
	f.observe(all...)
	about := func(a store.Attacker, e store.Entry) store.Entry {
		e.Addr = a.Addr()
		return e
	}
	f.enrich(all[3], "a")
	rec := f.take(all[3])
	newer := *rec.Entry("a")
	newer.State, newer.Expires = store.Waiting, f.now.Add(-time.Hour)
	f.save(store.Update{ // waits for a newer finding
		Lease: store.Lease{ID: rec.ID, Fence: rec.Fence}, IP: rec.IP, Entries: []store.Entry{newer}, Revision: rec.Revision,
	})
	f.schedule(all[4], f.now.Add(time.Hour))
	f.schedule(all[0], time.Time{}, about(all[0], awaits("a")))
	f.schedule(all[1], f.now.Add(time.Hour), about(all[1], awaits("a"))) // waits, and is due later anyway
	f.schedule(all[2], time.Time{}, about(all[2], awaits("b")))          // for another provider
	f.schedule(all[5], time.Time{}, about(all[5], awaits("a")))          // because of another address
	f.save(f.update(f.take(all[6]), f.fresh("a", all[6].Addr())))
	f.expect("a claim while they wait", f.claim().Records)
	own := f.fresh("a", all[6].Addr())
	own.State = store.Waiting
	f.save(f.update(f.take(all[6]), own))
	f.expect("a claim after one that waits in spite of its own finding", f.claim().Records)

	rec = f.take(all[4])
	u := f.update(rec, f.fresh("b", address(9)), store.Entry{Provider: "a", State: store.Due, Due: f.now.Add(time.Hour)})
	u.Due, u.Hold = time.Time{}, true
	f.save(u)
	f.expect("a claim after a finding about another address", f.claim().Records)
	u = f.update(rec, f.fresh("a", address(1)))
	u.Revision++
	f.save(u)
	served := f.claim().Records
	f.expect("a claim after the finding they wait for", served, all[0], all[1], all[3])

	waits := f.update(served[1], about(all[1], awaits("c")))
	waits.Due = time.Time{}
	f.save(f.update(served[0], f.fresh("c", address(1))), waits) // the order of updates does not matter
	f.expect("a claim after a finding that the same call of Save stored", f.claim().Records, all[1])
}
