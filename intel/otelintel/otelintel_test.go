package otelintel_test

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"reflect"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/otelintel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// secret is in the text of every failure.
const secret = "203.0.113.77?key=canary"

// limited is a provider with a quota.
type limited struct{ provider.Func }

func (limited) Limits() provider.Limits {
	return provider.Limits{Quotas: []provider.Quota{{Calls: 25, Window: 7 * 24 * time.Hour}}}
}

// providers are one that knows all attackers, one that knows none, and one that
// rejects the key.
func providers(took time.Duration) []intel.Provider {
	answer := func(name string, known bool, verdict provider.Verdict) provider.Func {
		return provider.Func{ID: name, Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			time.Sleep(took)
			return provider.Finding{Provider: name, Addr: addr, Known: known, Verdict: verdict, ObservedAt: time.Now()}, nil
		}}
	}
	return []intel.Provider{
		answer("knows", true, provider.Malicious), limited{answer("ignorant", false, provider.None)},
		provider.Func{ID: "closed", Ask: func(context.Context, netip.Addr) (provider.Finding, error) {
			return provider.Finding{}, &provider.Error{Provider: "closed", Kind: provider.ErrUnauthorized, Err: errors.New(secret)}
		}},
	}
}

func attackers(n int) []store.Attacker {
	all := make([]store.Attacker, n)
	for i := range all {
		all[i] = store.Attacker{ID: uuid.New(), IP: netip.AddrFrom4([4]byte{45, 1, byte(i >> 8), byte(i)}).String(), FirstSeen: time.Now(), LastSeen: time.Now()}
	}
	return all
}

// TestMetrics lets a worker enrich two attackers and reads what it reports.
func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		telemetry, err := otelintel.New(otelintel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
		require.NoError(t, err)
		saved := 0
		s := memstore.New()
		require.NoError(t, s.Observe(t.Context(), attackers(2)...))
		w, err := intel.NewWorker(intel.Config{
			Store: s, Providers: providers(20 * time.Millisecond), Logger: slog.New(slog.DiscardHandler), Concurrency: 1,
			Hooks: telemetry.Hooks(intel.Hooks{Saved: func(intel.SavedInfo) { saved++ }}),
		})
		require.NoError(t, err)
		stop, err := telemetry.Observe(w.Status)
		require.NoError(t, err)
		require.NoError(t, w.Drain(t.Context()))
		require.NotZero(t, saved, "the other hooks are called, too")

		got := collect(t, reader)
		require.Equal(t, map[string]float64{
			"enrich.outcome=answered enrich.provider=knows":                         2,
			"enrich.outcome=not_known enrich.provider=ignorant":                     2,
			"enrich.outcome=waiting enrich.provider=closed error.type=unauthorized": 1,
			"enrich.outcome=waiting enrich.provider=closed":                         1,
		}, got["enrich.lookups"])
		require.Equal(t, map[string]float64{
			"enrich.provider=knows": 2, "enrich.provider=ignorant": 2, "enrich.provider=closed error.type=unauthorized": 1,
		}, got["enrich.lookup.duration"])
		require.Equal(t, map[string]float64{"enrich.verdict=malicious": 2}, got["enrich.enrichments"])
		require.Equal(t, map[string]float64{"enrich.verdict=malicious": 2}, got["enrich.verdict.changes"])
		require.Equal(t, map[string]float64{
			"enrich.provider=knows enrich.state=working": 1, "enrich.provider=ignorant enrich.state=working": 1,
			"enrich.provider=closed enrich.state=unauthorized": 1,
		}, got["enrich.provider.state"])
		require.Equal(t, map[string]float64{"enrich.provider=ignorant enrich.quota.window=604800": 25}, got["enrich.quota.limit"])
		require.Equal(t, map[string]float64{"enrich.provider=ignorant enrich.quota.window=604800": 23}, got["enrich.quota.remaining"])
		require.Equal(t, map[string]float64{"": 0}, got["enrich.backlog.due"])
		require.Equal(t, 2., got["enrich.backlog.waiting"]["enrich.provider=closed"])
		require.Equal(t, map[string]float64{"enrich.provider=closed": 2, "enrich.provider=knows": 0, "enrich.provider=ignorant": 0}, got["enrich.backlog.waiting"])
		require.Empty(t, got["enrich.backlog.drain"], "a rejected key has no end")
		require.NotContains(t, got, "enrich.events", "without a bus there are none")

		require.NoError(t, stop())
		require.NotContains(t, collect(t, reader), "enrich.quota.limit")
	})
}

