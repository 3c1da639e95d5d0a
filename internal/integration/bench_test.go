package integration

import (
	"database/sql"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// crowd makes up n attackers.
func crowd(n int) []store.Attacker {
	seen := time.Now().UTC().Truncate(time.Microsecond)
	all := make([]store.Attacker, n)
	for i := range all {
		at := seen.Add(-time.Duration(i) * time.Second)
		all[i] = store.Attacker{
			ID: uuid.New(), IP: netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)}).String(),
			FirstSeen: at.Add(-time.Hour), LastSeen: at,
		}
	}
	return all
}

// enriched returns the update that stores an answer of each of DECNET's four
// providers, of the usual size, and an event.
func enriched(rec store.Record, now time.Time) store.Update {
	attrs := map[string]map[string]any{
		"abuseipdb": {"score": int64(87), "categories": []int64{18, 22}},
		"feodo":     {"listed": true, "malware_family": "Emotet"},
		"greynoise": {"classification": "malicious", "name": "unknown", "tags": []string{"SSH Bruteforcer"}},
		"threatfox": {
			"listed": true, "threat_types": []string{"botnet_cc"}, "ioc_types": []string{"ip:port"},
			"malware_families": []string{"win.emotet"},
		},
	}
	u := store.Update{
		Lease: store.Lease{ID: rec.ID, Fence: rec.Fence}, Due: now.Add(24 * time.Hour),
		IP: rec.IP, Revision: rec.Revision + 1, SavedAt: now,
		Decision: &aggregate.Decision{Verdict: provider.Malicious, Policy: "strongest/2"},
		Event: &bus.Event{
			ID: uuid.NewString(), Topic: "attacker.intel.enriched", Type: "intel.enriched", Time: now,
			Payload: json.RawMessage(fmt.Sprintf(`{"attacker_uuid":%q,"attacker_ip":%q,"aggregate_verdict":"malicious"}`, rec.ID, rec.IP)),
		},
	}
	for _, name := range []string{"abuseipdb", "feodo", "greynoise", "threatfox"} {
		f := &provider.Finding{
			Provider: name, Addr: rec.Addr(), Known: true, Verdict: provider.Malicious, Attrs: attrs[name],
			Raw:        json.RawMessage(fmt.Sprintf(`{"ip":%q,"note":"%0200d"}`, rec.IP, 7)),
			ObservedAt: now, TTL: 24 * time.Hour,
		}
		u.Entries = append(u.Entries, store.Entry{Provider: name, State: store.Fresh, Finding: f, Expires: now.Add(24 * time.Hour)})
		u.Changed = append(u.Changed, name)
		u.Decision.Reasons = append(u.Decision.Reasons, aggregate.Reason{
			Provider: name, Verdict: provider.Malicious, ObservedAt: now, Decisive: true,
		})
	}
	return u
}

// round claims up to n attackers and saves them, due again at once, and returns
// how many there were and what each part took of the processor.
func round(b *testing.B, s store.Store, now time.Time, n int) (done int, claiming, saving time.Duration) {
	start := cpu()
	c, err := s.Claim(b.Context(), store.ClaimRequest{
		Now: now, Owner: "bench", Lease: time.Hour, Limit: n,
		Grants:    map[string]store.Grant{"greynoise": {Calls: 10}},
		Providers: []string{"abuseipdb", "feodo", "greynoise", "threatfox"},
	})
	require.NoError(b, err)
	claiming = cpu() - start
	updates := make([]store.Update, len(c.Records))
	for i := range c.Records {
		updates[i] = enriched(c.Records[i], now)
	}
	start = cpu()
	require.NoError(b, s.Save(b.Context(), updates...))
	return len(updates), claiming, cpu() - start
}

// BenchmarkSQLite measures claims and saves of attackers that were enriched
// before, all of them due, against the same rows written by prepared statements
// in transactions of the same size. There are ENRICH_BENCH_ATTACKERS attackers, by
// default 10,000.
func BenchmarkSQLite(b *testing.B) {
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 10_000)
	for _, batch := range []int{1, 50, 250} {
		b.Run(fmt.Sprintf("batch=%d", batch), func(b *testing.B) {
			s, db := openStore(b)
			require.NoError(b, s.Observe(b.Context(), crowd(attackers)...))
			now := time.Now().UTC()
			for range 2 * 256 / batch { // so that not only inserts are measured
				_, _, _ = round(b, s, now, batch)
			}
			var claiming, saving time.Duration
			done, claims := 0, 0
			for b.Loop() {
				n, claim, save := round(b, s, now, batch)
				if n == 0 { // all were saved: the next day begins
					now = now.Add(25 * time.Hour)
					continue
				}
				done, claims = done+n, claims+1
				claiming, saving = claiming+claim, saving+save
			}
			b.StopTimer()
			written, bare := writeBare(b, db, max(done/4, batch), batch)
			each := func(d time.Duration, n int) float64 { return float64(d.Microseconds()) / float64(n) }
			b.ReportMetric(each(claiming, claims), "µs-cpu/claim")
			b.ReportMetric(each(saving, done), "µs-cpu/saved")
			b.ReportMetric(each(bare, written), "µs-cpu/bare")
			b.ReportMetric(each(claiming+saving, done)/each(bare, written), "x-bare")
		})
	}
}

