package integration

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
	"github.com/decnet/enrich/store/sqlstore"
)

// decnetSchema returns the statements by which DECNET creates the tables, with
// some of the columns that are not our business and one that we do not know.
func decnetSchema(on *database) []string {
	text := decnetTables
	switch on {
	case onPostgres:
		text = strings.ReplaceAll(text, "DATETIME", "TIMESTAMP WITHOUT TIME ZONE")
	case onMySQL: // SQLModel gives texts without a length 255 characters
		text = strings.ReplaceAll(strings.ReplaceAll(text, "VARCHAR ", "VARCHAR(255) "), "BOOLEAN", "BOOL")
	}
	return strings.Split(strings.TrimSuffix(strings.TrimSpace(text), ";"), ";\n")
}

const decnetTables = `
CREATE TABLE attackers (
	uuid VARCHAR NOT NULL, ip VARCHAR NOT NULL, first_seen DATETIME NOT NULL, last_seen DATETIME NOT NULL,
	event_count INTEGER NOT NULL, services TEXT NOT NULL, country_code VARCHAR(2), updated_at DATETIME NOT NULL,
	PRIMARY KEY (uuid)
);
CREATE INDEX ix_attackers_updated_at ON attackers (updated_at);
CREATE TABLE attacker_intel (
	uuid VARCHAR NOT NULL, attacker_uuid VARCHAR NOT NULL, attacker_ip VARCHAR NOT NULL, schema_version INTEGER NOT NULL,
	greynoise_classification VARCHAR(32), greynoise_name VARCHAR(128), greynoise_tags JSON NOT NULL,
	greynoise_raw JSON NOT NULL, greynoise_queried_at DATETIME,
	abuseipdb_score INTEGER, abuseipdb_categories JSON NOT NULL, abuseipdb_raw JSON NOT NULL, abuseipdb_queried_at DATETIME,
	feodo_listed BOOLEAN, feodo_malware_family VARCHAR(64), feodo_raw JSON NOT NULL, feodo_queried_at DATETIME,
	threatfox_listed BOOLEAN, threatfox_threat_types JSON NOT NULL, threatfox_ioc_types JSON NOT NULL,
	threatfox_malware_families JSON NOT NULL, threatfox_raw JSON NOT NULL, threatfox_queried_at DATETIME,
	aggregate_verdict VARCHAR(32), cached_at DATETIME NOT NULL, expires_at DATETIME NOT NULL,
	of_tomorrow VARCHAR NULL,
	PRIMARY KEY (uuid), FOREIGN KEY(attacker_uuid) REFERENCES attackers (uuid)
);
CREATE UNIQUE INDEX ix_attacker_intel_attacker_uuid ON attacker_intel (attacker_uuid);
CREATE INDEX ix_attacker_intel_attacker_ip ON attacker_intel (attacker_ip);
CREATE INDEX ix_attacker_intel_expires_at ON attacker_intel (expires_at);
`

// decnetDB is a database that DECNET made, and a store in it with a clock that
// can be moved.
type decnetDB struct {
	*testing.T
	on    *database
	db    *sql.DB
	tx    *sql.Tx // for exec, while there is one
	store *sqlstore.Store
	now   time.Time
}

func newDECNET(t *testing.T, on *database) *decnetDB {
	d := newDECNETWith(t, on, "")
	require.NoError(t, d.store.Migrate(t.Context()))
	return d
}

// newDECNETWith is newDECNET where attacker_intel has further columns, before
// the store has migrated.
func newDECNETWith(t *testing.T, on *database, columns string) *decnetDB {
	d := &decnetDB{T: t, on: on, db: on.open(t, on.create(t)), now: time.Now().UTC().Truncate(time.Second)}
	for _, text := range decnetSchema(on) {
		d.exec(strings.Replace(text, "of_tomorrow VARCHAR", columns+" of_tomorrow VARCHAR", 1))
	}
	var err error
	d.store, err = sqlstore.New(d.db, sqlstore.Options{Dialect: on.Dialect, Now: func() time.Time { return d.now }})
	require.NoError(t, err)
	return d
}

func (d *decnetDB) exec(text string, args ...any) {
	d.Helper()
	exec := d.db.Exec
	if d.tx != nil {
		exec = d.tx.Exec
	}
	_, err := exec(d.on.placed(text), args...)
	require.NoError(d, err)
}

// atOnce runs f with one transaction for all it writes.
func (d *decnetDB) atOnce(f func()) {
	d.Helper()
	var err error
	d.tx, err = d.db.Begin()
	require.NoError(d, err)
	f()
	require.NoError(d, d.tx.Commit())
	d.tx = nil
}

func sqlalchemy(t time.Time) string { return t.UTC().Format("2006-01-02 15:04:05.000000") }

// stored returns a time of DECNET's tables as it is read back.
func (on *database) stored(t time.Time) string {
	if on == onMySQL { // whose DATETIME holds seconds
		t = t.Truncate(time.Second)
	}
	return sqlalchemy(t)
}

// profile writes an attacker as DECNET's profiler does, at the given time.
func (d *decnetDB) profile(uuid, ip string, at time.Time) {
	d.Helper()
	d.exec("UPDATE attackers SET ip = ?, last_seen = ?, updated_at = ? WHERE uuid = ?", ip, sqlalchemy(at), sqlalchemy(at), uuid)
	if len(column[string](d, d.db, d.on.placed("SELECT uuid FROM attackers WHERE uuid = ?"), uuid)) == 0 {
		d.exec(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at)
			VALUES (?, ?, ?, ?, 7, '["ssh"]', ?)`, uuid, ip, sqlalchemy(at), sqlalchemy(at), sqlalchemy(at))
	}
}

// enrich writes a row as DECNET's own worker does.
func (d *decnetDB) enrich(attacker, ip string, at, expires time.Time) {
	d.Helper()
	d.exec(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version,
		greynoise_classification, greynoise_tags, greynoise_raw, greynoise_queried_at,
		abuseipdb_score, abuseipdb_categories, abuseipdb_raw, abuseipdb_queried_at, feodo_raw,
		threatfox_threat_types, threatfox_ioc_types, threatfox_malware_families, threatfox_raw,
		aggregate_verdict, cached_at, expires_at, of_tomorrow)
		VALUES (?, ?, ?, 1, 'malicious', '["Mirai"]', '{"noise": true}', ?, 80, '[18, 22]', '{"totalReports": 5}', ?, '{}',
		'[]', '[]', '[]', '{}', 'malicious', ?, ?, 'theirs')`,
		strings.ReplaceAll(uuid.NewString(), "-", ""), attacker, ip, sqlalchemy(at), sqlalchemy(at), sqlalchemy(at), sqlalchemy(expires))
}

