package integration

import (
	"context"
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// asked are the services that are asked about each attacker; Feodo's list is
// loaded as a whole.
var asked = []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.ThreatFox}

// fleet is a database with attackers that processes enrich, each a worker of its
// own with a fake upstream in common.
type fleet struct {
	testing.TB
	on        *database
	dsn       string
	db        *sql.DB
	store     *sqlstore.Store
	up        *upstream.Server
	attackers []store.Attacker

	mu     sync.Mutex
	events map[string]map[string]int // by attacker: how often each ID was published
}

func newFleet(tb testing.TB, on *database, attackers int) *fleet {
	f := &fleet{TB: tb, on: on, dsn: on.create(tb), attackers: crowd(attackers), events: make(map[string]map[string]int)}
	f.db = on.open(tb, f.dsn)
	f.store = on.newStore(tb, f.db)
	var err error
	f.up, err = upstream.Start(upstream.Options{Keep: -1})
	require.NoError(tb, err)
	tb.Cleanup(f.up.Close)
	require.NoError(tb, f.store.Observe(tb.Context(), f.attackers...))
	return f
}

// start starts a worker process that ends when nothing is left to do, or with
// "serve" never.
func (f *fleet) start(task string) (p *process, done func()) {
	p = f.on.startChild(f, task, f.dsn, childUpstream+"="+f.up.URL())
	var reading sync.WaitGroup
	reading.Go(func() {
		for p.out.Scan() {
			id, attacker, ok := strings.Cut(p.out.Text(), " ")
			if !ok { // the process was killed while it wrote
				continue
			}
			f.mu.Lock()
			if f.events[attacker] == nil {
				f.events[attacker] = make(map[string]int)
			}
			f.events[attacker][id]++
			f.mu.Unlock()
		}
	})
	return p, reading.Wait
}

// run runs some workers until nothing is left to do and returns how long they
// took.
func (f *fleet) run(workers int) time.Duration {
	f.Helper()
	start := time.Now()
	var all sync.WaitGroup
	for range workers {
		p, done := f.start("work")
		all.Go(func() {
			done()
			if err := p.Wait(); err != nil {
				f.Errorf("worker: %v", err)
			}
		})
	}
	all.Wait()
	return time.Since(start)
}

// finish runs workers until every provider has answered about every attacker,
// as lookups may be put off on a busy machine and the leases of killed workers
// have to end, and publishes what is left in the outbox.
func (f *fleet) finish() {
	f.Helper()
	missing := ""
	for start := time.Now(); time.Since(start) < 2*time.Minute; {
		f.run(1)
		if missing = f.unanswered(); missing == "" {
			return
		}
	}
	f.Fatal("some attackers are not enriched: " + missing)
}

// unanswered describes an entry without an answer, and is empty if every provider has
// answered about every attacker.
func (f *fleet) unanswered() string {
	f.Helper()
	for req := (store.ListRequest{Limit: 500}); ; {
		page, err := f.store.List(f.Context(), req)
		require.NoError(f, err)
		for i := range page.Records {
			r := &page.Records[i]
			for name := range sources {
				if e := r.Entry(name); e == nil || e.Finding == nil {
					var states []string
					for _, text := range []string{"state", "wake_at", "due_at", "owner", "queues"} {
						states = append(states, text+" "+strings.Join(column[string](f, f.db, "SELECT "+text+" FROM enrich_ledger WHERE attacker_uuid = '"+r.ID.String()+"'"), ""))
					}
					return fmt.Sprintf("%s has not answered about %s: %+v; %s", name, r.IP, e, strings.Join(states, ", "))
				}
			}
		}
		if req.Cursor = page.Next; page.Next == "" {
			return ""
		}
	}
}

// repeated returns how many calls were made beyond one for each attacker and
// service, and fails the test if one is missing.
func (f *fleet) repeated() (n int) {
	f.Helper()
	for _, a := range f.attackers {
		for _, source := range asked {
			calls := f.up.CallsFor(source, a.Addr())
			require.Positive(f, calls, "%v about %s", source, a.IP)
			n += calls - 1
		}
	}
	return n
}

