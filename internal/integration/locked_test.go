package integration

import (
	"bytes"
	"cmp"
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/internal/logtest"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// lockSeconds is how long TestLockedRowStopsNoOther keeps a row locked:
// ENRICH_TEST_LOCK_SECONDS=60.
var lockSeconds = cmp.Or(number("ENRICH_TEST_LOCK_SECONDS"), 2)

// TestLockedRowStopsNoOther: with another client's open transaction on one of a
// thousand attackers, the others are saved. The locked one follows.
func TestLockedRowStopsNoOther(t *testing.T) {
	for _, on := range []*database{onPostgres, onMySQL} {
		t.Run(on.String(), func(t *testing.T) {
			s, db := on.openStore(t)
			testLockedRowStopsNoOther(t, s, db)
		})
	}
	t.Run("PgBouncer", func(t *testing.T) {
		dsn := onPostgres.create(t)
		_, db := onPostgres.newStore(t, onPostgres.open(t, dsn)), onPostgres.open(t, dsn)
		through := strings.Replace(dsn, postgresAddr, startPgBouncer(t), 1) + "&default_query_exec_mode=exec"
		testLockedRowStopsNoOther(t, onPostgres.newStore(t, onPostgres.open(t, through)), db)
	})
}

// testLockedRowStopsNoOther uses a store, and its database as another client.
func testLockedRowStopsNoOther(t *testing.T, s *sqlstore.Store, db *sql.DB) {
	const n = 1000
	attackers := crowd(n)
	require.NoError(t, s.Observe(t.Context(), attackers...))
	locked := attackers[n/2]

	theirs, err := db.Begin()
	require.NoError(t, err)
	defer theirs.Rollback()
	var ip string
	require.NoError(t, theirs.QueryRow("SELECT ip FROM attackers WHERE uuid = '"+locked.ID.String()+"' FOR UPDATE").Scan(&ip))

	fake := provider.Func{ID: "fake", Ask: func(_ context.Context, addr netip.Addr) (provider.Finding, error) {
		return provider.Finding{Provider: "fake", Addr: addr, Known: true, Verdict: provider.Malicious, TTL: time.Hour}, nil
	}}
	var (
		log    logtest.Log
		failed atomic.Value // the last error of a look at the store, by which a program tells whether it is ready
	)
	w, err := intel.NewWorker(intel.Config{
		Hooks: intel.Hooks{
			Pass:  func(i intel.PassInfo) { note(&failed, i.Err) },
			Claim: func(i intel.ClaimInfo) { note(&failed, i.Err) },
		},
		Store: s, Providers: []intel.Provider{fake}, RetryMin: 2 * time.Second, RetryMax: 2 * time.Second, PollInterval: time.Second,
		Logger: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	started := time.Now()
	go func() { done <- w.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-done)
	}()
	enriched := func() (count int) {
		require.NoError(t, db.QueryRow("SELECT count(*) FROM attacker_intel").Scan(&count))
		return count
	}
	require.Eventually(t, func() bool { return enriched() == n-1 }, 30*time.Second, 20*time.Millisecond)
	took := time.Since(started)
	t.Logf("%d of %d were stored within %v", n-1, n, took.Round(time.Millisecond))
	require.Less(t, took, 10*time.Second) // five on a machine of our own
	unlock := started.Add(time.Duration(lockSeconds) * time.Second)
	require.Eventually(t, func() bool { return bytes.Contains([]byte(log.String()), []byte("keeps an attacker locked")) }, 10*time.Second, 20*time.Millisecond)
	require.Contains(t, log.String(), "attacker="+locked.ID.String())
	require.Contains(t, log.String(), "locked by another client for more than 1s")
	status, err := w.Status(t.Context())
	require.NoError(t, err)
	require.NotZero(t, status.Unsaved)

	// New ones go on being saved meanwhile.
	more := crowd(50)
	require.NoError(t, s.Observe(t.Context(), more...))
	w.Wake()
	require.Eventually(t, func() bool { return enriched() == n+49 }, 10*time.Second, 20*time.Millisecond)

	<-time.After(time.Until(unlock))
	require.Equal(t, n+49, enriched())
	require.Nil(t, failed.Load())
	require.NoError(t, theirs.Commit())
	require.Eventually(t, func() bool { return enriched() == n+50 }, 20*time.Second, 20*time.Millisecond)
	require.NotContains(t, log.String(), "level=ERROR")
	t.Logf("it was locked for %v; the lines that say so: %d", time.Since(started).Round(time.Second), strings.Count(log.String(), "keeps an attacker locked"))
}

func note(failed *atomic.Value, err error) {
	if err != nil {
		failed.Store(err)
	}
}

// TestLockedRowsAreNotWaitedFor by any method: each does what it can do without them,
// and says what is left.
func TestLockedRowsAreNotWaitedFor(t *testing.T) { onServersAtOnce(t, testLockedRowsAreNotWaitedFor) }

func testLockedRowsAreNotWaitedFor(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	var log logtest.Log
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect, Log: slog.New(slog.NewTextHandler(&log, nil))})
	require.NoError(t, err)
	require.NoError(t, s.Migrate(t.Context()))
	attackers := crowd(300) // for no index to be worse than reading the table
	require.NoError(t, s.Observe(t.Context(), attackers...))
	request := store.ClaimRequest{Now: time.Now().UTC(), Owner: "test", Lease: time.Minute, Limit: 3}
	c, err := s.Claim(t.Context(), request)
	require.NoError(t, err)
	require.Len(t, c.Records, 3)
	inLedger, inAttackers, free := c.Records[0], c.Records[1], c.Records[2]

	theirs, err := db.Begin()
	require.NoError(t, err)
	defer theirs.Rollback()
	for _, text := range []string{
		"SELECT attacker_uuid FROM enrich_ledger WHERE attacker_uuid = '" + inLedger.ID.String() + "' FOR UPDATE",
		"SELECT uuid FROM attackers WHERE uuid = '" + inAttackers.ID.String() + "' FOR UPDATE",
	} {
		require.NoError(t, theirs.QueryRow(text).Scan(new(string)))
	}

	// Save and Release.
	var updates []store.Update
	for _, rec := range c.Records {
		updates = append(updates, enriched(rec, time.Now().UTC()))
	}
	failed := unsaved(t, s.Save(t.Context(), updates...))
	require.Len(t, failed, 2)
	require.ErrorIs(t, failed[inLedger.ID], store.ErrLocked)
	require.ErrorIs(t, failed[inAttackers.ID], store.ErrLocked)
	leases := []store.Lease{updates[0].Lease, updates[1].Lease, updates[2].Lease}
	err = s.Release(t.Context(), request.Now, leases...)
	require.ErrorIs(t, err, store.ErrLocked)
	require.ErrorContains(t, err, "1 of 3 leases")

	// Observe.
	later := time.Now().UTC().Add(time.Second)
	seen := []store.Attacker{inLedger.Attacker, inAttackers.Attacker, free.Attacker, crowd(1)[0]}
	for i := range seen {
		seen[i].LastSeen = later
	}
	err = s.Observe(t.Context(), seen...)
	rejected, ok := errors.AsType[*store.ObserveError](err)
	require.True(t, ok, "%v", err)
	require.Len(t, rejected.Rejected, 2)
	require.ErrorIs(t, rejected.Rejected[0], store.ErrLocked)
	require.ErrorIs(t, rejected.Rejected[1], store.ErrLocked)
	err = s.ObserveAt(t.Context(), "log", []byte("read"), append(seen, store.Attacker{})...)
	rejected, ok = errors.AsType[*store.ObserveError](err)
	require.True(t, ok, "%v", err)
	require.Len(t, rejected.Rejected, 3)
	require.ErrorIs(t, rejected.Rejected[4], store.ErrInvalid)
	doc, err := s.Position(t.Context(), "log")
	require.NoError(t, err)
	require.Nil(t, doc, "some of what was read is not stored")
	for i, want := range []bool{false, false, true, true} {
		rec, err := s.Get(t.Context(), seen[i].ID)
		require.NoError(t, err)
		require.Equal(t, want, rec.LastSeen.After(later.Add(-time.Minute)) && rec.LastSeen.Truncate(time.Second).Equal(later.Truncate(time.Second)), i)
	}

	// Claim, while the cursors find that an attacker has changed whose row is locked.
	again := later.Add(20 * time.Second).Truncate(time.Second)
	for _, id := range []uuid.UUID{inLedger.ID, attackers[10].ID, attackers[11].ID} {
		_, err = db.Exec("UPDATE attackers SET last_seen = '" + sqlalchemy(again) + "', updated_at = '" + time.Now().UTC().Format("2006-01-02 15:04:05.000000") +
			"' WHERE uuid = '" + id.String() + "'")
		require.NoError(t, err)
	}
	request.Now, request.Limit = time.Now().UTC(), 400
	c, err = s.Claim(t.Context(), request)
	require.NoError(t, err)
	require.Len(t, c.Records, 299, "all but the one under a lease, and the one saved, which was seen again")
	require.Contains(t, log.String(), "another client of the database keeps rows locked")
	got := make(map[uuid.UUID]store.Record)
	for _, rec := range c.Records {
		got[rec.ID] = rec
	}
	require.NotContains(t, got, inLedger.ID)
	require.Equal(t, again, got[attackers[11].ID].LastSeen)

	// One attacker by name is waited for, for some seconds.
	request.Only = []uuid.UUID{inLedger.ID}
	_, err = s.Claim(t.Context(), request)
	require.ErrorIs(t, err, store.ErrLocked)

	require.NoError(t, theirs.Rollback())
	require.NoError(t, s.Release(t.Context(), request.Now, leases...))
	require.NoError(t, s.ObserveAt(t.Context(), "log", []byte("read"), seen...))
	c, err = s.Claim(t.Context(), request)
	require.NoError(t, err)
	require.Len(t, c.Records, 1)
	require.Equal(t, again, c.Records[0].LastSeen)
}