// claim claims what is due at d.now.
func (d *decnetDB) claim() []store.Record {
	d.Helper()
	c, err := d.store.Claim(d.Context(), store.ClaimRequest{Now: d.now, Owner: "test", Lease: time.Minute, Limit: 2000})
	require.NoError(d, err)
	return c.Records
}

// plain returns the row of a table that has a value in a column, as text.
func (on *database) plain(tb testing.TB, db *sql.DB, table, key, value string) map[string]string {
	tb.Helper()
	rows := texts(tb, db, on.placed("SELECT * FROM "+table+" WHERE "+key+" = ?"), value)
	require.Len(tb, rows, 1)
	if on == onMySQL { // whose JSON comes back with spaces in it; MariaDB's does as it was written
		for name, value := range rows[0] {
			var b bytes.Buffer
			if json.Compact(&b, []byte(value)) == nil {
				rows[0][name] = b.String()
			}
		}
	}
	return rows[0]
}

// contents returns every row of a table, as text.
func contents(tb testing.TB, db *sql.DB, table string) []map[string]string {
	tb.Helper()
	return texts(tb, db, "SELECT * FROM "+table+" ORDER BY 1")
}

// texts returns the rows of a query, by column.
func texts(tb testing.TB, db *sql.DB, query string, args ...any) (all []map[string]string) {
	tb.Helper()
	rows, err := db.Query(query, args...)
	require.NoError(tb, err)
	defer rows.Close()
	names, err := rows.Columns()
	require.NoError(tb, err)
	for rows.Next() {
		values, dest := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			dest[i] = &values[i]
		}
		require.NoError(tb, rows.Scan(dest...))
		row := make(map[string]string, len(names))
		for i, v := range values {
			row[names[i]] = text(v)
		}
		all = append(all, row)
	}
	require.NoError(tb, rows.Err())
	return all
}

// text returns a value that a driver returned as the same text for all of them.
func text(v any) string {
	switch v := v.(type) {
	case nil:
		return "null"
	case []byte:
		return text(string(v))
	case string:
		if at, err := time.Parse("2006-01-02 15:04:05", v); err == nil {
			return sqlalchemy(at)
		}
		return v
	case time.Time:
		return sqlalchemy(v)
	case bool:
		if v {
			return "1"
		}
		return "0"
	}
	return fmt.Sprint(v)
}

func TestRowsOfDECNETAreAdopted(t *testing.T) { onEach(t, testRowsOfDECNETAreAdopted) }

func testRowsOfDECNETAreAdopted(t *testing.T, on *database) {
	d := newDECNET(t, on)
	d.atOnce(func() {
		for i := range 1000 {
			id, ip := uuid.NewString(), fmt.Sprintf("45.9.%d.%d", i/250, i%250)
			d.profile(id, ip, d.now.Add(-time.Hour))
			d.enrich(id, ip, d.now.Add(-time.Hour), d.now.Add(time.Hour))
		}
	})
	attackers, intel := contents(t, d.db, "attackers"), contents(t, d.db, "attacker_intel")
	require.Equal(t, 0, len(d.claim()), "of fresh rows are due")
	require.Equal(t, attackers, contents(t, d.db, "attackers"))
	require.Equal(t, intel, contents(t, d.db, "attacker_intel"))
	stats, err := d.store.Stats(t.Context(), d.now)
	require.NoError(t, err)
	require.Equal(t, store.Stats{Attackers: 1000, Enriched: 1000, Waiting: map[string]int{}}, stats)

	d.now = d.now.Add(time.Hour)
	recs := d.claim()
	require.Equal(t, 1000, len(recs), "of 1000 rows that have expired are due")
	rec := recs[0]
	require.Equal(t, provider.Malicious, rec.Decision.Verdict)
	require.Equal(t, []string{"abuseipdb", "greynoise"}, []string{rec.Entries[0].Provider, rec.Entries[1].Provider})
	require.Equal(t, []int64{18, 22}, rec.Entries[0].Finding.Attrs["categories"])
	require.Equal(t, d.now, rec.Entries[0].Expires)
	require.Equal(t, intel, contents(t, d.db, "attacker_intel"))
}

func TestRowOfDECNETIsReadBeforeAnyClaim(t *testing.T) {
	onEach(t, testRowOfDECNETIsReadBeforeAnyClaim)
}

func testRowOfDECNETIsReadBeforeAnyClaim(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id := uuid.New()
	d.profile(id.String(), "45.9.0.1", d.now)
	rec, err := d.store.Get(t.Context(), id)
	require.NoError(t, err)
	require.Zero(t, rec.Revision)
	d.enrich(id.String(), "45.9.0.1", d.now, d.now.Add(time.Hour))
	rec, err = d.store.Get(t.Context(), id)
	require.NoError(t, err)
	require.EqualValues(t, 1, rec.Revision)
	require.JSONEq(t, `{"noise": true}`, string(rec.Entry("greynoise").Finding.Raw))
	stats, err := d.store.Stats(t.Context(), d.now)
	require.NoError(t, err)
	require.Equal(t, store.Stats{Attackers: 1, Enriched: 1, Waiting: map[string]int{}}, stats)
}

func TestSaveWritesOnlyWhatChanged(t *testing.T) { onEach(t, testSaveWritesOnlyWhatChanged) }

