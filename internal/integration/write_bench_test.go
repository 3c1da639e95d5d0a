package integration

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// BenchmarkWriteRate saves full records, in batches, on every kind of database.
// After each batch a bare loop writes as many equal rows to copies of the same
// tables with the same indexes, by prepared statements of many rows, in one
// transaction. It saves ENRICH_BENCH_RECORDS records, by default 10,000.
func BenchmarkWriteRate(b *testing.B) {
	const batch = 250
	records := size(b, "ENRICH_BENCH_RECORDS", 10_000)
	for _, on := range databases {
		b.Run(on.String(), func(b *testing.B) {
			var ours, claiming, bare time.Duration
			for b.Loop() {
				s, db := on.openStore(b)
				require.NoError(b, s.Observe(b.Context(), crowd(records)...))
				var w *bareWriter
				for range records / batch {
					start := time.Now()
					c, err := s.Claim(b.Context(), store.ClaimRequest{Now: start, Owner: "bench", Lease: time.Hour, Limit: batch})
					require.NoError(b, err)
					require.Len(b, c.Records, batch)
					claiming += time.Since(start)
					updates := make([]store.Update, batch)
					for i := range updates {
						updates[i] = enriched(c.Records[i], start.UTC())
					}
					start = time.Now()
					require.NoError(b, s.Save(b.Context(), updates...))
					ours += time.Since(start)
					if w == nil {
						w = newBareWriter(b, on, db, batch)
					}
					start = time.Now()
					w.write(updates)
					bare += time.Since(start)
				}
				w.close()
			}
			n := float64(b.N * (records / batch) * batch)
			b.ReportMetric(n/ours.Seconds(), "saved/s")
			b.ReportMetric(n/bare.Seconds(), "bare/s")
			b.ReportMetric(100*bare.Seconds()/ours.Seconds(), "%of-bare")
			b.ReportMetric(n/claiming.Seconds(), "claimed/s")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// bareWriter writes rows as fast as a program can that does nothing else.
type bareWriter struct {
	*testing.B
	conn  *sql.Conn
	rows  [][]any // one row of each table, to be varied
	stmts []*sql.Stmt
}

// multi is how many rows a bare statement adds.
const multi = 50

// bareTables are what a save writes to, and where the row's own values go.
var bareTables = []string{"enrich_ledger", "attacker_intel", "enrich_outbox"}

func newBareWriter(b *testing.B, on *database, db *sql.DB, batch int) *bareWriter {
	require.Zero(b, batch%multi)
	conn, err := db.Conn(b.Context())
	require.NoError(b, err)
	w := &bareWriter{B: b, conn: conn}
	for _, table := range bareTables {
		on.copyTable(b, db, table)
		columns, row := firstRow(b, db, table)
		if table == "enrich_outbox" { // seq is given by the database
			columns, row = columns[1:], row[1:]
		}
		place := "(" + strings.Repeat("?, ", len(row)-1) + "?)"
		stmt, err := conn.PrepareContext(b.Context(), on.placed("INSERT INTO bare_"+table+" ("+strings.Join(columns, ", ")+") VALUES "+
			strings.Repeat(place+", ", multi-1)+place))
		require.NoError(b, err)
		w.rows, w.stmts = append(w.rows, row), append(w.stmts, stmt)
	}
	return w
}

// copyTable makes an empty copy of a table with its indexes, named bare_….
func (on *database) copyTable(tb testing.TB, db *sql.DB, table string) {
	statements := []string{"CREATE TABLE bare_" + table + " LIKE " + table}
	switch on {
	case onPostgres:
		statements = []string{"CREATE TABLE bare_" + table + " (LIKE " + table + " INCLUDING ALL)"}
	case onSQLite:
		statements = column[string](tb, db, `SELECT replace(replace(replace(sql, 'CREATE TABLE ', 'CREATE TABLE bare_'),
			'CREATE INDEX ', 'CREATE INDEX bare_'), ' ON '||tbl_name||' (', ' ON bare_'||tbl_name||' (')
			FROM sqlite_master WHERE tbl_name = ? AND sql IS NOT NULL ORDER BY type DESC`, table)
	}
	for _, text := range statements {
		_, err := db.ExecContext(tb.Context(), text)
		require.NoError(tb, err)
	}
}

func (w *bareWriter) write(updates []store.Update) {
	tx, err := w.conn.BeginTx(w.Context(), nil)
	require.NoError(w, err)
	for start := 0; start < len(updates); start += multi {
		for i, stmt := range w.stmts {
			args := make([]any, 0, multi*len(w.rows[i]))
			for _, u := range updates[start : start+multi] {
				row := w.rows[i]
				switch i {
				case 0:
					row[0] = u.ID.String()
				case 1:
					row[0], row[1] = uuid.NewString(), u.ID.String()
				case 2:
					row[0], row[1] = uuid.NewString(), u.ID.String()
				}
				args = append(args, row...)
			}
			_, err := tx.StmtContext(w.Context(), stmt).ExecContext(w.Context(), args...)
			require.NoError(w, err)
		}
	}
	require.NoError(w, tx.Commit())
}

func (w *bareWriter) close() {
	for _, stmt := range w.stmts {
		require.NoError(w, stmt.Close())
	}
	require.NoError(w, w.conn.Close())
}
