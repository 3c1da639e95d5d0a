package integration

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// codes collects the codes of the errors that a store has met.
type codes struct {
	mu  sync.Mutex
	all []string
}

// of is a sqlstore.Options.Code.
func (c *codes) of(err error) (code string, ok bool) {
	if e, is := errors.AsType[*pgconn.PgError](err); is {
		code, ok = e.Code, true
	}
	if e, is := errors.AsType[*mysql.MySQLError](err); is {
		code, ok = strconv.Itoa(int(e.Number)), true
	}
	if ok {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.all = append(c.all, code)
	}
	return code, ok
}

func (c *codes) met() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.all)
}

// interruption is a way in which a server ends what a store does.
type interruption struct {
	name string
	on   *database
	dsn  string   // a further parameter of the data source name
	stop string   // what another client does to each of the store's sessions that waits
	want []string // one of these codes is met
}

var interruptions = []interruption{
	{"statement_timeout", onPostgres, "&statement_timeout=200", "", []string{"57014"}},
	{"pg_cancel_backend", onPostgres, "", "SELECT pg_cancel_backend(%)", []string{"57014"}},
	{"pg_terminate_backend", onPostgres, "", "SELECT pg_terminate_backend(%)", []string{"57P01"}},
	{"max_statement_time", onMySQL, "&max_statement_time=0.2", "", []string{"1969"}},
	{"KILL QUERY", onMySQL, "", "KILL QUERY %", []string{"1317"}},
	{"KILL", onMySQL, "", "KILL %", nil}, // the connection is closed, with 1927 or without a word
}

// TestInterruptedTransactionsAreTriedAgain like those whose connection is lost: a
// statement that took too long for the server, and a session that was ended.
func TestInterruptedTransactionsAreTriedAgain(t *testing.T) {
	for _, in := range interruptions {
		t.Run(in.on.String()+"/"+in.name, func(t *testing.T) {
			dsn := in.on.create(t)
			admin := in.on.open(t, dsn)
			if in.name == "max_statement_time" {
				var version string
				require.NoError(t, admin.QueryRow("SELECT VERSION()").Scan(&version))
				if !strings.Contains(version, "MariaDB") {
					t.Skip("MySQL limits the time of reads only")
				}
			}
			in.on.newStore(t, admin)
			var met codes
			s, err := sqlstore.New(in.on.open(t, dsn+in.dsn), sqlstore.Options{Dialect: in.on.Dialect, Code: met.of})
			require.NoError(t, err)
			attackers := crowd(300)
			require.NoError(t, s.Observe(t.Context(), attackers...))
			request := store.ClaimRequest{Now: time.Now().UTC(), Owner: "test", Lease: time.Minute, Limit: 1}
			c, err := s.Claim(t.Context(), request)
			require.NoError(t, err)
			require.Len(t, c.Records, 1)
			rec := c.Records[0]
			request.Limit, request.Only = 1, []uuid.UUID{rec.ID}
			seen := rec.Attacker
			seen.LastSeen = time.Now().UTC().Add(time.Second)
			for name, call := range map[string]func() error{
				"Save":    func() error { return s.Save(t.Context(), enriched(rec, time.Now().UTC())) },
				"Observe": func() error { return s.Observe(t.Context(), seen) },
				"Claim": func() error {
					_, err := s.Claim(t.Context(), request)
					return err
				},
			} {
				met.mu.Lock()
				met.all = nil
				met.mu.Unlock()
				in.interrupt(t, admin, rec.ID, &met, call)
				if in.want != nil {
					require.True(t, slices.ContainsFunc(in.want, func(code string) bool { return slices.Contains(met.met(), code) }), "%s: %v", name, met.met())
				}
			}
		})
	}
}

// interrupt makes the call wait for a locked row, ends its statement or session, and
// unlocks the row. The call must succeed.
func (in *interruption) interrupt(t *testing.T, admin *sql.DB, id uuid.UUID, met *codes, call func() error) {
	theirs, err := admin.Begin()
	require.NoError(t, err)
	defer theirs.Rollback()
	require.NoError(t, theirs.QueryRow("SELECT ip FROM enrich_ledger WHERE attacker_uuid = '"+id.String()+"' FOR UPDATE").Scan(new(string)))
	done := make(chan error, 1)
	go func() { done <- call() }()
	if in.stop == "" {
		require.Eventually(t, func() bool { return len(met.met()) > 0 }, 20*time.Second, 10*time.Millisecond)
	} else {
		waiting := "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
		if in.on == onMySQL {
			waiting = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND command = 'Query' AND id <> CONNECTION_ID() AND info LIKE '%FOR UPDATE'"
		}
		var session string
		require.Eventually(t, func() bool { // twice in a row: a statement that is not over soon
			before := session
			return admin.QueryRow(waiting).Scan(&session) == nil && session == before
		}, 20*time.Second, 50*time.Millisecond)
		_, err := admin.Exec(strings.Replace(in.stop, "%", session, 1))
		require.NoError(t, err)
	}
	require.NoError(t, theirs.Rollback())
	require.NoError(t, <-done)
}

// pausing is a connection that pauses once before it sends what contains a text.
type pausing struct {
	net.Conn
	before []byte
	pause  func()
}

func (p *pausing) Write(b []byte) (int, error) {
	if bytes.Contains(b, p.before) {
		p.pause()
	}
	return p.Conn.Write(b)
}

// TestIdleSessionIsEndedAndTheTransactionTriedAgain: with
// idle_in_transaction_session_timeout, a client that pauses loses its session.
func TestIdleSessionIsEndedAndTheTransactionTriedAgain(t *testing.T) {
	dsn := onPostgres.create(t)
	onPostgres.newStore(t, onPostgres.open(t, dsn))
	config, err := pgx.ParseConfig(dsn + "&idle_in_transaction_session_timeout=100")
	require.NoError(t, err)
	pauses := 0
	pause := sync.OnceFunc(func() {
		pauses++
		<-time.After(500 * time.Millisecond)
	})
	dial := config.DialFunc
	config.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &pausing{conn, []byte("INSERT INTO attackers"), pause}, nil
	}
	db := stdlib.OpenDB(*config)
	defer db.Close()
	var met codes
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.PostgreSQL, Code: met.of})
	require.NoError(t, err)
	attackers := crowd(5)
	require.NoError(t, s.Observe(t.Context(), attackers...))
	require.Equal(t, 1, pauses)
	require.Subset(t, []string{"25P03"}, met.met()) // or the connection was reset before it could be read
	for _, a := range attackers {
		_, err := s.Get(t.Context(), a.ID)
		require.NoError(t, err)
	}
}
