package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/store/sqlstore"
)

// inputChecks returns the checks of where attackers come from besides the database,
// and of where block lists and events go: of what is switched on.
func inputChecks(o options, c config) (checks []func(context.Context) row) {
	add := func(check func(context.Context) row) { checks = append(checks, check) }
	if o.any() {
		add(func(ctx context.Context) row { return c.database.checkInputs(ctx) })
	}
	for _, path := range o.follow {
		add(func(context.Context) row { return checkFollowed(path) })
	}
	if o.ingestListen != "" {
		add(func(ctx context.Context) row { return checkListen(ctx, "ingest", "-ingest-listen", o.ingestListen) })
	}
	if o.exportListen != "" {
		add(func(ctx context.Context) row { return checkListen(ctx, "exports", "-export-listen", o.exportListen) })
	}
	for _, w := range c.webhooks {
		add(func(ctx context.Context) row { return checkWebhook(ctx, w) })
	}
	return checks
}

// checkInputs reports whether attackers may be added to the database.
func (d database) checkInputs(ctx context.Context) row {
	const what = "inputs"
	tables, err := d.existingTables(ctx)
	if err != nil || !slices.Contains(tables, "attackers") {
		return row{what, checkOK, "they will be stored in " + d.String()} // or the database has failed its own check
	}
	db, err := d.existing()
	if err != nil {
		return failed(what, err)
	}
	defer db.Close()
	records, err := sqlstore.New(db, sqlstore.Options{Dialect: d.dialect})
	if err != nil {
		return failed(what, err)
	}
	owns, err := records.OwnsAttackers(ctx)
	switch {
	case err != nil:
		return failed(what, err)
	case !owns:
		return failed(what, errForeign)
	}
	return row{what, checkOK, "they are stored in " + d.String()}
}

// checkFollowed reports whether a file can be read.
func checkFollowed(path string) row {
	const what = "follow"
	f, err := os.Open(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return row{what, checkNote, path + " is not there yet; it is read once it is"}
	case err != nil:
		return failed(what, err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return failed(what, err)
	}
	return row{what, checkOK, fmt.Sprintf("%s: %d bytes", path, info.Size())}
}

// checkWebhook connects to a receiver and sends nothing.
func checkWebhook(ctx context.Context, o export.WebhookOptions) row {
	const what = "webhook"
	if err := o.Check(ctx); err != nil {
		return row{what, checkNote, err.Error() + "; events wait until it can be reached"}
	}
	return row{what, checkOK, o.Host() + " is reachable; whether it accepts the signature, only an event can tell"}
}
