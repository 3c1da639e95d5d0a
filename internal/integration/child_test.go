package integration

import (
	"bufio"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// Where the test binary finds out that it is to be a child process.
const (
	childTask = "ENRICH_TEST_CHILD"
	childDSN  = "ENRICH_TEST_DATABASE"
	childKind = "ENRICH_TEST_DIALECT"

	childUpstream = "ENRICH_TEST_UPSTREAM"
)

// runChild does a child's task and ends the process, if this is a child.
func runChild() {
	task := os.Getenv(childTask)
	if task == "" {
		return
	}
	if err := child(task, os.Getenv(childKind), os.Getenv(childDSN)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// work runs a whole worker until there is nothing to do, or until it is
// interrupted. It prints each event it publishes.
func work(s *sqlstore.Store, forever bool) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	up := os.Getenv(childUpstream)
	providers, err := fourAt(up)
	if err != nil {
		return err
	}
	w, err := intel.NewWorker(intel.Config{
		Store: s, Bus: printer{}, Providers: providers, Owner: fmt.Sprint(os.Getpid()),
		LookupTimeout: 5 * time.Second, MaxWait: time.Second, Lease: 12 * time.Second, // as short as it can be
		RetryMin: 100 * time.Millisecond, RetryMax: time.Second,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelError})),
	})
	if err != nil {
		return err
	}
	if forever {
		return w.Run(ctx)
	}
	return w.Drain(ctx)
}

// printer is a bus that prints the events about records: their IDs and their
// attackers.
type printer struct{ bus.Bus }

func (printer) Publish(_ context.Context, ev bus.Event) error {
	if ev.Topic != intel.TopicEnriched {
		return nil
	}
	var payload struct {
		Attacker string `json:"attacker_uuid"`
	}
	if err := json.Unmarshal(ev.Payload, &payload); err != nil {
		return err
	}
	_, err := fmt.Fprintln(os.Stdout, ev.ID, payload.Attacker) // one write, whole or not at all
	return err
}

func (printer) Subscribe(context.Context, string) (bus.Subscription, error) {
	return nil, errors.New("this bus has no subscribers")
}

// child works on a database until there is nothing to do, or forever if the
// task is "churn". It prints the UUID of everyone it has claimed.
func child(task, kind, dsn string) error {
	ctx := context.Background()
	on := databases[slices.IndexFunc(databases, func(d *database) bool { return d.String() == kind })]
	db, err := sql.Open(on.driver, dsn)
	if err != nil {
		return err
	}
	defer db.Close()
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	if task == "decnet" {
		return beDECNET(ctx, on, db)
	}
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		return err
	}
	if task == "work" || task == "serve" {
		return work(s, task == "serve")
	}
	if task == "announce" || task == "settle" {
		return announce(s, task == "settle")
	}
	for {
		now := time.Now().UTC()
		c, err := s.Claim(ctx, store.ClaimRequest{Now: now, Owner: fmt.Sprint(os.Getpid()), Lease: time.Hour, Limit: 20})
		if err != nil {
			return err
		}
		if len(c.Records) == 0 && task != "churn" {
			return nil
		}
		var updates []store.Update
		for _, r := range c.Records {
			u := enriched(r, now)
			if task == "churn" {
				u.Due = now
			}
			updates = append(updates, u)
		}
		if err := s.Save(ctx, updates...); err != nil {
			return err
		}
		for _, u := range updates {
			fmt.Println(u.ID)
		}
	}
}

// process is a running child.
type process struct {
	*exec.Cmd
	out *bufio.Scanner
}

func (on *database) startChild(t testing.TB, task, dsn string, env ...string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childTask+"="+task, childKind+"="+on.String(), childDSN+"="+dsn)
	cmd.Env = append(cmd.Env, env...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &process{cmd, bufio.NewScanner(out)}
}
