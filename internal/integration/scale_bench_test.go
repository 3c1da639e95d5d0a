package integration

import (
	"cmp"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// size returns a number from the environment: the benchmarks are short unless
// they are told how large to be.
func size(tb testing.TB, name string, otherwise int) int {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.Atoi(text)
	require.NoError(tb, err, name)
	return n
}

// atMost returns n, or less with -short.
func atMost(n, less int) int {
	if testing.Short() {
		return min(n, less)
	}
	return n
}

// BenchmarkClaimAtScale compares a claim of 50, and a claim that finds nothing,
// in a large table with the same in one of 10,000 attackers, on every kind of
// database: when all but 10 attackers are fresh, and when all are due. The large
// table has ENRICH_BENCH_ATTACKERS rows, by default 20,000; making a million
// takes minutes.
func BenchmarkClaimAtScale(b *testing.B) {
	large := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	for _, on := range databases {
		for _, allDue := range []bool{false, true} {
			b.Run(fmt.Sprintf("%v/all-due=%v", on, allDue), func(b *testing.B) {
				small, big := newCrowded(b, on, 10_000, allDue), newCrowded(b, on, large, allDue)
				small.begin()
				big.begin()
				for b.Loop() {
					for range 30 { // by turns, so that both meet the same machine
						small.measure()
						big.measure()
					}
				}
				report := func(what string, small, big []time.Duration) {
					b.ReportMetric(float64(median(big).Microseconds()), "µs/"+what)
					b.ReportMetric(float64(median(big))/float64(median(small)), "x-"+what)
				}
				report("claim", small.claims, big.claims)
				if !allDue {
					report("idle", small.idle, big.idle)
				}
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// BenchmarkStatsUnseen counts while no claim has come across any of the
// attackers, of which there are ENRICH_BENCH_ATTACKERS, by default 20,000.
func BenchmarkStatsUnseen(b *testing.B) {
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	for _, on := range databases {
		b.Run(on.String(), func(b *testing.B) {
			s, db := on.openStore(b)
			on.fill(b, s, db, attackers, true)
			empty := "TRUNCATE TABLE "
			if on == onSQLite {
				empty = "DELETE FROM "
			}
			for _, text := range []string{empty + "enrich_ledger", empty + "attacker_intel", "UPDATE enrich_cursor SET at = ''"} {
				_, err := db.ExecContext(b.Context(), text)
				require.NoError(b, err)
			}
			for b.Loop() {
				stats, err := s.Stats(b.Context(), time.Now())
				require.NoError(b, err)
				require.Equal(b, attackers+1, stats.Due)
			}
		})
	}
}

// BenchmarkSweep lets an idle store look over all attackers at its own pace,
// with a claim for every minute of a clock that is moved. It reports how many
// minutes that takes, and which part of a core this process and the database's
// server need for it. There are ENRICH_BENCH_ATTACKERS attackers, by default
// 20,000.
func BenchmarkSweep(b *testing.B) {
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	for _, on := range databases {
		b.Run(on.String(), func(b *testing.B) {
			s, db := on.openStore(b)
			on.fill(b, s, db, attackers, false)
			now := time.Now().UTC()
			s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect, Now: func() time.Time { return now }})
			require.NoError(b, err)
			claim := func() int {
				c, err := s.Claim(b.Context(), store.ClaimRequest{Now: now, Owner: "bench", Lease: 10 * time.Hour, Limit: 50})
				require.NoError(b, err)
				return len(c.Records)
			}
			require.Equal(b, 10, claim())

			minutes, rounds := 0, 0
			before := cpu() + on.cpu(b, db)
			for b.Loop() {
				for round := false; !round; minutes++ {
					now = now.Add(time.Minute)
					require.Zero(b, claim())
					round = column[string](b, db, "SELECT uuid FROM enrich_cursor WHERE name = 'sweep'")[0] == ""
				}
				rounds++
			}
			used := cpu() + on.cpu(b, db) - before
			b.ReportMetric(float64(minutes)/float64(rounds), "minutes")
			b.ReportMetric(100*used.Minutes()/float64(minutes), "%of-a-core")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// cpu returns the processor time that the database's server has used: MySQL for
// everybody, PostgreSQL for the connections to this database. The server has to
// run on this machine.
func (on *database) cpu(b *testing.B, db *sql.DB) (used time.Duration) {
	var pids []string
	switch on {
	case onPostgres:
		pids = column[string](b, db, "SELECT CAST(pid AS TEXT) FROM pg_stat_activity WHERE datname = current_database()")
	case onMySQL:
		pid, err := os.ReadFile(column[string](b, db, "SELECT @@pid_file")[0])
		require.NoError(b, err)
		pids = []string{strings.TrimSpace(string(pid))}
	}
	const tick = time.Second / 100 // USER_HZ
	for _, pid := range pids {
		stat, err := os.ReadFile("/proc/" + pid + "/stat")
		require.NoError(b, err)
		_, rest, _ := strings.Cut(string(stat), ") ")
		fields := strings.Fields(rest) // from the third on: state, …, utime, stime
		for _, text := range fields[11:13] {
			n, err := strconv.ParseInt(text, 10, 64)
			require.NoError(b, err)
			used += time.Duration(n) * tick
		}
	}
	return used
}

func median[T cmp.Ordered](values []T) T {
	values = slices.Sorted(slices.Values(values))
	return values[len(values)/2]
}

// crowded is a store with many attackers.
type crowded struct {
	*testing.B
	store        *sqlstore.Store
	db           *sql.DB
	now          time.Time
	claims, idle []time.Duration
}

func newCrowded(b *testing.B, on *database, attackers int, allDue bool) *crowded {
	b.Helper()
	s, db := on.openStore(b)
	c := &crowded{B: b, store: s, db: db, now: time.Now().UTC()}
	on.fill(b, s, db, attackers, allDue)
	return c
}

// begin makes the sweep begin now: it is not to make up for the time that it took
// to make all attackers up.
func (c *crowded) begin() {
	_, err := c.db.ExecContext(c.Context(), fmt.Sprintf("UPDATE enrich_cursor SET moved_at = %d WHERE name IN ('sweep', 'ledger')",
		time.Now().UnixMicro()))
	require.NoError(c, err)
}

// measure claims what is due and gives it back, so that it is due again, and
// then, unless there is always more, claims nothing.
func (c *crowded) measure() {
	claim := func() (store.Claimed, time.Duration) {
		start := time.Now()
		got, err := c.store.Claim(c.Context(), store.ClaimRequest{
			Now: c.now, Owner: "bench", Lease: time.Hour, Limit: 50, Providers: []string{"abuseipdb", "feodo", "greynoise", "threatfox"},
		})
		require.NoError(c, err)
		return got, time.Since(start)
	}
	got, took := claim()
	require.NotEmpty(c, got.Records)
	c.claims = append(c.claims, took)
	leases := make([]store.Lease, len(got.Records))
	for i, r := range got.Records {
		leases[i] = store.Lease{ID: r.ID, Fence: r.Fence}
	}
	if len(got.Records) < 50 {
		nothing, took := claim()
		require.Empty(c, nothing.Records)
		c.idle = append(c.idle, took)
	}
	require.NoError(c, c.store.Release(c.Context(), c.now, leases...))
}

// fill makes up attackers that were enriched, each with a record of the usual
// size, of which all or ten are due.
func (on *database) fill(b *testing.B, s *sqlstore.Store, db *sql.DB, n int, allDue bool) {
	b.Helper()
	template := crowd(1)
	require.NoError(b, s.Observe(b.Context(), template...))
	c, err := s.Claim(b.Context(), store.ClaimRequest{Now: time.Now(), Owner: "fill", Lease: time.Hour, Limit: 1})
	require.NoError(b, err)
	require.NoError(b, s.Save(b.Context(), enriched(c.Records[0], time.Now().UTC())))

	now := time.Now().UTC()
	numbers, id, ip, at := on.madeUp(n, now)
	wake := strconv.FormatInt(now.Add(time.Hour).UnixMicro(), 10) + " + n.i * 1000"
	if allDue {
		wake = strconv.FormatInt(now.Add(-time.Hour).UnixMicro(), 10) + " - n.i"
	}
	wake = "CASE WHEN n.i <= 10 THEN 1 ELSE " + wake + " END"
	seen := strconv.FormatInt(now.Unix()*1e6, 10) + " - n.i * 1000000"
	run := func(text string) {
		_, err := db.ExecContext(b.Context(), text)
		require.NoError(b, err)
	}
	run("INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at) SELECT " +
		strings.Join([]string{id, ip, at, at, at}, ", ") + " FROM (" + numbers + ") AS n")
	run(`INSERT INTO enrich_ledger (attacker_uuid, ip, addr, verdict, last_seen, state, wake_at, due_at, ahead_at, fence, owner, queues,
		revision, cached_at, ledger, decision) SELECT ` + strings.Join([]string{
		id, ip, ip, "t.verdict", seen, "0", wake, wake, "t.ahead_at", "7", "''", "''", "1", "t.cached_at", "t.ledger", "t.decision",
	}, ", ") + " FROM (" + numbers + ") AS n, (SELECT * FROM enrich_ledger LIMIT 1) AS t")
	run("UPDATE enrich_cursor SET at = '" + sqlalchemy(now) + "' WHERE name IN ('lead', 'trail')")
	run("UPDATE enrich_cursor SET at = 'end' WHERE name = 'past'")
	switch on {
	case onSQLite, onPostgres:
		run("ANALYZE")
		if on == onPostgres {
			run("VACUUM")
		}
	case onMySQL:
		texts(b, db, "ANALYZE TABLE attackers, enrich_ledger")
		settle(b, db)
	}
}

// settle waits until MySQL has written to the disk what it has in memory. After
// many rows were inserted it is busy with that for minutes, which is not what is
// to be measured.
func settle(b *testing.B, db *sql.DB) {
	b.Helper()
	for _, setting := range [][2]string{ // as fast as it can; the default writes 200 pages a second
		{"innodb_io_capacity_max", "20000"}, {"innodb_io_capacity", "20000"}, {"innodb_max_dirty_pages_pct", "0"},
	} {
		name, value := setting[0], setting[1]
		usual := column[string](b, db, "SELECT @@"+name)[0]
		set := func(to string) {
			_, err := db.ExecContext(b.Context(), "SET GLOBAL "+name+" = "+to)
			require.NoError(b, err)
		}
		set(value)
		defer set(usual)
	}
	require.Eventually(b, func() bool {
		dirty, err := strconv.Atoi(texts(b, db, "SHOW GLOBAL STATUS LIKE 'Innodb_buffer_pool_pages_dirty'")[0]["Value"])
		return err == nil && dirty < 100
	}, 5*time.Minute, 100*time.Millisecond)
}

// madeUp returns a query for the numbers up to n, as i, and expressions for the
// UUID and the address of the attacker with the number n.i, and for a time so
// many seconds ago.
func (on *database) madeUp(n int, now time.Time) (numbers, id, ip, at string) {
	numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < " + strconv.Itoa(n) + ") SELECT i FROM n"
	// UUIDs in no order, for new rows not to be neighbours.
	id = "printf('%08x-0000-4000-8000-%012x', (n.i * 2654435761) % 4294967296, n.i)"
	at = "strftime('%Y-%m-%d %H:%M:%S.000000', " + strconv.FormatInt(now.Unix(), 10) + " - n.i, 'unixepoch')"
	ip = "'45.' || (n.i / 65536 % 256) || '.' || (n.i / 256 % 256) || '.' || (n.i % 256)"
	switch on {
	case onPostgres:
		numbers = "SELECT i FROM generate_series(CAST(1 AS BIGINT), " + strconv.Itoa(n) + ") AS s(i)"
		id = "lpad(to_hex((n.i * 2654435761) % 4294967296), 8, '0') || '-0000-4000-8000-' || lpad(to_hex(n.i), 12, '0')"
		at = "to_timestamp(" + strconv.FormatInt(now.Unix(), 10) + " - n.i) AT TIME ZONE 'UTC'"
	case onMySQL:
		numbers = counted(n)
		id = "CONCAT(LPAD(HEX((n.i * 2654435761) % 4294967296), 8, '0'), '-0000-4000-8000-', LPAD(HEX(n.i), 12, '0'))"
		id = "LOWER(" + id + ")"
		at = "TIMESTAMPADD(SECOND, " + strconv.FormatInt(now.Unix(), 10) + " - n.i, '1970-01-01')"
		ip = "CONCAT('45.', n.i DIV 65536 % 256, '.', n.i DIV 256 % 256, '.', n.i % 256)"
	}
	return numbers, id, ip, at
}

// BenchmarkImport measures how many attackers a second are read in by claims, of
// those that DECNET saw before the first claim, on every kind of database: when
// they were updated a second after each other, and all at one time. There are
// ENRICH_BENCH_ATTACKERS of them, by default 20,000, of which the first 10,000
// are read in.
func BenchmarkImport(b *testing.B) {
	const page, pages = 256, 40
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	for _, on := range databases {
		for _, atOnce := range []bool{false, true} {
			b.Run(fmt.Sprintf("%v/at-once=%v", on, atOnce), func(b *testing.B) {
				var took time.Duration
				rounds := 0
				for ; b.Loop(); rounds++ {
					s, db := on.seen(b, attackers, atOnce)
					started := time.Now()
					for range pages {
						c, err := s.Claim(b.Context(), store.ClaimRequest{Now: started, Owner: "bench", Lease: time.Hour, Limit: 1})
						require.NoError(b, err)
						require.Len(b, c.Records, 1)
					}
					took += time.Since(started)
					require.GreaterOrEqual(b, column[int](b, db, "SELECT count(*) FROM enrich_ledger")[0], page*pages)
				}
				b.ReportMetric(float64(rounds*page*pages)/took.Seconds(), "attackers/s")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// seen returns a store in a database of DECNET with attackers in it that no
// claim has come across.
func (on *database) seen(b *testing.B, attackers int, atOnce bool) (*sqlstore.Store, *sql.DB) {
	b.Helper()
	db := on.makeDECNET(b)
	now := time.Now().UTC()
	numbers, id, ip, at := on.madeUp(attackers, now)
	updated := at
	if atOnce {
		updated = "'" + sqlalchemy(now.Add(-time.Hour)) + "'"
		if on == onPostgres {
			updated = "TIMESTAMP " + updated
		}
	}
	_, err := db.ExecContext(b.Context(), "INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at) SELECT "+
		strings.Join([]string{id, ip, at, at, "7", `'["ssh"]'`, updated}, ", ")+" FROM ("+numbers+") AS n")
	require.NoError(b, err)
	if on == onMySQL {
		texts(b, db, "ANALYZE TABLE attackers")
	} else {
		_, err = db.ExecContext(b.Context(), "ANALYZE")
		require.NoError(b, err)
	}
	return on.newStore(b, db), db
}

// counted returns a query for the numbers from 1 to n that MySQL and MariaDB
// both understand: they limit recursion in different ways.
func counted(n int) string {
	number, digits := "1", []string(nil)
	for power := 1; power < n; power *= 10 {
		name := "d" + strconv.Itoa(power)
		number += fmt.Sprintf(" + %d * %s.i", power, name)
		digits = append(digits, "digit AS "+name)
	}
	return "WITH digit AS (SELECT 0 AS i UNION SELECT 1 UNION SELECT 2 UNION SELECT 3 UNION SELECT 4 UNION SELECT 5" +
		" UNION SELECT 6 UNION SELECT 7 UNION SELECT 8 UNION SELECT 9) SELECT i FROM (SELECT " + number + " AS i FROM " +
		strings.Join(digits, ", ") + ") AS counted WHERE i <= " + strconv.Itoa(n)
}

// BenchmarkByAddress looks for attackers by as many networks as the largest list has. In
// the same run a bare loop reads the columns of all attackers that it needs for that.
// There are ENRICH_BENCH_ATTACKERS of them, by default 20,000.
func BenchmarkByAddress(b *testing.B) {
	attackers := size(b, "ENRICH_BENCH_ATTACKERS", 20_000)
	many := networks(atMost(500_000, 30_000), 4, 1, 11)
	for _, on := range databases {
		b.Run(on.String(), func(b *testing.B) {
			s, db := on.openStore(b)
			on.fill(b, s, db, attackers, false)
			var ours, bare []time.Duration
			for b.Loop() {
				began := time.Now()
				_, err := s.ByAddress(b.Context(), many)
				require.NoError(b, err)
				ours, began = append(ours, time.Since(began)), time.Now()
				rows, err := db.QueryContext(b.Context(), "SELECT attacker_uuid, ip, last_seen FROM enrich_ledger")
				require.NoError(b, err)
				n := 0
				for ; rows.Next(); n++ {
					var (
						id, ip string
						seen   int64
					)
					require.NoError(b, rows.Scan(&id, &ip, &seen))
				}
				require.NoError(b, errors.Join(rows.Err(), rows.Close()))
				require.GreaterOrEqual(b, n, attackers)
				bare = append(bare, time.Since(began))
			}
			b.ReportMetric(float64(median(ours).Milliseconds()), "ms")
			b.ReportMetric(float64(median(ours))/float64(median(bare)), "x-bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}
