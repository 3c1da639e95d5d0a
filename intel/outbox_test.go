package intel_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// record is a bus that takes a while for each event and remembers which
// attackers' events it took, in order.
type record struct {
	*membus.Bus
	takes time.Duration

	mu    sync.Mutex
	ids   []string
	until time.Time // until when it hangs
}

func newRecord() *record { return &record{Bus: membus.New(membus.Options{})} }

func (b *record) Publish(ctx context.Context, ev bus.Event) error {
	b.mu.Lock()
	hangs := time.Until(b.until)
	b.mu.Unlock()
	if takes := max(b.takes, hangs); takes > 0 {
		time.Sleep(takes)
	}
	if err := b.Bus.Publish(ctx, ev); err != nil || ev.Topic != intel.TopicEnriched {
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.ids = append(b.ids, ev.ID)
	return nil
}

// hang makes the bus do nothing for a while.
func (b *record) hang(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.until = time.Now().Add(d)
}

func (b *record) taken() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.ids)
}

// inOrder fails the test unless each event was taken once, and those of every
// attacker in order, without a gap and at least so many of them.
func (b *record) inOrder(t *testing.T, attackers []uuid.UUID, least int) {
	t.Helper()
	at := make(map[string]int)
	for i, id := range b.taken() {
		_, twice := at[id] // NotContains would compare it with each
		require.False(t, twice, "event %s was published twice", id)
		at[id] = i
	}
	for _, attacker := range attackers {
		before, n := -1, 0
		for ; ; n++ {
			i, ok := at[intel.EventID(attacker, uint64(n+1))]
			if !ok {
				break
			}
			require.Greater(t, i, before, "revision %d was published before revision %d", n+1, n)
			before = i
		}
		require.GreaterOrEqual(t, n, least, "events of an attacker are missing")
	}
}

// after makes a worker enrich attackers while the bus is down, and returns it
// stopped, with the events in its store.
func after(t *testing.T, b *record, attackers int) (*rig, []uuid.UUID) {
	t.Helper()
	b.Lose()
	r := newRig(t, intel.Config{Bus: b}, newSource("a"))
	ids := r.observe(ips(attackers)...)
	r.start()
	time.Sleep(time.Minute)
	r.stop()
	stats, err := r.store.Stats(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, attackers, stats.Outbox)
	b.Restore()
	return r, ids
}

// move gives attackers other addresses, which makes them due.
func (r *rig) move(to int, ids ...uuid.UUID) {
	for i, id := range ids {
		require.NoError(r.t, r.store.Observe(r.t.Context(), store.Attacker{ID: id, IP: ip(to + i)}))
	}
	r.worker.Wake()
}

// arrive adds attackers with the addresses from a number on.
func (r *rig) arrive(from, n int) {
	r.t.Helper()
	more := make([]string, n)
	for i := range more {
		more[i] = ip(from + i)
	}
	r.observe(more...)
	r.worker.Wake()
}

// TestOneAtATimePublishesWhatWaited: after an outage the workers of a fleet do
// not each publish what has piled up, and keep what is new behind it.
func TestOneAtATimePublishesWhatWaited(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 3000)
		var fleet []*rig
		for range 4 {
			r := newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
			r.store = left.store
			fleet = append(fleet, r)
		}
		time.Sleep(3 * time.Second)
		require.Less(t, len(b.taken()), 2000)
		for i, r := range fleet {
			r.move(10_000*i+10_000, ids[2500+100*i:2600+100*i]...)
		}
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
		b.inOrder(t, ids[2500:2900], 2)
	})
}

// TestNoFlood: a subscriber with the usual queue misses nothing of what is
// published after an outage, if it is not much slower than the bus's users are.
func TestNoFlood(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, _ := after(t, b, 10_000)
		sub, err := b.Subscribe(t.Context(), intel.TopicEnriched)
		require.NoError(t, err)
		heard := 0
		var reading sync.WaitGroup
		reading.Go(func() {
			for range sub.Events() {
				heard++
				time.Sleep(1500 * time.Microsecond)
			}
		})
		newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
		time.Sleep(time.Minute)
		require.NoError(t, sub.Close())
		reading.Wait()
		require.Equal(t, 10_000, heard)
		require.Zero(t, b.Dropped())
	})
}

