package intel_test

import (
	"context"
	"log/slog"
	"net/netip"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// instantProviders answer at once with fresh findings shaped like the real
// providers'.
func instantProviders() []intel.Provider {
	instant := func(name string, verdict provider.Verdict, attrs func() map[string]any) intel.Provider {
		return provider.Func{ID: name, Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			return provider.Finding{
				Provider: name, Addr: addr, Known: true, Verdict: verdict, Attrs: attrs(),
				Raw: []byte(`{"ip":"45.1.2.3","seen":true}`), ObservedAt: time.Now(),
			}, nil
		}}
	}
	return []intel.Provider{
		instant("greynoise", provider.Suspicious, func() map[string]any {
			return map[string]any{"classification": "suspicious", "name": "unknown", "tags": []string{}}
		}),
		instant("abuseipdb", provider.Malicious, func() map[string]any {
			return map[string]any{"score": int64(100), "categories": []int64{14, 18, 22}}
		}),
		instant("feodo", provider.None, func() map[string]any {
			return map[string]any{"listed": false}
		}),
		instant("threatfox", provider.None, func() map[string]any {
			return map[string]any{"listed": false, "threat_types": []string{}, "ioc_types": []string{}, "malware_families": []string{}}
		}),
	}
}

// bareFanOut is the least anybody could do with the same providers: fan out
// with errgroup and put the findings into a map.
func bareFanOut(attackers []store.Attacker, ps []intel.Provider) time.Duration {
	started := time.Now()
	var mu sync.Mutex
	results := make(map[uuid.UUID][]provider.Finding)
	var all errgroup.Group
	all.SetLimit(64)
	for _, a := range attackers {
		all.Go(func() error {
			findings := make([]provider.Finding, len(ps))
			addr := a.Addr()
			var fan errgroup.Group
			for i, p := range ps {
				fan.Go(func() (err error) {
					findings[i], err = p.Lookup(context.Background(), addr)
					return err
				})
			}
			err := fan.Wait()
			mu.Lock()
			results[a.ID] = findings
			mu.Unlock()
			return err
		})
	}
	_ = all.Wait()
	return time.Since(started)
}

// BenchmarkWorkerInMemory drains a backlog of 100,000 attackers through a
// memory store and a bus with one subscriber, and does the bare fan-out in the
// same run. One iteration is one backlog. All of it lives in one heap, so the
// garbage collector is told to take its time, as a program that keeps so many
// attackers in memory would; without that, both are slower.
func BenchmarkWorkerInMemory(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	const backlog = 100_000
	attackers := make([]store.Attacker, backlog)
	now := time.Now()
	for i := range attackers {
		attackers[i] = store.Attacker{ID: uuid.New(), IP: ip(i), LastSeen: now.Add(-time.Duration(i*7919%backlog) * time.Millisecond)}
	}
	var ours, bare time.Duration
	var mallocs uint64
	for b.Loop() {
		bare += bareFanOut(attackers, instantProviders())
		s, bus := memstore.New(), membus.New(membus.Options{})
		require.NoError(b, s.Observe(b.Context(), attackers...))
		sub, err := bus.Subscribe(b.Context(), intel.TopicEnriched)
		require.NoError(b, err)
		received := 0
		var reading sync.WaitGroup
		reading.Go(func() {
			for range sub.Events() {
				received++
			}
		})
		w, err := intel.NewWorker(intel.Config{
			Store: s, Bus: bus, Providers: instantProviders(), Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(b, err)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		started := time.Now()
		require.NoError(b, w.Drain(b.Context()))
		ours += time.Since(started)
		runtime.ReadMemStats(&after)
		mallocs += after.Mallocs - before.Mallocs
		require.NoError(b, bus.Close())
		reading.Wait()
		stats, err := s.Stats(b.Context(), time.Now())
		require.NoError(b, err)
		require.Equal(b, backlog, stats.Enriched)
		require.Zero(b, stats.Outbox)
		require.GreaterOrEqual(b, uint64(received)+bus.Dropped(), uint64(backlog))
	}
	n := float64(b.N * backlog)
	b.ReportMetric(n/ours.Seconds(), "attackers/s")
	b.ReportMetric(n/bare.Seconds(), "bare/s")
	b.ReportMetric(100*bare.Seconds()/ours.Seconds(), "%of-bare")
	b.ReportMetric(float64(mallocs)/n, "allocs/attacker")
	b.ReportMetric(0, "ns/op")
}
