package intel_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
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

// refusing is a bus that does not let anybody subscribe to some topics.
type refusing struct {
	bus.Bus
	refused map[string]bool
}

func (b *refusing) Subscribe(ctx context.Context, topic string) (bus.Subscription, error) {
	if b.refused[topic] {
		return nil, errors.New("not allowed to subscribe to " + topic)
	}
	return b.Bus.Subscribe(ctx, topic)
}

// TestEachSubscriptionStandsAlone: a bus that refuses one topic leaves the others
// working, and the log names the one that is refused.
func TestEachSubscriptionStandsAlone(t *testing.T) {
	topics := []string{intel.TopicObserved, intel.TopicScored, intel.TopicControl}
	for _, refused := range topics {
		t.Run(refused, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var log bytes.Buffer
				b := &refusing{membus.New(membus.Options{}), map[string]bool{refused: true}}
				enriched := listen(t, b, intel.TopicEnriched)
				r := newRig(t, intel.Config{Bus: b, PollInterval: 24 * time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))},
					newSource("a").will(says(provider.Malicious)))
				r.start()
				for _, topic := range topics[:2] {
					require.NoError(t, r.store.Observe(t.Context(), store.Attacker{ID: uuid.New(), IP: "45.1.2.3"}))
					observed(t, b, topic)
					if topic != refused {
						require.NotEmpty(t, enriched.heard(), topic)
					}
				}
				time.Sleep(time.Minute)
				r.stop()
				require.Equal(t, 1, strings.Count(log.String(), "level=WARN"), "%s", &log)
				require.Contains(t, log.String(), "not allowed to subscribe to "+refused)
				require.Contains(t, log.String(), "topic="+refused)
			})
		})
	}
}

// TestOneWarningForOneReason: all topics that fail for the same reason are worth
// one line, and the worker listens to all of them again.
func TestOneWarningForOneReason(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		b := &lossy{Bus: membus.New(membus.Options{})}
		b.lost.Store(true)
		r := newRig(t, intel.Config{Bus: b, PollInterval: 24 * time.Hour, Logger: slog.New(slog.NewTextHandler(&log, nil))}, newSource("a"))
		r.start()
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(log.String(), "not listening to the bus"), "%s", &log)
		b.lost.Store(false)
		time.Sleep(time.Minute)
		synctest.Wait()
		require.Equal(t, 1, strings.Count(log.String(), "listening to the bus again"), "%s", &log)
		require.NoError(t, b.Bus.Publish(t.Context(), bus.Event{Topic: intel.TopicControl, Payload: []byte(`{"action":"stop"}`)}))
		require.ErrorIs(t, <-r.done, intel.ErrStopped)
		r.done <- nil
	})
}

// lossy is a bus that has no connection at times.
type lossy struct {
	bus.Bus
	lost atomic.Bool
}

func (b *lossy) Subscribe(ctx context.Context, topic string) (bus.Subscription, error) {
	if b.lost.Load() {
		return nil, bus.ErrLost
	}
	return b.Bus.Subscribe(ctx, topic)
}
