package integration

import (
	"encoding/json"
	"maps"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// typed returns columns with the types that the database has for them.
func (on *database) typed(columns string) string {
	switch on {
	case onPostgres:
		columns = strings.ReplaceAll(strings.ReplaceAll(columns, "DATETIME", "TIMESTAMP"), "DOUBLE", "DOUBLE PRECISION")
	case onMySQL:
		columns = strings.ReplaceAll(columns, `"`, "`")
	}
	return columns
}

// answered returns the update by which another provider than DECNET's has
// answered, beside those.
func (d *decnetDB) answered(rec store.Record, name string, attrs map[string]any) store.Update {
	u := enriched(rec, d.now)
	f := &provider.Finding{
		Provider: name, Addr: rec.Addr(), Known: true, Attrs: attrs, Raw: json.RawMessage(`{"ports":[22]}`), ObservedAt: d.now,
	}
	u.Entries = append(u.Entries, store.Entry{Provider: name, State: store.Fresh, Finding: f, Expires: d.now.Add(time.Hour)})
	u.Changed = append(u.Changed, name)
	return u
}

// observed returns the claimed record of a new attacker.
func (d *decnetDB) observed() store.Record {
	d.Helper()
	d.profile(uuid.NewString(), "45.9.0.1", d.now)
	recs := d.claim()
	require.Len(d, recs, 1)
	return recs[0]
}

// row returns the columns of an attacker's row whose names begin so.
func (d *decnetDB) row(id uuid.UUID, prefix string) map[string]string {
	d.Helper()
	row := d.on.plain(d, d.db, "attacker_intel", "attacker_uuid", id.String())
	maps.DeleteFunc(row, func(name, _ string) bool { return !strings.HasPrefix(name, prefix) })
	return row
}

func TestColumnsOfAnotherProviderAreFilled(t *testing.T) {
	onEach(t, testColumnsOfAnotherProviderAreFilled)
}

func testColumnsOfAnotherProviderAreFilled(t *testing.T, on *database) {
	d := newDECNETWith(t, on, on.typed(`shodan_score INTEGER, shodan_seen BIGINT, shodan_port SMALLINT, shodan_risk DOUBLE,
		shodan_org VARCHAR(4), shodan_notes TEXT, shodan_vpn BOOLEAN, shodan_tags JSON, shodan_ports JSON, shodan_raw JSON,
		shodan_queried_at DATETIME, shodan_of_others VARCHAR(9), shodan_since DATETIME, shodan_cost DECIMAL(4, 2),
		shodanx_score INTEGER, shodan INTEGER, shodan_lab_score INTEGER,`))
	require.NoError(t, d.store.Migrate(t.Context()))
	require.NoError(t, d.store.Validate(t.Context()))
	rec := d.observed()
	u := d.answered(rec, "shodan", map[string]any{
		"score": int64(7), "seen": int64(1) << 40, "port": int64(-22), "risk": 0.5, "org": "ACMEs", "notes": "a\x00b", "vpn": true,
		"tags": []string{"x"}, "ports": []int64{22}, "since": "2026-01-01", "cost": 1.5, "lab_score": int64(9),
	})
	u.Hold = true
	require.NoError(t, d.store.Save(t.Context(), u))
	want := map[string]string{
		"shodan_score": "7", "shodan_seen": "1099511627776", "shodan_port": "-22", "shodan_risk": "0.5", "shodan_org": "ACME",
		"shodan_notes": "ab", "shodan_vpn": "1", "shodan_tags": `["x"]`, "shodan_ports": "[22]", "shodan_raw": `{"ports":[22]}`,
		"shodan_queried_at": on.stored(d.now), "shodan_of_others": "null", "shodan_since": "null", "shodan_cost": "null",
		"shodanx_score": "null", "shodan": "null", "shodan_lab_score": "9",
	}
	require.Equal(t, want, d.row(rec.ID, "shodan"))

	// What another provider changes leaves them alone.
	d.exec("UPDATE attacker_intel SET shodan_score = 8, shodan_of_others = 'theirs'")
	u.Changed, u.Event = []string{"feodo"}, nil
	require.NoError(t, d.store.Save(t.Context(), u))
	want["shodan_score"], want["shodan_of_others"] = "8", "theirs"
	delete(want, "shodan_of_others")
	got := d.row(rec.ID, "shodan")
	delete(got, "shodan_of_others")
	require.Equal(t, want, got)

	// What does not fit is null.
	u = d.answered(rec, "shodan", map[string]any{
		"score": int64(1) << 31, "seen": "yesterday", "port": int64(40000), "risk": "high", "org": int64(1), "notes": true, "vpn": int64(1),
		"tags": "x", "ports": nil,
	})
	u.Hold, u.Event = true, nil
	require.NoError(t, d.store.Save(t.Context(), u))
	for name, value := range d.row(rec.ID, "shodan_") {
		switch name {
		case "shodan_raw", "shodan_queried_at":
			require.Equal(t, want[name], value, name)
		default:
			require.Equal(t, "null", value, name)
		}
	}
	got2, err := d.store.Get(t.Context(), rec.ID)
	require.NoError(t, err)
	require.Equal(t, int64(1)<<31, got2.Entry("shodan").Finding.Attrs["score"])
	require.JSONEq(t, `{"ports":[22]}`, string(got2.Entry("shodan").Finding.Raw))

	// A column goes to the provider with the longest name that fits.
	u.Hold = false
	lab := u.Entries[len(u.Entries)-1]
	lab.Provider = "shodan_lab"
	finding := *lab.Finding
	finding.Provider, finding.Attrs = lab.Provider, map[string]any{"score": int64(5)}
	lab.Finding = &finding
	u.Entries, u.Changed = append(u.Entries, lab), []string{"shodan_lab"}
	u.Hold = true
	require.NoError(t, d.store.Save(t.Context(), u))
	u.Changed, u.Hold = []string{"shodan"}, false
	require.NoError(t, d.store.Save(t.Context(), u))
	require.Equal(t, map[string]string{"shodan_lab_score": "5"}, d.row(rec.ID, "shodan_lab"))

	pruned, err := d.store.Prune(t.Context(), d.now.Add(time.Hour))
	require.NoError(t, err)
	require.Equal(t, 4+1+2, pruned.Raws)
	require.Equal(t, "{}", d.row(rec.ID, "shodan_raw")["shodan_raw"])
}

func TestNewColumnsGetNeutralValues(t *testing.T) { onEach(t, testNewColumnsGetNeutralValues) }

func testNewColumnsGetNeutralValues(t *testing.T, on *database) {
	d := newDECNETWith(t, on, on.typed(`shodan_tags JSON NOT NULL, shodan_raw JSON NOT NULL, shodan_score INTEGER NOT NULL,
		shodan_risk DOUBLE NOT NULL, shodan_cost DECIMAL(4, 2) NOT NULL, shodan_org VARCHAR(9) NOT NULL, shodan_notes TEXT NOT NULL,
		shodan_vpn BOOLEAN NOT NULL, shodan_list JSON, "shodan_Order" SMALLINT NOT NULL, "group" BIGINT NOT NULL,
		shodan_level VARCHAR(9) NOT NULL DEFAULT 'low', shodan_at DATETIME NOT NULL DEFAULT '2026-01-01 00:00:00',`))
	require.NoError(t, d.store.Migrate(t.Context()))
	require.NoError(t, d.store.Validate(t.Context()))
	neutral := map[string]string{
		"shodan_tags": "[]", "shodan_raw": "{}", "shodan_score": "0", "shodan_risk": "0", "shodan_cost": "0", "shodan_org": "",
		"shodan_notes": "", "shodan_vpn": "0", "shodan_list": "null", "shodan_Order": "0", "shodan_level": "low",
		"shodan_at": sqlalchemy(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)),
	}
	got := func(id uuid.UUID) map[string]string {
		row := d.row(id, "shodan")
		row["shodan_cost"] = strings.TrimSuffix(row["shodan_cost"], ".00")
		return row
	}
	rec := d.observed()
	require.NoError(t, d.store.Save(t.Context(), enriched(rec, d.now)))
	require.Equal(t, neutral, got(rec.ID))
	require.Equal(t, "0", d.row(rec.ID, "group")["group"])

	// A row that is there is left as it is.
	d.exec("UPDATE attacker_intel SET shodan_score = 9")
	d.now = d.now.Add(48 * time.Hour)
	rec = d.claim()[0]
	u := enriched(rec, d.now)
	require.NoError(t, d.store.Save(t.Context(), u))
	require.Equal(t, "9", got(rec.ID)["shodan_score"])

	// The provider itself writes what must not be null, too.
	d.now = d.now.Add(48 * time.Hour)
	rec = d.claim()[0]
	u = d.answered(rec, "shodan", map[string]any{"score": int64(1), "org": int64(1)})
	u.Entries[len(u.Entries)-1].Finding.Raw = nil
	require.NoError(t, d.store.Save(t.Context(), u))
	neutral["shodan_score"] = "1"
	neutral["shodan_level"] = "" // the provider has no such attribute
	require.Equal(t, neutral, got(rec.ID))
}

