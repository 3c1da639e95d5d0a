package intel_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// TestOneEventAtAColdStart: the first attackers of a process are announced once
// each, with their verdict, whether they are there already or arrive together or
// one after the other. No provider has answered before, one of them has no
// opinion, and only the slowest has one.
func TestOneEventAtAColdStart(t *testing.T) {
	const attackers = 200
	for _, took := range []time.Duration{0, 80 * time.Millisecond} {
		for _, spaced := range []time.Duration{-1, 0, 3 * time.Millisecond} {
			t.Run(fmt.Sprintf("took %v, spaced %v", took, spaced), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					b := membus.New(membus.Options{Buffer: 2 * attackers})
					ear := listen(t, b, intel.TopicEnriched)
					r := newRig(t, intel.Config{Bus: b},
						newSource("fast").will(says(provider.None)), newSource("middle").will(takes(took/2, provider.None)),
						newSource("opinion").will(takes(took, provider.Malicious)))
					if spaced < 0 {
						r.observe(ips(attackers)...)
					}
					r.start()
					for n := range attackers {
						if spaced < 0 {
							break
						}
						require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: ip(n)}))
						r.worker.Wake()
						if spaced > 0 {
							time.Sleep(spaced)
						}
					}
					time.Sleep(10 * time.Second)
					heard := ear.heard()
					require.Len(t, heard, attackers)
					seen := make(map[any]bool)
					for _, event := range heard {
						require.Equal(t, "malicious", event["aggregate_verdict"])
						require.Equal(t, []any{}, event["pending"])
						seen[event["attacker_uuid"]] = true
					}
					require.Len(t, seen, attackers)
				})
			})
		}
	}
}

// TestOneHangAtAColdStart: all attackers that are there when a process starts
// wait for a provider that hangs once, not once for each round of them.
func TestOneHangAtAColdStart(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var done saves
		r := newRig(t, intel.Config{Hooks: done.hooks(), HealthInterval: -1},
			newSource("a").will(takes(80*time.Millisecond, provider.Malicious)), newSource("hanging").will(hangs))
		r.observe(ips(200)...)
		started := time.Now()
		r.start()
		time.Sleep(1500 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 200, done.count())
		r.observe("45.200.1.1")
		again := time.Now()
		r.worker.Wake()
		time.Sleep(100 * time.Millisecond)
		synctest.Wait()
		require.Equal(t, 201, done.count())
		done.mu.Lock()
		defer done.mu.Unlock()
		for i, info := range done.infos[:200] {
			require.Equal(t, []string{"a"}, info.Answered)
			require.LessOrEqual(t, done.at[i].Sub(started), 1250*time.Millisecond, "Patience, and the other's 80 ms for the rounds after it")
		}
		require.LessOrEqual(t, done.at[200].Sub(again), 80*time.Millisecond)
	})
}
