package integration

import (
	"bytes"
	"database/sql"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/intel/intake"
	"github.com/decnet/enrich/store"
)

// BenchmarkObservations posts observations over HTTP to every kind of database, in
// requests of 500 on eight connections: first of attackers that are new, then of the
// same ones a second later. In between, a bare loop writes as many rows as the new
// attackers have to copies of the same tables with the same indexes, by prepared
// statements of many rows, in a transaction for each 500. It posts
// ENRICH_BENCH_OBSERVATIONS observations, by default 20,000.
func BenchmarkObservations(b *testing.B) {
	const batch, connections = 500, 8
	n := size(b, "ENRICH_BENCH_OBSERVATIONS", 20_000) / batch * batch
	for _, on := range databases {
		b.Run(on.String(), func(b *testing.B) {
			var added, again, bare spent
			for b.Loop() {
				s, db := on.openStore(b)
				in, err := intake.New(intake.Options{Store: s})
				require.NoError(b, err)
				server := httptest.NewServer(in.Observations())
				server.Client().Transport.(*http.Transport).MaxIdleConnsPerHost = connections
				seen := time.Now().Add(-time.Hour).Truncate(time.Second)
				post := func(sum *spent, at time.Time) {
					defer sum.since(time.Now(), cpu())
					var g errgroup.Group
					g.SetLimit(connections)
					for from := 0; from < n; from += batch {
						g.Go(func() error { return postObservations(server, from, batch, at) })
					}
					require.NoError(b, g.Wait())
				}
				post(&added, seen)
				writeBareAttackers(b, &bare, on, db, n, batch)
				post(&again, seen.Add(time.Second))
				server.Close()
				count := 0
				require.NoError(b, db.QueryRowContext(b.Context(), "SELECT count(*) FROM enrich_ledger WHERE last_seen = "+
					strconv.FormatInt(seen.Add(time.Second).UnixMicro(), 10)).Scan(&count))
				require.Equal(b, n, count)
			}
			for name, sum := range map[string]spent{"new": added, "known": again, "bare": bare} {
				b.ReportMetric(float64(b.N*n)/sum.wall.Seconds(), name+"/s")
				b.ReportMetric(float64(sum.cpu.Microseconds())/float64(b.N*n), "µs-cpu/"+name)
			}
			b.ReportMetric(100*bare.wall.Seconds()/added.wall.Seconds(), "new-%of-bare")
			b.ReportMetric(100*bare.wall.Seconds()/again.wall.Seconds(), "known-%of-bare")
			b.ReportMetric(0, "ns/op")
		})
	}
}

// observedAddr is the address of the attacker with a number.
func observedAddr(i int) netip.Addr {
	i *= 7919 // an order that no index has
	return netip.AddrFrom4([4]byte{45, byte(i >> 16), byte(i >> 8), byte(i)})
}

// postObservations posts n observations, from the one with a number on.
func postObservations(server *httptest.Server, from, n int, at time.Time) error {
	var body bytes.Buffer
	for i := from; i < from+n; i++ {
		body.WriteString(`{"address":"` + observedAddr(i).String() + `","time":"` + at.Format(time.RFC3339) + `","source":"sensor-1"}` + "\n")
	}
	resp, err := server.Client().Post(server.URL, "application/x-ndjson", &body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	var answer struct{ Accepted int }
	if err := json.Unmarshal(text, &answer); err != nil || answer.Accepted != n {
		return &unexpectedError{resp.Status + ": " + string(text)}
	}
	return nil
}

type unexpectedError struct{ text string }

func (e *unexpectedError) Error() string { return e.text }

// spent is the time, and the processor time of this process, that something took.
type spent struct{ wall, cpu time.Duration }

func (s *spent) since(start time.Time, used time.Duration) {
	s.wall += time.Since(start)
	s.cpu += cpu() - used
}

// writeBareAttackers writes the rows of n attackers to copies of attackers and of the
// ledger.
func writeBareAttackers(b *testing.B, sum *spent, on *database, db *sql.DB, n, batch int) {
	conn, err := db.Conn(b.Context())
	require.NoError(b, err)
	defer conn.Close()
	tables := []string{"attackers", "enrich_ledger"}
	rows, stmts := make([][]any, len(tables)), make([]*sql.Stmt, len(tables))
	for i, table := range tables {
		on.copyTable(b, db, table)
		var columns []string
		columns, rows[i] = firstRow(b, db, table)
		place := "(" + strings.Repeat("?, ", len(columns)-1) + "?)"
		stmts[i], err = conn.PrepareContext(b.Context(), on.placed("INSERT INTO bare_"+table+" ("+strings.Join(columns, ", ")+") VALUES "+
			strings.Repeat(place+", ", multi-1)+place))
		require.NoError(b, err)
		defer stmts[i].Close()
	}
	require.Zero(b, batch%multi)
	defer sum.since(time.Now(), cpu())
	for from := 0; from < n; from += batch {
		tx, err := conn.BeginTx(b.Context(), nil)
		require.NoError(b, err)
		for at := from; at < from+batch; at += multi {
			for i, stmt := range stmts {
				args := make([]any, 0, multi*len(rows[i]))
				for number := at; number < at+multi; number++ {
					addr := observedAddr(number)
					rows[i][0], rows[i][1] = store.AttackerID(addr).String(), addr.String()
					args = append(args, rows[i]...)
				}
				_, err := tx.StmtContext(b.Context(), stmt).ExecContext(b.Context(), args...)
				require.NoError(b, err)
			}
		}
		require.NoError(b, tx.Commit())
	}
}
