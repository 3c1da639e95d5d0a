package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"sync"
	"time"
)

// dbWatch finds out what the worker cannot tell. If the database hangs, the worker hangs
// with it. If the SQLite file was replaced, the worker goes on with the old one.
type dbWatch struct {
	database database
	db       *sql.DB
	interval time.Duration // between two probes
	log      *slog.Logger

	mu     sync.Mutex
	file   fs.FileInfo // of SQLite, once the tables are prepared
	failed error       // nil while all is well
	since  time.Time   // when it failed first
}

const (
	// maxProbeInterval is the longest time between two probes.
	maxProbeInterval = 10 * time.Second
	// minProbeTimeout and maxProbeTimeout bound how long a probe may take.
	minProbeTimeout, maxProbeTimeout = time.Second, 5 * time.Second
	// failedProbes is how many probes in a row have to fail: a busy server may miss
	// one.
	failedProbes = 3
)

func newDBWatch(d database, db *sql.DB, poll time.Duration, log *slog.Logger) *dbWatch {
	return &dbWatch{database: d, db: db, interval: min(poll, maxProbeInterval), log: log}
}

// remember takes note of the SQLite file, which exists by now.
func (w *dbWatch) remember() {
	if w.database.path == "" {
		return
	}
	info, err := os.Stat(w.database.path)
	if err != nil {
		return // the first probe says so
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.file = info
}

// err returns why the database cannot be used, or nil.
func (w *dbWatch) err() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.failed
}

// run probes until ctx is done. It calls lost when the database has not been usable
// for the given time, if that is not zero.
func (w *dbWatch) run(ctx context.Context, patience time.Duration, lost func(error)) {
	tick := time.NewTicker(w.interval)
	defer tick.Stop()
	for failures := 0; ; {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		started := time.Now()
		err := w.probe(ctx)
		if ctx.Err() != nil {
			return
		}
		if err == nil {
			failures = 0
		} else {
			failures++
		}
		if since := w.note(err, failures, started); since > 0 && patience > 0 && since >= patience {
			lost(fmt.Errorf("%v: %w; given up after %v (-db-timeout)", w.database, err, since.Round(100*time.Millisecond)))
			return
		}
	}
}

// note enters the result of a probe that started at the given time, and returns for how
// long probes have failed.
func (w *dbWatch) note(err error, failures int, started time.Time) time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err == nil:
		if w.failed != nil {
			w.log.Info("the database can be used again", "database", w.database.String())
		}
		w.failed, w.since = nil, time.Time{}
		return 0
	case w.since.IsZero():
		w.since = started
	}
	if _, replaced := errors.AsType[*fileError](err); w.failed == nil && (replaced || failures >= failedProbes) {
		w.failed = err
		w.log.Error("the database cannot be used", "database", w.database.String(), "error", err)
	}
	return time.Since(w.since)
}

// fileError says what has become of an SQLite file.
type fileError struct{ text string }

func (e *fileError) Error() string { return e.text }

// probe returns why the database cannot be used, or nil.
func (w *dbWatch) probe(ctx context.Context) error {
	if w.database.path != "" {
		return w.probeFile()
	}
	timeout := min(max(w.interval, minProbeTimeout), maxProbeTimeout)
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	err := w.db.PingContext(ctx)
	if ctx.Err() != nil {
		return fmt.Errorf("it does not answer within %v", timeout)
	}
	return err
}

func (w *dbWatch) probeFile() error {
	w.mu.Lock()
	file := w.file
	w.mu.Unlock()
	if file == nil {
		return nil
	}
	info, err := os.Stat(w.database.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return &fileError{"the file was removed while it was open, and what is saved is lost; put it back, and restart enrichd"}
	case err != nil:
		return err
	case !os.SameFile(info, file):
		return &fileError{"the file was replaced while it was open, and what is saved goes to the old one; restart enrichd"}
	}
	return nil
}
