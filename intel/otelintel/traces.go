package otelintel

import (
	"context"
	"sync"
	"time"

	"github.com/google/uuid"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/decnet/enrich/intel"
)

// maxOpen is the number of attackers whose calls are kept until their last update.
// An attacker whose update could not be stored would stay for ever.
const maxOpen = 8192

// traces makes spans. Hooks hear of a call when it has ended, so the spans of an
// attacker are made together, with its last update. Its methods do nothing on nil.
type traces struct {
	tracer trace.Tracer

	mu    sync.Mutex                // guards the fields below
	open  map[uuid.UUID][]call      // of attackers that are being worked on
	kinds map[seriesKey]*kindOfCall // there are few of them
}

// kindOfCall is what the spans of many calls have in common.
type kindOfCall struct {
	name    string
	attrs   []attribute.KeyValue
	failure string // empty for none
}

// call is what the span of a call needs.
type call struct {
	kind    *kindOfCall
	started time.Time
	took    time.Duration
}

func newTraces(tracer trace.Tracer) *traces {
	return &traces{tracer: tracer, open: make(map[uuid.UUID][]call), kinds: make(map[seriesKey]*kindOfCall)}
}

func (t *traces) lookup(i intel.LookupInfo) {
	if t == nil || i.Started.IsZero() {
		return
	}
	key := seriesKey{provider: i.Provider, outcome: outcome(&i), failure: errorType(i.Err)}
	t.mu.Lock()
	defer t.mu.Unlock()
	kind, ok := t.kinds[key]
	if !ok {
		kind = &kindOfCall{"lookup " + key.provider, key.attrs(), key.failure}
		t.kinds[key] = kind
	}
	calls, ok := t.open[i.Attacker]
	if !ok {
		if len(t.open) >= maxOpen {
			clear(t.open)
		}
		calls = make([]call, 0, 4)
	}
	t.open[i.Attacker] = append(calls, call{kind, i.Started, i.Took})
}

func (t *traces) saved(i intel.SavedInfo) {
	if t == nil || i.More {
		return
	}
	t.mu.Lock()
	calls := t.open[i.Record.ID]
	delete(t.open, i.Record.ID)
	t.mu.Unlock()

	ctx, span := t.tracer.Start(context.Background(), "enrich", trace.WithTimestamp(i.Started))
	defer span.End()
	if !span.IsRecording() {
		return
	}
	span.SetAttributes(
		attribute.String("enrich.attacker.uuid", i.Record.ID.String()),
		keyVerdict.String(verdictName(&i)),
		attribute.Bool("enrich.verdict.changed", i.Changed),
		attribute.StringSlice("enrich.answered", i.Answered),
		attribute.StringSlice("enrich.pending", i.Pending),
	)
	for _, c := range calls {
		if !c.started.Before(i.Started) { // or of earlier work, whose update was not stored
			c.span(ctx, t.tracer)
		}
	}
}

// asClient is made once: an option is an allocation.
var asClient = trace.WithSpanKind(trace.SpanKindClient)

// span makes the span of a call.
func (c *call) span(ctx context.Context, tracer trace.Tracer) {
	_, span := tracer.Start(ctx, c.kind.name, trace.WithTimestamp(c.started), asClient)
	span.SetAttributes(c.kind.attrs...)
	if c.kind.failure != "" {
		span.SetStatus(codes.Error, c.kind.failure)
	}
	span.End(trace.WithTimestamp(c.started.Add(c.took)))
}

// sinceStart returns how long the work on an attacker has taken.
func sinceStart(i *intel.SavedInfo) time.Duration { return time.Since(i.Started) }