// TestNewColumnIsNoticed is about DECNET being upgraded while a worker runs.
func TestNewColumnIsNoticed(t *testing.T) { onEach(t, testNewColumnIsNoticed) }

func testNewColumnIsNoticed(t *testing.T, on *database) {
	d := newDECNET(t, on)
	rec := d.observed()
	require.NoError(t, d.store.Save(t.Context(), enriched(rec, d.now)))
	if on == onSQLite { // which adds no such column to a table
		text := column[string](t, d.db, "SELECT sql FROM sqlite_master WHERE name = 'attacker_intel'")[0]
		d.exec("DROP TABLE attacker_intel")
		d.exec(strings.Replace(text, "of_tomorrow", "shodan_score INTEGER NOT NULL, of_tomorrow", 1))
		d.exec("CREATE UNIQUE INDEX ix_attacker_intel_attacker_uuid ON attacker_intel (attacker_uuid)")
	} else {
		d.exec("DELETE FROM attacker_intel")
		d.exec("ALTER TABLE attacker_intel ADD COLUMN shodan_score INTEGER NOT NULL")
	}
	d.now = d.now.Add(time.Second)
	d.profile(uuid.NewString(), "45.9.0.3", d.now)
	d.profile(uuid.NewString(), "45.9.0.2", d.now)
	var updates []store.Update
	for _, rec := range d.claim() {
		updates = append(updates, enriched(rec, d.now))
	}
	require.Len(t, updates, 2)
	require.NoError(t, d.store.Save(t.Context(), updates...))
	for _, u := range updates {
		require.Equal(t, "0", d.row(u.ID, "shodan")["shodan_score"])
	}
}

func TestColumnWithoutNeutralValueIsRefused(t *testing.T) {
	onEach(t, testColumnWithoutNeutralValueIsRefused)
}

func testColumnWithoutNeutralValueIsRefused(t *testing.T, on *database) {
	d := newDECNETWith(t, on, on.typed("shodan_queried_at DATETIME NOT NULL,"))
	for what, f := range map[string]func() error{
		"Migrate":  func() error { return d.store.Migrate(t.Context()) },
		"Validate": func() error { return d.store.Validate(t.Context()) },
		"Plan":     func() error { _, err := d.store.Plan(t.Context()); return err },
	} {
		err := f()
		require.ErrorIs(t, err, store.ErrSchema, what)
		if what != "Validate" { // to which the tables are absent first of all
			require.ErrorContains(t, err, "attacker_intel.shodan_queried_at", what)
		}
	}
	require.Empty(t, on.ours(t, d.db))
}