func testSaveWritesOnlyWhatChanged(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id, other := uuid.NewString(), uuid.NewString()
	for _, a := range []string{id, other} {
		d.profile(a, "45.9.0.1", d.now.Add(-time.Hour))
		d.enrich(a, "45.9.0.1", d.now.Add(-2*time.Hour), d.now.Add(-time.Hour))
	}
	before, others, attackers := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id),
		on.plain(t, d.db, "attacker_intel", "attacker_uuid", other), contents(t, d.db, "attackers")
	i := slices.IndexFunc(d.claim(), func(r store.Record) bool { return r.ID.String() == id })
	require.GreaterOrEqual(t, i, 0)
	c, err := d.store.Get(t.Context(), uuid.MustParse(id))
	require.NoError(t, err)
	fence := column[uint64](t, d.db, on.placed("SELECT fence FROM enrich_ledger WHERE attacker_uuid = ?"), id)[0]
	u := store.Update{
		Lease: store.Lease{ID: c.ID, Fence: fence}, Due: d.now.Add(time.Hour), IP: c.IP, Entries: c.Entries,
		Changed: []string{"feodo"}, Revision: 2, SavedAt: d.now,
	}
	u.Entries = append(u.Entries, store.Entry{Provider: "feodo", State: store.Fresh, Expires: d.now.Add(time.Hour), Finding: &provider.Finding{
		Provider: "feodo", Addr: c.Addr(), Known: true, Verdict: provider.Malicious, ObservedAt: d.now,
		Attrs: map[string]any{"listed": true, "malware_family": "Emotet"}, Raw: json.RawMessage(`{"malware":"Emotet"}`),
	}})
	require.NoError(t, d.store.Save(t.Context(), u))

	want := maps.Clone(before)
	want["feodo_listed"], want["feodo_malware_family"] = "1", "Emotet"
	want["feodo_raw"], want["feodo_queried_at"] = `{"malware":"Emotet"}`, on.stored(d.now)
	want["cached_at"] = on.stored(d.now)
	require.Equal(t, want, on.plain(t, d.db, "attacker_intel", "attacker_uuid", id))
	require.Equal(t, others, on.plain(t, d.db, "attacker_intel", "attacker_uuid", other))
	require.Equal(t, attackers, contents(t, d.db, "attackers"))
}

func TestForeignFindingIsImportedNotOverwritten(t *testing.T) {
	onEach(t, testForeignFindingIsImportedNotOverwritten)
}

func testForeignFindingIsImportedNotOverwritten(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id := uuid.NewString()
	d.profile(id, "45.9.0.1", d.now.Add(-time.Hour))
	recs := d.claim()
	require.Len(t, recs, 1)
	u := enriched(recs[0], d.now)
	u.Due = d.now.Add(time.Hour)
	require.NoError(t, d.store.Save(t.Context(), u))

	d.now = d.now.Add(time.Hour)
	theirs := sqlalchemy(d.now.Add(-time.Minute))
	d.exec(`UPDATE attacker_intel SET greynoise_classification = 'benign', greynoise_raw = '{"theirs": 1}',
		greynoise_queried_at = ?, expires_at = ? WHERE attacker_uuid = ?`, theirs, sqlalchemy(d.now.Add(time.Hour)), id)
	recs = d.claim()
	require.Len(t, recs, 1)
	e := recs[0].Entry("greynoise")
	require.Equal(t, provider.Benign, e.Finding.Verdict)
	require.Equal(t, d.now.Add(time.Hour), e.Expires)
	require.Equal(t, provider.Malicious, recs[0].Entry("feodo").Finding.Verdict)
	require.EqualValues(t, 1, recs[0].Revision)
	rec, err := d.store.Get(t.Context(), recs[0].ID)
	require.NoError(t, err)
	require.JSONEq(t, `{"theirs": 1}`, string(rec.Entry("greynoise").Finding.Raw))

	u = store.Update{
		Lease: store.Lease{ID: rec.ID, Fence: recs[0].Fence}, Due: d.now.Add(time.Hour), IP: rec.IP,
		Entries: recs[0].Entries, Revision: 1,
	}
	require.NoError(t, d.store.Save(t.Context(), u))
	row := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id)
	require.Equal(t, "benign", row["greynoise_classification"])
	require.Equal(t, on.stored(d.now.Add(-time.Minute)), row["greynoise_queried_at"])
}

func TestForeignFindingWrittenMeanwhileIsKept(t *testing.T) {
	onEach(t, testForeignFindingWrittenMeanwhileIsKept)
}

func testForeignFindingWrittenMeanwhileIsKept(t *testing.T, on *database) {
	d := newDECNET(t, on)
	first, later := uuid.NewString(), uuid.NewString()
	d.profile(first, "45.9.0.1", d.now.Add(-time.Hour))
	d.profile(later, "45.9.0.2", d.now.Add(-2*time.Hour))
	recs := d.claim()
	require.Equal(t, []string{first, later}, idsOf(recs))
	for _, id := range []string{first, later} { // DECNET's worker is at it too
		d.enrich(id, "45.9.0.1", d.now.Add(time.Minute), d.now.Add(time.Hour))
	}
	theirs := on.plain(t, d.db, "attacker_intel", "attacker_uuid", first)
	require.NoError(t, d.store.Save(t.Context(), enriched(recs[0], d.now), enriched(recs[1], d.now.Add(2*time.Minute))))

	row := on.plain(t, d.db, "attacker_intel", "attacker_uuid", first)
	for _, c := range decnet.Columns {
		if c.Provider == "greynoise" || c.Provider == "abuseipdb" {
			require.Equal(t, theirs[c.Name], row[c.Name], c.Name)
		}
	}
	require.Equal(t, "Emotet", row["feodo_malware_family"])
	rec, err := d.store.Get(t.Context(), recs[0].ID)
	require.NoError(t, err)
	require.Equal(t, int64(80), rec.Entry("abuseipdb").Finding.Attrs["score"])
	require.JSONEq(t, `{"noise": true}`, string(rec.Entry("greynoise").Finding.Raw))
	require.Equal(t, d.now.Add(time.Hour), rec.Entry("greynoise").Expires)

	row = on.plain(t, d.db, "attacker_intel", "attacker_uuid", later)
	require.Equal(t, "87", row["abuseipdb_score"], "what we learnt later replaces it")
}

func TestAddressChangeClearsColumns(t *testing.T) { onEach(t, testAddressChangeClearsColumns) }

