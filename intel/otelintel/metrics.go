package otelintel

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"sync"
	"sync/atomic"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
)

// The attributes.
const (
	keyProvider = attribute.Key("enrich.provider")
	keyOutcome  = attribute.Key("enrich.outcome")
	keyVerdict  = attribute.Key("enrich.verdict")
	keyState    = attribute.Key("enrich.state")
	keyWindow   = attribute.Key("enrich.quota.window") // in seconds
	keyReader   = attribute.Key("enrich.reader")
	keyError    = attribute.Key("error.type") // of the semantic conventions
)

// metrics are the instruments that hooks write to. Its methods do nothing on nil. The
// counters are numbers of our own, which are read when metrics are collected: that
// costs a hook far less than an instrument.
type metrics struct {
	lookups, enrichments, changes, events, passes metric.Int64ObservableCounter
	calls, work                                   metric.Float64Histogram

	mu     sync.Mutex
	series atomic.Pointer[map[seriesKey]*series] // replaced as a whole, with mu held
}

// seriesKey are the values of attributes; those that are empty are left out.
type seriesKey struct{ provider, outcome, verdict, failure string }

// series are the numbers for attributes. There are few of them.
type series struct {
	with metric.ObserveOption
	call []metric.RecordOption // without the outcome

	lookups, enrichments, changes, events, passes atomic.Int64
}

// buckets are the boundaries that the semantic conventions give for requests, in
// seconds.
var buckets = metric.WithExplicitBucketBoundaries(.005, .01, .025, .05, .075, .1, .25, .5, .75, 1, 2.5, 5, 7.5, 10)

func newMetrics(meter metric.Meter) (*metrics, error) {
	m := new(metrics)
	m.series.Store(new(map[seriesKey]*series))
	var errs []error
	counter := func(name, unit, description string) metric.Int64ObservableCounter {
		c, err := meter.Int64ObservableCounter(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return c
	}
	histogram := func(name, description string) metric.Float64Histogram {
		h, err := meter.Float64Histogram(name, metric.WithUnit("s"), buckets, metric.WithDescription(description))
		errs = append(errs, err)
		return h
	}
	m.lookups = counter("enrich.lookups", "{lookup}", "Lookups that were made or put off.")
	m.calls = histogram("enrich.lookup.duration", "Duration of calls to providers.")
	m.enrichments = counter("enrich.enrichments", "{update}", "Updates that stored a finding.")
	m.work = histogram("enrich.enrichment.duration", "Time from the start of the work on an attacker to its last update.")
	m.changes = counter("enrich.verdict.changes", "{change}", "Verdicts that changed.")
	m.events = counter("enrich.events", "{event}", "Attempts to publish an event.")
	m.passes = counter("enrich.passes", "{pass}", "Looks at the store for attackers that are due.")
	_, err := meter.RegisterCallback(m.observe, m.lookups, m.enrichments, m.changes, m.events, m.passes)
	return m, errors.Join(append(errs, err)...)
}

// observe reports the counters.
func (m *metrics) observe(_ context.Context, o metric.Observer) error {
	for _, s := range *m.series.Load() {
		for counter, n := range map[metric.Int64ObservableCounter]int64{
			m.lookups: s.lookups.Load(), m.enrichments: s.enrichments.Load(), m.changes: s.changes.Load(),
			m.events: s.events.Load(), m.passes: s.passes.Load(),
		} {
			if n > 0 {
				o.ObserveInt64(counter, n, s.with)
			}
		}
	}
	return nil
}

// of returns the numbers for attributes.
func (m *metrics) of(key seriesKey) *series {
	if s, ok := (*m.series.Load())[key]; ok {
		return s
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	all := *m.series.Load()
	if s, ok := all[key]; ok {
		return s
	}
	s := &series{
		with: metric.WithAttributeSet(key.set()),
		call: []metric.RecordOption{metric.WithAttributeSet(seriesKey{provider: key.provider, failure: key.failure}.set())},
	}
	grown := map[seriesKey]*series{key: s}
	maps.Copy(grown, all)
	m.series.Store(&grown)
	return s
}

// set returns the attributes as a set.
func (k seriesKey) set() attribute.Set { return attribute.NewSet(k.attrs()...) }

// attrs returns the attributes.
func (k seriesKey) attrs() (attrs []attribute.KeyValue) {
	add := func(key attribute.Key, value string) {
		if value != "" {
			attrs = append(attrs, key.String(value))
		}
	}
	add(keyProvider, k.provider)
	add(keyOutcome, k.outcome)
	add(keyVerdict, k.verdict)
	add(keyError, k.failure)
	return attrs
}

func (m *metrics) lookup(i intel.LookupInfo) {
	if m == nil {
		return
	}
	s := m.of(seriesKey{provider: i.Provider, outcome: outcome(&i), failure: errorType(i.Err)})
	s.lookups.Add(1)
	if !i.Started.IsZero() {
		m.calls.Record(context.Background(), i.Took.Seconds(), s.call...)
	}
}

func (m *metrics) saved(i intel.SavedInfo) {
	if m == nil {
		return
	}
	s := m.of(seriesKey{verdict: verdictName(&i)})
	if len(i.Answered) > 0 {
		s.enrichments.Add(1)
	}
	if i.Changed {
		s.changes.Add(1)
	}
	if !i.More {
		m.work.Record(context.Background(), sinceStart(&i).Seconds())
	}
}

func (m *metrics) published(i intel.PublishedInfo) {
	m.of(seriesKey{failure: plainType(i.Err)}).events.Add(1)
}

func (m *metrics) pass(i intel.PassInfo) {
	m.of(seriesKey{failure: plainType(i.Err)}).passes.Add(1)
}

// verdictName returns the verdict after an update; none if no provider has an
// opinion.
func verdictName(i *intel.SavedInfo) string {
	return cmp.Or(i.Record.Decision.Verdict.String(), "none")
}

// outcome says what became of a lookup.
func outcome(i *intel.LookupInfo) string {
	switch {
	case i.Reused:
		return "reused"
	case i.Waiting:
		return "waiting"
	case !i.NotBefore.IsZero():
		return "deferred"
	case i.Err != nil:
		return "failed"
	case i.Known:
		return "answered"
	default:
		return "not_known"
	}
}

// errorTypes are the values of error.type for the kinds of failure.
var errorTypes = map[error]string{
	provider.ErrRateLimited: "rate_limited", provider.ErrQuotaExhausted: "quota_exhausted",
	provider.ErrUnauthorized: "unauthorized", provider.ErrConfig: "config", provider.ErrBadResponse: "bad_response",
	provider.ErrUnsupported: "unsupported", provider.ErrUnavailable: "unavailable",
}

// errorType returns the kind of a provider's failure; empty for none.
func errorType(err error) string {
	if err == nil {
		return ""
	}
	return errorTypes[provider.Kind(err)]
}

// plainType returns the value of error.type for an error of the store or the bus,
// whose text may be different each time; empty for none.
func plainType(err error) string {
	if err == nil {
		return ""
	}
	return "_OTHER"
}
