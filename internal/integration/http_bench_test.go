package integration

import (
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
	"github.com/decnet/enrich/store/sqlstore"
)

// BenchmarkHTTP compares GET of an attacker's row, over loopback, with a bare handler
// that makes the same query and encodes the same bytes, in turns, while claims go on.
// It reports the requests a second of both, the ratio, and the latency of both at half
// the rate. There are ENRICH_BENCH_ATTACKERS attackers, by default 20,000.
func BenchmarkHTTP(b *testing.B) {
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	s, db := onSQLite.openStore(b)
	onSQLite.fill(b, s, db, attackers, false)
	var ids []uuid.UUID
	for _, text := range column[string](b, db, "SELECT attacker_uuid FROM enrich_ledger WHERE revision > 0 ORDER BY attacker_uuid LIMIT 20000") {
		ids = append(ids, uuid.MustParse(text))
	}
	ours := httptest.NewUnstartedServer(nil)
	ours.Config = httpapi.NewServer(httpapi.New(s, httpapi.Options{MaxInFlight: 256}), slog.New(slog.DiscardHandler))
	ours.Start()
	defer ours.Close()
	bare := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		id, err := uuid.Parse(r.URL.Path[len("/api/v1/attackers/"):][:36])
		if err != nil {
			w.WriteHeader(http.StatusNotFound)
			return
		}
		rec, err := s.Get(r.Context(), id)
		if err != nil {
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(decnet.RowJSON(&rec))
	}))
	defer bare.Close()

	ctx, cancel := context.WithCancel(b.Context())
	var load sync.WaitGroup
	load.Go(func() { claimOn(ctx, s) })
	defer load.Wait()
	defer cancel()

	const clients, round = 8, 500 * time.Millisecond
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: clients}}
	defer client.CloseIdleConnections()
	get := func(url string, n int) {
		resp, err := client.Get(url + "/api/v1/attackers/" + ids[n*7919%len(ids)].String() + "/intel")
		if err != nil {
			b.Error(err)
			return
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			b.Errorf("answer %d", resp.StatusCode)
		}
	}
	// rate returns the requests a second of clients that do not pause.
	rate := func(url string) float64 {
		var done atomic.Int64
		var group sync.WaitGroup
		start := time.Now()
		for c := range clients {
			group.Go(func() {
				for n := c; time.Since(start) < round; n += clients {
					get(url, n)
					done.Add(1)
				}
			})
		}
		group.Wait()
		return float64(done.Load()) / time.Since(start).Seconds()
	}
	var oursRates, bareRates, ratios []float64
	for b.Loop() {
		for range 6 {
			o, r := rate(ours.URL), rate(bare.URL)
			oursRates, bareRates, ratios = append(oursRates, o), append(bareRates, r), append(ratios, o/r)
		}
	}
	middle := func(values []float64) float64 {
		slices.Sort(values)
		return values[len(values)/2]
	}
	// p99 returns the latency at half the rate, from when a request was due.
	half := middle(oursRates) / 2
	p99 := func(url string) float64 {
		var (
			mu     sync.Mutex
			delays []time.Duration
			group  sync.WaitGroup
		)
		start := time.Now()
		for c := range clients {
			group.Go(func() {
				gap := time.Duration(float64(time.Second) * clients / half)
				for n, due := c, start.Add(gap*time.Duration(c)/clients); due.Sub(start) < 4*round; n, due = n+clients, due.Add(gap) {
					time.Sleep(time.Until(due)) // a rate, not a wait for something
					get(url, n)
					mu.Lock()
					delays = append(delays, time.Since(due))
					mu.Unlock()
				}
			})
		}
		group.Wait()
		slices.Sort(delays)
		return float64(delays[len(delays)*99/100].Microseconds()) / 1000
	}
	b.ReportMetric(p99(ours.URL), "p99-ms")
	b.ReportMetric(p99(bare.URL), "bare-p99-ms")
	b.ReportMetric(middle(oursRates), "req/s")
	b.ReportMetric(middle(bareRates), "bare-req/s")
	b.ReportMetric(middle(ratios), "x-bare")
	b.ReportMetric(0, "ns/op")
}

// claimOn claims and releases, as an idle worker would but more often.
func claimOn(ctx context.Context, s *sqlstore.Store) {
	for ctx.Err() == nil {
		now := time.Now()
		c, err := s.Claim(ctx, store.ClaimRequest{Now: now, Owner: "load", Lease: time.Minute, Limit: 5})
		if err == nil {
			for _, rec := range c.Records {
				_ = s.Release(ctx, now.Add(-time.Second), store.Lease{ID: rec.ID, Fence: rec.Fence})
			}
		}
		select {
		case <-ctx.Done():
		case <-time.After(20 * time.Millisecond):
		}
	}
}