// TestCatchingUpOutrunsWhatIsNew: however much is saved meanwhile, the worker
// publishes directly again some time.
func TestCatchingUpOutrunsWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, _ := after(t, b, 5000)
		r := newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
		r.store = left.store
		const batch = 60 // each 100 ms, which is more than is published at first
		seen := 5000
		for range 1000 {
			r.arrive(seen, batch)
			seen += batch
			time.Sleep(100 * time.Millisecond)
		}
		require.InDelta(t, seen, len(b.taken()), 2*batch)
	})
}

// TestHiccup: a bus that hangs for a moment does not slow down a busy worker for
// longer.
func TestHiccup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		r := newRig(t, intel.Config{Bus: b}, newSource("a")).start()
		time.Sleep(time.Second)
		const batch = 100 // each 25 ms
		seen := 0
		for n := range 400 {
			r.arrive(seen, batch)
			seen += batch
			if n == 100 {
				b.hang(time.Second)
			}
			time.Sleep(25 * time.Millisecond)
		}
		require.Less(t, seen-len(b.taken()), 2*batch)
	})
}

// TestOverflowWhileCatchingUp: what a slow bus leaves no room for while the worker
// catches up is not forgotten when it has.
func TestOverflowWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 100)
		b.takes = 100 * time.Millisecond
		r := newRig(t, intel.Config{Bus: b, Store: left.store, HealthInterval: -1}, newSource("a"))
		r.store = left.store
		more := r.observe(ips(1600)[100:]...)
		require.NoError(t, r.worker.Drain(t.Context()))
		b.inOrder(t, slices.Concat(ids, more), 1)
	})
}

// TestNewcomersRepeatNothing: workers that start leave alone what others have on
// their way.
func TestNewcomersRepeatNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		r := newRig(t, intel.Config{Bus: b}, newSource("a")).start()
		const batch = 100 // each 25 ms
		var ids []uuid.UUID
		for n := range 200 {
			ids = append(ids, r.observe(ips((n + 1) * batch)[n*batch:]...)...)
			r.worker.Wake()
			if n%50 == 10 {
				newRig(t, intel.Config{Bus: b, Store: r.store}, newSource("a")).start()
			}
			time.Sleep(25 * time.Millisecond)
		}
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
	})
}

// TestOwnEventsAreNotWaitedFor: a worker that comes back to an attacker while the
// attacker's last event is still on its way goes on publishing directly, and so
// does not publish what others have on their way.
func TestOwnEventsAreNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		cut := &line{Bus: b}
		cut.down.Store(true)
		r := newRig(t, intel.Config{Bus: b}, newSource("a")).start()
		other := newRig(t, intel.Config{Bus: cut, Store: r.store}, newSource("a"))
		time.Sleep(time.Second)
		theirs := r.observe(ip(1))
		_, err := other.worker.Enrich(t.Context(), theirs[0])
		require.NoError(t, err)

		ours := r.observe(ip(2))
		r.worker.Wake()
		for n := range 5 {
			time.Sleep(10 * time.Millisecond)
			r.move(3+n, ours...)
		}
		time.Sleep(time.Second)
		b.inOrder(t, ours, 6)
		require.Len(t, b.taken(), 6)
		time.Sleep(time.Minute)
		b.inOrder(t, theirs, 1)
	})
}

// TestStoppedWhileCatchingUp: a worker need not catch up before it stops, and
// leaves nothing that others have to wait for or do again.
func TestStoppedWhileCatchingUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 5000)
		b.takes = time.Millisecond
		r := newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
		time.Sleep(2 * time.Second)
		stopping := time.Now()
		r.stop()
		require.LessOrEqual(t, time.Since(stopping), 100*time.Millisecond)
		taken := len(b.taken())
		require.NotZero(t, taken)
		stats, err := left.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Equal(t, 5000-taken, stats.Outbox)

		newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
		time.Sleep(100 * time.Millisecond)
		require.Greater(t, len(b.taken()), taken, "the next one need not wait")
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
	})
}

