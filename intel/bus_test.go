package intel_test

import (
	"context"
	"encoding/json"
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

// ear collects what arrives on a subscription.
type ear struct {
	t   *testing.T
	sub bus.Subscription
}

func listen(t *testing.T, b bus.Bus, pattern string) ear {
	t.Helper()
	sub, err := b.Subscribe(t.Context(), pattern)
	require.NoError(t, err)
	return ear{t, sub}
}

// heard returns the payloads that have arrived since the last call.
func (e ear) heard() (payloads []map[string]any) {
	e.t.Helper()
	synctest.Wait()
	for {
		select {
		case ev, ok := <-e.sub.Events():
			if !ok {
				return payloads
			}
			var p map[string]any
			require.NoError(e.t, json.Unmarshal(ev.Payload, &p))
			if ev.Topic == intel.TopicEnriched {
				require.Equal(e.t, "intel.enriched", ev.Type)
				require.Equal(e.t, p["event_id"], ev.ID)
			}
			if ev.Topic == intel.TopicHealth {
				require.Equal(e.t, "health", ev.Type, "as DECNET's workers have it")
			}
			payloads = append(payloads, p)
		default:
			return payloads
		}
	}
}

func observed(t *testing.T, b bus.Bus, topic string) {
	t.Helper()
	require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: topic, Payload: []byte(`{"attacker_ip":"45.1.2.3"}`)}))
	synctest.Wait()
}

func TestEventsWakeTheWorkerAndAreAnswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		ear := listen(t, b, intel.TopicEnriched)
		a := newSource("greynoise").will(says(provider.Suspicious))
		r := newRig(t, intel.Config{Bus: b}, a, newSource("mine"))
		r.start()
		started := time.Now()
		for _, topic := range []string{intel.TopicObserved, intel.TopicScored} {
			id := uuid.New()
			require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: id, IP: "45.1.2.3"}))
			observed(t, b, topic)
			heard := ear.heard()
			require.Len(t, heard, 1)
			require.Equal(t, id.String(), heard[0]["attacker_uuid"])
			require.Equal(t, "45.1.2.3", heard[0]["attacker_ip"])
			require.Equal(t, "malicious", heard[0]["aggregate_verdict"])
			require.Equal(t, []any{"greynoise", "mine"}, heard[0]["providers"])
			require.ElementsMatch(t, []any{"greynoise", "mine"}, heard[0]["answered"])
			require.Equal(t, []any{}, heard[0]["pending"])
			require.Equal(t, true, heard[0]["changed"])
			require.Equal(t, intel.EventID(id, 1), heard[0]["event_id"])
		}
		require.Zero(t, time.Since(started), "not the tick woke it")
		time.Sleep(time.Hour)
		require.Empty(t, ear.heard(), "no event without a new finding")

		a.will(says(provider.Benign))
		time.Sleep(24 * time.Hour)
		for _, p := range ear.heard() {
			require.Equal(t, false, p["changed"])
		}
	})
}

func TestOnlyFindingsAreAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		ear := listen(t, b, intel.TopicEnriched)
		a := newSource("a").will(fails(provider.ErrUnavailable))
		r := newRig(t, intel.Config{Bus: b}, a)
		r.observe(ip(1))
		r.start()
		time.Sleep(time.Hour)
		require.Empty(t, ear.heard())
		a.will(says(provider.None))
		time.Sleep(2 * time.Hour)
		heard := ear.heard()
		require.Len(t, heard, 1)
		require.Nil(t, heard[0]["aggregate_verdict"])
		require.Equal(t, false, heard[0]["changed"], "no opinion before, none now")
	})
}

func TestWhatIsPendingIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		ear := listen(t, b, intel.TopicEnriched)
		slow := newSource("slow").will(takes(3*time.Second, provider.Malicious))
		unfit := newSource("unfit").will(fails(&provider.Error{Kind: provider.ErrUnsupported}))
		r := newRig(t, intel.Config{Bus: b, Jitter: -1}, newSource("fast").will(says(provider.Suspicious)), slow, unfit)
		id := r.observe(ip(1))[0]
		r.start()
		time.Sleep(2 * time.Second)
		heard := ear.heard()
		require.Len(t, heard, 1)
		require.Equal(t, []any{"fast"}, heard[0]["answered"])
		require.Equal(t, []any{"slow"}, heard[0]["pending"])
		require.Equal(t, "suspicious", heard[0]["aggregate_verdict"])
		time.Sleep(3 * time.Second)
		heard = ear.heard()
		require.Len(t, heard, 1)
		require.Equal(t, []any{"slow"}, heard[0]["answered"])
		require.Equal(t, []any{}, heard[0]["pending"])
		require.Equal(t, "malicious", heard[0]["aggregate_verdict"])
		require.Equal(t, true, heard[0]["changed"])
		require.Equal(t, intel.EventID(id, 2), heard[0]["event_id"])
		require.EqualValues(t, 2, r.get(id).Revision)

		_, err := r.worker.Enrich(t.Context(), id, intel.Force("fast"))
		require.NoError(t, err)
		synctest.Wait()
		heard = ear.heard()
		require.Len(t, heard, 1)
		require.Equal(t, []any{}, heard[0]["pending"], "what is fresh is not pending")
		r.stop()
		time.Sleep(25 * time.Hour)
		r.start()
		heard = ear.heard()
		require.Len(t, heard, 1)
		require.Equal(t, []any{"slow"}, heard[0]["pending"], "what has expired is")
	})
}

func TestADeadBusStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		require.NoError(t, b.Close())
		r := newRig(t, intel.Config{Bus: b}, newSource("a"))
		ids := r.observe(ips(100)...)
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision)
		}
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Equal(t, 100, stats.Outbox, "kept for better times")
		stopping := time.Now()
		r.stop()
		require.LessOrEqual(t, time.Since(stopping), 100*time.Millisecond)
	})
}

func TestABusThatDiesAndReturns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		r := newRig(t, intel.Config{Bus: b, PollInterval: time.Hour}, newSource("a"))
		r.start()
		b.Lose()
		ids := r.observe(ips(10)...)
		r.worker.Wake()
		synctest.Wait()
		require.NotZero(t, r.get(ids[0]).Revision)
		missed := r.observe("45.200.1.1") // announced to nobody
		time.Sleep(time.Minute)
		b.Restore()
		ear := listen(t, b, intel.TopicEnriched)
		time.Sleep(time.Minute)
		heard := ear.heard()
		require.Len(t, heard, 11, "what waited in the outbox, and what was missed while deaf")
		require.NotZero(t, r.get(missed[0]).Revision)
		seen := map[any]bool{}
		for _, p := range heard {
			require.False(t, seen[p["event_id"]])
			seen[p["event_id"]] = true
		}

		again := uuid.New()
		require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: again, IP: ip(400)}))
		observed(t, b, intel.TopicObserved)
		require.Len(t, ear.heard(), 1, "it listens again, and publishes directly")
		time.Sleep(time.Minute)
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Zero(t, stats.Outbox)
	})
}

// TestABusThatReturnsIsHeardSoon: however often it goes, and however long it is
// away.
func TestABusThatReturnsIsHeardSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		r := newRig(t, intel.Config{Bus: b, PollInterval: 24 * time.Hour}, newSource("a"))
		r.start()
		for n := range 20 {
			b.Lose()
			r.observe(ip(2 * n))
			r.worker.Wake()
			time.Sleep(time.Duration(n+1) * time.Minute)
			b.Restore()
			ear := listen(t, b, intel.TopicEnriched)
			time.Sleep(1500 * time.Millisecond)
			require.Len(t, ear.heard(), 1, "what waited is published, restart %d", n)
			id := r.observe(ip(2*n + 1))[0]
			observed(t, b, intel.TopicObserved)
			require.NotZero(t, r.get(id).Revision, "restart %d", n)
			require.Len(t, ear.heard(), 1)
		}
	})
}

