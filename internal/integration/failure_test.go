package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// claimed registers n attackers and returns updates of all of them.
func claimed(t *testing.T, s *sqlstore.Store, n int) []store.Update {
	t.Helper()
	require.NoError(t, s.Observe(t.Context(), crowd(n)...))
	now := time.Now().UTC()
	c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Minute, Limit: n})
	require.NoError(t, err)
	require.Equal(t, n, len(c.Records))
	var updates []store.Update
	for _, r := range c.Records {
		updates = append(updates, enriched(r, now))
	}
	return updates
}

// poison makes the database refuse rows about an attacker, until the function
// it returns is called.
func (on *database) poison(t *testing.T, db *sql.DB, u store.Update) (cure func()) {
	t.Helper()
	texts := []string{`CREATE TRIGGER poison BEFORE INSERT ON attacker_intel WHEN NEW.attacker_uuid = '` + u.ID.String() + `'
		BEGIN SELECT RAISE(ABORT, 'poison'); END`}
	cured := "DROP TRIGGER poison"
	switch on {
	case onPostgres:
		texts = []string{
			"CREATE FUNCTION poison() RETURNS trigger AS $$ BEGIN RAISE EXCEPTION 'poison'; END $$ LANGUAGE plpgsql",
			"CREATE TRIGGER poison BEFORE INSERT ON attacker_intel FOR EACH ROW WHEN (NEW.attacker_uuid = '" + u.ID.String() + "') EXECUTE FUNCTION poison()",
		}
		cured += " ON attacker_intel"
	case onMySQL:
		texts = []string{`CREATE TRIGGER poison BEFORE INSERT ON attacker_intel FOR EACH ROW BEGIN
			IF NEW.attacker_uuid = '` + u.ID.String() + `' THEN SIGNAL SQLSTATE '45000' SET MESSAGE_TEXT = 'poison'; END IF; END`}
	}
	for _, text := range texts {
		_, err := db.Exec(text)
		require.NoError(t, err)
	}
	return func() {
		_, err := db.Exec(cured)
		require.NoError(t, err)
	}
}

// unsaved returns what a SaveError names; err must be one.
func unsaved(t *testing.T, err error) map[uuid.UUID]error {
	t.Helper()
	var failed *store.SaveError
	require.ErrorAs(t, err, &failed)
	return failed.Failed
}

// failsWhole fails the test unless err says that no update was stored.
func failsWhole(t *testing.T, err error) {
	t.Helper()
	require.Error(t, err)
	_, some := errors.AsType[*store.SaveError](err)
	require.False(t, some, err)
}

func TestPoisonousUpdateAloneIsNotStored(t *testing.T) {
	onEach(t, testPoisonousUpdateAloneIsNotStored)
}

func testPoisonousUpdateAloneIsNotStored(t *testing.T, on *database) {
	s, db := on.openStore(t)
	updates := claimed(t, s, 10)
	cure := on.poison(t, db, updates[4])
	failed := unsaved(t, s.Save(t.Context(), updates...))
	require.Len(t, failed, 1)
	require.Error(t, failed[updates[4].ID])
	require.NotErrorIs(t, failed[updates[4].ID], store.ErrConflict)
	require.NotContains(t, failed[updates[4].ID].Error(), updates[4].IP)
	for i, u := range updates {
		rec, err := s.Get(t.Context(), u.ID)
		require.NoError(t, err)
		if i == 4 {
			require.Zero(t, rec.Revision)
			require.Empty(t, rec.Entries)
		} else {
			require.EqualValues(t, 1, rec.Revision)
		}
	}
	require.Equal(t, []int{9}, column[int](t, db, "SELECT count(*) FROM enrich_outbox"))

	// By itself it is as poisonous, and may be stored once it is not.
	require.Len(t, unsaved(t, s.Save(t.Context(), updates[4])), 1)
	cure()
	require.NoError(t, s.Save(t.Context(), updates[4]))
}

// TestValueBeyondItsColumnIsLeftOut: whether the database refuses it, or the driver
// already does. The rest of the record is stored, and the ledger has the value.
func TestValueBeyondItsColumnIsLeftOut(t *testing.T) { onEach(t, testValueBeyondItsColumnIsLeftOut) }