// whole fails the test unless every attacker is enriched, everything that is
// written together is there together, and every event was published. It returns
// how many events were published more than once.
func (f *fleet) whole() (duplicates int) {
	f.Helper()
	rows := make(map[string]map[string]string)
	for _, row := range texts(f, f.db, "SELECT * FROM attacker_intel") {
		rows[row["attacker_uuid"]] = row
	}
	require.Equal(f, len(f.attackers), len(rows), "rows of attacker_intel")
	require.Empty(f, column[string](f, f.db, "SELECT event_id FROM enrich_outbox"), "events are left in the outbox")
	checked := 0
	for req := (store.ListRequest{Limit: 500}); ; {
		page, err := f.store.List(f.Context(), req)
		require.NoError(f, err)
		for i := range page.Records {
			rec := &page.Records[i]
			id := rec.ID.String()
			row := rows[id]
			require.NotNil(f, row, id)
			for name := range sources {
				e := rec.Entry(name)
				require.NotNil(f, e, "%s of %s", name, id)
				require.NotNil(f, e.Finding, "finding of %s about %s", name, id)
				require.Equal(f, f.on.stored(e.Finding.ObservedAt), row[name+"_queried_at"], "%s of %s", name, id)
			}
			require.Equal(f, f.on.stored(rec.CachedAt), row["cached_at"], id)
			require.Equal(f, max(rec.Decision.Verdict.String(), "null"), max(row["aggregate_verdict"], "null"), id)
			require.Equal(f, int(rec.Revision), len(f.events[id]), "events about %s", id)
			for _, times := range f.events[id] {
				duplicates += times - 1
			}
			checked++
		}
		if req.Cursor = page.Next; page.Next == "" {
			break
		}
	}
	require.Equal(f, len(f.attackers), checked)
	return duplicates
}

// TestProcessesCallOnce lets several processes drain one backlog. Its size is
// ENRICH_TEST_ATTACKERS.
func TestProcessesCallOnce(t *testing.T) { onEach(t, testProcessesCallOnce) }

func testProcessesCallOnce(t *testing.T, on *database) {
	f := newFleet(t, on, size(t, "ENRICH_TEST_ATTACKERS", 300))
	f.run(4)
	f.finish()
	require.Zero(t, f.repeated(), "calls that were made before")
	f.whole()
}

// TestKilledWorkersLoseNothing kills workers at random in the middle of a
// backlog and lets another finish it. Its size is ENRICH_TEST_ATTACKERS, and
// ENRICH_TEST_KILLS is the number of kills. Every tenth time all connections to
// the database are cut. ENRICH_TEST_RESTART is a command that restarts the
// database server, for ten restarts among the kills: a server that nobody else
// uses, and that is back in a few seconds, for the leases of twelve not to end
// meanwhile.
func TestKilledWorkersLoseNothing(t *testing.T) { onEachAtOnce(t, testKilledWorkersLoseNothing) }