func TestEventsLeftBehindArePublished(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		b.Lose()
		r := newRig(t, intel.Config{Bus: b}, newSource("a"))
		ids := r.observe(ips(300)...)
		r.start()
		r.stop()
		time.Sleep(time.Second)
		b.Restore()
		ear := listen(t, b, intel.TopicEnriched)
		next := newRig(t, intel.Config{Bus: b, Store: r.store}, newSource("a"))
		next.start()
		time.Sleep(time.Second)
		require.Empty(t, ear.heard(), "the other one may be about to publish them")
		time.Sleep(2 * time.Second)
		require.Len(t, ear.heard(), len(ids))
	})
}

func TestTheOutboxIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		b.Lose()
		r := newRig(t, intel.Config{Bus: b, TTL: 1000 * time.Hour}, newSource("a"))
		r.observe(ips(3)...)
		r.start()
		r.stop()
		time.Sleep(7*24*time.Hour + time.Minute)
		b.Restore()
		ear := listen(t, b, intel.TopicEnriched)
		newRig(t, intel.Config{Bus: b, Store: r.store}, newSource("a")).start()
		require.Empty(t, ear.heard())
		stats, err := r.store.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		require.Zero(t, stats.Outbox)
	})
}

func TestHeartbeatAndControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		health := listen(t, b, intel.TopicHealth)
		r := newRig(t, intel.Config{Bus: b, Owner: "w1"}, newSource("a"))
		r.observe(ip(1))
		r.start()
		require.Len(t, health.heard(), 1)
		time.Sleep(time.Minute)
		heard := health.heard()
		require.Len(t, heard, 2)
		require.Equal(t, "enrich", heard[1]["worker"])
		require.Equal(t, "w1", heard[1]["owner"])
		require.InDelta(t, float64(time.Now().Unix()), heard[1]["ts"], 1)
		require.EqualValues(t, 1, heard[1]["enriched"])
		require.EqualValues(t, 1, heard[1]["published"])

		for _, payload := range []string{`{"action":"dance"}`, `{}`, `{"action":7}`, ``} {
			require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: []byte(payload)}))
		}
		time.Sleep(time.Minute)
		require.Len(t, health.heard(), 2, "still alive")
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: []byte(`{"action":"stop"}`)}))
		require.ErrorIs(t, <-r.done, intel.ErrStopped)
		r.done <- nil // for the rig
	})
}

// TestIgnoreControl: a worker that ignores control does not even subscribe to
// it, and ends without an error when its context does.
func TestIgnoreControl(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := membus.New(membus.Options{})
		r := newRig(t, intel.Config{Bus: b, IgnoreControl: true}, newSource("a"))
		r.start()
		require.NoError(t, b.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: []byte(`{"action":"stop"}`)}))
		synctest.Wait()
		id := r.observe(ip(1))[0]
		observed(t, b, intel.TopicObserved)
		require.NotZero(t, r.get(id).Revision, "it goes on, and listens to the other topics")
		r.stop() // requires that Run returns nil
	})
}

// TestAnEndedContextIsNoCommand: Run returns nil if its context ends, also if
// that ends because another worker was stopped by the control topic.
func TestAnEndedContextIsNoCommand(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, intel.Config{Bus: membus.New(membus.Options{})}, newSource("a"))
		ctx, cancel := context.WithCancelCause(t.Context())
		done := make(chan error)
		go func() { done <- r.worker.Run(ctx) }()
		synctest.Wait()
		cancel(intel.ErrStopped)
		require.NoError(t, <-done)
	})
}

// stuck is a bus whose Publish blocks until its context ends.
type stuck struct{ *membus.Bus }

func (stuck) Publish(ctx context.Context, _ bus.Event) error {
	<-ctx.Done()
	return ctx.Err()
}

func TestABusThatHangsStopsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := stuck{membus.New(membus.Options{})}
		r := newRig(t, intel.Config{Bus: b, HealthInterval: -1}, newSource("a"))
		ids := r.observe(ips(3000)...)
		started := time.Now()
		r.start()
		time.Sleep(time.Second)
		for _, id := range ids {
			require.NotZero(t, r.get(id).Revision)
		}
		r.stop()
		require.LessOrEqual(t, time.Since(started), 20*time.Second)
	})
}
