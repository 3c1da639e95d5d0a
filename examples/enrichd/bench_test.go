package main

import (
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/providertest/upstream"
)

// BenchmarkWake measures the time from an attacker.observed to the
// attacker.intel.enriched that follows it, as a client of the bus sees it: one
// attacker after the other, enrichd a process of its own, SQLite, services that
// answer at once. The 1,000 of interest are -benchtime=1000x.
func BenchmarkWake(b *testing.B) {
	s := newSite(b, upstream.Options{Keep: -1})
	stop := s.startBus()
	b.Cleanup(stop)
	client := s.connect()
	ear := listenTo(b, client, intel.TopicEnriched)
	p := s.start("-poll-interval", "1h")
	p.until("enriching")
	n := 0
	one := func() time.Duration {
		id, ip := uuid.New(), notorious(s.up, n)
		n++
		s.profile(id, ip)
		started := time.Now()
		observed(b, client, ip)
		ear.enriched(id)
		return time.Since(started)
	}
	for range 50 { // what starts late, and connections
		one()
	}
	took := make([]time.Duration, 0, b.N)
	for b.Loop() {
		took = append(took, one())
	}
	slices.Sort(took)
	at := func(part float64) float64 {
		return took[int(part*float64(len(took)-1))].Seconds() * 1000
	}
	b.ReportMetric(at(.5), "p50-ms")
	b.ReportMetric(at(.99), "p99-ms")
	b.ReportMetric(at(1), "max-ms")
	require.Zero(b, s.column("SELECT count(*) FROM attackers WHERE uuid NOT IN (SELECT attacker_uuid FROM attacker_intel)")[0][0]-'0')
}
