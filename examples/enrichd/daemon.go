package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/sqlstore"
)

// daemon is a run of the program.
type daemon struct {
	options
	config
	log       *slog.Logger
	store     *sqlstore.Store
	events    intel.Bus // the bus; nil if there is none
	worker    *intel.Worker
	feed      *httpapi.Feed
	lists     []intel.Provider // that are used
	meters    metrics
	posts     []*export.Webhook
	receivers map[string]string // scheme and host of each webhook, by the name of the outbox's reader
	pulse     pulse
	watch     *dbWatch
	intake    observer
	ownNow    atomic.Pointer[[]netip.Prefix] // networks that no provider is asked about
	close     func() error
}

// open opens the database and the bus and makes a worker between them.
func open(o options, c config, log *slog.Logger) (*daemon, error) {
	d := &daemon{options: o, config: c, log: log, feed: httpapi.NewFeed()}
	db, s, err := c.database.open(log)
	if err != nil {
		return nil, err
	}
	b, err := c.bus.open()
	if err != nil {
		return nil, errors.Join(err, db.Close())
	}
	d.store, d.events = s, b
	d.intake = observer{daemon: d, options: o.observing}
	d.ownNow.Store(&c.own)
	d.watch = newDBWatch(c.database, db, o.pollInterval, log)
	d.close = func() error {
		if err := db.Close(); err != nil { // the server has closed idle connections, which is no failure
			log.Debug("closing the database", "error", err)
		}
		if b != nil {
			return b.Close()
		}
		return nil
	}
	theirs := c.isTheirs(context.Background(), s, log)
	if d.lists = c.lists.inUse(theirs); c.lists.forgets(d.lists) {
		log.Warn("there is no directory to keep lists in: each start downloads them again, and some publishers allow few downloads; " +
			"name a directory with -state")
	}
	if d.meters, err = newMetrics(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	if err := d.openWebhooks(); err != nil {
		return nil, errors.Join(err, d.close())
	}
	d.worker, err = intel.NewWorker(intel.Config{
		Store: s, Bus: b, Readers: c.readers(), Providers: append(c.providers(), d.lists...), Spending: intel.Spending{DeferDecided: !theirs},
		Policy: policies[o.policy], LookupTimeout: o.lookupTimeout, Guard: provider.Guard{OwnFunc: d.ownNetworks},
		PollInterval: o.pollInterval, TTL: o.ttl, Batch: o.batch, Concurrency: o.concurrency,
		KeepRaw: o.keepRaw, Logger: log, Hooks: d.wakeWebhooks(d.hooks()),
	})
	if err == nil {
		_, err = d.meters.Observe(d.workerStatus)
	}
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
	d.markUnused(c, log)
	if err := d.intake.checkEarly(ctx); err != nil {
		return err
	}
	listener, err := listen(ctx, "-listen", o.listen)
	if err != nil {
		return err
	}
	exports, err := listen(ctx, "-export-listen", o.exportListen)
	if err != nil {
		if listener != nil {
			_ = listener.Close() // the first error matters
		}
		return err
	}
	log.Info(versionLine(), "database", c.database.String(), "bus", c.bus.String(), "providers", c.names(), "lists", listNames(d.lists), "http", o.listen)
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
		if d.events != nil {
			group.Go(func() error {
				d.feed.Follow(ctx, d.events, log)
				return nil
			})
		}
	}
	if exports != nil {
		group.Go(func() error {
			defer stop()
			return d.serveExports(ctx, exports, o.export)
		})
	}
	group.Go(func() error {
		d.reloadOnHangup(ctx, o, lookup)
		return nil
	})
	group.Go(func() error {
		d.watch.run(ctx, 0, nil)
		return nil
	})
	group.Go(func() error {
		defer stop()
		err := c.database.prepare(ctx, d.store, o.pollInterval, log)
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		d.watch.remember()
		err = d.intake.start(ctx, func(f func() error) {
			group.Go(func() error {
				err := f()
				if err != nil {
					stop()
				}
				return err
			})
		})
		if err != nil {
			return err
		}
		log.Info("enriching")
		group.Go(func() error { return d.deliver(ctx) })
		if o.forget > 0 {
			group.Go(func() error {
				d.forgetDaily(ctx, o.forget)
				return nil
			})
		}
		if len(c.sources) == 0 && len(d.lists) == 0 {
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

// listen returns a listener on the address that a flag names, and nil if it names
// none.
func listen(ctx context.Context, flag, address string) (net.Listener, error) {
	if address == "" {
		return nil, nil
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, fmt.Errorf("cannot answer HTTP; choose another address with %s, or none: %w", flag, err)
	}
	return l, nil
}

// answer answers HTTP until ctx is done.
func (d *daemon) answer(ctx context.Context, l net.Listener) error {
	return serveHTTP(ctx, l, d.server())
}

// serveHTTP serves until ctx is done, and then what has been asked by then.
func serveHTTP(ctx context.Context, l net.Listener, server *http.Server) error {
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

// workerStatus is what the worker is doing. A webhook is named by the scheme and the
// host of its URL; webhooks of one host are counted together.
func (d *daemon) workerStatus(ctx context.Context) (intel.Status, error) {
	s, err := d.worker.Status(ctx)
	if s.Backlog != nil && len(d.receivers) > 0 {
		byHost := make(map[string]int)
		for reader, host := range d.receivers {
			byHost[host] += s.Backlog.Readers[reader]
		}
		s.Backlog.Readers = byHost
	}
	return s, err
}

// status is workerStatus without an error: the backlog is missing if it cannot be
// counted.
func (d *daemon) status(ctx context.Context) (any, error) {
	s, err := d.workerStatus(ctx)
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
