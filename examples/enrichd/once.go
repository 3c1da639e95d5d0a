package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// once works on what is due, until ctx is done.
func once(ctx context.Context, o options, c config, log *slog.Logger) (err error) {
	o.listen = "" // nobody can ask
	d, err := open(o, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	d.markUnused(c, log)
	d.watch.interval = min(d.watch.interval, o.dbTimeout/5)
	watched, giveUp := context.WithCancelCause(ctx)
	defer giveUp(nil)
	go d.watch.run(watched, o.dbTimeout, giveUp)
	drained := make(chan error, 1)
	go func() { drained <- d.drain(watched, o.dbTimeout, o.forget) }()
	select {
	case err = <-drained:
	case <-watched.Done():
		select {
		case err = <-drained:
		case <-time.After(onceGrace):
			err = errors.New("a statement did not end when it was told to")
		}
	}
	if cause := context.Cause(watched); ctx.Err() == nil && cause != nil {
		return cause // rather than what it led to
	}
	if ctx.Err() == nil {
		return err
	}
	log.Info("stopped; the next run does what is left")
	return nil
}

// onceGrace is how long lookups and statements that are under way may take to end.
const onceGrace = 20 * time.Second

// drain prepares the database, for which it has the given time, and works until
// nothing more is due. Then it forgets the attackers that were not seen for as long
// as forget says, unless that is zero.
func (d *daemon) drain(ctx context.Context, timeout, forget time.Duration) error {
	preparing, cancel := context.WithTimeoutCause(ctx, timeout, errors.New("the database did not answer in time (-db-timeout)"))
	defer cancel()
	if err := d.database.prepareOnce(preparing, d.store); err != nil {
		if ctx.Err() == nil && preparing.Err() != nil {
			err = fmt.Errorf("%w: %w", context.Cause(preparing), err)
		}
		return fmt.Errorf("prepare %v: %w", d.database, err)
	}
	d.watch.remember()
	if err := d.worker.Drain(ctx); err != nil {
		return err
	}
	if forget > 0 && ctx.Err() == nil {
		if err := d.forgetUnseen(ctx, forget); err != nil {
			return err
		}
	}
	d.deliverOnce(ctx)
	status, err := d.worker.Status(ctx)
	if err != nil {
		return err
	}
	d.log.Info("done", "enriched", status.Enriched, "published", status.Published,
		"waiting", status.Backlog.Waiting, "outbox", status.Backlog.Outbox)
	return nil
}
