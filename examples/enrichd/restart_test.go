package main

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestBusRestarts: while attackers keep coming, the bus goes away and comes back
// twenty times. Enrichd is back on it each time, and misses nobody: with the next
// look at the database an hour away, it finds them by the bus alone.
func TestBusRestarts(t *testing.T) {
	const restarts = 20
	s := newSite(t, upstream.Options{Keep: -1})
	stop := s.startBus()
	p := s.start("-poll-interval", "1h")
	p.until("enriching")

	client := s.connect()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	came := make(chan uuid.UUID, 1<<16)
	profiling := make(chan struct{})
	go func() {
		defer close(profiling)
		defer close(came)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for n := 0; ctx.Err() == nil; n++ {
			id, ip := uuid.New(), notorious(s.up, n%1000)
			if err := s.tryProfile(id, ip); err != nil {
				t.Errorf("write an attacker: %v", err)
				return
			}
			_ = client.Publish(ctx, bus.Event{Topic: intel.TopicObserved}) // fails while there is no bus
			came <- id
			<-tick.C
		}
	}()
	verdicts := func(id uuid.UUID) int {
		return len(s.column("SELECT 1 FROM attacker_intel WHERE attacker_uuid = ?", id.String()))
	}
	var back []time.Duration
	for range restarts {
		stop()
		for range 20 {
			<-came
		}
		stop = s.startBus()
		started := time.Now()
		for range len(came) {
			<-came
		}
		id := <-came // after the bus was back
		eventually(t, "an attacker has a verdict", func() bool { return verdicts(id) == 1 })
		back = append(back, time.Since(started))
	}
	cancel()
	<-profiling
	observed(t, s.connect(), "45.9.0.0")
	eventually(t, "all attackers have a verdict", func() bool {
		return s.column("SELECT count(*) FROM attackers WHERE uuid NOT IN (SELECT attacker_uuid FROM attacker_intel)")[0] == "0"
	})
	eventually(t, "all events are published", func() bool { return s.column("SELECT count(*) FROM enrich_outbox")[0] == "0" })
	stop()
	slices.Sort(back)
	t.Logf("%s attackers; after a restart the first one had a verdict within %v, at most %v",
		s.column("SELECT count(*) FROM attackers")[0], back[len(back)/2], back[len(back)-1])
	require.NotNil(t, p.logged("listening to the bus again"))
}