// TestLockedTableFailsTheWholeSave at once, rather than update by update.
func TestLockedTableFailsTheWholeSave(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		s, db := on.openStore(t)
		updates := claimed(t, s, 40)
		theirs, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer theirs.Close()
		lock := []string{"LOCK TABLES enrich_ledger WRITE"}
		if on == onPostgres {
			lock = []string{"BEGIN", "LOCK TABLE enrich_ledger IN SHARE MODE"}
		}
		for _, text := range lock {
			_, err = theirs.ExecContext(t.Context(), text)
			require.NoError(t, err)
		}
		started := time.Now()
		err = s.Save(t.Context(), updates...)
		failsWhole(t, err)
		require.ErrorIs(t, err, store.ErrLocked)
		require.Less(t, time.Since(started), 25*time.Second)
		for _, text := range []string{"COMMIT", "UNLOCK TABLES"}[:3-len(lock)] {
			_, err = theirs.ExecContext(t.Context(), text)
			require.NoError(t, err)
		}
		require.NoError(t, s.Save(t.Context(), updates...))
	})
}

// TestLockedRowIsReported by Save itself, soon and by name.
func TestLockedRowIsReported(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		s, db := on.openStore(t)
		updates := claimed(t, s, 5)
		require.NoError(t, s.Save(t.Context(), updates[0]))
		theirs, err := db.Begin()
		require.NoError(t, err)
		defer theirs.Rollback()
		for table, id := range map[string]string{"attackers": "uuid = '" + updates[1].ID.String() + "'", "attacker_intel": "attacker_uuid = '" + updates[0].ID.String() + "'"} {
			var uuid string
			require.NoError(t, theirs.QueryRow("SELECT uuid FROM "+table+" WHERE "+id+" FOR UPDATE").Scan(&uuid))
		}
		c, err := s.Claim(t.Context(), store.ClaimRequest{
			Now: time.Now().Add(48 * time.Hour), Owner: "test", Lease: time.Minute, Limit: 5, Only: []uuid.UUID{updates[0].ID},
		})
		require.NoError(t, err)
		updates[0] = enriched(c.Records[0], time.Now().UTC())
		start := time.Now()
		failed := unsaved(t, s.Save(t.Context(), updates...))
		require.Less(t, time.Since(start), 8*time.Second)
		if on == onPostgres { // InnoDB locks neighbors as well in a table of a few rows, which it reads as a whole
			require.Len(t, failed, 2, fmt.Sprint(failed))
		}
		for _, u := range updates[:2] {
			require.Contains(t, failed, u.ID)
		}
		for _, why := range failed {
			require.ErrorIs(t, why, store.ErrLocked)
			require.ErrorContains(t, why, "attacker_intel")
		}
		require.NoError(t, theirs.Rollback())
		updates = slices.DeleteFunc(updates, func(u store.Update) bool { return failed[u.ID] == nil })
		require.NoError(t, s.Save(t.Context(), updates...))
	})
}

