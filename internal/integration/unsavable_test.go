package integration

import (
	"database/sql"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// TestTextBeyondACharacterSet: what a column, or the whole database, has no
// characters for costs these characters and not the record.
func TestTextBeyondACharacterSet(t *testing.T) {
	t.Run("a column of MariaDB", func(t *testing.T) {
		s, db := onMySQL.openStore(t)
		_, err := db.Exec("ALTER TABLE attacker_intel MODIFY greynoise_name VARCHAR(128) CHARACTER SET latin1")
		require.NoError(t, err)
		testTextBeyondACharacterSet(t, onMySQL, s, db, "?????? a")
	})
	t.Run("a database of PostgreSQL", func(t *testing.T) {
		dsn := onPostgres.create(t)
		admin, err := sql.Open(onPostgres.driver, onPostgres.admin)
		require.NoError(t, err)
		defer admin.Close()
		_, name, _ := strings.Cut(strings.TrimSuffix(dsn, "?sslmode=disable"), "5432/")
		for _, text := range []string{
			"DROP DATABASE " + name, "CREATE DATABASE " + name + " ENCODING 'LATIN1' LC_COLLATE 'C' LC_CTYPE 'C' TEMPLATE template0",
		} {
			_, err := admin.Exec(text)
			require.NoError(t, err)
		}
		db := onPostgres.open(t, dsn+"&client_encoding=UTF8")
		testTextBeyondACharacterSet(t, onPostgres, onPostgres.newStore(t, db), db, "?????? a")
	})
}

func testTextBeyondACharacterSet(t *testing.T, on *database, s *sqlstore.Store, db *sql.DB, stored string) {
	updates := claimed(t, s, 2)
	names := []string{"Камень a", "latin"}
	for i := range updates {
		u := &updates[i]
		now := time.Now().UTC().Truncate(time.Second)
		addr := u.Entries[0].Finding.Addr
		u.Entries = []store.Entry{
			{Provider: "feodo", State: store.Fresh, Expires: now.Add(time.Hour), Finding: &provider.Finding{
				Provider: "feodo", Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: now, Attrs: map[string]any{"listed": true},
			}},
			{Provider: "greynoise", State: store.Fresh, Expires: now.Add(time.Hour), Finding: &provider.Finding{
				Provider: "greynoise", Addr: addr, Known: true, Verdict: provider.Unknown, ObservedAt: now,
				Attrs: map[string]any{"name": names[i], "classification": "unknown", "tags": []string{"тег"}},
				Raw:   []byte(`{"name":"` + names[i] + `"}`),
			}},
		}
		u.Changed = []string{"feodo", "greynoise"}
		u.Decision = &aggregate.Decision{Verdict: provider.Malicious, Policy: "p"}
	}
	require.NoError(t, s.Save(t.Context(), updates...))
	for i, want := range []string{stored, "latin"} {
		row := on.plain(t, db, "attacker_intel", "attacker_uuid", updates[i].ID.String())
		require.Equal(t, want, row["greynoise_name"])
		require.Equal(t, "1", row["feodo_listed"])
		require.Equal(t, "malicious", row["aggregate_verdict"])
		rec, err := s.Get(t.Context(), updates[i].ID)
		require.NoError(t, err)
		require.Equal(t, names[i], rec.Entry("greynoise").Finding.Attrs["name"], "the ledger keeps everything")
		require.JSONEq(t, `{"name":"`+names[i]+`"}`, string(rec.Entry("greynoise").Finding.Raw))
		require.Equal(t, []string{"тег"}, rec.Entry("greynoise").Finding.Attrs["tags"])
	}
}

// TestRefusedRawCostsNoOtherFinding: MariaDB checks JSON, and goes no deeper than 32
// levels.
func TestRefusedRawCostsNoOtherFinding(t *testing.T) {
	s, db := onMySQL.openStore(t)
	_, err := db.Exec("ALTER TABLE attacker_intel MODIFY feodo_malware_family VARCHAR(64) CHARACTER SET latin1")
	require.NoError(t, err)
	u := claimed(t, s, 1)[0]
	now := time.Now().UTC().Truncate(time.Second)
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	addr := u.Entries[0].Finding.Addr
	u.Entries, u.Changed = nil, nil
	raws := map[string]string{
		"abuseipdb": `{"isp":"Камень"}`, "feodo": `{"malware":"Камень"}`, "greynoise": `{"a":` + deep + `}`, "threatfox": `{"a":"\ud800"}`,
	}
	for _, name := range []string{"abuseipdb", "feodo", "greynoise", "threatfox"} {
		u.Changed = append(u.Changed, name)
		u.Entries = append(u.Entries, store.Entry{Provider: name, State: store.Fresh, Expires: now.Add(time.Hour), Finding: &provider.Finding{
			Provider: name, Addr: addr, Known: true, Verdict: provider.Malicious, ObservedAt: now, Raw: []byte(raws[name]),
			Attrs: map[string]any{"malware_family": "Камень", "name": "Камень"},
		}})
	}
	require.NoError(t, s.Save(t.Context(), u))
	row := onMySQL.plain(t, db, "attacker_intel", "attacker_uuid", u.ID.String())
	require.Equal(t, raws["abuseipdb"], row["abuseipdb_raw"])
	require.JSONEq(t, raws["feodo"], row["feodo_raw"])
	require.Equal(t, "??????", row["feodo_malware_family"])
	for _, name := range []string{"greynoise", "threatfox"} {
		require.JSONEq(t, fmt.Sprintf(`{"truncated":true,"bytes":%d}`, len(raws[name])), row[name+"_raw"])
	}
}

func TestTimesBeforeTheFirstYear(t *testing.T) { onEach(t, testTimesBeforeTheFirstYear) }

func testTimesBeforeTheFirstYear(t *testing.T, on *database) {
	s, _ := on.openStore(t)
	u := claimed(t, s, 1)[0]
	long := time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC)
	for i := range u.Entries {
		if f := u.Entries[i].Finding; f != nil {
			copied := *f
			copied.ObservedAt = long
			u.Entries[i].Finding = &copied
		}
	}
	u.Decision = &aggregate.Decision{Verdict: provider.Malicious, Reasons: []aggregate.Reason{{Provider: "greynoise", ObservedAt: long}}}
	require.NoError(t, s.Save(t.Context(), u))
	rec, err := s.Get(t.Context(), u.ID)
	require.NoError(t, err)
	require.Equal(t, provider.Malicious, rec.Decision.Verdict)
	require.Equal(t, 1, rec.Decision.Reasons[0].ObservedAt.Year())
}

