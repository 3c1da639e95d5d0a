package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// once works on what is due, until ctx is done.
func once(ctx context.Context, o options, c config, log *slog.Logger) (err error) {
	d, err := open(o, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	err = d.drain(ctx)
	if ctx.Err() == nil {
		return err
	}
	log.Info("stopped; the next run does what is left")
	return nil
}

// drain prepares the database and works until nothing more is due.
func (d *daemon) drain(ctx context.Context) error {
	if err := d.database.prepareOnce(ctx, d.store); err != nil {
		return fmt.Errorf("prepare %v: %w", d.database, err)
	}
	if err := d.worker.Drain(ctx); err != nil {
		return err
	}
	status, err := d.worker.Status(ctx)
	if err != nil {
		return err
	}
	d.log.Info("done", "enriched", status.Enriched, "published", status.Published,
		"waiting", status.Backlog.Waiting, "outbox", status.Backlog.Outbox)
	return nil
}
