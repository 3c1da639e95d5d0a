// Sqlite shows package sqlstore: attackers and what is learnt about them are kept
// in a file, through a *sql.DB that the program opens with a driver of its
// choice. It is a program, and no example in sqlstore, because the module of
// sqlstore depends on no driver.
package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log"
	"net/netip"
	"os"
	"path/filepath"

	"github.com/google/uuid"
	_ "modernc.org/sqlite" // the driver named "sqlite"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/providertest"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

func main() {
	if err := run(context.Background()); err != nil {
		log.Fatal(err)
	}
}

// run enriches one attacker in a file, and reads the file again as another
// process would.
func run(ctx context.Context) (err error) {
	dir, err := os.MkdirTemp("", "enrich")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "enrich.db")
	addr := netip.MustParseAddr("45.155.205.233")
	id := store.AttackerID(addr)
	if err := enrich(ctx, file, store.Attacker{ID: id, IP: addr.String()}); err != nil {
		return err
	}
	return show(ctx, file, id)
}

// enrich registers an attacker, asks a provider about it and keeps the answer.
func enrich(ctx context.Context, file string, a store.Attacker) (err error) {
	db, attackers, err := open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := attackers.Observe(ctx, a); err != nil {
		return err
	}
	mine := providertest.NewFake("mine", providertest.Reply{
		Finding: provider.Finding{Known: true, Verdict: provider.Malicious, Attrs: map[string]any{"ports": []int64{22, 2222}}},
	})
	w, err := intel.NewWorker(intel.Config{Store: attackers, Providers: []intel.Provider{mine}})
	if err != nil {
		return err
	}
	return w.Drain(ctx)
}

// show prints what is known about an attacker.
func show(ctx context.Context, file string, id uuid.UUID) (err error) {
	db, attackers, err := open(ctx, file)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r, err := attackers.Get(ctx, id)
	if err != nil {
		return err
	}
	fmt.Printf("%s is %s\n", r.IP, r.Decision.Verdict)
	for _, e := range r.Entries {
		fmt.Printf("%s: %s %v\n", e.Provider, e.Finding.Verdict, e.Finding.Attrs)
	}
	return nil
}

// open opens the store in a file, and makes the tables that are missing. Whoever
// opens a *sql.DB closes it; the store does not.
func open(ctx context.Context, file string) (*sql.DB, *sqlstore.Store, error) {
	db, err := sql.Open("sqlite", sqlstore.SQLiteDSN(file))
	if err != nil {
		return nil, nil, err
	}
	attackers, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	if err == nil {
		err = attackers.Migrate(ctx)
	}
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return db, attackers, nil
}