// TestDrainCatchesUp: Drain publishes what earlier workers left, also one that
// was killed at it.
func TestDrainCatchesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 1000)
		mine, err := left.store.Turn(t.Context(), "a dead worker", 30*time.Second)
		require.NoError(t, err)
		require.True(t, mine)
		next := newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a"))
		require.NoError(t, next.worker.Drain(t.Context()))
		b.inOrder(t, ids, 1)
		stats, err := left.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Zero(t, stats.Outbox)
	})
}

// TestDrainBearsAHiccup: a bus that fails in the end, and works again at once, does
// not keep Drain from publishing everything.
func TestDrainBearsAHiccup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		cut := &line{Bus: b}
		r := newRig(t, intel.Config{Bus: cut, Hooks: intel.Hooks{
			Published: func(info intel.PublishedInfo) { cut.down.Store(info.Err == nil) },
		}}, newSource("a").will(takes(time.Second, provider.Malicious)))
		ids := r.observe(ips(2)...)
		require.NoError(t, r.worker.Drain(t.Context()))
		b.inOrder(t, ids, 1)
	})
}

// TestDrainEndsWhileOthersGoOn: Drain publishes what there was when it came to an
// end, however much others save meanwhile.
func TestDrainEndsWhileOthersGoOn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 1000)
		cut := &line{Bus: b}
		cut.down.Store(true)
		busy := newRig(t, intel.Config{Bus: cut, Store: left.store}, newSource("a")).start()
		busy.store = left.store
		b.takes = 2 * time.Millisecond
		worker, drained := newRig(t, intel.Config{Bus: b, Store: left.store}).worker, make(chan error, 1)
		go func() { drained <- worker.Drain(t.Context()) }()
		for n := range 300 {
			busy.arrive(10_000+n*100, 100) // 1000 a second, none of which is published
			time.Sleep(100 * time.Millisecond)
		}
		select {
		case err := <-drained:
			require.NoError(t, err)
		default:
			require.Fail(t, "Drain goes on for as long as others save")
		}
		b.inOrder(t, ids, 1)
	})
}

// TestTurnOfASlowWorker: a worker whose bus is slow keeps its turn.
func TestTurnOfASlowWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 200)
		b.takes = 400 * time.Millisecond
		for range 2 {
			newRig(t, intel.Config{Bus: b, Store: left.store, HealthInterval: -1}, newSource("a")).start()
		}
		time.Sleep(5 * time.Minute)
		b.inOrder(t, ids, 1)
	})
}

// TestTurnOfADeadWorker: what one that was killed while it caught up has left
// goes before what is new.
func TestTurnOfADeadWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		left, ids := after(t, b, 10)
		mine, err := left.store.Turn(t.Context(), "a dead worker", 30*time.Second)
		require.NoError(t, err)
		require.True(t, mine)
		r := newRig(t, intel.Config{Bus: b, Store: left.store}, newSource("a")).start()
		r.store = left.store
		r.move(1000, ids...)
		time.Sleep(29 * time.Second)
		require.Empty(t, b.taken())
		time.Sleep(3 * time.Second)
		b.inOrder(t, ids, 2)
	})
}

// TestEnrichWhileBehind: an attacker enriched by hand does not overtake its own
// events that wait.
func TestEnrichWhileBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		r := newRig(t, intel.Config{Bus: b}, newSource("a"))
		b.Lose()
		ids := r.observe(ips(2000)...)
		r.start()
		time.Sleep(time.Minute)
		b.Restore()
		last := ids[len(ids)-1]
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: last, IP: ip(5000)}))
		_, err := r.worker.Enrich(t.Context(), last)
		require.NoError(t, err)
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
		b.inOrder(t, ids[len(ids)-1:], 2)
	})
}