func testAddressChangeClearsColumns(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id := uuid.NewString()
	d.profile(id, "45.9.0.1", d.now.Add(-time.Hour))
	require.NoError(t, d.store.Save(t.Context(), enriched(d.claim()[0], d.now)))
	d.profile(id, "45.9.0.2", d.now)
	recs := d.claim()
	require.Len(t, recs, 1, "an attacker whose address changed is not due")
	require.Equal(t, "45.9.0.2", recs[0].IP)
	u := enriched(recs[0], d.now)
	u.Entries = nil
	u.Decision.Verdict, u.Decision.Reasons = provider.None, nil
	before := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id)
	require.NoError(t, d.store.Save(t.Context(), u))
	row := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id)
	for _, c := range decnet.Columns {
		want, ok := map[decnet.Kind]string{decnet.List: "[]", decnet.Raw: "{}"}[c.Kind]
		if !ok {
			want = "null"
		}
		require.Equal(t, want, row[c.Name], c.Name)
	}
	require.Equal(t, "45.9.0.2", row["attacker_ip"])
	require.Equal(t, "null", row["aggregate_verdict"])
	require.Equal(t, before["expires_at"], row["expires_at"])
}

func TestWhatDECNETWritesIsNoticed(t *testing.T) { onEach(t, testWhatDECNETWritesIsNoticed) }

func testWhatDECNETWritesIsNoticed(t *testing.T, on *database) {
	d := newDECNET(t, on)
	first, second := uuid.NewString(), uuid.NewString()
	hex := strings.ReplaceAll(uuid.NewString(), "-", "")
	d.profile("no uuid", "45.9.0.9", d.now)
	d.profile(first, "45.9.0.1", d.now)
	require.Equal(t, []string{first}, idsOf(d.claim()))

	d.now = d.now.Add(time.Second)
	d.profile(second, "45.9.0.2", d.now)
	d.profile(hex, "45.9.0.3", d.now.Add(-time.Second))
	recs := d.claim()
	require.Equal(t, []string{second, uuid.MustParse(hex).String()}, idsOf(recs))
	require.NoError(t, d.store.Save(t.Context(), enriched(recs[1], d.now)))
	require.Equal(t, hex, on.plain(t, d.db, "attacker_intel", "attacker_ip", "45.9.0.3")["attacker_uuid"])
}

func TestWhatIsCommittedLateIsNoticed(t *testing.T) { onEach(t, testWhatIsCommittedLateIsNoticed) }

func testWhatIsCommittedLateIsNoticed(t *testing.T, on *database) {
	d := newDECNET(t, on)
	for range 600 { // so many that the sweep takes three steps
		d.profile(uuid.NewString(), "45.9.0.1", d.now)
	}
	require.Equal(t, 600, len(d.claim()))
	// Behind the cursor that leads, and before the one that sweeps, which has
	// begun at the other end.
	d.now = d.now.Add(time.Second / 4)
	const late = "ffffffff-ffff-4fff-bfff-ffffffffffff"
	d.profile(late, "45.9.0.4", d.now.Add(-10*time.Second))
	require.Empty(t, idsOf(d.claim()))
	d.exec("UPDATE enrich_cursor SET moved_at = ? WHERE name = 'sweep'", d.now.Add(time.Hour).UnixMicro()) // it has been there
	d.now = d.now.Add(51 * time.Second)
	require.Contains(t, idsOf(d.claim()), late)

	// What is a little late is found at once.
	d.profile(uuid.NewString(), "45.9.0.5", d.now)
	require.Len(t, d.claim(), 1)
	d.now = d.now.Add(time.Second)
	const little = "eeeeeeee-ffff-4fff-bfff-ffffffffffff"
	d.profile(little, "45.9.0.6", d.now.Add(-1500*time.Millisecond))
	require.Equal(t, []string{little}, idsOf(d.claim()))
}

// TestCursorsInTheFuture: a database whose clock was years ahead has left its cursors
// there. What comes after the correction is found at once.
func TestCursorsInTheFuture(t *testing.T) { onEach(t, testCursorsInTheFuture) }

func testCursorsInTheFuture(t *testing.T, on *database) {
	d := newDECNET(t, on)
	d.profile(uuid.NewString(), "45.9.0.1", d.now)
	require.Len(t, d.claim(), 1)
	d.exec("UPDATE enrich_cursor SET at = ? WHERE name IN ('lead', 'trail')", sqlalchemy(d.now.AddDate(9, 0, 0)))
	d.now = d.now.Add(time.Second)
	d.exec("UPDATE enrich_cursor SET moved_at = ? WHERE name = 'sweep'", d.now.UnixMicro()) // which would find it later
	late := uuid.NewString()
	d.profile(late, "45.9.0.2", d.now)
	require.Equal(t, []string{late}, idsOf(d.claim()))
}

func idsOf(recs []store.Record) []string {
	ids := []string{}
	for _, r := range recs {
		ids = append(ids, r.ID.String())
	}
	return ids
}

// TestManyOfOneTimeAreAllFound has more attackers share a time than are read at
// once, among them the very one at which the reading has arrived, who goes away.
func TestManyOfOneTimeAreAllFound(t *testing.T) { onEach(t, testManyOfOneTimeAreAllFound) }

func testManyOfOneTimeAreAllFound(t *testing.T, on *database) {
	d := newDECNET(t, on)
	const each = 700
	d.atOnce(func() {
		for i := range 2 * each { // of which one half comes after the start, the other before
			d.profile(uuid.NewString(), "45.9.0.1", d.now.Add(-time.Duration(1+i%2)*time.Hour))
		}
	})
	d.exec("UPDATE enrich_cursor SET moved_at = ? WHERE name = 'sweep'", d.now.Add(time.Hour).UnixMicro()) // it has been there
	claim := func() store.Claimed {
		c, err := d.store.Claim(t.Context(), store.ClaimRequest{Now: d.now, Owner: "test", Lease: time.Minute, Limit: 50})
		require.NoError(t, err)
		return c
	}
	claim()
	for _, name := range []string{"lead", "past"} {
		id := column[string](t, d.db, on.placed("SELECT uuid FROM enrich_cursor WHERE name = ?"), name)
		require.NotEqual(t, []string{""}, id, "the reading is in the middle of a time")
		d.exec("DELETE FROM attackers WHERE uuid = ?", id[0])
	}
	c := claim()
	for len(c.Records) > 0 {
		c = claim()
	}
	require.True(t, c.NextDue.After(d.now), "there is nothing more to read")
	require.Zero(t, column[int](t, d.db, "SELECT count(*) FROM attackers WHERE uuid NOT IN (SELECT attacker_uuid FROM enrich_ledger)")[0])
}

