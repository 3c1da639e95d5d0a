package main

import (
	"errors"
	"net/http"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	exporter "go.opentelemetry.io/otel/exporters/prometheus"
	"go.opentelemetry.io/otel/sdk/metric"

	"github.com/decnet/enrich/intel/otelintel"
)

// metrics are what /metrics answers.
type metrics struct {
	*otelintel.Telemetry
	registry *prometheus.Registry
}

// newMetrics returns metrics of nothing yet.
func newMetrics() (m metrics, err error) {
	m.registry = prometheus.NewRegistry()
	reader, err := exporter.New(exporter.WithRegisterer(m.registry))
	if err != nil {
		return m, err
	}
	m.Telemetry, err = otelintel.New(otelintel.Options{MeterProvider: metric.NewMeterProvider(metric.WithReader(reader))})
	return m, errors.Join(err,
		m.registry.Register(collectors.NewGoCollector()),
		m.registry.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// handler answers a scrape.
func (m metrics) handler() http.Handler {
	return promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{MaxRequestsInFlight: 2})
}
