package integration

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus/unixbus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestColdStartOverTheSocket starts a worker whose providers have not answered
// before, and expects one event with a verdict for each of the first attackers on
// DECNET's bus, however long the services take.
func TestColdStartOverTheSocket(t *testing.T) {
	const attackers = 200
	for _, latency := range []time.Duration{0, 80 * time.Millisecond} {
		t.Run(latency.String(), func(t *testing.T) {
			up := startUpstream(t)
			for _, source := range asked {
				up.Delay(source, latency)
			}
			s, _ := openStore(t)
			first := crowd(attackers)
			for _, a := range first {
				up.SetProfile(a.Addr(), upstream.Attacker)
			}
			require.NoError(t, s.Observe(t.Context(), first...))
			path, heard := socket(t, intel.TopicEnriched)
			b, err := unixbus.New(unixbus.Options{Path: path})
			require.NoError(t, err)
			defer b.Close()

			w, err := intel.NewWorker(intel.Config{
				Store: s, Bus: b, Providers: theFour(t, up), Logger: slog.New(slog.DiscardHandler), Patience: 10 * time.Second,
			})
			require.NoError(t, err)
			ctx, stop := context.WithCancel(t.Context())
			defer stop()
			var running errgroup.Group
			running.Go(func() error { return w.Run(ctx) })
			seen := make(map[uuid.UUID]bool)
			for len(seen) < attackers {
				select {
				case ev := <-heard:
					if string(ev.Payload) == "{}" {
						continue
					}
					payload, err := intel.ParseEnriched(ev.Payload)
					require.NoError(t, err)
					require.NotEqual(t, provider.None, payload.Verdict)
					require.Empty(t, payload.Pending)
					require.False(t, seen[payload.AttackerUUID], "two events about %s", payload.AttackerIP)
					seen[payload.AttackerUUID] = true
				case <-time.After(time.Minute):
					require.FailNow(t, "events are missing", "%d came", len(seen))
				}
			}
			stop()
			require.NoError(t, running.Wait())
			status, err := w.Status(t.Context())
			require.NoError(t, err)
			require.EqualValues(t, attackers, status.Enriched)
			require.EqualValues(t, attackers, status.Published)
		})
	}
}
