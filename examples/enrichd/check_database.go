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
	if d.path != "" {
		if _, err := os.Stat(d.path); errors.Is(err, fs.ErrNotExist) {
			return "the first start will make it", writable(filepath.Dir(d.path))
		}
	}
	db, err := d.existing()
	if err != nil {
		return "", err
	}
	defer db.Close()
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return "", err
	}
	defer func() { _ = tx.Rollback() }()
	tables, err := column(ctx, tx, d.tables)
	switch {
	case err != nil:
		return "", err
	case !slices.Contains(tables, "attackers"):
		return "the first start will make the tables", nil
	}
	rows, err := tx.QueryContext(ctx, "SELECT uuid, ip, first_seen, last_seen, updated_at FROM attackers WHERE 1 = 0")
	if err != nil {
		return "", fmt.Errorf("the table attackers is not as it has to be: %w", err)
	}
	if err := errors.Join(rows.Err(), rows.Close()); err != nil {
		return "", err
	}
	if !slices.Contains(tables, "enrich_ledger") {
		return "made by DECNET; the first start will add tables named enrich_*", nil
	}
	return "prepared", nil
}

// existing opens a database that is there. The transactions of SQLite take the
// lock to write, so that a file that cannot be written is noticed.
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

// column returns the result of a query for one column of text.
func column(ctx context.Context, tx *sql.Tx, query string) (list []string, err error) {
	rows, err := tx.QueryContext(ctx, query)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var s string
		if err := rows.Scan(&s); err != nil {
			return nil, err
		}
		list = append(list, s)
	}
	return list, rows.Err()
}
