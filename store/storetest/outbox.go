package storetest

import (
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/store"
)

// unpublished returns nil if the store has no outbox.
func (f *fixture) unpublished(age time.Duration, limit int) []bus.Event {
	f.Helper()
	s, ok := store.As[store.Outbox](f.store)
	if !ok {
		return nil
	}
	events, err := s.Unpublished(f.ctx, age, limit)
	if err != nil {
		f.Fatalf("Unpublished: %v", err)
	}
	if events == nil {
		events = []bus.Event{}
	}
	return events
}

// announced saves updates of all attackers, one after the other, each with an
// event, and returns the events.
func (f *fixture) announced(attackers ...store.Attacker) []bus.Event {
	f.Helper()
	var events []bus.Event
	for _, a := range attackers {
		u := f.update(f.take(a), f.fresh("a", a.Addr()))
		u.Event = f.event()
		events = append(events, *u.Event)
		f.save(u)
	}
	return events
}

// events fails the test unless got is want.
func (f *fixture) events(what string, got []bus.Event, want ...bus.Event) {
	f.Helper()
	var c comparison
	c.values("number of events", len(got), len(want))
	for i := range min(len(got), len(want)) {
		g, w := got[i], want[i]
		c.values("ID", g.ID, w.ID)
		c.values("Topic", g.Topic, w.Topic)
		c.values("Type", g.Type, w.Type)
		c.time("Time", g.Time, w.Time)
		c.values("Payload", canonical(g.Payload), canonical(w.Payload))
	}
	if len(c.diffs) > 0 {
		f.Fatalf("%s:\n%s", what, c.diffs)
	}
}

func outbox(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Outbox](f)
	all := f.attackers(6)
	want := f.announced(all[:5]...)
	f.save(f.update(f.take(all[5]), f.fresh("a", all[5].Addr()))) // an update without an event
	f.events("Unpublished", f.unpublished(0, 9), want...)
	f.events("Unpublished once more", f.unpublished(0, 9), want...)
	f.events("Unpublished with a limit of 2", f.unpublished(0, 2), want[:2]...)
	f.events("Unpublished of an hour ago", f.unpublished(time.Hour, 9))
	if err := s.Published(f.ctx, want[0].ID, want[3].ID, "unknown"); err != nil {
		f.Fatalf("Published: %v", err)
	}
	f.events("Unpublished after two were published", f.unpublished(0, 9), want[1], want[2], want[4])
	f.events("Unpublished with a limit of 1", f.unpublished(0, 1), want[1])
}

// outboxOfAttacker is about Record.Unpublished.
func outboxOfAttacker(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Outbox](f)
	all := f.attackers(3)
	published := func(ids ...string) {
		f.Helper()
		if err := s.Published(f.ctx, ids...); err != nil {
			f.Fatalf("Published: %v", err)
		}
	}
	// latest claims the attackers and gives them back.
	latest := func(what string, want ...string) {
		f.Helper()
		for _, rec := range f.claim(only(all...)).Records {
			i := slices.IndexFunc(all, func(a store.Attacker) bool { return a.ID == rec.ID })
			if rec.Unpublished != want[i] {
				f.Errorf("%s a claim of attacker %d found the unpublished event %q; want %q", what, i, rec.Unpublished, want[i])
			}
			f.release(f.now, store.Lease{ID: rec.ID, Fence: rec.Fence})
		}
	}
	latest("before any event", "", "", "")
	events := f.announced(all[0], all[1], all[0], all[1], all[0])
	of := func(i int) string { return events[i].ID }
	latest("after events", of(4), of(3), "")
	if rec := f.get(all[0].ID); rec.Unpublished != "" {
		f.Errorf("Get found the unpublished event %q; want none in a record that was not claimed", rec.Unpublished)
	}
	published(of(0), of(3))
	latest("after the first event of one and the last of another were published", of(4), of(1), "")
	published(of(4))
	latest("after a later event was published before an older one", of(2), of(1), "")
	f.forget(all[0].ID)
	f.observe(all[0])
	latest("after the attacker was forgotten and came back", of(2), of(1), "")
	published(of(2))
	latest("after the last event was published", "", of(1), "")
	if _, err := s.Expire(f.ctx, 0); err != nil {
		f.Fatalf("Expire: %v", err)
	}
	latest("after all events expired", "", "", "")
}

func outboxOfRefusedUpdates(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	optional[store.Outbox](f)
	all := f.attackers(4)
	recs := f.claim().Records
	lost, gone, moved := all[0], all[1], all[2]
	f.release(f.now, store.Lease{ID: lost.ID, Fence: recs[0].Fence})
	f.forget(gone.ID)
	moved.IP = "45.10.1.1"
	f.observe(moved)
	var ups []store.Update
	for _, rec := range recs {
		u := f.update(rec, f.fresh("a", rec.Addr()))
		u.Event = f.event()
		ups = append(ups, u)
	}
	f.refused([]store.Attacker{lost}, ups...)
	f.events("Unpublished after one of four updates was stored", f.unpublished(0, 9), *ups[3].Event)
}

func outboxExpire(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Outbox](f)
	want := f.announced(f.attackers(3)...)
	expire := func(age time.Duration, want int) {
		f.Helper()
		if n, err := s.Expire(f.ctx, age); n != want || err != nil {
			f.Fatalf("Expire of what is %v old returned %d, %v; want %d", age, n, err, want)
		}
	}
	expire(time.Hour, 0)
	f.events("Unpublished after nothing expired", f.unpublished(0, 9), want...)
	if err := s.Published(f.ctx, want[1].ID); err != nil {
		f.Fatalf("Published: %v", err)
	}
	expire(0, 2)
	f.events("Unpublished after all expired", f.unpublished(0, 9))
	expire(0, 0)
}

func outboxTurn(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	s := optional[store.Outbox](f)
	turn := func(owner string, lasting time.Duration, want bool) {
		f.Helper()
		if got, err := s.Turn(f.ctx, owner, lasting); got != want || err != nil {
			f.Fatalf("Turn of %s for %v returned %t, %v; want %t", owner, lasting, got, err, want)
		}
	}
	turn("first", lease, true)
	turn("second", lease, false)
	turn("first", lease, true)
	turn("second", 0, false)
	turn("second", lease, false)
	turn("first", 0, false)
	start := time.Now()
	turn("second", shortLease, true)
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for got := false; !got; <-poll.C {
		var err error
		if got, err = s.Turn(f.ctx, "first", lease); err != nil {
			f.Fatalf("Turn: %v", err)
		}
		lasted := time.Since(start)
		if got && lasted < shortLease-5*time.Millisecond || lasted > 10*time.Second {
			f.Fatalf("a turn of %v lasted %v", shortLease, lasted)
		}
	}
	turn("second", lease, false)

	if _, err := s.Turn(f.ctx, "", lease); !errors.Is(err, store.ErrInvalid) {
		f.Errorf("Turn of nobody returned %v; want an error that wraps ErrInvalid", err)
	}
}
