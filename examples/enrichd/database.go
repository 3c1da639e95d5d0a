package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/go-sql-driver/mysql"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// engine is a kind of database.
type engine struct {
	title   string
	schemes []string // of URLs
	port    string   // of its servers; empty if there are none
	dialect sqlstore.Dialect
	open    func(database) (*sql.DB, error)
	conns   int    // connections at once
	tables  string // query for the names of all tables
	schema  string // query for the schema they are in, empty text if there is none; empty if it cannot be missing
}

// engines are all there are.
var engines = []engine{
	{
		title: "SQLite", schemes: []string{"sqlite"}, dialect: sqlstore.SQLite,
		open: openSQLite, conns: 4, // each has a cache of its own
		tables: "SELECT name FROM sqlite_master WHERE type IN ('table', 'view')",
	},
	{
		title: "PostgreSQL", schemes: []string{"postgres", "postgresql"}, port: "5432", dialect: sqlstore.PostgreSQL,
		open: openPostgres, conns: 8,
		tables: "SELECT table_name FROM information_schema.tables WHERE table_schema = current_schema()",
		schema: "SELECT coalesce(current_schema(), '')",
	},
	{
		title: "MySQL", schemes: []string{"mysql", "mariadb"}, port: "3306", dialect: sqlstore.MySQL,
		open: openMySQL, conns: 8,
		tables: "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()",
	},
}

func engineFor(scheme string) *engine {
	for i := range engines {
		if slices.Contains(engines[i].schemes, scheme) {
			return &engines[i]
		}
	}
	return nil
}

// connectTimeout is how long a database server may take to answer at first.
const connectTimeout = 10 * time.Second

// openSQLite returns a pool of connections to the file, which is made if it is
// not there.
func openSQLite(d database) (*sql.DB, error) {
	if _, err := os.Stat(filepath.Dir(d.path)); err != nil {
		return nil, fmt.Errorf("make its directory, or name another file: %w", err)
	}
	return sql.Open("sqlite", sqlstore.SQLiteDSN(d.path))
}

func openPostgres(d database) (*sql.DB, error) {
	params := url.Values{"application_name": {"enrichd"}}
	for name, values := range d.params {
		if name == "ssl" { // as asyncpg calls it
			name = "sslmode"
		}
		params[name] = values
	}
	u := url.URL{
		Scheme: "postgres", Host: net.JoinHostPort(d.host, d.port), Path: "/" + d.name,
		User: url.UserPassword(d.user, d.password), RawQuery: params.Encode(),
	}
	c, err := pgx.ParseConfig(u.String())
	if err != nil {
		return nil, errors.New("the parameters make no sense to the driver") // whose error repeats them
	}
	if !params.Has("connect_timeout") {
		c.ConnectTimeout = connectTimeout
	}
	return stdlib.OpenDB(*c), nil
}

func openMySQL(d database) (*sql.DB, error) {
	params, err := translateMySQL(d.params)
	if err != nil {
		return nil, err
	}
	c, err := params.config(net.JoinHostPort(d.host, d.port))
	if err != nil {
		return nil, err
	}
	c.User, c.Passwd, c.DBName = d.user, d.password, d.name
	c.InterpolateParams = true // saves a round trip for each statement
	if c.Timeout == 0 {
		c.Timeout = connectTimeout
	}
	c.Logger = &mysql.NopLogger{} // errors are returned as well
	connector, err := mysql.NewConnector(c)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}

// open returns a pool of connections and the store in it. It connects to no
// server.
func (d database) open(log *slog.Logger) (*sql.DB, *sqlstore.Store, error) {
	db, err := d.engine.open(d)
	if err != nil {
		return nil, nil, fmt.Errorf("open %v: %w", d, err)
	}
	db.SetMaxOpenConns(d.conns)
	db.SetMaxIdleConns(d.conns)
	db.SetConnMaxIdleTime(5 * time.Minute) // before a server gives up on them
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: d.dialect, Log: log})
	if err != nil {
		_ = db.Close() // the first error matters
		return nil, nil, err
	}
	return db, s, nil
}

// errNoAttackers is returned for a database that DECNET has not created.
var errNoAttackers = errors.New("it has no table attackers, so it is not DECNET's; name DECNET's database with -db or -decnet, or create the tables with -create")

// prepareOnce creates the tables that are missing. If DECNET's are missing and
// must exist, it creates nothing and returns errNoAttackers.
func (d database) prepareOnce(ctx context.Context, s store.Migrator) error {
	if d.mustExist {
		tables, err := d.existingTables(ctx)
		switch {
		case err != nil:
			return err
		case !slices.Contains(tables, "attackers"):
			return errNoAttackers
		}
	}
	return s.Migrate(ctx)
}

// prepare creates the tables that are missing. It waits for a server that is down,
// and for DECNET to create its tables if they must exist; it looks for them again
// after each poll.
func (d database) prepare(ctx context.Context, s store.Migrator, poll time.Duration, log *slog.Logger) error {
	waits := false // for DECNET's tables
	for delay := 500 * time.Millisecond; ; {
		err := d.prepareOnce(ctx, s)
		wait := poll
		switch {
		case err == nil, ctx.Err() != nil:
			return ctx.Err()
		case errors.Is(err, errNoAttackers):
			if !waits {
				log.Error("cannot enrich; looking again at each poll", "database", d.String(), "error", err, "in", poll)
			}
			waits, delay = true, 500*time.Millisecond
		case d.port == "", errors.Is(err, store.ErrSchema):
			return fmt.Errorf("prepare %v: %w", d, err)
		default:
			wait = time.Duration(float64(delay) * (0.8 + 0.4*rand.Float64()))
			delay = min(2*delay, 30*time.Second)
			log.Error("cannot prepare the database; trying again", "database", d.String(), "error", err, "in", wait)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(wait):
		}
	}
}