// TestLists: the gauges of a list are there once it is loaded.
func TestLists(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reader := sdkmetric.NewManualReader()
		telemetry, err := otelintel.New(otelintel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(reader))})
		require.NoError(t, err)
		stop, err := telemetry.Observe(func(context.Context) (intel.Status, error) {
			return intel.Status{Providers: []intel.ProviderStatus{
				{Name: "none"}, {Name: "unloaded", List: &provider.ListStatus{}},
				{Name: "short", List: &provider.ListStatus{Loaded: true, Rows: 7, Shrunk: true, LoadedAt: time.Now().Add(-time.Hour)}},
				{Name: "old", List: &provider.ListStatus{Loaded: true, Stale: true, LoadedAt: time.Now().Add(-100 * time.Hour)}},
			}}, nil
		})
		require.NoError(t, err)
		got := collect(t, reader)
		require.NoError(t, stop())
		for name, want := range map[string][2]float64{
			"enrich.list.rows": {7, 0}, "enrich.list.age": {3600, 360000}, "enrich.list.shrunk": {1, 0}, "enrich.list.stale": {0, 1},
		} {
			require.Equal(t, map[string]float64{"enrich.provider=short": want[0], "enrich.provider=old": want[1]}, got[name], name)
		}
	})
}

// collect returns the values of all metrics by their attributes; of histograms, the
// counts.
func collect(t *testing.T, reader *sdkmetric.ManualReader) map[string]map[string]float64 {
	t.Helper()
	var all metricdata.ResourceMetrics
	require.NoError(t, reader.Collect(t.Context(), &all))
	got := make(map[string]map[string]float64)
	for _, s := range all.ScopeMetrics {
		for _, m := range s.Metrics {
			values := make(map[string]float64)
			switch d := m.Data.(type) {
			case metricdata.Sum[int64]:
				for _, p := range d.DataPoints {
					values[text(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[int64]:
				for _, p := range d.DataPoints {
					values[text(p.Attributes)] = float64(p.Value)
				}
			case metricdata.Gauge[float64]:
				for _, p := range d.DataPoints {
					values[text(p.Attributes)] = p.Value
				}
			case metricdata.Histogram[float64]:
				for _, p := range d.DataPoints {
					values[text(p.Attributes)] = float64(p.Count)
				}
			default:
				require.Failf(t, "unexpected", "%s is a %T", m.Name, d)
			}
			got[m.Name] = values
		}
	}
	return got
}

func text(set attribute.Set) (s string) {
	for _, kv := range set.ToSlice() {
		if s != "" {
			s += " "
		}
		s += string(kv.Key) + "=" + kv.Value.String()
	}
	return s
}

// TestTraces lets a worker enrich an attacker and looks at the spans.
func TestTraces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		spans := tracetest.NewSpanRecorder()
		telemetry, err := otelintel.New(otelintel.Options{TracerProvider: sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(spans))})
		require.NoError(t, err)
		s := memstore.New()
		attacker := attackers(1)
		require.NoError(t, s.Observe(t.Context(), attacker...))
		w, err := intel.NewWorker(intel.Config{
			Store: s, Providers: providers(20 * time.Millisecond), Logger: slog.New(slog.DiscardHandler), Hooks: telemetry.Hooks(intel.Hooks{}),
		})
		require.NoError(t, err)
		stop, err := telemetry.Observe(w.Status)
		require.NoError(t, err)
		require.NoError(t, w.Drain(t.Context()))
		require.NoError(t, stop())

		ended := spans.Ended()
		require.Len(t, ended, 4)
		root := ended[slices.IndexFunc(ended, func(s sdktrace.ReadOnlySpan) bool { return !s.Parent().IsValid() })]
		require.Equal(t, "enrich", root.Name())
		require.Contains(t, root.Attributes(), attribute.String("enrich.attacker.uuid", attacker[0].ID.String()))
		require.Contains(t, root.Attributes(), attribute.String("enrich.verdict", "malicious"))
		require.Contains(t, root.Attributes(), attribute.Bool("enrich.verdict.changed", true))
		attrs := attribute.NewSet(root.Attributes()...)
		answered, _ := attrs.Value("enrich.answered")
		require.ElementsMatch(t, []string{"ignorant", "knows"}, answered.AsStringSlice())
		require.Contains(t, root.Attributes(), attribute.StringSlice("enrich.pending", []string{"closed"}))
		calls := make(map[string]string)
		for _, s := range ended {
			for _, kv := range s.Attributes() {
				require.NotContains(t, kv.Value.String(), "203.0.113")
				require.NotContains(t, kv.Value.String(), attacker[0].IP)
			}
			require.NotContains(t, s.Status().Description, "canary")
			if s == root {
				continue
			}
			require.Equal(t, root.SpanContext().SpanID(), s.Parent().SpanID())
			require.Equal(t, trace.SpanKindClient, s.SpanKind())
			calls[s.Name()] = text(attribute.NewSet(s.Attributes()...))
			require.False(t, s.StartTime().Before(root.StartTime()))
			require.False(t, s.EndTime().After(root.EndTime()))
			if s.Name() == "lookup closed" {
				require.Equal(t, sdktrace.Status{Code: codes.Error, Description: "unauthorized"}, s.Status())
			} else {
				require.Equal(t, 20*time.Millisecond, s.EndTime().Sub(s.StartTime()))
			}
		}
		require.Equal(t, map[string]string{
			"lookup knows":    "enrich.outcome=answered enrich.provider=knows",
			"lookup ignorant": "enrich.outcome=not_known enrich.provider=ignorant",
			"lookup closed":   "enrich.outcome=waiting enrich.provider=closed error.type=unauthorized",
		}, calls)
	})
}

