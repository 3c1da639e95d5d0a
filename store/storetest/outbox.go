package storetest

import (
	"errors"
	"maps"
	"math"
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
	f.events("Unpublished once more, with the greatest limit", f.unpublished(0, math.MaxInt), want...)
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

// outboxReaders is about the outboxes of readers beside the bus.
func outboxReaders(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	readers := optional[store.Readers](f)
	all := f.attackers(4)
	var events []bus.Event
	for i, to := range []struct {
		readers []string
		noBus   bool
	}{{}, {[]string{"one"}, false}, {[]string{"one", "two"}, true}, {[]string{"two"}, false}} {
		u := f.update(f.take(all[i]), f.fresh("a", all[i].Addr()))
		u.Event, u.Readers, u.NoBus = f.event(), to.readers, to.noBus
		events = append(events, *u.Event)
		f.save(u)
	}
	has := func(what, reader string, want ...bus.Event) {
		f.Helper()
		got, err := readers.OutboxOf(reader).Unpublished(f.ctx, 0, 9)
		if err != nil {
			f.Fatalf("Unpublished of %s %s: %v", reader, what, err)
		}
		f.events("Unpublished of "+reader+" "+what, got, want...)
	}
	count := func(what string, want map[string]int) {
		f.Helper()
		s, ok := store.As[store.Statistician](f.store)
		if !ok {
			return
		}
		if got, err := s.Stats(f.ctx, f.now); err != nil || !maps.Equal(noZeros(got).Readers, want) {
			f.Errorf("Stats %s: %v for the readers, %v; want %v", what, got.Readers, err, want)
		}
	}
	f.events("Unpublished of the bus", f.unpublished(0, 9), events[0], events[1], events[3])
	count("at first", map[string]int{"one": 2, "two": 2})
	has("at first", "one", events[1], events[2])
	has("at first", "two", events[2], events[3])
	has("at first", "nobody")
	if err := readers.OutboxOf("one").Published(f.ctx, events[2].ID, events[3].ID); err != nil {
		f.Fatalf("Published of one: %v", err)
	}
	has("after it has read one event", "one", events[1])
	has("after another reader has read one event", "two", events[2], events[3])
	f.events("Unpublished of the bus after a reader has read", f.unpublished(0, 9), events[0], events[1], events[3])

	for _, reader := range []string{"one", "two"} {
		if mine, err := readers.OutboxOf(reader).Turn(f.ctx, reader, lease); !mine || err != nil {
			f.Fatalf("Turn of the only reader %s returned %t, %v; want true", reader, mine, err)
		}
	}
	if mine, err := readers.OutboxOf("one").Turn(f.ctx, "another", lease); mine || err != nil {
		f.Fatalf("Turn of a second owner for one reader returned %t, %v; want false", mine, err)
	}
	if n, err := readers.OutboxOf("two").Expire(f.ctx, time.Hour); n != 0 || err != nil {
		f.Fatalf("Expire of two of what is an hour old returned %d, %v; want 0", n, err)
	}
	if n, err := readers.OutboxOf("two").Expire(f.ctx, 0); n != 2 || err != nil {
		f.Fatalf("Expire of two returned %d, %v; want 2", n, err)
	}
	has("after its events expired", "two")
	count("after the events of a reader expired", map[string]int{"one": 1})
	has("after the events of another reader expired", "one", events[1])
	f.forget(all[1].ID)
	has("after the attacker was forgotten", "one", events[1])
}
