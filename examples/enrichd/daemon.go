package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/sqlstore"
)

// daemon is a run of the program.
type daemon struct {
	config
	log    *slog.Logger
	store  *sqlstore.Store
	worker *intel.Worker
	pulse  pulse
	close  func() error
}

// open opens the database and the bus and makes a worker between them.
func open(o options, c config, log *slog.Logger) (*daemon, error) {
	d := &daemon{config: c, log: log}
	db, s, err := c.database.open(log)
	if err != nil {
		return nil, err
	}
	b, err := c.bus.open()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	d.store = s
	d.close = func() error {
		if b != nil {
			return errors.Join(b.Close(), db.Close())
		}
		return db.Close()
	}
	d.worker, err = intel.NewWorker(intel.Config{
		Store: s, Bus: b, Providers: c.providers(),
		Policy: policies[o.policy], LookupTimeout: o.lookupTimeout, Guard: provider.Guard{Own: c.own},
		PollInterval: o.pollInterval, TTL: o.ttl, Batch: o.batch, Concurrency: o.concurrency,
		KeepRaw: o.keepRaw, Logger: log, Hooks: d.pulse.hooks(),
	})
	if err != nil {
		return nil, errors.Join(err, d.close())
	}
	return d, nil
}

// serve works until ctx is done, a command on the bus says stop, or something
// fails that does not pass by itself.
func serve(ctx context.Context, o options, c config, lookup lookup, log *slog.Logger) (err error) {
	tell, err := newNotifier(lookup)
	if err != nil {
		return err
	}
	defer tell.close()
	d, err := open(o, c, log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	listener, err := listen(ctx, o.listen)
	if err != nil {
		return err
	}
	log.Info(versionLine(), "database", c.database.String(), "bus", c.bus.String(), "providers", c.names(), "http", o.listen)
	tell.send("STATUS=Waiting for the database")

	var group errgroup.Group
	ctx, stop := context.WithCancel(ctx)
	group.Go(func() error {
		<-ctx.Done()
		log.Info("stopping")
		tell.send("STOPPING=1\nSTATUS=Finishing the lookups that are under way")
		return nil
	})
	if listener != nil {
		group.Go(func() error {
			defer stop()
			return d.answer(ctx, listener)
		})
	}
	group.Go(func() error {
		defer stop()
		err := c.database.prepare(ctx, d.store, o.pollInterval, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		log.Info("enriching")
		if len(c.sources) == 0 {
			d.pulse.rest()
		}
		tell.send("READY=1\nSTATUS=Enriching")
		if err := d.worker.Run(ctx); !errors.Is(err, intel.ErrStopped) {
			return err
		}
		return nil // a command on the bus ends the daemon like a signal
	})
	group.Go(func() error {
		tell.watch(ctx, &d.pulse, d.worker.Wake)
		return nil
	})
	err = group.Wait()
	if err == nil {
		log.Info("stopped")
	}
	return err
}

// rest does nothing, which for systemd is a success only after a start.
func rest(lookup lookup, log *slog.Logger) error {
	tell, err := newNotifier(lookup)
	if err != nil {
		return err
	}
	defer tell.close()
	log.Info("there is nothing to do: DECNET_INTEL_ENABLED says so")
	tell.send("READY=1\nSTATUS=Switched off by DECNET_INTEL_ENABLED")
	tell.send("STOPPING=1")
	return nil
}

// listen returns a listener, and nil if there is to be none.
func listen(ctx context.Context, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot answer HTTP; choose another address with -listen, or none: %w", err)
	}
	return l, nil
}

// answer answers HTTP until ctx is done, and then what has been asked by then.
func (d *daemon) answer(ctx context.Context, l net.Listener) error {
	server := httpapi.NewServer(httpapi.New(d.store, httpapi.Options{
		Status: oneAtATime(d.status),
		Ready:  func(context.Context) error { return d.pulse.ready() },
		Logger: d.log,
	}), d.log)
	closed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(closed)
		grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if server.Shutdown(grace) != nil {
			_ = server.Close() // requests that take so long are cut off
		}
	})
	err := server.Serve(l)
	if errors.Is(err, http.ErrServerClosed) {
		<-closed
		return nil
	}
	stop()
	return fmt.Errorf("cannot answer HTTP any more: %w", err)
}

// status is what the worker is doing, without the backlog if that cannot be
// counted.
func (d *daemon) status(ctx context.Context) (any, error) {
	s, err := d.worker.Status(ctx)
	if err != nil {
		d.log.Warn("no backlog in the status", "error", err)
	}
	return s, nil
}

// oneAtATime lets calls wait for each other. To count the backlog of a large
// database takes long, and must not take all of its connections.
func oneAtATime(f func(context.Context) (any, error)) func(context.Context) (any, error) {
	turn := make(chan struct{}, 1)
	return func(ctx context.Context) (any, error) {
		select {
		case turn <- struct{}{}:
			defer func() { <-turn }()
			return f(ctx)
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
