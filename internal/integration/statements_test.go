package integration

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// recorder opens connections to PostgreSQL that record their statements.
type recorder struct {
	driver.Connector
	mu         sync.Mutex
	statements []string
}

func (r *recorder) Connect(ctx context.Context) (driver.Conn, error) {
	conn, err := r.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return &recorded{conn.(*stdlib.Conn), r}, nil
}

func (r *recorder) record(text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.statements = append(r.statements, text)
}

// during returns the statements that work runs.
func (r *recorder) during(work func()) []string {
	r.mu.Lock()
	r.statements = nil
	r.mu.Unlock()
	work()
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.statements
}

type recorded struct {
	*stdlib.Conn
	recorder *recorder
}

func (c *recorded) ExecContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Result, error) {
	c.recorder.record(text)
	return c.Conn.ExecContext(ctx, text, args)
}

func (c *recorded) QueryContext(ctx context.Context, text string, args []driver.NamedValue) (driver.Rows, error) {
	c.recorder.record(text)
	return c.Conn.QueryContext(ctx, text, args)
}

// TestStatements: each statement is a round trip to a database server, and most
// of what a claim or a save costs.
func TestStatements(t *testing.T) {
	config, err := pgx.ParseConfig(onPostgres.create(t))
	require.NoError(t, err)
	r := &recorder{Connector: stdlib.GetConnector(*config)}
	db := sql.OpenDB(r)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	s := onPostgres.newStore(t, db)
	exec := func(text string) {
		t.Helper()
		_, err := db.ExecContext(t.Context(), text)
		require.NoError(t, err)
	}
	now := time.Now().UTC()
	req := store.ClaimRequest{
		Now: now, Owner: "test", Lease: time.Minute, Limit: 50, Grants: make(map[string]store.Grant),
		Providers: []string{"abuseipdb", "feodo", "greynoise", "threatfox"},
	}
	for _, name := range req.Providers {
		req.Grants[name] = store.Grant{Calls: 10, Oldest: 1}
	}
	claim := func(want int) (recs []store.Record) {
		t.Helper()
		c, err := s.Claim(t.Context(), req)
		require.NoError(t, err)
		require.Len(t, c.Records, want)
		return c.Records
	}
	require.NoError(t, s.Observe(t.Context(), crowd(20)...))
	exec("UPDATE attackers SET updated_at = updated_at - INTERVAL '1 hour'") // nothing is new
	recs := claim(20)
	u := enriched(recs[0], now)
	u.Due = now.Add(time.Hour)
	require.NoError(t, s.Save(t.Context(), u))
	for _, rec := range recs[1:] {
		require.NoError(t, s.Save(t.Context(), enriched(rec, now)))
	}
	claim(0)

	for _, what := range []struct {
		name string
		most int
		work func()
	}{
		{"an idle claim", 11, func() { claim(0) }},
		{"a claim of one that has become due", 14, func() {
			req.Now = now.Add(2 * time.Hour)
			recs = claim(1)
		}},
		{"a save", 8, func() { require.NoError(t, s.Save(t.Context(), enriched(recs[0], now))) }},
		{"a claim of one that is new", 14, func() { recs = claim(1) }},
		{"an idle claim shortly after", 11, func() { claim(0) }},
		{"a save of the first findings", 8, func() { require.NoError(t, s.Save(t.Context(), enriched(recs[0], now))) }},
	} {
		if strings.Contains(what.name, "new") {
			require.NoError(t, s.Observe(t.Context(), crowd(1)...))
		}
		exec("UPDATE enrich_cursor SET moved_at = CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS BIGINT) WHERE name IN ('sweep', 'ledger')") // not yet time for them
		statements := r.during(what.work)
		require.LessOrEqual(t, len(statements), what.most, "%s:\n%s", what.name, strings.Join(statements, "\n"))
		t.Logf("%s: %d statements", what.name, len(statements))
	}
}
