package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"

	"github.com/decnet/enrich/store/sqlstore"
)

// check looks at the database and changes nothing in it.
func (d database) check(ctx context.Context) row {
	detail, err := d.look(ctx)
	if err != nil {
		return failed("database", fmt.Errorf("%v: %w", d, err))
	}
	return row{"database", checkOK, d.String() + ": " + detail}
}

func (d database) look(ctx context.Context) (string, error) {
	if d.isMissing() && !d.mustExist {
		return "the first start will make it", writable(filepath.Dir(d.path))
	}
	tables, err := d.existingTables(ctx)
	switch {
	case err != nil:
		return "", err
	case d.mustExist && !slices.Contains(tables, "attackers"):
		return "", errNoAttackers
	}
	db, err := d.existing()
	if err != nil {
		return "", err
	}
	defer db.Close()
	records, err := sqlstore.New(db, sqlstore.Options{Dialect: d.dialect})
	if err != nil {
		return "", err
	}
	plan, err := records.Plan(ctx)
	switch {
	case err != nil:
		return "", err
	case len(plan) == 0:
		return "prepared", records.Validate(ctx)
	case !slices.Contains(tables, "attackers"):
		return "the first start will make the tables", nil
	case !slices.Contains(tables, "enrich_ledger"):
		return "made by DECNET; the first start will add tables named enrich_*", nil
	}
	return "the next start will bring the tables up to date", nil
}

// isMissing reports whether the database is an SQLite file that is not there.
func (d database) isMissing() bool {
	if d.path == "" {
		return false
	}
	_, err := os.Stat(d.path)
	return errors.Is(err, fs.ErrNotExist)
}

// existingTables returns the names of all tables, and none if the database is a
// file that is not there. It creates nothing.
func (d database) existingTables(ctx context.Context) ([]string, error) {
	if d.isMissing() {
		_, err := os.Stat(filepath.Dir(d.path))
		return nil, err
	}
	db, err := d.existing()
	if err != nil {
		return nil, err
	}
	defer db.Close()
	return d.tablesIn(ctx, db)
}

// existing opens a database that is there. Where tablesIn begins a transaction,
// SQLite takes the lock to write, so that a file that cannot be written is
// noticed.
func (d database) existing() (*sql.DB, error) {
	if d.path == "" {
		return d.engine.open(d)
	}
	return sql.Open("sqlite", "file:"+(&url.URL{Path: d.path}).EscapedPath()+"?mode=rw&_pragma=busy_timeout(10000)&_txlock=immediate")
}

// writable returns an error if no file can be made in a directory.
func writable(dir string) error {
	f, err := os.CreateTemp(dir, ".enrichd-check-*")
	if err != nil {
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// tablesIn returns the names of all tables.
func (d database) tablesIn(ctx context.Context, db *sql.DB) (names []string, err error) {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback() }()
	rows, err := tx.QueryContext(ctx, d.tables)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var name string
		if err := rows.Scan(&name); err != nil {
			return nil, err
		}
		names = append(names, name)
	}
	return names, rows.Err()
}
