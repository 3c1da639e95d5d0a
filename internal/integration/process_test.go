package integration

import (
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// TestKilledProcessLeavesWholeRows kills processes in the middle of their saves
// and looks whether what a save writes together is there together.
func TestKilledProcessLeavesWholeRows(t *testing.T) { onEach(t, testKilledProcessLeavesWholeRows) }

func testKilledProcessLeavesWholeRows(t *testing.T, on *database) {
	dsn := on.create(t)
	db := on.open(t, dsn)
	s := on.newStore(t, db)
	require.NoError(t, s.Observe(t.Context(), crowd(100)...))
	for i := range 5 {
		p := on.startChild(t, "churn", dsn)
		for range 200 + 37*i { // printed after a save, when the next one is near
			require.True(t, p.out.Scan(), "the child ended by itself")
		}
		require.NoError(t, p.Process.Kill())
		require.Error(t, p.Wait())
	}

	if on == onSQLite {
		require.Equal(t, []string{"ok"}, column[string](t, db, "PRAGMA integrity_check"))
	}
	require.Empty(t, column[string](t, db, `SELECT l.attacker_uuid FROM enrich_ledger l
		LEFT JOIN attacker_intel i ON i.attacker_uuid = l.attacker_uuid
		WHERE l.revision <> (SELECT count(*) FROM enrich_outbox o WHERE o.attacker_uuid = l.attacker_uuid)
		OR (l.revision > 0 AND i.uuid IS NULL) OR (l.revision = 0 AND i.uuid IS NOT NULL)
		OR i.greynoise_queried_at <> i.feodo_queried_at OR i.cached_at <> i.threatfox_queried_at`))
	require.Positive(t, column[int](t, db, "SELECT max(revision) FROM enrich_ledger")[0])

	// Whoever was leased by a dead process is free when the lease has ended.
	_, err := db.Exec("UPDATE enrich_ledger SET wake_at = 1 WHERE state = 2")
	require.NoError(t, err)
	c, err := s.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 1000})
	require.NoError(t, err)
	require.Equal(t, 100, len(c.Records))
}

func TestProcessesShareAFile(t *testing.T) { onEach(t, testProcessesShareAFile) }

func testProcessesShareAFile(t *testing.T, on *database) {
	const attackers, processes = 600, 4
	dsn := on.create(t)
	db := on.open(t, dsn)
	s := on.newStore(t, db)
	require.NoError(t, s.Observe(t.Context(), crowd(attackers)...))
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		times = make(map[string]int)
	)
	for range processes {
		p := on.startChild(t, "drain", dsn)
		wg.Go(func() {
			for p.out.Scan() {
				mu.Lock()
				times[p.out.Text()]++
				mu.Unlock()
			}
			if err := p.Wait(); err != nil {
				t.Errorf("child: %v", err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, attackers, len(times))
	for id, n := range times {
		require.Equal(t, 1, n, id)
	}
	require.Equal(t, []int{attackers}, column[int](t, db, "SELECT count(*) FROM attacker_intel"))
}

func TestProcessesMigrateTogether(t *testing.T) { onEach(t, testProcessesMigrateTogether) }

func testProcessesMigrateTogether(t *testing.T, on *database) {
	dsn := on.create(t)
	var children []*process
	for range 5 {
		children = append(children, on.startChild(t, "drain", dsn))
	}
	for _, p := range children {
		for p.out.Scan() {
			t.Errorf("claimed %s from an empty database", p.out.Text())
		}
		require.NoError(t, p.Wait())
	}
	on.migrated(t, on.open(t, dsn))
}