func testValueBeyondItsColumnIsLeftOut(t *testing.T, on *database) {
	db := on.open(t, on.create(t))
	for _, text := range decnetSchema(on) {
		text = strings.Replace(text, "abuseipdb_score INTEGER", "abuseipdb_score SMALLINT CHECK (abuseipdb_score < 32768)", 1)
		_, err := db.Exec(strings.Replace(text, "event_count INTEGER NOT NULL, services TEXT NOT NULL,", "", 1))
		require.NoError(t, err)
	}
	s := on.newStore(t, db)
	updates := claimed(t, s, 3)
	updates[1].Entries[0].Finding.Attrs["score"] = int64(40000)
	updates[2].Entries[0].Finding.Attrs["score"] = int64(40001)
	require.NoError(t, s.Save(t.Context(), updates[:2]...)) // among others
	require.NoError(t, s.Save(t.Context(), updates[2]))     // alone
	for i, want := range []any{nil, int64(40000), int64(40001)} {
		rec, err := s.Get(t.Context(), updates[i].ID)
		require.NoError(t, err)
		row := on.plain(t, db, "attacker_intel", "attacker_uuid", updates[i].ID.String())
		require.Equal(t, rec.Decision.Verdict.String(), row["aggregate_verdict"])
		if want != nil {
			require.Equal(t, want, rec.Entries[0].Finding.Attrs["score"])
			require.Equal(t, "null", row["abuseipdb_score"])
		}
	}
}

func TestPoisonAndConflictAreBothReported(t *testing.T) {
	onEach(t, testPoisonAndConflictAreBothReported)
}

func testPoisonAndConflictAreBothReported(t *testing.T, on *database) {
	s, db := on.openStore(t)
	updates := claimed(t, s, 3)
	on.poison(t, db, updates[0])
	updates[1].Fence--
	failed := unsaved(t, s.Save(t.Context(), updates...))
	require.Len(t, failed, 2)
	require.Error(t, failed[updates[0].ID])
	require.NotErrorIs(t, failed[updates[0].ID], store.ErrConflict)
	require.ErrorIs(t, failed[updates[1].ID], store.ErrConflict)
}

func TestBrokenDatabaseFailsTheWholeSave(t *testing.T) {
	onEach(t, testBrokenDatabaseFailsTheWholeSave)
}

func testBrokenDatabaseFailsTheWholeSave(t *testing.T, on *database) {
	s, db := on.openStore(t)
	updates := claimed(t, s, 3)
	_, err := db.Exec("ALTER TABLE enrich_outbox RENAME TO away")
	require.NoError(t, err)
	for n := 1; n <= len(updates); n++ {
		failsWhole(t, s.Save(t.Context(), updates[:n]...))
	}
	_, err = db.Exec("ALTER TABLE away RENAME TO enrich_outbox")
	require.NoError(t, err)
	require.NoError(t, s.Save(t.Context(), updates...))
}

func TestClosedDatabaseFailsTheWholeSave(t *testing.T) {
	db, err := sql.Open(sqliteDriver, sqlstore.SQLiteDSN(filepath.Join(t.TempDir(), "enrich.db")))
	require.NoError(t, err)
	s := newStore(t, db)
	updates := claimed(t, s, 2)
	require.NoError(t, db.Close())
	failsWhole(t, s.Save(t.Context(), updates...))
}

func TestDamagedLedgerIsNotQuoted(t *testing.T) { onEach(t, testDamagedLedgerIsNotQuoted) }

func testDamagedLedgerIsNotQuoted(t *testing.T, on *database) {
	s, db := on.openStore(t)
	u := claimed(t, s, 1)[0]
	_, err := db.Exec("UPDATE enrich_ledger SET ledger = 'secret'")
	require.NoError(t, err)
	_, err = s.Get(t.Context(), u.ID)
	require.ErrorContains(t, err, u.ID.String())
	require.NotContains(t, err.Error(), "secret")
	require.Len(t, unsaved(t, s.Save(t.Context(), u)), 1)
}

func TestDamagedRecordsAreMended(t *testing.T) { onEach(t, testDamagedRecordsAreMended) }

