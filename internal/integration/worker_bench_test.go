package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/membus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/otelintel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/abuseipdb"
	"github.com/decnet/enrich/provider/feodo"
	"github.com/decnet/enrich/provider/greynoise"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/provider/threatfox"
	"github.com/decnet/enrich/store"
)

const benchKey = "0123456789abcdef"

// theFour returns the four providers, asking a fake upstream.
func theFour(tb testing.TB, up *upstream.Server) []intel.Provider {
	four, err := fourAt(up.URL())
	require.NoError(tb, err)
	return four
}

func fourAt(url string) ([]intel.Provider, error) {
	gn, err1 := greynoise.New(greynoise.Options{KeyFunc: func() string { return benchKey }, BaseURL: url, Quotas: []provider.Quota{}})
	ab, err2 := abuseipdb.New(abuseipdb.Options{KeyFunc: func() string { return benchKey }, BaseURL: url, Quotas: []provider.Quota{}})
	fe, err3 := feodo.New(feodo.Options{BaseURL: url})
	tf, err4 := threatfox.New(threatfox.Options{KeyFunc: func() string { return benchKey }, BaseURL: url})
	return []intel.Provider{gn, ab, fe, tf}, errors.Join(err1, err2, err3, err4)
}

// cpu returns the processor time this process has used.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkWorkerHTTP drains a backlog through the whole stack: SQLite on disk,
// the four providers over HTTP on loopback, a bus with one subscriber. In the
// same run a bare loop makes the same HTTP calls with the same client settings
// and writes the same rows into the same tables in batches. One iteration is
// one backlog.
func BenchmarkWorkerHTTP(b *testing.B) {
	backlog := atMost(20_000, 2000)
	for _, latency := range []time.Duration{0, 50 * time.Millisecond} {
		b.Run(fmt.Sprintf("backlog=%d/latency=%v", backlog, latency), func(b *testing.B) {
			up, err := upstream.Start(upstream.Options{})
			require.NoError(b, err)
			defer up.Close()
			for _, s := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.ThreatFox} {
				up.Delay(s, latency)
			}
			attackers := crowd(backlog)
			var ours, bare, used time.Duration
			for b.Loop() {
				took, spent, written := runWorker(b, up, attackers, intel.Hooks{})
				ours, used = ours+took, used+spent
				bare += runBare(b, up, attackers, written)
			}
			n := float64(b.N * backlog)
			b.ReportMetric(n/ours.Seconds(), "attackers/s")
			b.ReportMetric(n/bare.Seconds(), "bare/s")
			b.ReportMetric(100*bare.Seconds()/ours.Seconds(), "%of-bare")
			b.ReportMetric(float64(used.Microseconds())/1000/n, "cpu-ms/attacker")
			if latency > 0 {
				limit := 64 / latency.Seconds() // the default concurrency over the latency
				b.ReportMetric(100*n/ours.Seconds()/limit, "%of-limit")
			}
			b.ReportMetric(0, "ns/op")
		})
	}
}