// TestTracesAllocateLittle: a span costs at most seven objects more than an empty one.
func TestTracesAllocateLittle(t *testing.T) {
	spans := sdktrace.NewTracerProvider(sdktrace.WithSyncer(tracetest.NewNoopExporter()))
	telemetry, err := otelintel.New(otelintel.Options{TracerProvider: spans})
	require.NoError(t, err)
	hooks, tracer := telemetry.Hooks(intel.Hooks{}), spans.Tracer("empty")
	attacker, now, names := attackers(1)[0], time.Now(), []string{"a", "b", "c", "d"}
	empty := testing.AllocsPerRun(100, func() {
		ctx, span := tracer.Start(t.Context(), "enrich")
		for range names {
			_, call := tracer.Start(ctx, "lookup")
			call.End()
		}
		span.End()
	})
	got := testing.AllocsPerRun(100, func() {
		for _, name := range names {
			hooks.Lookup(intel.LookupInfo{Provider: name, Attacker: attacker.ID, Started: now, Took: time.Second, Known: true})
		}
		hooks.Saved(intel.SavedInfo{Record: store.Record{Attacker: attacker}, Started: now, Answered: names})
	})
	require.LessOrEqual(t, got, empty+7*5)
}

// TestNothing: the zero Options change no hook.
func TestNothing(t *testing.T) {
	telemetry, err := otelintel.New(otelintel.Options{})
	require.NoError(t, err)
	require.Zero(t, telemetry.Hooks(intel.Hooks{}))
}

// TestAllHooksAreKept: whatever hooks there are, those of the caller are called.
func TestAllHooksAreKept(t *testing.T) {
	telemetry, err := otelintel.New(otelintel.Options{MeterProvider: sdkmetric.NewMeterProvider()})
	require.NoError(t, err)
	var next intel.Hooks
	called := make(map[string]bool)
	fields := reflect.ValueOf(&next).Elem()
	for i := range fields.NumField() {
		name := fields.Type().Field(i).Name
		fields.Field(i).Set(reflect.MakeFunc(fields.Field(i).Type(), func([]reflect.Value) []reflect.Value {
			called[name] = true
			return nil
		}))
	}
	hooks := reflect.ValueOf(telemetry.Hooks(next))
	for i := range hooks.NumField() {
		hook := hooks.Field(i)
		require.False(t, hook.IsNil(), hooks.Type().Field(i).Name)
		hook.Call([]reflect.Value{reflect.Zero(hook.Type().In(0))})
		require.True(t, called[hooks.Type().Field(i).Name], hooks.Type().Field(i).Name)
	}
}