func testKilledWorkersLoseNothing(t *testing.T, on *database) {
	kills := size(t, "ENRICH_TEST_KILLS", 4)
	f := newFleet(t, on, size(t, "ENRICH_TEST_ATTACKERS", 300))
	type worker struct {
		*process
		done func()
	}
	start := func() worker {
		p, done := f.start("serve")
		return worker{p, done}
	}
	workers := []worker{start(), start(), start()}
	unsaved := 0
	for n := range kills {
		// Wait until some more was done, so that the kills spread over the backlog.
		f.wait(len(f.attackers) * (n + 1) / (kills + 2))
		if n%10 == 2 {
			f.cutConnections()
		}
		if restart != "" && f.on.server != "" && n%max(kills/10, 1) == 0 {
			out, err := exec.CommandContext(t.Context(), "sh", "-c", restart).CombinedOutput()
			require.NoError(t, err, string(out))
			// Nor do they end while one restart follows another.
			f.wait(min(len(f.attackers), f.count("SELECT count(*) FROM enrich_ledger WHERE verdict >= 0")+100))
		}
		w := &workers[rand.N(len(workers))]
		require.NoError(t, w.Process.Kill())
		w.done()
		_ = w.Wait() // it was killed
		unsaved += f.count("SELECT count(*) FROM enrich_ledger WHERE state = 2 AND owner = ?", fmt.Sprint(w.Process.Pid))
		*w = start()
	}
	f.wait(len(f.attackers)) // leases of the dead end, and others go on
	for _, w := range workers {
		require.NoError(t, w.Process.Signal(os.Interrupt))
		w.done()
		_ = w.Wait() // one that has just started does not listen to the signal yet
	}
	f.finish()
	duplicates := f.whole()
	repeated := f.repeated()
	t.Logf("%d kills: %d calls repeated, %d attackers were leased at the kills, %d events published twice", kills, repeated, unsaved, duplicates)
	require.LessOrEqual(t, repeated, unsaved*len(asked))
}

// wait waits until so many attackers are enriched.
func (f *fleet) wait(n int) {
	f.Helper()
	limit := time.Now().Add(time.Minute + time.Duration(len(f.attackers))*100*time.Millisecond)
	for f.count("SELECT count(*) FROM enrich_ledger WHERE verdict >= 0") < n {
		require.True(f, time.Now().Before(limit), "%d attackers are not enriched in time", n)
		<-time.After(5 * time.Millisecond)
	}
}

// count returns the number that a query counts. The database may be away for
// some time.
func (f *fleet) count(query string, args ...any) (n int) {
	f.Helper()
	var err error
	for range 600 {
		if err = f.db.QueryRowContext(f.Context(), f.on.placed(query), args...).Scan(&n); err == nil {
			return n
		}
		<-time.After(100 * time.Millisecond)
	}
	require.NoError(f, err)
	return 0
}

// cutConnections ends all connections to the database but one.
func (f *fleet) cutConnections() {
	f.Helper()
	conn, err := f.db.Conn(f.Context())
	require.NoError(f, err)
	defer conn.Close()
	switch f.on {
	case onPostgres:
		_, err = conn.ExecContext(f.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()")
		require.NoError(f, err)
	case onMySQL:
		rows, err := conn.QueryContext(f.Context(), "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()")
		require.NoError(f, err)
		var ids []int64
		for rows.Next() {
			var id int64
			require.NoError(f, rows.Scan(&id))
			ids = append(ids, id)
		}
		require.NoError(f, rows.Close())
		for _, id := range ids {
			_, _ = conn.ExecContext(context.Background(), fmt.Sprint("KILL ", id)) // it may have ended by itself
		}
	}
}

// BenchmarkFleet compares four worker processes on one PostgreSQL with one of
// them, in median of ENRICH_BENCH_ROUNDS rounds (1), on a backlog of
// ENRICH_BENCH_BACKLOG attackers (400), each provider being asked exactly once
// about each.
func BenchmarkFleet(b *testing.B) {
	backlog, rounds := size(b, "ENRICH_BENCH_BACKLOG", 400), size(b, "ENRICH_BENCH_ROUNDS", 1)
	var times [2][]time.Duration
	for b.Loop() {
		for range rounds {
			for i, workers := range []int{1, 4} {
				f := newFleet(b, onPostgres, backlog)
				times[i] = append(times[i], f.run(workers))
				require.Zero(b, f.repeated())
				f.whole()
				f.up.Close()
			}
		}
	}
	one, four := median(times[0]), median(times[1])
	b.ReportMetric(float64(backlog)/one.Seconds(), "one/s")
	b.ReportMetric(float64(backlog)/four.Seconds(), "four/s")
	b.ReportMetric(100*one.Seconds()/four.Seconds(), "%of-one")
	b.ReportMetric(0, "ns/op")
}