// BenchmarkTraces drains backlogs as BenchmarkWorkerHTTP does without latency, in rounds:
// without traces, with traces, and with as many empty spans of the SDK, which is the
// least that traces can cost. Spans are exported to nowhere in batches. It reports the
// medians of the ratios to the run without traces of the same round, of the rate and of
// the processor time, and how many of the spans were exported and not dropped.
func BenchmarkTraces(b *testing.B) {
	const backlog = 2000
	rounds := atMost(15, 1)
	exporter := new(countingExporter)
	ended := &countingProcessor{SpanProcessor: sdktrace.NewBatchSpanProcessor(exporter)}
	spans := sdktrace.NewTracerProvider(sdktrace.WithSpanProcessor(ended))
	telemetry, err := otelintel.New(otelintel.Options{TracerProvider: spans})
	require.NoError(b, err)
	up, err := upstream.Start(upstream.Options{})
	require.NoError(b, err)
	defer up.Close()
	attackers := crowd(backlog)
	hooks := []intel.Hooks{{}, emptySpans(spans.Tracer("empty"), len(theFour(b, up))), telemetry.Hooks(intel.Hooks{})}
	rates, processor := make([][]float64, len(hooks)), make([][]float64, len(hooks)) // in percent, of each round
	for b.Loop() {
		for range rounds {
			took, used := make([]float64, len(hooks)), make([]float64, len(hooks))
			for _, i := range rand.Perm(len(hooks)) {
				runtime.GC() // so that no run pays for what another has left
				t, u, _ := runWorker(b, up, attackers, hooks[i])
				took[i], used[i] = t.Seconds(), u.Seconds()
			}
			for i := range hooks {
				rates[i] = append(rates[i], 100*took[0]/took[i])
				processor[i] = append(processor[i], 100*used[i]/used[0])
			}
		}
	}
	require.NoError(b, spans.Shutdown(b.Context()))
	b.ReportMetric(median(rates[1]), "empty-%of-off")
	b.ReportMetric(median(processor[1]), "empty-%of-cpu")
	b.ReportMetric(median(rates[2]), "%of-off")
	b.ReportMetric(median(processor[2]), "%of-cpu")
	b.ReportMetric(100*float64(exporter.spans)/float64(ended.spans.Load()), "%exported")
	b.ReportMetric(0, "ns/op")
}

// emptySpans returns hooks that make a span, with children, for each attacker.
func emptySpans(tracer trace.Tracer, children int) intel.Hooks {
	return intel.Hooks{Saved: func(i intel.SavedInfo) {
		if i.More {
			return
		}
		ctx, span := tracer.Start(context.Background(), "enrich")
		for range children {
			_, child := tracer.Start(ctx, "lookup")
			child.End()
		}
		span.End()
	}}
}

// countingExporter drops the spans that are exported.
type countingExporter struct {
	tracetest.NoopExporter
	spans int
}

func (e *countingExporter) ExportSpans(_ context.Context, spans []sdktrace.ReadOnlySpan) error {
	e.spans += len(spans)
	return nil
}

// countingProcessor counts the spans that end.
type countingProcessor struct {
	sdktrace.SpanProcessor
	spans atomic.Int64
}

func (p *countingProcessor) OnEnd(s sdktrace.ReadOnlySpan) {
	p.spans.Add(1)
	p.SpanProcessor.OnEnd(s)
}

// rows are what a run left in the database, to be written again by the bare
// loop.
type rows struct {
	ledger, intel map[string][]any // by attacker
	events        map[string]bus.Event
	ledgerColumns []string
	intelColumns  []string
}

func runWorker(b *testing.B, up *upstream.Server, attackers []store.Attacker, hooks intel.Hooks) (took, used time.Duration, w rows) {
	db := open(b, filepath.Join(b.TempDir(), "ours.db"))
	s := newStore(b, db)
	require.NoError(b, s.Observe(b.Context(), attackers...))
	// The subscriber keeps everything, so that the bare loop can write it too.
	mb := membus.New(membus.Options{Buffer: 4 * len(attackers)})
	sub, err := mb.Subscribe(b.Context(), intel.TopicEnriched)
	require.NoError(b, err)
	worker, err := intel.NewWorker(intel.Config{
		Store: s, Bus: mb, Providers: theFour(b, up), Logger: slog.New(slog.DiscardHandler), Hooks: hooks,
	})
	require.NoError(b, err)

	started, before := time.Now(), cpu()
	require.NoError(b, worker.Drain(b.Context()))
	took, used = time.Since(started), cpu()-before

	require.NoError(b, mb.Close())
	w.events = make(map[string]bus.Event)
	for ev := range sub.Events() {
		id, _, _ := strings.Cut(strings.TrimPrefix(string(ev.Payload), `{"attacker_uuid":"`), `"`)
		w.events[id] = ev
	}
	w.ledgerColumns, w.ledger = dump(b, db, "SELECT * FROM enrich_ledger", "attacker_uuid")
	w.intelColumns, w.intel = dump(b, db, "SELECT * FROM attacker_intel", "attacker_uuid")
	require.Equal(b, len(attackers), len(w.intel))
	require.Equal(b, len(attackers), len(w.events))
	require.NoError(b, db.Close())
	return took, used, w
}