// TestSlowBus: what waits for a slow bus in memory is not published a second
// time from the outbox.
func TestSlowBus(t *testing.T) {
	for _, takes := range []time.Duration{5 * time.Millisecond, 20 * time.Millisecond} {
		synctest.Test(t, func(t *testing.T) {
			b := newRecord()
			b.takes = takes
			r := newRig(t, intel.Config{Bus: b, HealthInterval: -1}, newSource("a"))
			ids := r.observe(ips(3000)...)
			r.start()
			time.Sleep(10 * time.Minute)
			b.inOrder(t, ids, 1)
		})
	}
}

// TestSlowBusesOfTwo: what waits for a slow bus in a worker's memory is not published
// by another one.
func TestSlowBusesOfTwo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		b.takes = 10 * time.Millisecond
		r := newRig(t, intel.Config{Bus: b, HealthInterval: -1}, newSource("a")).start()
		newRig(t, intel.Config{Bus: b, Store: r.store, HealthInterval: -1}, newSource("a")).start()
		time.Sleep(19 * time.Second) // they look at 22
		ids := r.observe(ips(800)...)
		r.worker.Wake()
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
	})
}

// TestEnrichAfterAWorkerThatWasBehind: once nobody catches up any more, Enrich
// publishes by itself.
func TestEnrichAfterAWorkerThatWasBehind(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		r, _ := after(t, b, 10)
		id := r.observe(ip(100))[0]
		_, err := r.worker.Enrich(t.Context(), id)
		require.NoError(t, err)
		require.Equal(t, []string{intel.EventID(id, 1)}, b.taken())
	})
}

// line is a connection to a bus that others are connected to as well.
type line struct {
	bus.Bus
	down atomic.Bool
}

func (l *line) Publish(ctx context.Context, ev bus.Event) error {
	if l.down.Load() {
		return errors.New("line is down")
	}
	return l.Bus.Publish(ctx, ev)
}

// TestOrderAcrossWorkers: an event does not overtake an earlier one about the
// same attacker that another worker saved and cannot publish.
func TestOrderAcrossWorkers(t *testing.T) {
	for name, restart := range map[string]bool{"a worker that runs": false, "one that runs later": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newRecord()
				cut := &line{Bus: b}
				cut.down.Store(true)
				first := newRig(t, intel.Config{Bus: cut}, newSource("a"))
				second := newRig(t, intel.Config{Bus: b, Store: first.store}, newSource("a"))
				second.store = first.store
				if !restart {
					second.start()
				}
				time.Sleep(time.Second) // not long enough for it to look for attackers again

				ids := first.observe(ip(1), ip(2))
				for _, id := range ids {
					_, err := first.worker.Enrich(t.Context(), id)
					require.NoError(t, err)
				}
				require.Empty(t, b.taken())
				second.move(3, ids[0])
				if restart {
					_, err := second.worker.Enrich(t.Context(), ids[0])
					require.NoError(t, err)
					require.Empty(t, b.taken())
					second.start()
				}
				time.Sleep(time.Second)
				b.inOrder(t, ids[:1], 2)
				b.inOrder(t, ids[1:], 1)
			})
		})
	}
}

// TestEnrichDoesNotOvertakeItsWorker: an attacker enriched by hand does not
// overtake its event that the worker is about to publish.
func TestEnrichDoesNotOvertakeItsWorker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newRecord()
		b.takes = 100 * time.Millisecond
		r := newRig(t, intel.Config{Bus: b, HealthInterval: -1}, newSource("a"))
		ids := r.observe(ips(50)...)
		r.start()
		time.Sleep(time.Second) // all are saved, and some published
		taken := b.taken()
		late := slices.IndexFunc(ids, func(id uuid.UUID) bool { return !slices.Contains(taken, intel.EventID(id, 1)) })
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: ids[late], IP: ip(5000)}))
		_, err := r.worker.Enrich(t.Context(), ids[late])
		require.NoError(t, err)
		time.Sleep(time.Minute)
		b.inOrder(t, ids, 1)
		b.inOrder(t, ids[late:late+1], 2)
	})
}
