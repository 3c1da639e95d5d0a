package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
)

// once works on what is due.
func once(ctx context.Context, o options, c config, log *slog.Logger) (err error) {
	d, err := open(o, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.store.Migrate(ctx); err != nil {
		return fmt.Errorf("prepare %v: %w", c.database, err)
	}
	if err := d.worker.Drain(ctx); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return errors.New("interrupted; what is left is done by the next run")
	}
	status, err := d.worker.Status(ctx)
	if err != nil {
		return err
	}
	log.Info("done", "enriched", status.Enriched, "published", status.Published,
		"waiting", status.Backlog.Waiting, "outbox", status.Backlog.Outbox)
	return nil
}