// dump returns the columns of a query and its rows by the named column.
func dump(tb testing.TB, db *sql.DB, query, key string) ([]string, map[string][]any) {
	rs, err := db.QueryContext(tb.Context(), query)
	require.NoError(tb, err)
	defer rs.Close()
	columns, err := rs.Columns()
	require.NoError(tb, err)
	all := make(map[string][]any)
	for rs.Next() {
		values, dest := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			dest[i] = &values[i]
		}
		require.NoError(tb, rs.Scan(dest...))
		all[values[slices.Index(columns, key)].(string)] = values
	}
	require.NoError(tb, rs.Err())
	return columns, all
}

// runBare does what no worker could do without: the HTTP calls, 64 attackers at
// a time, and the rows, a batch at a time.
func runBare(b *testing.B, up *upstream.Server, attackers []store.Attacker, w rows) time.Duration {
	db := open(b, filepath.Join(b.TempDir(), "bare.db"))
	require.NoError(b, newStore(b, db).Observe(b.Context(), attackers...))
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = 256, 1024
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}

	started := time.Now()
	saves := make(chan string, 256)
	var writing errgroup.Group
	writing.Go(func() error { return writeBatches(b.Context(), db, w, saves) })
	var calling errgroup.Group
	calling.SetLimit(64)
	for _, a := range attackers {
		calling.Go(func() error {
			var fan errgroup.Group
			for _, req := range bareRequests(up.URL(), a.Addr()) {
				fan.Go(func() error {
					resp, err := client.Do(req)
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					_, err = io.Copy(io.Discard, resp.Body)
					return err
				})
			}
			err := fan.Wait()
			saves <- a.ID.String()
			return err
		})
	}
	require.NoError(b, calling.Wait())
	close(saves)
	require.NoError(b, writing.Wait())
	took := time.Since(started)
	require.NoError(b, db.Close())
	return took
}

func bareRequests(origin string, addr netip.Addr) []*http.Request {
	request := func(method, path, body, keyHeader string) *http.Request {
		req, _ := http.NewRequest(method, origin+path, strings.NewReader(body)) // the URL is well-formed
		req.Header.Set(keyHeader, benchKey)
		req.Header.Set("Accept", "application/json")
		return req
	}
	return []*http.Request{
		request("GET", "/v3/community/"+addr.String(), "", "key"),
		request("GET", "/api/v2/check?ipAddress="+addr.String()+"&maxAgeInDays=30&verbose", "", "Key"),
		request("POST", "/api/v1/", `{"query":"search_ioc","search_term":"`+addr.String()+`"}`, "Auth-Key"),
	}
}