// TestUncommittedRowStopsNoOther: of a thousand attackers another client has added one
// and not committed, or asked for one that is not there. That row cannot be seen.
func TestUncommittedRowStopsNoOther(t *testing.T) {
	const id, now = "$id", "'2026-01-01 00:00:00'"
	for name, theirs := range map[string]struct {
		on   []*database
		text string
	}{
		"row": {[]*database{onPostgres, onMySQL},
			"INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at) VALUES ('" + id + "', '45.0.0.1', " + now + ", " + now + ", " + now + ")"},
		"gap": {[]*database{onMySQL}, "SELECT uuid FROM attackers WHERE uuid = '" + id + "' FOR UPDATE"},
	} {
		for _, on := range theirs.on {
			t.Run(on.String()+" "+name, func(t *testing.T) {
				s, db := on.openStore(t)
				require.NoError(t, s.Observe(t.Context(), crowd(3000)...)) // for gaps to be small
				const n = 1000
				attackers := crowd(n)
				tx, err := db.Begin()
				require.NoError(t, err)
				defer tx.Rollback()
				_, err = tx.Exec(strings.ReplaceAll(theirs.text, id, attackers[n/2].ID.String()))
				require.NoError(t, err)

				started := time.Now()
				err = s.ObserveAt(t.Context(), "log", []byte("read"), attackers...)
				took := time.Since(started)
				rejected, ok := errors.AsType[*store.ObserveError](err)
				require.True(t, ok, "%v", err)
				require.ErrorIs(t, rejected.Rejected[n/2], store.ErrLocked)
				require.Less(t, len(rejected.Rejected), 10)
				var stored int
				require.NoError(t, db.QueryRow("SELECT count(*) FROM attackers").Scan(&stored))
				require.Equal(t, 3000+n-len(rejected.Rejected), stored)
				require.Less(t, took, 20*time.Second) // two on a machine of our own
				doc, err := s.Position(t.Context(), "log")
				require.NoError(t, err)
				require.Nil(t, doc, "some of what was read is not stored")

				require.NoError(t, tx.Rollback())
				require.NoError(t, s.ObserveAt(t.Context(), "log", []byte("read"), attackers...))
				doc, err = s.Position(t.Context(), "log")
				require.NoError(t, err)
				require.Equal(t, "read", string(doc))
			})
		}
	}
}

