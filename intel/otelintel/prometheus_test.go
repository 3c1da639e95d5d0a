package otelintel_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	otelprom "go.opentelemetry.io/otel/exporters/prometheus"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"

	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/otelintel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/memstore"
)

// listed is a provider with a list.
type listed struct{ intel.Provider }

func (listed) Name() string { return "listed" }
func (listed) List() provider.ListStatus {
	return provider.ListStatus{Loaded: true, Rows: 1, LoadedAt: time.Now()}
}
func (listed) Refresh(context.Context) error                 { return nil }
func (listed) Changed(since uint64) ([]netip.Prefix, uint64) { return nil, since }
func (listed) Settled(uint64)                                {}

// TestNames: every metric in the dashboard and in the alert rules is one that
// OpenTelemetry's exporter for Prometheus makes of ours.
func TestNames(t *testing.T) {
	exported := make(map[string]bool)
	registry := prometheus.NewRegistry()
	exporter, err := otelprom.New(otelprom.WithRegisterer(registry))
	require.NoError(t, err)
	telemetry, err := otelintel.New(otelintel.Options{MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(exporter))})
	require.NoError(t, err)
	s, b := memstore.New(), membus.New(membus.Options{})
	defer b.Close()
	require.NoError(t, s.Observe(t.Context(), attackers(2)...))
	w, err := intel.NewWorker(intel.Config{
		Store: s, Bus: b, Readers: []string{"webhook:one"}, Providers: append(providers(0)[:2], listed{providers(0)[0]}), Logger: slog.New(slog.DiscardHandler), Hooks: telemetry.Hooks(intel.Hooks{}),
	})
	require.NoError(t, err)
	stop, err := telemetry.Observe(w.Status)
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))
	families, err := registry.Gather()
	require.NoError(t, err)
	require.NoError(t, stop())
	for _, f := range families {
		exported[f.GetName()] = true
		if f.GetType().String() == "HISTOGRAM" {
			exported[f.GetName()+"_bucket"] = true
		}
	}

	rules, err := os.ReadFile("prometheus/alerts.yml")
	require.NoError(t, err)
	var dashboard struct {
		Panels []struct{ Targets []struct{ Expr string } }
	}
	text, err := os.ReadFile("grafana/enrich.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(text, &dashboard))
	var used strings.Builder
	used.WriteString(string(rules))
	for _, p := range dashboard.Panels {
		require.NotEmpty(t, p.Targets)
		for _, target := range p.Targets {
			used.WriteString("\n" + target.Expr)
		}
	}
	labels := map[string]bool{
		"enrich_provider": true, "enrich_outcome": true, "enrich_verdict": true, "enrich_state": true, "enrich_quota_window": true, "enrich_reader": true,
	}
	names := regexp.MustCompile(`\benrich_\w+`).FindAllString(used.String(), -1)
	require.NotEmpty(t, names)
	for _, name := range names {
		require.True(t, labels[name] || exported[name], "%s is not exported", name)
	}
}

// TestAlerts runs the tests of the alert rules, with Prometheus's own tool.
func TestAlerts(t *testing.T) {
	tool, err := exec.LookPath("promtool")
	if err != nil && os.Getenv("ENRICH_REQUIRE_SERVICES") != "1" {
		t.Skip("promtool is not installed; it is in Debian's package prometheus")
	}
	require.NoError(t, err)
	for _, args := range [][]string{{"check", "rules", "alerts.yml"}, {"test", "rules", "alerts_test.yml"}} {
		cmd := exec.CommandContext(t.Context(), tool, args...)
		cmd.Dir = "prometheus"
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
	}
}