// writeBatches writes the rows of attackers in transactions of what has gathered
// while the one before was committed, with statements prepared once.
func writeBatches(ctx context.Context, db *sql.DB, w rows, saves <-chan string) error {
	prepare := func(text string) *sql.Stmt {
		st, err := db.PrepareContext(ctx, text)
		if err != nil {
			panic(err)
		}
		return st
	}
	key := slices.Index(w.ledgerColumns, "attacker_uuid")
	ledger := prepare("UPDATE enrich_ledger SET " + strings.Join(w.ledgerColumns, " = ?, ") + " = ? WHERE attacker_uuid = ?")
	row := prepare("INSERT INTO attacker_intel (" + strings.Join(w.intelColumns, ", ") + ") VALUES (?" +
		strings.Repeat(", ?", len(w.intelColumns)-1) + ")")
	post := prepare(`INSERT INTO enrich_outbox (event_id, attacker_uuid, topic, type, at, saved_at, payload)
		VALUES (?, ?, ?, ?, ?, ?, ?)`)
	unpost := prepare("DELETE FROM enrich_outbox WHERE event_id = ?")
	for first := range saves {
		batch := []string{first}
		for more := true; more && len(batch) < 256; {
			select {
			case id, ok := <-saves:
				if more = ok; ok {
					batch = append(batch, id)
				}
			default:
				more = false
			}
		}
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return err
		}
		for _, id := range batch {
			values, ev := w.ledger[id], w.events[id]
			for _, write := range []struct {
				st   *sql.Stmt
				args []any
			}{
				{ledger, append(slices.Clone(values), values[key])},
				{row, w.intel[id]},
				{post, []any{ev.ID, id, ev.Topic, ev.Type, ev.Time.UnixMicro(), ev.Time.UnixMicro(), string(ev.Payload)}},
				{unpost, []any{ev.ID}},
			} {
				if _, err := tx.StmtContext(ctx, write.st).ExecContext(ctx, write.args...); err != nil {
					return err
				}
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

// BenchmarkWakeToPublish measures, for one attacker after the other, the time
// from the event that announces an attacker to the event that announces its
// verdict: SQLite on disk, instant providers, a running worker.
func BenchmarkWakeToPublish(b *testing.B) {
	const events = 1000
	instant := func(name string, v provider.Verdict) intel.Provider {
		return provider.Func{ID: name, Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			return provider.Finding{Provider: name, Addr: addr, Known: true, Verdict: v}, nil
		}}
	}
	db := open(b, filepath.Join(b.TempDir(), "enrich.db"))
	s := newStore(b, db)
	mb := membus.New(membus.Options{})
	sub, err := mb.Subscribe(b.Context(), intel.TopicEnriched)
	require.NoError(b, err)
	w, err := intel.NewWorker(intel.Config{Store: s, Bus: mb, Logger: slog.New(slog.DiscardHandler), Providers: []intel.Provider{
		instant("greynoise", provider.Suspicious), instant("abuseipdb", provider.Malicious),
		instant("feodo", provider.None), instant("threatfox", provider.None),
	}})
	require.NoError(b, err)
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = w.Run(ctx) }) // nil: it ends with ctx

	var all, bare []time.Duration
	n := 0
	for b.Loop() {
		for range events {
			a := store.Attacker{ID: uuid.New(), IP: netip.AddrFrom4([4]byte{45, byte(n >> 16), byte(n >> 8), byte(n)}).String()}
			n++
			require.NoError(b, s.Observe(b.Context(), a))
			started := time.Now()
			require.NoError(b, mb.Publish(b.Context(), bus.Event{Topic: intel.TopicObserved, Payload: []byte(`{}`)}))
			for ev := range sub.Events() {
				if strings.Contains(string(ev.Payload), a.ID.String()) {
					break
				}
			}
			all = append(all, time.Since(started))
		}
		for range events { // the least a claim and a save can cost: two transactions of one row
			started := time.Now()
			for range 2 {
				_, err := db.ExecContext(b.Context(), "UPDATE enrich_ledger SET owner = 'bare' WHERE attacker_uuid = (SELECT min(attacker_uuid) FROM enrich_ledger)")
				require.NoError(b, err)
			}
			bare = append(bare, time.Since(started))
		}
	}
	stop()
	running.Wait()
	slices.Sort(all)
	slices.Sort(bare)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	b.ReportMetric(ms(all[len(all)/2]), "p50-ms")
	b.ReportMetric(ms(all[len(all)*99/100]), "p99-ms")
	b.ReportMetric(ms(bare[len(bare)/2]), "bare-p50-ms")
	b.ReportMetric(0, "ns/op")
}