// writeBare writes n rows, like the first ones there are, to copies of the
// tables that a save writes, as fast as a program can that does nothing else. It
// returns how many it wrote and the processor time that took.
func writeBare(b *testing.B, db *sql.DB, n, batch int) (int, time.Duration) {
	var (
		texts []string
		rows  [][]any
	)
	for _, table := range bareTables {
		onSQLite.copyTable(b, db, table)
		_, row := firstRow(b, db, table)
		rows = append(rows, row)
		texts = append(texts, "INSERT INTO bare_"+table+" VALUES (?"+strings.Repeat(", ?", len(row)-1)+")")
	}
	attackers := column[string](b, db, "SELECT uuid FROM attackers LIMIT ?", n)
	start := cpu()
	for chunk := range slices.Chunk(attackers, batch) {
		tx, err := db.Begin()
		require.NoError(b, err)
		var stmts []*sql.Stmt
		for _, text := range texts {
			stmt, err := tx.Prepare(text)
			require.NoError(b, err)
			stmts = append(stmts, stmt)
		}
		for _, id := range chunk {
			rows[0][0] = id
			rows[1][0], rows[1][1] = uuid.NewString(), id
			rows[2][0], rows[2][1] = nil, uuid.NewString()
			for i, stmt := range stmts {
				_, err := stmt.Exec(rows[i]...)
				require.NoError(b, err)
			}
		}
		require.NoError(b, tx.Commit())
	}
	return len(attackers), cpu() - start
}

// firstRow returns the columns of a table and the values of a row that a save
// wrote, as they can be written.
func firstRow(tb testing.TB, db *sql.DB, table string) (columns []string, values []any) {
	order := ""
	if table == "enrich_ledger" {
		order = " ORDER BY revision DESC"
	}
	rows, err := db.Query("SELECT * FROM " + table + order + " LIMIT 1")
	require.NoError(tb, err)
	defer rows.Close()
	require.True(tb, rows.Next())
	columns, err = rows.Columns()
	require.NoError(tb, err)
	dest := make([]any, len(columns))
	values = make([]any, len(columns))
	for i := range values {
		dest[i] = &values[i]
	}
	require.NoError(tb, rows.Scan(dest...))
	for i, v := range values {
		switch v := v.(type) {
		case time.Time:
			values[i] = sqlalchemy(v)
		case []byte:
			values[i] = string(v)
		}
	}
	return columns, values
}

// BenchmarkSQLiteBacklog measures what is called again and again while everybody
// waits for a provider: claims of a few, as the quota allows, and counts.
func BenchmarkSQLiteBacklog(b *testing.B) {
	const attackers = 20_000
	s, _ := openStore(b)
	require.NoError(b, s.Observe(b.Context(), crowd(attackers)...))
	now := time.Now().UTC()
	claim := func(req store.ClaimRequest) []store.Record {
		req.Now, req.Owner, req.Lease = now, "bench", time.Hour
		c, err := s.Claim(b.Context(), req)
		require.NoError(b, err)
		return c.Records
	}
	for {
		recs := claim(store.ClaimRequest{Limit: 1000})
		if len(recs) == 0 {
			break
		}
		updates := make([]store.Update, len(recs))
		for i, rec := range recs {
			updates[i] = enriched(rec, now)
			e := &updates[i].Entries[2]
			e.State, e.Rank, e.Since = store.Waiting, i%3, now.Add(time.Duration(i)*time.Millisecond)
		}
		require.NoError(b, s.Save(b.Context(), updates...))
	}
	b.Run("Claim", func(b *testing.B) {
		for b.Loop() {
			recs := claim(store.ClaimRequest{Limit: 64, Grants: map[string]store.Grant{"greynoise": {Calls: 10, Oldest: 2}}})
			require.Len(b, recs, 10)
			b.StopTimer()
			updates := make([]store.Update, len(recs))
			for i, rec := range recs {
				updates[i] = enriched(rec, now)
				updates[i].Entries[2].State = store.Waiting
			}
			require.NoError(b, s.Save(b.Context(), updates...))
			b.StartTimer()
		}
	})
	b.Run("Stats", func(b *testing.B) {
		for b.Loop() {
			stats, err := s.Stats(b.Context(), now)
			require.NoError(b, err)
			require.Equal(b, attackers, stats.Waiting["greynoise"])
		}
	})
	b.Run("SwapBudget", func(b *testing.B) {
		doc := []byte(strings.Repeat("x", 400))
		_, version, err := s.Budget(b.Context(), "greynoise")
		require.NoError(b, err)
		for b.Loop() {
			swapped, err := s.SwapBudget(b.Context(), "greynoise", version, doc)
			require.NoError(b, err)
			require.True(b, swapped)
			version++
		}
	})
}

// BenchmarkSQLiteObserve measures the registration of attackers.
func BenchmarkSQLiteObserve(b *testing.B) {
	const attackers = 20_000
	var busy time.Duration
	for b.Loop() {
		b.StopTimer()
		s, _ := openStore(b)
		all := crowd(attackers)
		start := cpu()
		b.StartTimer()
		require.NoError(b, s.Observe(b.Context(), all...))
		busy += cpu() - start
	}
	b.ReportMetric(float64(busy.Microseconds())/float64(b.N*attackers), "µs-cpu/attacker")
}