// TestLockedRowStopsNoRemoval by Prune, ForgetUnseen or Forget.
func TestLockedRowStopsNoRemoval(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		const n = 100
		s, db := on.openStore(t)
		updates := claimed(t, s, n)
		require.NoError(t, s.Save(t.Context(), updates...))
		var ids []uuid.UUID
		for _, u := range updates {
			ids = append(ids, u.ID)
		}
		tx, err := db.Begin()
		require.NoError(t, err)
		defer tx.Rollback()
		var uuid string
		require.NoError(t, tx.QueryRow("SELECT uuid FROM attacker_intel WHERE attacker_uuid = '"+ids[n/2].String()+"' FOR UPDATE").Scan(&uuid))

		later := time.Now().Add(time.Hour)
		first, err := s.Prune(t.Context(), later)
		require.ErrorIs(t, err, store.ErrLocked)
		require.ErrorContains(t, err, "1 rows of attacker_intel are not pruned")
		require.Equal(t, store.Pruned{Raws: 4 * (n - 1)}, first)
		forgotten, err := s.ForgetUnseen(t.Context(), later, n/2)
		if forgotten < n/2 { // the locked one is among the latest
			require.ErrorIs(t, err, store.ErrLocked)
		}
		require.InDelta(t, n/2, forgotten, 1)
		err = s.Forget(t.Context(), ids...)
		require.ErrorIs(t, err, store.ErrLocked)
		require.Len(t, contents(t, db, "attackers"), 1)

		require.NoError(t, tx.Rollback())
		rest, err := s.Prune(t.Context(), later)
		require.NoError(t, err)
		require.Equal(t, store.Pruned{Raws: 4}, rest)
		forgotten, err = s.ForgetUnseen(t.Context(), later, n)
		require.NoError(t, err)
		require.Equal(t, 1, forgotten)
		require.Empty(t, contents(t, db, "attackers"))
	})
}