func TestSweepFindsWhatHasNoTime(t *testing.T) { onEach(t, testSweepFindsWhatHasNoTime) }

func testSweepFindsWhatHasNoTime(t *testing.T, on *database) {
	d := newDECNET(t, on)
	require.Empty(t, idsOf(d.claim()))
	id := uuid.NewString()
	d.profile(id, "45.9.0.1", d.now)
	at := sqlalchemy(d.now.AddDate(0, 0, -10))
	if on == onSQLite {
		at = "never"
	}
	d.exec("UPDATE attackers SET updated_at = ? WHERE uuid = ?", at, id)
	require.Empty(t, d.claim(), "what the sweep is for is found without it")
	d.now = d.now.Add(10 * time.Second)
	require.Equal(t, []string{id}, idsOf(d.claim()))
}

func TestSeenAgainComesFirst(t *testing.T) { onEach(t, testSeenAgainComesFirst) }

func testSeenAgainComesFirst(t *testing.T, on *database) {
	d := newDECNET(t, on)
	a, b := uuid.NewString(), uuid.NewString()
	d.profile(a, "45.9.0.1", d.now.Add(-2*time.Hour))
	d.profile(b, "45.9.0.2", d.now.Add(-time.Hour))
	for _, r := range d.claim() {
		require.NoError(t, d.store.Release(t.Context(), d.now, store.Lease{ID: r.ID, Fence: r.Fence}))
	}
	d.profile(a, "45.9.0.1", d.now)
	recs := d.claim()
	require.Equal(t, []string{a, b}, idsOf(recs))
	require.Equal(t, d.now, recs[0].LastSeen)
}

// TestTextsThatAreNoAddress: DECNET writes whatever it has been told. Such a text
// stays as it is, and what was learnt is stored all the same.
func TestTextsThatAreNoAddress(t *testing.T) { onEach(t, testTextsThatAreNoAddress) }

func testTextsThatAreNoAddress(t *testing.T, on *database) {
	d := newDECNET(t, on)
	texts := []string{"not an address", "45.9.148.300", "", "45.9.148.3:22", " 45.9.148.3", "no address, 100%"}
	var ids []string
	for i, text := range texts {
		ids = append(ids, uuid.NewString())
		d.profile(ids[i], text, d.now.Add(-time.Duration(i)*time.Minute))
	}
	recs := d.claim()
	require.Equal(t, ids, idsOf(recs))
	for i, rec := range recs {
		require.Equal(t, texts[i], rec.IP)
		require.False(t, rec.Addr().IsValid())
		require.NoError(t, d.store.Save(t.Context(), store.Update{
			Lease: store.Lease{ID: rec.ID, Fence: rec.Fence}, IP: rec.IP, Entries: []store.Entry{{Provider: "feodo", State: store.NotApplicable}},
		}))
		got, err := d.store.Get(t.Context(), rec.ID)
		require.NoError(t, err)
		require.Equal(t, texts[i], got.IP)
		require.NotNil(t, got.Entry("feodo"))
	}
	err := d.store.Observe(t.Context(), store.Attacker{ID: recs[0].ID, IP: texts[0], LastSeen: d.now.Add(time.Minute)})
	require.ErrorIs(t, err, store.ErrInvalid)
	require.Empty(t, d.claim())
	page, err := d.store.List(t.Context(), store.ListRequest{Limit: 9, Text: "00%"})
	require.NoError(t, err)
	require.Equal(t, ids[5:], idsOf(page.Records))
	page, err = d.store.List(t.Context(), store.ListRequest{Limit: 9, Text: "ADDRESS"})
	require.NoError(t, err)
	require.Equal(t, []string{ids[0], ids[5]}, idsOf(page.Records))
}

// TestBeingSeenMakesDueEarly is about sightings that only DECNET writes down.
func TestBeingSeenMakesDueEarly(t *testing.T) { onEach(t, testBeingSeenMakesDueEarly) }

func testBeingSeenMakesDueEarly(t *testing.T, on *database) {
	d := newDECNET(t, on)
	start := d.now
	ids := make([]string, 5)
	for i := range ids {
		ids[i] = uuid.NewString()
		d.profile(ids[i], fmt.Sprintf("45.9.0.%d", i), start.Add(-time.Duration(i)*time.Minute))
	}
	for i, rec := range d.claim() {
		u := enriched(rec, start)
		if i != 3 {
			u.Ahead = start.Add(time.Hour)
		}
		u.Hold = i == 4 // and is seen under the lease
		require.NoError(t, d.store.Save(t.Context(), u))
	}
	seen := func(i int, at time.Time) {
		t.Helper()
		d.exec("UPDATE attackers SET last_seen = ?, updated_at = ? WHERE uuid = ?", sqlalchemy(at), sqlalchemy(d.now), ids[i])
	}
	d.now = start.Add(30 * time.Second)
	seen(0, d.now)
	seen(2, start.Add(-time.Hour))
	seen(4, d.now.Add(-time.Second))
	require.Empty(t, idsOf(d.claim()), "it may be due early, but not yet")

	d.now = start.Add(time.Hour)
	require.Equal(t, []string{ids[0], ids[4]}, idsOf(d.claim()), "seen before, one of them under a lease that has ended")

	d.now = start.Add(2 * time.Hour)
	seen(1, d.now)
	seen(3, d.now)
	recs := d.claim()
	require.Equal(t, []string{ids[1]}, idsOf(recs)[:1], "seen when it may be due early")
	require.NotContains(t, idsOf(recs), ids[2], "seen earlier than known")
	require.NotContains(t, idsOf(recs), ids[3], "must not be due early")
}

func TestStatsFollowDECNET(t *testing.T) { onEach(t, testStatsFollowDECNET) }

