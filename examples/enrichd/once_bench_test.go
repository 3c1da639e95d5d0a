package main

import (
	"database/sql"
	"fmt"
	"io"
	"net/http"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// BenchmarkOnce measures whole runs of -once as processes of their own, from start to
// exit: b.N attackers are due, on SQLite in a database of DECNET's shape, and the
// services answer at once from another process. The baseline is a process that makes
// the same calls and writes the same rows, and nothing else. ENRICH_BENCH_PROGRAM
// names another enrichd to compare with, such as that of an earlier commit; runs
// alternate, as often as ENRICH_BENCH_ROUNDS says. Of interest is -benchtime=20000x.
func BenchmarkOnce(b *testing.B) {
	for i := range engines {
		b.Run(engines[i].title, func(b *testing.B) { benchmarkOnce(b, &engines[i]) })
	}
}

func benchmarkOnce(b *testing.B, eng *engine) {
	if eng.port != "" {
		needServer(b, serverOf(eng))
	}
	s := newSite(b, upstream.Options{Keep: -1})
	s.env["DECNET_BUS_ENABLED"] = "false"
	names := []string{"", "bare"}
	programs := map[string]string{"": os.Args[0], "bare": os.Args[0]}
	if other := os.Getenv("ENRICH_BENCH_PROGRAM"); other != "" {
		names = []string{"", "other", "bare"}
		programs["other"] = other
	}
	rounds := 1
	if text := os.Getenv("ENRICH_BENCH_ROUNDS"); text != "" {
		var err error
		rounds, err = strconv.Atoi(text)
		require.NoError(b, err)
	}
	took, used := make(map[string]time.Duration), make(map[string]time.Duration)
	finished := "" // a database after a run
	for round := range rounds {
		for i := range names {
			name := names[i]
			if round%2 == 1 && i < len(names)-1 { // the bare loop is last: it needs what a run has left
				name = names[len(names)-2-i]
			}
			url := s.due(b, eng, name == "bare")
			s.env["DECNET_DB_URL"], s.env["ENRICHD_TEST_BARE"] = url, ""
			args := []string{"-once"}
			if eng.port != "" {
				args = append(args, "-create")
			}
			if name == "bare" {
				s.env["ENRICHD_TEST_BARE"] = finished
			}
			started := time.Now()
			p := s.startFile(programs[name], args...)
			select {
			case <-p.exited:
			case <-time.After(10 * time.Minute):
			}
			wall := time.Since(started)
			require.Equal(b, exitOK, p.code(), p.output())
			state := p.cmd.ProcessState
			if name == "bare" {
				line := p.logged("bare")
				wall = time.Duration(line["took"].(float64))
				used[name] += time.Duration(line["used"].(float64))
			} else {
				used[name] += state.UserTime() + state.SystemTime()
			}
			took[name] += wall
			if name == "" {
				finished = url
			}
			db := openURL(b, url)
			var n int
			require.NoError(b, db.QueryRow("SELECT count(*) FROM attacker_intel").Scan(&n))
			require.NoError(b, db.Close())
			require.Equal(b, b.N, n)
		}
	}
	n := float64(rounds * b.N)
	for name := range took {
		prefix := name + strings.Repeat("-", min(1, len(name)))
		b.ReportMetric(n/took[name].Seconds(), prefix+"attackers/s")
		b.ReportMetric(float64(used[name].Microseconds())/1000/n, prefix+"cpu-ms/attacker")
	}
	b.ReportMetric(100*took["bare"].Seconds()/took[""].Seconds(), "%of-bare")
	if programs["other"] != "" {
		b.ReportMetric(took["other"].Seconds()/took[""].Seconds(), "x-other")
	}
	b.ReportMetric(0, "ns/op")
}

func openURL(tb testing.TB, url string) *sql.DB {
	d, err := parseDatabaseURL(url)
	require.NoError(tb, err)
	db, err := d.engine.open(d)
	require.NoError(tb, err)
	return db
}

// due returns a database with b.N attackers that are due, and on request with our
// tables.
func (s *site) due(b *testing.B, eng *engine, prepared bool) (url string) {
	url = newDatabase(b, eng)
	db := openURL(b, url)
	defer db.Close()
	columns, values := "", ""
	if eng.port == "" {
		_, err := db.Exec(decnetSchema)
		require.NoError(b, err)
		columns, values = ", event_count, services", `, 7, '["ssh"]'`
	}
	if prepared || eng.port != "" {
		s.env["DECNET_DB_URL"], s.env["ENRICHD_TEST_BARE"] = url, ""
		p := s.start("-once", "-create")
		require.Equal(b, exitOK, p.code(), p.output())
	}
	now := sqlalchemy(time.Now())
	for from := 0; from < b.N; from += 500 {
		var rows []string
		for n := from; n < min(b.N, from+500); n++ {
			rows = append(rows, fmt.Sprintf("('%s', '45.%d.%d.%d', '%[5]s', '%[5]s', '%[5]s'%[6]s)",
				uuid.NewSHA1(uuid.NameSpaceOID, fmt.Append(nil, n)), 9+n/62500, n/250%250, n%250, now, values))
		}
		_, err := db.Exec("INSERT INTO attackers (uuid, ip, first_seen, last_seen, updated_at" + columns + ") VALUES " + strings.Join(rows, ", "))
		require.NoError(b, err)
	}
	return url
}

// bare makes the calls about the attackers of a finished database and writes its rows
// into another one, in batches, with one statement for as many rows as enrichd adds
// with one.
func bare(finished, url string) error {
	open := func(url string) (*sql.DB, database, error) {
		d, err := parseDatabaseURL(url)
		if err != nil {
			return nil, d, err
		}
		db, err := d.engine.open(d)
		return db, d, err
	}
	from, d, err := open(finished)
	if err != nil {
		return err
	}
	defer from.Close()
	to, _, err := open(url)
	if err != nil {
		return err
	}
	defer to.Close()
	ledger, err := readTable(from, "enrich_ledger", d.path != "")
	if err != nil {
		return err
	}
	rows, err := readTable(from, "attacker_intel", d.path != "")
	if err != nil {
		return err
	}
	runtime.GC()
	started, before := time.Now(), cpuTime()
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.MaxIdleConnsPerHost, transport.MaxIdleConns = 256, 1024
	client := &http.Client{Transport: transport, Timeout: 10 * time.Second}
	saves := make(chan string, 256)
	var writing, calling errgroup.Group
	writing.Go(func() error { return writeBare(to, d, saves, ledger, rows) })
	calling.SetLimit(64)
	for id, row := range rows.of {
		calling.Go(func() error {
			var fan errgroup.Group
			for _, req := range bareRequests(asString(row[rows.ip])) {
				fan.Go(func() error {
					resp, err := client.Do(req)
					if err != nil {
						return err
					}
					defer resp.Body.Close()
					_, err = io.Copy(io.Discard, resp.Body)
					return err
				})
			}
			err := fan.Wait()
			saves <- id
			return err
		})
	}
	if err := calling.Wait(); err != nil {
		return err
	}
	close(saves)
	if err := writing.Wait(); err != nil {
		return err
	}
	fmt.Fprintf(os.Stderr, `{"msg":"bare","took":%d,"used":%d}`+"\n", time.Since(started), cpuTime()-before)
	return nil
}

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// content is what a table holds.
type content struct {
	table   string
	columns []string
	ip      int              // the index of attacker_ip
	of      map[string][]any // by attacker
}

func readTable(db *sql.DB, table string, raw bool) (*content, error) {
	c := &content{table: table, of: make(map[string][]any)}
	rows, err := db.Query("SELECT * FROM " + table + " WHERE 1 = 0")
	if err != nil {
		return nil, err
	}
	c.columns, err = rows.Columns()
	_ = rows.Close() // it is empty
	if err != nil {
		return nil, err
	}
	selected := strings.Join(c.columns, ", ")
	if raw { // an expression has no type that the driver would convert to
		selected = "+" + strings.Join(c.columns, ", +")
	}
	rows, err = db.Query("SELECT " + selected + " FROM " + table)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for rows.Next() {
		values := make([]any, len(c.columns))
		dest := make([]any, len(values))
		for i := range values {
			dest[i] = &values[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return nil, err
		}
		id := ""
		for i, name := range c.columns {
			switch name {
			case "attacker_uuid":
				id = asString(values[i])
			case "attacker_ip":
				c.ip = i
			}
		}
		c.of[id] = values
	}
	return c, rows.Err()
}

func asString(v any) string {
	if b, ok := v.([]byte); ok {
		return string(b)
	}
	return fmt.Sprint(v)
}

// statement returns one that adds n rows.
func (c *content) statement(d database, n int) string {
	var b strings.Builder
	b.WriteString("INSERT INTO " + c.table + " (" + strings.Join(c.columns, ", ") + ") VALUES ")
	for i := range n * len(c.columns) {
		switch {
		case i%len(c.columns) > 0:
			b.WriteString(", ")
		case i > 0:
			b.WriteString("), (")
		default:
			b.WriteString("(")
		}
		if d.title == "PostgreSQL" {
			fmt.Fprintf(&b, "$%d", i+1)
		} else {
			b.WriteString("?")
		}
	}
	return b.String() + ")"
}

func writeBare(db *sql.DB, d database, saves <-chan string, tables ...*content) error {
	perStatement := 1
	if d.path == "" {
		perStatement = 64
	}
	statements := make(map[string]*sql.Stmt)
	for first := range saves {
		batch := []string{first}
		for more := true; more && len(batch) < 256; {
			select {
			case id, ok := <-saves:
				if more = ok; ok {
					batch = append(batch, id)
				}
			default:
				more = false
			}
		}
		tx, err := db.Begin()
		if err != nil {
			return err
		}
		for _, c := range tables {
			for i := 0; i < len(batch); {
				n := 1
				for n*2 <= min(perStatement, len(batch)-i) {
					n *= 2
				}
				var args []any
				for _, id := range batch[i : i+n] {
					args = append(args, c.of[id]...)
				}
				i += n
				text := c.statement(d, n)
				if statements[text] == nil && d.path != "" {
					if statements[text], err = db.Prepare(text); err != nil {
						return err
					}
				}
				if st := statements[text]; st != nil {
					_, err = tx.Stmt(st).Exec(args...)
				} else {
					_, err = tx.Exec(text, args...)
				}
				if err != nil {
					return err
				}
			}
		}
		if err := tx.Commit(); err != nil {
			return err
		}
	}
	return nil
}

func bareRequests(addr string) []*http.Request {
	request := func(name, method, path, body, keyHeader string) *http.Request {
		req, _ := http.NewRequest(method, os.Getenv("DECNET_"+name+"_URL")+path, strings.NewReader(body)) // the URL is well-formed
		req.Header.Set(keyHeader, os.Getenv("DECNET_"+name+"_API_KEY"))
		req.Header.Set("Accept", "application/json")
		return req
	}
	return []*http.Request{
		request("GREYNOISE", "GET", "/v3/community/"+addr, "", "key"),
		request("ABUSEIPDB", "GET", "/api/v2/check?ipAddress="+addr+"&maxAgeInDays=30&verbose", "", "Key"),
		request("THREATFOX", "POST", "/api/v1/", `{"query":"search_ioc","search_term":"`+addr+`"}`, "Auth-Key"),
	}
}