// TestManyProvidersWithLongNames: an attacker to which none of them applies is
// handed out once there is another provider, however many there are.
func TestManyProvidersWithLongNames(t *testing.T) { onEach(t, testManyProvidersWithLongNames) }

func testManyProvidersWithLongNames(t *testing.T, on *database) {
	s, _ := on.openStore(t)
	for _, n := range []int{31, 100, 1000} {
		u := claimed(t, s, 1)[0]
		u.Entries, u.Changed, u.Decision, u.Event, u.SavedAt, u.Revision = nil, nil, nil, nil, time.Time{}, 0
		var names []string
		for i := range n {
			name := fmt.Sprintf("provider_%023d", i)
			require.NoError(t, provider.ValidateName(name))
			names = append(names, name)
			u.Entries = append(u.Entries, store.Entry{Provider: name, State: store.NotApplicable})
		}
		u.Due = time.Time{}
		require.NoError(t, s.Save(t.Context(), u))
		claim := func(names ...string) int {
			c, err := s.Claim(t.Context(), store.ClaimRequest{
				Now: time.Now().UTC(), Owner: "test", Lease: time.Minute, Limit: 10, Providers: names,
			})
			require.NoError(t, err)
			return len(c.Records)
		}
		require.Zero(t, claim(names...))
		require.Zero(t, claim(names[1:]...))
		if n < 1000 {
			require.Equal(t, 1, claim(append(names, "new")...), "%d providers", n)
		}
	}
}