// TestLockedRowStopsNoOtherForAReader: a role that may not lock attackers cannot ask
// which of them others have locked.
func TestLockedRowStopsNoOtherForAReader(t *testing.T) {
	dsn := onPostgres.create(t)
	db := onPostgres.open(t, dsn)
	updates := claimed(t, onPostgres.newStore(t, db), 40)
	role := "enrich_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	for _, text := range []string{
		"CREATE ROLE " + role + " LOGIN", "GRANT USAGE ON SCHEMA public TO " + role,
		"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO " + role, "REVOKE INSERT, UPDATE, DELETE ON attackers FROM " + role,
	} {
		_, err := db.Exec(text)
		require.NoError(t, err)
	}
	t.Cleanup(func() {
		for _, text := range []string{"DROP OWNED BY " + role, "DROP ROLE " + role} {
			_, err := db.Exec(text)
			require.NoError(t, err)
		}
	})
	s, err := sqlstore.New(onPostgres.open(t, strings.Replace(dsn, "//postgres", "//"+role, 1)), sqlstore.Options{Dialect: sqlstore.PostgreSQL})
	require.NoError(t, err)
	require.NoError(t, s.CheckPrivileges(t.Context()))
	theirs, err := db.Begin()
	require.NoError(t, err)
	defer theirs.Rollback()
	locked := updates[20].ID
	require.NoError(t, theirs.QueryRow("SELECT uuid FROM attackers WHERE uuid = '"+locked.String()+"' FOR UPDATE").Scan(new(string)))
	failed := unsaved(t, s.Save(t.Context(), updates...))
	require.Len(t, failed, 1)
	require.ErrorIs(t, failed[locked], store.ErrLocked)
}

// TestPruneGivesUpOnALockedTable rather than try each of its rows.
func TestPruneGivesUpOnALockedTable(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		s, db := on.openStore(t)
		const n = 2500
		require.NoError(t, s.Observe(t.Context(), crowd(n)...))
		_, err := db.Exec("DELETE FROM attackers")
		require.NoError(t, err)
		theirs, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer theirs.Close()
		lock, unlock := []string{"LOCK TABLES enrich_ledger READ"}, "UNLOCK TABLES"
		if on == onPostgres { // as CREATE INDEX does
			lock, unlock = []string{"BEGIN", "LOCK TABLE enrich_ledger IN SHARE MODE"}, "COMMIT"
		}
		for _, text := range lock {
			_, err = theirs.ExecContext(t.Context(), text)
			require.NoError(t, err)
		}
		pruned, err := s.Prune(t.Context(), time.Now())
		require.ErrorIs(t, err, store.ErrLocked)
		require.ErrorContains(t, err, "1000 rows of enrich_ledger, and those after them, are not pruned")
		require.Zero(t, pruned)
		_, err = theirs.ExecContext(t.Context(), unlock)
		require.NoError(t, err)
		pruned, err = s.Prune(t.Context(), time.Now())
		require.NoError(t, err)
		require.Equal(t, store.Pruned{Orphans: n}, pruned)
	})
}

