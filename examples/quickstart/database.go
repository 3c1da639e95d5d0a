package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/sqlstore"
)

// database is where attackers and what is learnt about them are kept.
type database struct {
	recordStore
	close func() error
}

type recordStore interface {
	store.Store
	store.Registrar
	store.Statistician
}

// openDatabase opens the file that -db names, and without -db a store in memory.
func openDatabase(ctx context.Context, o options) (*database, error) {
	if o.db == "" {
		return &database{memstore.New(), func() error { return nil }}, nil
	}
	db, err := sql.Open("sqlite", sqlstore.SQLiteDSN(o.db))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", o.db, err)
	}
	db.SetMaxOpenConns(4) // each has a cache of its own
	s, err := prepare(ctx, db, o)
	if err != nil {
		_ = db.Close() // the first error matters
		return nil, fmt.Errorf("open %s: %w", o.db, err)
	}
	return &database{s, db.Close}, nil
}

func prepare(ctx context.Context, db *sql.DB, o options) (*sqlstore.Store, error) {
	if err := keepApart(ctx, db, o.live); err != nil {
		return nil, err
	}
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	if err != nil {
		return nil, err
	}
	return s, s.Migrate(ctx)
}

// madeUp is the SQLite application ID of a database with answers that are made
// up: the letters "fake".
const madeUp = 0x66616b65

// keepApart refuses to mix answers that are made up with real ones.
func keepApart(ctx context.Context, db *sql.DB, live bool) error {
	var id, tables int
	if err := db.QueryRowContext(ctx, "PRAGMA application_id").Scan(&id); err != nil {
		return err
	}
	if err := db.QueryRowContext(ctx, "SELECT count(*) FROM sqlite_master").Scan(&tables); err != nil {
		return err
	}
	switch {
	case live && id == madeUp:
		return usageError{errors.New("its answers are made up, from runs without -live; choose another file")}
	case live || id == madeUp:
		return nil
	case tables > 0:
		return usageError{errors.New("it holds real data, which this run would mix with answers that are made up; choose another file, or use -live")}
	}
	_, err := db.ExecContext(ctx, fmt.Sprintf("PRAGMA application_id = %d", madeUp))
	return err
}
