package otelintel

import (
	"context"
	"errors"
	"fmt"
	"time"

	"go.opentelemetry.io/otel/metric"

	"github.com/decnet/enrich/intel"
)

// countTimeout is how long the store may count the backlog. After that the gauges
// of the backlog are missing, and all others are there.
const countTimeout = 5 * time.Second

// Observe reports a worker's status, which status returns, as gauges, whenever the
// meter provider collects them. Stop ends that. A worker's own method Status is such
// a function; one that limits how often the backlog is counted is another.
func (t *Telemetry) Observe(status func(context.Context) (intel.Status, error)) (stop func() error, err error) {
	if t.meter == nil {
		return func() error { return nil }, nil
	}
	g, err := newGauges(t.meter)
	if err != nil {
		return nil, err
	}
	registered, err := t.meter.RegisterCallback(func(ctx context.Context, o metric.Observer) error {
		ctx, cancel := context.WithTimeout(ctx, countTimeout)
		defer cancel()
		s, err := status(ctx)
		g.observe(o, &s)
		return err
	}, g.all()...)
	if err != nil {
		return nil, fmt.Errorf("otelintel: register the gauges: %w", err)
	}
	return registered.Unregister, nil
}

// gauges are the instruments that a status is written to.
type gauges struct {
	state, limit, remaining, due, leased, waiting, outbox, readers, rows, stale, shrunk metric.Int64ObservableGauge
	drain, age                                                                          metric.Float64ObservableGauge
}

func newGauges(meter metric.Meter) (g gauges, err error) {
	var errs []error
	gauge := func(name, unit, description string) metric.Int64ObservableGauge {
		i, err := meter.Int64ObservableGauge(name, metric.WithUnit(unit), metric.WithDescription(description))
		errs = append(errs, err)
		return i
	}
	g.state = gauge("enrich.provider.state", "", "1 for the state that a provider is in.")
	g.limit = gauge("enrich.quota.limit", "{call}", "Calls that a quota allows in its window.")
	g.remaining = gauge("enrich.quota.remaining", "{call}", "Calls that are left of a quota.")
	g.due = gauge("enrich.backlog.due", "{attacker}", "Attackers that are due.")
	g.leased = gauge("enrich.backlog.leased", "{attacker}", "Attackers that are being worked on.")
	g.waiting = gauge("enrich.backlog.waiting", "{attacker}", "Attackers that wait for a provider.")
	g.outbox = gauge("enrich.outbox.events", "{event}", "Events to be published.")
	g.readers = gauge("enrich.reader.events", "{event}", "Events that a reader of the outbox beside the bus, such as a webhook, has not read.")
	g.rows = gauge("enrich.list.rows", "{network}", "Networks in a list.")
	g.stale = gauge("enrich.list.stale", "", "1 for a list that is so old that it silences no other opinion, otherwise 0.")
	g.shrunk = gauge("enrich.list.shrunk", "", "1 for a list whose new version was refused because it is much shorter, otherwise 0.")
	g.age, err = meter.Float64ObservableGauge("enrich.list.age", metric.WithUnit("s"),
		metric.WithDescription("Time since a list was last found to be current."))
	errs = append(errs, err)
	g.drain, err = meter.Float64ObservableGauge("enrich.backlog.drain", metric.WithUnit("s"),
		metric.WithDescription("Estimated time until nothing is due and nobody waits."))
	return g, errors.Join(append(errs, err)...)
}

func (g *gauges) all() []metric.Observable {
	return []metric.Observable{g.state, g.limit, g.remaining, g.due, g.leased, g.waiting, g.outbox, g.readers, g.drain, g.rows, g.age, g.stale, g.shrunk}
}

func (g *gauges) observe(o metric.Observer, s *intel.Status) {
	for i := range s.Providers {
		p := &s.Providers[i]
		name := keyProvider.String(p.Name)
		o.ObserveInt64(g.state, 1, metric.WithAttributes(name, keyState.String(p.State)))
		for _, q := range p.Quotas {
			with := metric.WithAttributes(name, keyWindow.Int64(q.Seconds))
			o.ObserveInt64(g.limit, int64(q.Limit), with)
			o.ObserveInt64(g.remaining, int64(q.Remaining), with)
		}
		if l := p.List; l != nil && l.Loaded {
			with := metric.WithAttributes(name)
			o.ObserveInt64(g.rows, int64(l.Rows), with)
			o.ObserveInt64(g.stale, flag(l.Stale), with)
			o.ObserveInt64(g.shrunk, flag(l.Shrunk), with)
			o.ObserveFloat64(g.age, max(time.Since(l.LoadedAt), 0).Seconds(), with)
		}
	}
	b := s.Backlog
	if b == nil {
		return
	}
	o.ObserveInt64(g.due, int64(b.Due))
	o.ObserveInt64(g.leased, int64(b.Leased))
	o.ObserveInt64(g.outbox, int64(b.Outbox))
	for name, n := range b.Readers {
		o.ObserveInt64(g.readers, int64(n), metric.WithAttributes(keyReader.String(name)))
	}
	for i := range s.Providers { // 0 is a number, too
		name := s.Providers[i].Name
		o.ObserveInt64(g.waiting, int64(b.Waiting[name]), metric.WithAttributes(keyProvider.String(name)))
	}
	if b.DrainSeconds >= 0 {
		o.ObserveFloat64(g.drain, b.DrainSeconds)
	}
}

// flag returns the value of a gauge that says whether something is so.
func flag(is bool) int64 {
	if is {
		return 1
	}
	return 0
}