func testStatsFollowDECNET(t *testing.T, on *database) {
	d := newDECNET(t, on)
	stats := func() store.Stats {
		t.Helper()
		stats, err := d.store.Stats(t.Context(), d.now)
		require.NoError(t, err)
		return stats
	}
	first, second := uuid.NewString(), uuid.NewString()
	d.profile(first, "45.9.0.1", d.now)
	require.Equal(t, store.Stats{Attackers: 1, Due: 1, Waiting: map[string]int{}}, stats())
	require.Len(t, d.claim(), 1)
	require.Equal(t, store.Stats{Attackers: 1, Leased: 1, Waiting: map[string]int{}}, stats())

	d.now = d.now.Add(time.Second)
	d.profile(second, "45.9.0.2", d.now)
	d.profile("no uuid", "45.9.0.3", d.now)
	require.Equal(t, store.Stats{Attackers: 3, Due: 1, Leased: 1, Waiting: map[string]int{}}, stats())
	recs := d.claim()
	require.Equal(t, []string{second}, idsOf(recs))
	u := enriched(recs[0], d.now)
	u.Entries[2].State = store.Waiting
	u.Hold = true
	require.NoError(t, d.store.Save(t.Context(), u))
	want := store.Stats{Attackers: 3, Enriched: 1, Leased: 2, Outbox: 1, Waiting: map[string]int{"greynoise": 1}}
	require.Equal(t, want, stats())

	d.now = d.now.Add(time.Minute)
	want.Due, want.Leased = 1, 0
	require.Equal(t, want, stats(), "with leases that have expired")
	require.Len(t, d.claim(), 1)
	want.Due, want.Leased = 0, 1
	require.Equal(t, want, stats())
}

// TestStatsBeforeEverythingIsImported has an attacker count as what it is going
// to be, whether or not a claim has come across it.
func TestStatsBeforeEverythingIsImported(t *testing.T) {
	onEach(t, testStatsBeforeEverythingIsImported)
}

func testStatsBeforeEverythingIsImported(t *testing.T, on *database) {
	d := newDECNET(t, on)
	const half, limit = 800, 50
	d.atOnce(func() {
		for i := range 2 * half {
			id, ip, at := uuid.NewString(), fmt.Sprintf("45.9.%d.%d", i/250, i%250), d.now.Add(-time.Duration(i)*time.Second)
			d.profile(id, ip, at)
			if i%2 == 0 {
				d.enrich(id, ip, at, d.now.Add(time.Hour))
			}
		}
	})
	imported := func() int { return column[int](t, d.db, "SELECT count(*) FROM enrich_ledger")[0] }
	partly := 0
	for leased := 0; leased <= half; leased += limit {
		stats, err := d.store.Stats(t.Context(), d.now)
		require.NoError(t, err)
		require.Equal(t, store.Stats{
			Attackers: 2 * half, Enriched: half, Due: half - leased, Leased: leased, Waiting: map[string]int{},
		}, stats, "with %d imported", imported())
		if n := imported(); n > 0 && n < 2*half {
			partly++
		}
		_, err = d.store.Claim(t.Context(), store.ClaimRequest{Now: d.now, Owner: "test", Lease: time.Minute, Limit: limit})
		require.NoError(t, err)
	}
	require.Positive(t, partly, "counts in the middle of the import")
}

// TestStatsDoNotLookAtAll has more attackers that no claim has come across than
// Stats looks at, a third of them with a row in attacker_intel.
func TestStatsDoNotLookAtAll(t *testing.T) { onEach(t, testStatsDoNotLookAtAll) }

func testStatsDoNotLookAtAll(t *testing.T, on *database) {
	d := newDECNET(t, on)
	const attackers, step = 12_000, 500
	d.atOnce(func() {
		for i := 0; i < attackers; i += step {
			at := sqlalchemy(d.now.Add(-time.Duration(i) * time.Second))
			var profiles, intel []any
			for j := range step {
				id, ip := uuid.NewString(), fmt.Sprintf("45.9.%d.%d", i/step, j%250)
				profiles = append(profiles, id, ip, at, at, at)
				if j%3 == 0 {
					intel = append(intel, uuid.NewString(), id, ip, at, at, sqlalchemy(d.now.Add(time.Hour)))
				}
			}
			row := "(?, ?, ?, ?, 7, '[]', ?), "
			d.exec("INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at) VALUES "+
				strings.TrimSuffix(strings.Repeat(row, step), ", "), profiles...)
			row = "(?, ?, ?, 1, '[]', '{}', 7, '[]', '{}', ?, '{}', '[]', '[]', '[]', '{}', ?, ?), "
			d.exec(`INSERT INTO attacker_intel (uuid, attacker_uuid, attacker_ip, schema_version, greynoise_tags, greynoise_raw,
				abuseipdb_score, abuseipdb_categories, abuseipdb_raw, abuseipdb_queried_at, feodo_raw, threatfox_threat_types,
				threatfox_ioc_types, threatfox_malware_families, threatfox_raw, cached_at, expires_at) VALUES `+
				strings.TrimSuffix(strings.Repeat(row, len(intel)/6), ", "), intel...)
		}
	})
	check := func(leased int) {
		t.Helper()
		stats, err := d.store.Stats(t.Context(), d.now)
		require.NoError(t, err)
		require.Equal(t, attackers, stats.Attackers)
		require.Equal(t, leased, stats.Leased)
		require.Equal(t, attackers, stats.Enriched+stats.Due+leased)
		require.InDelta(t, attackers/3, stats.Enriched, attackers/50)
	}
	check(0)
	c, err := d.store.Claim(t.Context(), store.ClaimRequest{Now: d.now, Owner: "test", Lease: time.Minute, Limit: 1})
	require.NoError(t, err)
	require.Len(t, c.Records, 1)
	require.Less(t, column[int](t, d.db, "SELECT count(*) FROM enrich_ledger")[0], attackers-10_000)
	check(1)
}

func TestPurgeByDECNET(t *testing.T) { onEach(t, testPurgeByDECNET) }