// TestLockedBudgetIsNotWaitedFor longer than other rows.
func TestLockedBudgetIsNotWaitedFor(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		s, db := on.openStore(t)
		created, err := s.SwapBudget(t.Context(), "fake", 0, []byte("{}"))
		require.NoError(t, err)
		require.True(t, created)
		theirs, err := db.Begin()
		require.NoError(t, err)
		defer theirs.Rollback()
		require.NoError(t, theirs.QueryRow("SELECT provider FROM enrich_quota WHERE provider = 'fake' FOR UPDATE").Scan(new(string)))
		doc, version, err := s.Budget(t.Context(), "fake")
		require.NoError(t, err, "who reads waits for nobody")
		require.Equal(t, "{}", string(doc))
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		_, err = s.SwapBudget(ctx, "fake", version, []byte("[]"))
		require.ErrorIs(t, err, store.ErrLocked)
		require.NoError(t, theirs.Rollback())
		swapped, err := s.SwapBudget(t.Context(), "fake", version, []byte("[]"))
		require.NoError(t, err)
		require.True(t, swapped)
	})
}

// TestLockedTablesAreNotWaitedFor by methods that only read: while a table is altered,
// say, they fail soon rather than when it ends.
func TestLockedTablesAreNotWaitedFor(t *testing.T) {
	onServersAtOnce(t, func(t *testing.T, on *database) {
		dsn := on.create(t)
		db := on.open(t, dsn)
		attackers := crowd(1)
		require.NoError(t, on.newStore(t, db).Observe(t.Context(), attackers...))
		theirs, err := db.Conn(t.Context())
		require.NoError(t, err)
		defer theirs.Close()
		lock := []string{"LOCK TABLES enrich_ledger WRITE, attackers WRITE, enrich_quota WRITE, enrich_position WRITE, enrich_outbox WRITE"}
		if on == onPostgres {
			lock = []string{"BEGIN", "LOCK TABLE enrich_ledger, attackers, enrich_quota, enrich_position, enrich_outbox IN ACCESS EXCLUSIVE MODE"}
		}
		for _, text := range lock {
			_, err = theirs.ExecContext(t.Context(), text)
			require.NoError(t, err)
		}
		s, err := sqlstore.New(on.open(t, dsn), sqlstore.Options{Dialect: on.Dialect})
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		reads := map[string]func() error{
			"Get":         func() error { _, err := s.Get(ctx, attackers[0].ID); return err },
			"List":        func() error { _, err := s.List(ctx, store.ListRequest{Limit: 1}); return err },
			"Budget":      func() error { _, _, err := s.Budget(ctx, "fake"); return err },
			"Position":    func() error { _, err := s.Position(ctx, "log"); return err },
			"Unpublished": func() error { _, err := s.Unpublished(ctx, 0, 1); return err },
			"ByAddress": func() error {
				_, err := s.ByAddress(ctx, []netip.Prefix{netip.MustParsePrefix("45.0.0.0/8")})
				return err
			},
		}
		results := make(chan error, len(reads))
		for name, read := range reads {
			go func() {
				err := read()
				if !errors.Is(err, store.ErrLocked) {
					results <- fmt.Errorf("%s: %w", name, err)
					return
				}
				results <- nil
			}()
		}
		for range reads {
			require.NoError(t, <-results)
		}
	})
}
