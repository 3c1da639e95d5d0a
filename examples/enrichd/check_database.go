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
	"strings"

	"github.com/decnet/enrich/store/sqlstore"
)

// check looks at the database and changes nothing in it.
func (d database) check(ctx context.Context) row {
	detail, advice, err := d.look(ctx)
	switch {
	case err != nil:
		return failed("database", fmt.Errorf("%v: %w", d, err))
	case len(advice) > 0:
		return row{"database", checkNote, d.String() + ": " + detail + "; " + strings.Join(advice, "; ")}
	}
	return row{"database", checkOK, d.String() + ": " + detail}
}

// look returns in what state the database is, and what would make it work better.
func (d database) look(ctx context.Context) (detail string, advice []string, err error) {
	if d.isMissing() && !d.mustExist {
		return "the first start will make it", nil, writable(filepath.Dir(d.path))
	}
	tables, err := d.existingTables(ctx)
	switch {
	case err != nil:
		return "", nil, err
	case d.mustExist && !slices.Contains(tables, "attackers"):
		return "", nil, errNoAttackers
	}
	db, err := d.existing()
	if err != nil {
		return "", nil, err
	}
	defer db.Close()
	records, err := sqlstore.New(db, sqlstore.Options{Dialect: d.dialect})
	if err != nil {
		return "", nil, err
	}
	plan, err := records.Plan(ctx)
	if err == nil {
		err = records.CheckPrivileges(ctx)
	}
	if err == nil {
		advice, err = records.Advice(ctx)
	}
	switch {
	case err != nil:
		return "", nil, err
	case len(plan) == 0:
		return "prepared", advice, records.Validate(ctx)
	case !slices.Contains(tables, "attackers"):
		return "the first start will make the tables", advice, nil
	case !slices.Contains(tables, "enrich_ledger"):
		return "made by DECNET; the first start will add tables named enrich_*", advice, nil
	}
	return "the next start will bring the tables up to date", advice, nil
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
	if d.schema != "" {
		var schema string
		if err := tx.QueryRowContext(ctx, d.schema).Scan(&schema); err != nil {
			return nil, err
		}
		if schema == "" {
			return nil, errors.New("search_path names no schema that exists, or none that this role may use: " +
				"correct it in the URL or with ALTER ROLE ... SET search_path, or GRANT USAGE ON SCHEMA ... TO the role")
		}
	}
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