func testPurgeByDECNET(t *testing.T, on *database) {
	for name, enforced := range map[string]bool{"foreign keys on": true, "foreign keys off": false} {
		t.Run(name, func(t *testing.T) {
			d := newDECNET(t, on)
			saved, leased := uuid.NewString(), uuid.NewString()
			d.profile(saved, "45.9.0.1", d.now)
			d.profile(leased, "45.9.0.2", d.now)
			recs := d.claim()
			require.Len(t, recs, 2)
			for _, r := range recs {
				u := enriched(r, d.now)
				u.Hold = r.ID.String() == leased
				require.NoError(t, d.store.Save(t.Context(), u))
			}
			if enforced {
				d.exec("DELETE FROM attacker_intel")
				d.exec("DELETE FROM attackers")
			} else {
				d.deleteUnchecked("")
			}
			left := contents(t, d.db, "attacker_intel")

			for _, r := range recs {
				_, err := d.store.Get(t.Context(), r.ID)
				require.ErrorIs(t, err, store.ErrNotFound)
			}
			for _, r := range recs {
				if r.ID.String() == leased {
					require.NoError(t, d.store.Save(t.Context(), enriched(r, d.now)))
				}
			}
			d.now = d.now.Add(48 * time.Hour)
			require.Empty(t, idsOf(d.claim()))
			for _, table := range []string{"enrich_ledger", "enrich_queue", "enrich_raw", "attackers"} {
				require.Empty(t, contents(t, d.db, table), table)
			}
			require.Equal(t, left, contents(t, d.db, "attacker_intel"), "rows there are not ours to delete")
		})
	}
}

// deleteUnchecked deletes attackers as a connection does that enforces no foreign
// keys.
func (d *decnetDB) deleteUnchecked(where string) {
	d.Helper()
	off, on := "PRAGMA foreign_keys = OFF", "PRAGMA foreign_keys = ON"
	switch d.on {
	case onPostgres:
		off, on = "SET session_replication_role = replica", "RESET session_replication_role"
	case onMySQL:
		off, on = "SET foreign_key_checks = 0", "SET foreign_key_checks = 1"
	}
	conn, err := d.db.Conn(d.Context())
	require.NoError(d, err)
	for _, text := range []string{off, "DELETE FROM attackers " + where, on} {
		_, err = conn.ExecContext(d.Context(), text)
		require.NoError(d, err)
	}
	require.NoError(d, conn.Close())
}

func TestStandaloneTablesBearABarePurge(t *testing.T) { onEach(t, testStandaloneTablesBearABarePurge) }

func testStandaloneTablesBearABarePurge(t *testing.T, on *database) {
	s, db := on.openStore(t)
	require.NoError(t, s.Observe(t.Context(), crowd(3)...))
	now := time.Now().UTC()
	c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Minute, Limit: 3})
	require.NoError(t, err)
	for _, r := range c.Records {
		require.NoError(t, s.Save(t.Context(), enriched(r, now)))
	}
	_, err = db.Exec("DELETE FROM attackers")
	require.NoError(t, err)
	require.Empty(t, contents(t, db, "attacker_intel"))
}

func TestRowEqualsRecordFieldByField(t *testing.T) { onEach(t, testRowEqualsRecordFieldByField) }

func testRowEqualsRecordFieldByField(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id := uuid.NewString()
	d.profile(id, "45.9.0.1", d.now)
	rec := d.claim()[0]
	u := enriched(rec, d.now)
	require.NoError(t, d.store.Save(t.Context(), u))
	at, expires := on.stored(d.now), on.stored(d.now.Add(24*time.Hour))
	raw := func(i int) string { return string(u.Entries[i].Finding.Raw) }
	require.Equal(t, map[string]string{
		"uuid": decnet.RowID(rec.ID).String(), "attacker_uuid": id, "attacker_ip": "45.9.0.1",
		"schema_version":           "1",
		"greynoise_classification": "malicious", "greynoise_name": "unknown",
		"greynoise_tags": `["SSH Bruteforcer"]`, "greynoise_raw": raw(2), "greynoise_queried_at": at,
		"abuseipdb_score": "87", "abuseipdb_categories": "[18,22]", "abuseipdb_raw": raw(0), "abuseipdb_queried_at": at,
		"feodo_listed": "1", "feodo_malware_family": "Emotet", "feodo_raw": raw(1), "feodo_queried_at": at,
		"threatfox_listed": "1", "threatfox_threat_types": `["botnet_cc"]`, "threatfox_ioc_types": `["ip:port"]`,
		"threatfox_malware_families": `["win.emotet"]`, "threatfox_raw": raw(3), "threatfox_queried_at": at,
		"aggregate_verdict": "malicious", "cached_at": at, "expires_at": expires, "of_tomorrow": "null",
	}, on.plain(t, d.db, "attacker_intel", "attacker_uuid", id))
}

func TestRowsAreKnownAsTheyAreInTheTable(t *testing.T) {
	onEach(t, testRowsAreKnownAsTheyAreInTheTable)
}

func testRowsAreKnownAsTheyAreInTheTable(t *testing.T, on *database) {
	d := newDECNET(t, on)
	ids := []string{uuid.NewString(), uuid.NewString(), uuid.NewString()} // answered, not answered, ours
	for i, id := range ids {
		d.profile(id, "45.9.0.1", d.now.Add(-time.Duration(i)*time.Minute))
	}
	at, expires := d.now.Add(-time.Hour), d.now.Add(time.Hour)
	d.enrich(ids[0], "45.9.0.1", at, expires)
	d.enrich(ids[1], "45.9.0.1", at, expires)
	d.exec("UPDATE attacker_intel SET greynoise_queried_at = NULL, abuseipdb_queried_at = NULL WHERE attacker_uuid = ?", ids[1])
	check := func(when string, ids ...string) {
		for _, id := range ids {
			key := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id)["uuid"]
			rec, err := d.store.Get(t.Context(), uuid.MustParse(id))
			require.NoError(t, err)
			require.Equal(t, store.Row{UUID: key, CachedAt: at, ExpiresAt: expires}, rec.Row, when)
			var row map[string]any
			require.NoError(t, json.Unmarshal(decnet.RowJSON(&rec), &row))
			require.Equal(t, key, row["uuid"], when)
			require.Equal(t, at.Format(time.RFC3339), row["cached_at"], when)
			require.Equal(t, expires.Format(time.RFC3339), row["expires_at"], when)
		}
	}
	check("before a claim", ids[:2]...)
	rec, err := d.store.Get(t.Context(), uuid.MustParse(ids[2]))
	require.NoError(t, err)
	require.Zero(t, rec.Row)

	recs := d.claim()
	require.Equal(t, ids[1:], idsOf(recs))
	check("after a claim", ids[:2]...)
	for _, r := range recs {
		require.NoError(t, d.store.Save(t.Context(), enriched(r, d.now)))
	}
	at, expires = d.now, d.now.Add(24*time.Hour)
	check("after a save", ids[1:]...)
	page, err := d.store.List(t.Context(), store.ListRequest{Limit: 10})
	require.NoError(t, err)
	for _, r := range page.Records {
		require.Equal(t, on.plain(t, d.db, "attacker_intel", "attacker_uuid", r.ID.String())["uuid"], r.Row.UUID, "in a listing")
	}
	require.Len(t, page.Records, 3)
}