func testDamagedRecordsAreMended(t *testing.T, on *database) {
	d := newDECNET(t, on)
	var log bytes.Buffer
	var err error
	d.store, err = sqlstore.New(d.db, sqlstore.Options{
		Dialect: on.Dialect, Now: func() time.Time { return d.now }, Log: slog.New(slog.NewTextHandler(&log, nil)),
	})
	require.NoError(t, err)
	for i := range 4 {
		d.profile(uuid.NewString(), fmt.Sprint("45.9.0.", i), d.now)
	}
	recs := d.claim()
	require.Len(t, recs, 4)
	for _, rec := range recs {
		u := d.answered(rec, "shodan", nil)
		other := *u.Entries[4].Finding
		other.Addr = netip.MustParseAddr("45.9.9.9") // for there to be two addresses
		u.Entries[4].Finding = &other
		require.NoError(t, d.store.Save(t.Context(), u))
	}
	entries, decision, both, sound := recs[0].ID, recs[1].ID, recs[2].ID, recs[3].ID
	d.exec("UPDATE enrich_ledger SET ledger = '{\"secret' WHERE attacker_uuid IN (?, ?)", entries.String(), both.String())
	d.exec("UPDATE enrich_ledger SET decision = 'secret' WHERE attacker_uuid IN (?, ?)", decision.String(), both.String())
	d.exec("DELETE FROM attacker_intel WHERE attacker_uuid = ?", both.String())

	_, err = d.store.Get(t.Context(), entries)
	require.ErrorContains(t, err, "damaged")
	page, err := d.store.List(t.Context(), store.ListRequest{Limit: 10})
	require.NoError(t, err)
	require.Len(t, page.Records, 4)
	answers, err := d.store.Answers(t.Context(), d.now, recs[0].Addr(), recs[3].Addr())
	require.NoError(t, err)
	require.Len(t, answers, 4, "those about the last one")
	require.Empty(t, log.String())

	d.now = d.now.Add(25 * time.Hour)
	byID := make(map[uuid.UUID]store.Record)
	for _, rec := range d.claim() {
		byID[rec.ID] = rec
		require.Equal(t, provider.Malicious, rec.Decision.Verdict)
		require.EqualValues(t, 1, rec.Revision)
	}
	require.Len(t, byID, 4)
	require.Len(t, byID[entries].Entries, 4, "adopted from attacker_intel")
	require.Len(t, byID[decision].Entries, 5)
	require.Empty(t, byID[both].Entries)
	require.Len(t, byID[sound].Entries, 5)
	require.Equal(t, 3, strings.Count(log.String(), "level=ERROR"), log.String())
	for _, id := range []uuid.UUID{entries, decision, both} {
		require.Contains(t, log.String(), id.String())
	}
	require.NotContains(t, log.String(), "secret")

	for _, rec := range byID {
		require.NoError(t, d.store.Save(t.Context(), d.answered(rec, "shodan", nil)))
	}
	for _, rec := range recs {
		got, err := d.store.Get(t.Context(), rec.ID)
		require.NoError(t, err)
		require.Len(t, got.Entries, 5)
		for _, e := range got.Entries {
			require.NotEmpty(t, e.Finding.Raw, e.Provider)
		}
	}
	d.now = d.now.Add(25 * time.Hour)
	require.Len(t, d.claim(), 4)
	require.Equal(t, 3, strings.Count(log.String(), "level=ERROR"), log.String())
}

func TestInvalidUpdatesAreRefusedOneByOne(t *testing.T) {
	onEach(t, testInvalidUpdatesAreRefusedOneByOne)
}

func testInvalidUpdatesAreRefusedOneByOne(t *testing.T, on *database) {
	s, _ := on.openStore(t)
	updates := claimed(t, s, 4)
	updates[0].Entries = append(updates[0].Entries, updates[0].Entries[0])
	updates[1].Entries[0].Provider = "No Name"
	f := *updates[2].Entries[0].Finding
	f.Attrs = map[string]any{"x": 1}
	updates[2].Entries[0].Finding = &f
	failed := unsaved(t, s.Save(t.Context(), updates...))
	require.Len(t, failed, 3)
	for i := range 3 {
		require.ErrorIs(t, failed[updates[i].ID], store.ErrInvalid)
	}
	rec, err := s.Get(t.Context(), updates[3].ID)
	require.NoError(t, err)
	require.EqualValues(t, 1, rec.Revision)
}

// lock holds the write lock of a database file until the function it returns
// is called.
func lock(t *testing.T, path string) (unlock func()) {
	t.Helper()
	conn, err := open(t, path).Conn(t.Context())
	require.NoError(t, err)
	_, err = conn.ExecContext(t.Context(), "BEGIN IMMEDIATE")
	require.NoError(t, err)
	return sync.OnceFunc(func() {
		_, err := conn.ExecContext(context.Background(), "ROLLBACK")
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	})
}

