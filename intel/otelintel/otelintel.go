// Package otelintel reports what a worker of package intel does as metrics and
// traces of OpenTelemetry.
//
//	t, err := otelintel.New(otelintel.Options{MeterProvider: mp, TracerProvider: tp})
//	w, err := intel.NewWorker(intel.Config{Store: s, Providers: ps, Hooks: t.Hooks(intel.Hooks{})})
//	stop, err := t.Observe(w.Status)
//
// # Metrics
//
//	enrich.lookups              counter: lookups, by enrich.provider, enrich.outcome and error.type
//	enrich.lookup.duration      histogram, s: calls, by enrich.provider and error.type
//	enrich.enrichments          counter: updates that stored a finding, by enrich.verdict
//	enrich.enrichment.duration  histogram, s: from the start of the work on an attacker to its last update
//	enrich.verdict.changes      counter: verdicts that changed, by the new enrich.verdict
//	enrich.events               counter: attempts to publish an event, by error.type
//	enrich.passes               counter: looks at the store, by error.type
//	enrich.provider.state       gauge: 1 for the state of each enrich.provider, in enrich.state
//	enrich.quota.limit          gauge: calls allowed, by enrich.provider and enrich.quota.window in seconds
//	enrich.quota.remaining      gauge: calls left, likewise
//	enrich.backlog.due          gauge: attackers that are due
//	enrich.backlog.leased       gauge: attackers that are being worked on
//	enrich.backlog.waiting      gauge: attackers that wait, by enrich.provider
//	enrich.backlog.drain        gauge, s: estimate until nothing is due and nobody waits; absent if there is none
//	enrich.outbox.events        gauge: events to be published
//	enrich.reader.events        gauge: events that a reader of the outbox has not read, by enrich.reader
//	enrich.list.rows            gauge: networks in a list, by enrich.provider
//	enrich.list.age             gauge, s: time since a list was last found to be current, likewise
//	enrich.list.stale           gauge: 1 if a list is so old that it silences no other opinion, likewise
//	enrich.list.shrunk          gauge: 1 if a new version of a list was refused as much shorter, likewise
//
// The gauges come from [intel.Status], the backlog only from a store that counts,
// those of a list only once it is loaded.
// enrich.outcome is answered, not_known, reused, deferred, waiting or failed.
//
// # Traces
//
// The work on an attacker is one span, "enrich", which ends with its last update.
// Each call to a provider is a child span, "lookup" and the provider's name.
//
// No key, no address and no text of a provider is in a metric or a span; spans
// have the attacker's UUID.
package otelintel

import (
	"errors"

	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/trace"

	"github.com/decnet/enrich/intel"
)

// scope is the name of the instrumentation.
const scope = "github.com/decnet/enrich/intel/otelintel"

// Options configure a [Telemetry]. The zero value reports nothing.
type Options struct {
	// MeterProvider receives the metrics. Nil means no metrics.
	MeterProvider metric.MeterProvider
	// TracerProvider receives the traces. Nil means no traces.
	TracerProvider trace.TracerProvider
}

// Telemetry reports what workers do. Its methods are safe for concurrent use, and
// several workers may share one.
type Telemetry struct {
	meter   metric.Meter // nil for no metrics
	metrics *metrics     // nil for no metrics
	traces  *traces      // nil for no traces
}

// New returns a Telemetry. It returns the errors of the meter provider about the
// instruments.
func New(o Options) (*Telemetry, error) {
	t := new(Telemetry)
	if o.TracerProvider != nil {
		t.traces = newTraces(o.TracerProvider.Tracer(scope))
	}
	if o.MeterProvider != nil {
		t.meter = o.MeterProvider.Meter(scope)
		var err error
		if t.metrics, err = newMetrics(t.meter); err != nil {
			return nil, errors.Join(errors.New("otelintel: Options.MeterProvider makes no instrument"), err)
		}
	}
	return t, nil
}

// Hooks returns hooks for [intel.Config] that report what happens and then call
// those of next.
func (t *Telemetry) Hooks(next intel.Hooks) intel.Hooks {
	m, tr := t.metrics, t.traces
	if m == nil && tr == nil {
		return next
	}
	hooks := next // with those that are not reported
	hooks.Pass = join(m != nil, m.pass, next.Pass)
	hooks.Lookup = join(true, func(i intel.LookupInfo) {
		m.lookup(i)
		tr.lookup(i)
	}, next.Lookup)
	hooks.Saved = join(true, func(i intel.SavedInfo) {
		m.saved(i)
		tr.saved(i)
	}, next.Saved)
	hooks.Published = join(m != nil, m.published, next.Published)
	return hooks
}

// join returns a hook that calls ours, if it is wanted, and next, if there is one.
func join[Info any](wanted bool, ours, next func(Info)) func(Info) {
	switch {
	case !wanted:
		return next
	case next == nil:
		return ours
	}
	return func(i Info) {
		ours(i)
		next(i)
	}
}