func TestHostileTextIsStorable(t *testing.T) { onEach(t, testHostileTextIsStorable) }

func testHostileTextIsStorable(t *testing.T, on *database) {
	d := newDECNET(t, on)
	id := uuid.NewString()
	d.profile(id, "45.9.0.1", d.now)
	u := enriched(d.claim()[0], d.now)
	f := *u.Entries[2].Finding
	long := strings.Repeat("ü", 500)
	f.Attrs = map[string]any{"classification": "a\x00b\xff" + long, "name": long, "tags": []string{"x\x00\xfe", long}}
	f.Raw = json.RawMessage("{\"a\":\"\xff\",\"b\":\"\\u0000\"}")
	u.Entries[2].Finding = &f
	require.NoError(t, d.store.Save(t.Context(), u))
	row := on.plain(t, d.db, "attacker_intel", "attacker_uuid", id)
	require.Equal(t, "ab\uFFFD"+strings.Repeat("ü", 29), row["greynoise_classification"])
	require.Equal(t, strings.Repeat("ü", 128), row["greynoise_name"])
	require.Equal(t, "{\"a\":\"\uFFFD\",\"b\":\"\\u0000\"}", row["greynoise_raw"])
	rec, err := d.store.Get(t.Context(), u.ID)
	require.NoError(t, err)
	require.Equal(t, long, rec.Entry("greynoise").Finding.Attrs["name"], "the ledger keeps everything")
}

// beDECNET does what DECNET does to its tables, until it is interrupted: it adds
// attackers, sees them again, and reads what is known about them. It prints how
// many it has added.
func beDECNET(ctx context.Context, on *database, db *sql.DB) error {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt)
	defer stop()
	var ids []string
	for n := 0; ctx.Err() == nil; n++ {
		at := sqlalchemy(time.Now())
		id := uuid.NewString()
		ids = append(ids, id)
		_, err := db.Exec(on.placed(`INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at)
			VALUES (?, ?, ?, ?, 1, '[]', ?)`), id, fmt.Sprintf("45.%d.%d.%d", n>>16, n>>8&255, n&255), at, at, at)
		if err != nil {
			return fmt.Errorf("insert: %w", err)
		}
		_, err = db.Exec(on.placed("UPDATE attackers SET last_seen = ?, updated_at = ?, event_count = event_count + 1 WHERE uuid = ?"),
			at, at, ids[n/2])
		if err != nil {
			return fmt.Errorf("update: %w", err)
		}
		rows, err := db.Query(on.placed("SELECT * FROM attacker_intel WHERE attacker_uuid = ?"), ids[n/3])
		if err != nil {
			return fmt.Errorf("read: %w", err)
		}
		for rows.Next() {
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return fmt.Errorf("read: %w", err)
		}
		fmt.Println(n + 1)
	}
	return nil
}

// TestBesideDECNET enriches what another process adds meanwhile.
func TestBesideDECNET(t *testing.T) { onEachAtOnce(t, testBesideDECNET) }

func testBesideDECNET(t *testing.T, on *database) {
	const attackers = 150
	dsn := on.create(t)
	db := on.open(t, dsn)
	for _, text := range decnetSchema(on) {
		_, err := db.Exec(text)
		require.NoError(t, err)
	}
	s := on.newStore(t, db)
	p := on.startChild(t, "decnet", dsn)
	added, saved := 0, make(map[string]store.Update)
	claim := func() int {
		now := time.Now().UTC()
		c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Minute, Limit: 20})
		require.NoError(t, err)
		var updates []store.Update
		for _, r := range c.Records {
			u := enriched(r, now)
			updates = append(updates, u)
			saved[r.ID.String()] = u
		}
		require.NoError(t, s.Save(t.Context(), updates...))
		return len(updates)
	}
	for added < attackers && p.out.Scan() {
		n, err := strconv.Atoi(p.out.Text())
		require.NoError(t, err)
		added = n
		claim()
	}
	require.NoError(t, p.Process.Signal(os.Interrupt))
	for p.out.Scan() {
		added++
	}
	require.NoError(t, p.Wait(), "DECNET met an error")
	// What was committed late is found a minute later.
	require.Eventually(t, func() bool { return claim() == 0 && len(saved) == added }, 3*time.Minute, 10*time.Millisecond)

	for _, row := range contents(t, db, "attacker_intel") {
		u := saved[row["attacker_uuid"]]
		delete(saved, row["attacker_uuid"])
		require.Equal(t, u.IP, row["attacker_ip"])
		require.Equal(t, "malicious", row["aggregate_verdict"])
		require.Equal(t, on.stored(u.SavedAt), row["cached_at"])
		for i, name := range []string{"abuseipdb", "feodo", "greynoise", "threatfox"} {
			require.JSONEq(t, string(u.Entries[i].Finding.Raw), row[name+"_raw"])
			require.Equal(t, on.stored(u.SavedAt), row[name+"_queried_at"])
		}
	}
	require.Empty(t, saved, "rows are missing")
	require.Equal(t, []int{added}, column[int](t, db, "SELECT count(*) FROM attackers WHERE event_count > 0"))
}
