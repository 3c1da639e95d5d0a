package otelintel_test

import (
	"context"
	"log/slog"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/otelintel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

// instant are four providers that answer at once.
func instant() (all []intel.Provider) {
	for _, name := range []string{"a", "b", "c", "d"} {
		all = append(all, provider.Func{ID: name, Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			return provider.Finding{
				Provider: name, Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: time.Now(),
				Attrs: map[string]any{"score": int64(100), "categories": []int64{14, 18, 22}},
			}, nil
		}})
	}
	return all
}

// BenchmarkMetrics drains backlogs in memory with metrics and without. It reports the
// medians of the attackers per second, and those of the ratios of pairs of runs, also of
// the processor time. Which of a pair comes first alternates.
func BenchmarkMetrics(b *testing.B) {
	const pairs, backlog = 6, 20_000
	telemetry, err := otelintel.New(otelintel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(sdkmetric.NewManualReader()))})
	require.NoError(b, err)
	hooks := [2]intel.Hooks{{}, telemetry.Hooks(intel.Hooks{})}
	drain := func(i int) (took, used float64) {
		s := memstore.New()
		require.NoError(b, s.Observe(b.Context(), attackers(backlog)...))
		w, err := intel.NewWorker(intel.Config{Store: s, Providers: instant(), Logger: slog.New(slog.DiscardHandler), Hooks: hooks[i]})
		require.NoError(b, err)
		started, before := time.Now(), cpu()
		require.NoError(b, w.Drain(b.Context()))
		return time.Since(started).Seconds(), (cpu() - before).Seconds()
	}
	for i := range hooks {
		_, _ = drain(i) // the first run is slower
	}
	var rates [2][]float64
	var ratios, processor []float64
	for b.Loop() {
		for pair := range pairs {
			var took, used [2]float64
			for turn := range 2 {
				i := (pair + turn) % 2
				took[i], used[i] = drain(i)
				rates[i] = append(rates[i], float64(backlog)/took[i])
			}
			ratios, processor = append(ratios, 100*took[0]/took[1]), append(processor, 100*used[1]/used[0])
		}
	}
	b.ReportMetric(median(rates[0]), "off/s")
	b.ReportMetric(median(rates[1]), "on/s")
	b.ReportMetric(median(ratios), "%of-off")
	b.ReportMetric(median(processor), "%of-cpu")
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return (values[(len(values)-1)/2] + values[len(values)/2]) / 2
}

// cpu returns the processor time that this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