func TestBusyDatabaseIsTriedUntilTheContextEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enrich.db")
	newStore(t, open(t, path))
	impatient, err := sql.Open(sqliteDriver, "file:"+path) // whose connections do not wait for locks
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, impatient.Close()) })
	s, err := sqlstore.New(impatient, sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	unlock := lock(t, path)
	defer unlock()

	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err = s.Observe(ctx, crowd(1)...)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = s.SwapBudget(ctx, "a", 0, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)

	tried := make(chan error, 2)
	go func() { tried <- s.Observe(t.Context(), crowd(1)...) }()
	go func() {
		_, err := s.SwapBudget(t.Context(), "a", 0, nil)
		tried <- err
	}()
	time.AfterFunc(20*time.Millisecond, unlock)
	require.NoError(t, <-tried)
	require.NoError(t, <-tried)
}

// A data source name may leave it to the statements when a transaction takes the
// write lock. The store's wait for it all the same, rather than to find that what
// they have read is out of date.
func TestWritersWaitWhateverTheDataSourceNameSays(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enrich.db")
	dsn := "file:" + path + "?_pragma=busy_timeout(10000)&_pragma=journal_mode(WAL)"
	var stores []*sqlstore.Store
	refused := 0 // with a code, so that the transaction is tried again
	for range 2 {
		db, err := sql.Open(sqliteDriver, dsn)
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, db.Close()) })
		s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite, Code: func(error) (string, bool) {
			refused++
			return "", false
		}})
		require.NoError(t, err)
		require.NoError(t, s.Migrate(t.Context()))
		stores = append(stores, s)
	}
	unlock := lock(t, path)
	time.AfterFunc(20*time.Millisecond, unlock)
	require.NoError(t, stores[0].Observe(t.Context(), crowd(1)...))
	var writing errgroup.Group
	for _, s := range stores {
		writing.Go(func() error {
			for range 50 {
				if err := s.Observe(t.Context(), crowd(1)...); err != nil {
					return err
				}
			}
			return nil
		})
	}
	require.NoError(t, writing.Wait())
	require.Zero(t, refused)
}

func TestCallerTellsTheCodesOfAnotherDriver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "enrich.db")
	newStore(t, open(t, path))
	impatient, err := sql.Open(sqliteDriver, "file:"+path)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, impatient.Close()) })
	asked := 0
	s, err := sqlstore.New(impatient, sqlstore.Options{Dialect: sqlstore.SQLite, Code: func(error) (string, bool) {
		asked++
		return "", false
	}})
	require.NoError(t, err)
	defer lock(t, path)()
	require.ErrorContains(t, s.Observe(t.Context(), crowd(1)...), "begin a transaction")
	require.GreaterOrEqual(t, asked, 2, "times for a code: to decide on another try, and on the text")
}

func TestOneConnectionIsEnough(t *testing.T) { onEach(t, testOneConnectionIsEnough) }

func testOneConnectionIsEnough(t *testing.T, on *database) {
	s, db := on.openStore(t)
	db.SetMaxOpenConns(1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	updates := claimed(t, s, 5)
	require.NoError(t, s.Save(ctx, updates...))
	_, err := s.List(ctx, store.ListRequest{Limit: 2})
	require.NoError(t, err)
	_, err = s.Answers(ctx, time.Now(), updates[0].Entries[0].Finding.Addr)
	require.NoError(t, err)
	_, err = s.Stats(ctx, time.Now())
	require.NoError(t, err)
	_, err = s.SwapBudget(ctx, "a", 0, []byte("doc"))
	require.NoError(t, err)
	_, version, err := s.Budget(ctx, "a")
	require.NoError(t, err)
	require.EqualValues(t, 1, version)
}

func TestRawOfOtherProvidersIsKept(t *testing.T) { onEach(t, testRawOfOtherProvidersIsKept) }

func testRawOfOtherProvidersIsKept(t *testing.T, on *database) {
	s, db := on.openStore(t)
	u := claimed(t, s, 1)[0]
	f := *u.Entries[0].Finding
	f.Provider, f.Raw = "shodan", json.RawMessage(`{"ports":[22]}`)
	u.Entries = append(u.Entries, store.Entry{Provider: "shodan", State: store.Fresh, Finding: &f, Expires: u.Entries[0].Expires})
	u.Changed = append(u.Changed, "shodan")
	u.Hold = true
	require.NoError(t, s.Save(t.Context(), u))
	answers, err := s.Answers(t.Context(), time.Now(), f.Addr)
	require.NoError(t, err)
	require.Len(t, answers, 5)
	for _, a := range answers {
		require.NotEmpty(t, a.Finding.Raw, a.Finding.Provider)
	}
	u.Entries = u.Entries[:4] // the provider is no longer there
	u.Changed, u.Hold, u.Event = nil, false, nil
	require.NoError(t, s.Save(t.Context(), u))
	require.Empty(t, contents(t, db, "enrich_raw"))
}
