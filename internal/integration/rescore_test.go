package integration

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// rescorer returns a worker with the four providers, none of which may be
// called.
func rescorer(t *testing.T, s *sqlstore.Store, policy aggregate.Policy) *intel.Worker {
	t.Helper()
	var silent []intel.Provider
	for name := range sources {
		silent = append(silent, provider.Func{ID: name, Ask: func(context.Context, netip.Addr) (provider.Finding, error) {
			t.Errorf("%s was asked", name)
			return provider.Finding{}, errors.New("not to be asked")
		}})
	}
	w, err := intel.NewWorker(intel.Config{Store: s, Providers: silent, Policy: policy, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	return w
}

// but returns every row of a table as text, but for some of its columns.
func but(t *testing.T, db *sql.DB, table string, columns ...string) []map[string]string {
	t.Helper()
	rows := contents(t, db, table)
	for _, row := range rows {
		for _, name := range columns {
			require.Contains(t, row, name)
			delete(row, name)
		}
	}
	return rows
}

// TestRescoreWritesDecisionsOnly compares everything the database holds before
// and after.
func TestRescoreWritesDecisionsOnly(t *testing.T) { onEach(t, testRescoreWritesDecisionsOnly) }

func testRescoreWritesDecisionsOnly(t *testing.T, on *database) {
	const n = 300 // two pages
	s, db := on.openStore(t)
	require.NoError(t, s.Observe(t.Context(), crowd(n)...))
	verdict := func(addr netip.Addr, by byte) provider.Verdict { return provider.Verdict(addr.As4()[3] / by % 5) }
	var ps []intel.Provider
	for name, by := range map[string]byte{"greynoise": 1, "abuseipdb": 5, "feodo": 25, "threatfox": 50} {
		ps = append(ps, provider.Func{ID: name, Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
			return provider.Finding{Provider: name, Addr: addr, Verdict: verdict(addr, by), Raw: []byte(`{"a":1}`)}, nil
		}})
	}
	w, err := intel.NewWorker(intel.Config{Store: s, Providers: ps, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, w.Drain(t.Context()))

	take := func() [][]map[string]string {
		all := [][]map[string]string{but(t, db, "enrich_ledger", "decision", "fence", "verdict"), but(t, db, "attacker_intel", "aggregate_verdict")}
		for _, table := range []string{"attackers", "enrich_queue", "enrich_raw", "enrich_address", "enrich_outbox"} {
			all = append(all, contents(t, db, table))
		}
		return all
	}
	before := take()
	records := func() []store.Record {
		page, err := s.List(t.Context(), store.ListRequest{Limit: n})
		require.NoError(t, err)
		require.Len(t, page.Records, n)
		return page.Records
	}
	first := records()
	done, err := rescorer(t, s, aggregate.Weighted{}).Rescore(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, n, done.Seen)
	require.Equal(t, n, done.Changed)
	require.Equal(t, before, take())

	verdicts := 0
	for i, rec := range records() {
		require.Equal(t, "weighted/2", rec.Decision.Policy)
		require.Len(t, rec.Decision.Reasons, 4)
		var evidence []aggregate.Evidence
		for _, e := range rec.Entries {
			evidence = append(evidence, aggregate.Evidence{Finding: e.Finding})
		}
		require.Equal(t, aggregate.Weighted{}.Decide(evidence, time.Now()).Verdict, rec.Decision.Verdict)
		verdict := column[sql.NullString](t, db, on.placed("SELECT aggregate_verdict FROM attacker_intel WHERE attacker_uuid = ?"), rec.ID.String())
		require.Equal(t, sql.NullString{String: rec.Decision.Verdict.String(), Valid: rec.Decision.Verdict != provider.None}, verdict[0])
		if rec.Decision.Verdict != first[i].Decision.Verdict {
			verdicts++
		}
	}
	require.Greater(t, verdicts, n/10)
	require.Equal(t, verdicts, done.Verdicts)

	// Back again, and everything is as it was.
	done, err = rescorer(t, s, aggregate.Strongest{}).Rescore(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, verdicts, done.Verdicts)
	require.Equal(t, before, take())
	require.Equal(t, undated(first), undated(records()))
}

// undated returns the records without the ages of their reasons, which grow
// with each decision.
func undated(records []store.Record) []store.Record {
	for i := range records {
		for j := range records[i].Decision.Reasons {
			records[i].Decision.Reasons[j].Age = 0
		}
	}
	return records
}

// Rows that DECNET wrote get a decision with reasons, and where the verdict is
// the same, no byte of DECNET's changes.
func TestRescoreOfAdoptedRows(t *testing.T) { onEach(t, testRescoreOfAdoptedRows) }

func testRescoreOfAdoptedRows(t *testing.T, on *database) {
	d := newDECNET(t, on)
	for i := range 50 {
		id, ip := uuid.NewString(), fmt.Sprintf("45.9.0.%d", i)
		d.profile(id, ip, d.now.Add(-time.Hour))
		d.enrich(id, ip, d.now.Add(-time.Hour), d.now.Add(time.Hour))
	}
	require.Empty(t, idsOf(d.claim()))
	attackers, rows := contents(t, d.db, "attackers"), contents(t, d.db, "attacker_intel")
	done, err := rescorer(t, d.store, aggregate.Weighted{}).Rescore(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, intel.Rescored{Seen: 50, Changed: 50}, done)
	require.Equal(t, attackers, contents(t, d.db, "attackers"))
	require.Equal(t, rows, contents(t, d.db, "attacker_intel"))
	require.Empty(t, idsOf(d.claim()))

	d.now = d.now.Add(time.Hour)
	recs := d.claim()
	require.Len(t, recs, 50, "due when they were")
	require.Equal(t, "weighted/2", recs[0].Decision.Policy)
	require.Len(t, recs[0].Decision.Reasons, 2)
	require.Equal(t, store.Fresh, recs[0].Entries[0].State)

	done, err = rescorer(t, d.store, aggregate.Weighted{HalfLife: 5 * time.Minute}).Rescore(t.Context(), "")
	require.NoError(t, err)
	require.Equal(t, intel.Rescored{Seen: 50, Busy: 50}, done, "somebody has them")
}
