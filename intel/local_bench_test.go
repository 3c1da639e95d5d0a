package intel_test

import (
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"testing"
	"time"

	"os"
	"path/filepath"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
)

// missing returns six lists of 20,000 networks each that have none of the
// attackers' addresses.
func missing(b *testing.B) (all []intel.Provider) {
	b.Helper()
	for n := range 6 {
		var text strings.Builder
		for i := range 20_000 {
			fmt.Fprintf(&text, "77.%d.%d.%d\n", n, i>>8, i&255)
		}
		path := filepath.Join(b.TempDir(), fmt.Sprint(n))
		require.NoError(b, os.WriteFile(path, []byte(text.String()), 0o600))
		p, err := lists.NewOperator(lists.Operator{Name: fmt.Sprintf("list%d", n), Places: []string{path}})
		require.NoError(b, err)
		require.NoError(b, p.Refresh(b.Context()))
		all = append(all, p)
	}
	return all
}

// BenchmarkLocalMisses drains a backlog in memory with six lists that miss, and
// without, in turns, and reports the ratio of the medians of five runs.
func BenchmarkLocalMisses(b *testing.B) {
	defer debug.SetGCPercent(debug.SetGCPercent(400))
	const backlog = 40_000
	attackers := make([]store.Attacker, backlog)
	now := time.Now()
	for i := range attackers {
		attackers[i] = store.Attacker{ID: uuid.New(), IP: ip(i), LastSeen: now}
	}
	listed := missing(b)
	drain := func(providers []intel.Provider) time.Duration {
		s := memstore.New()
		require.NoError(b, s.Observe(b.Context(), attackers...))
		w, err := intel.NewWorker(intel.Config{Store: s, Providers: providers, Logger: slog.New(slog.DiscardHandler)})
		require.NoError(b, err)
		started := time.Now()
		require.NoError(b, w.Drain(b.Context()))
		return time.Since(started)
	}
	for b.Loop() {
		var with, without []time.Duration
		for range 5 {
			without = append(without, drain(instantProviders()))
			with = append(with, drain(append(instantProviders(), listed...)))
		}
		slices.Sort(with)
		slices.Sort(without)
		b.ReportMetric(100*float64(without[2])/float64(with[2]), "%-of-without")
		b.ReportMetric(backlog/with[2].Seconds(), "attackers/s")
	}
}
