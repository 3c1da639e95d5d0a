package integration

import (
	"bufio"
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// Where the test binary finds out that it is to be a child process.
const (
	childTask = "ENRICH_TEST_CHILD"
	childPath = "ENRICH_TEST_DATABASE"
)

// runChild does a child's task and ends the process, if this is a child.
func runChild() {
	task := os.Getenv(childTask)
	if task == "" {
		return
	}
	if err := child(task, os.Getenv(childPath)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(0)
}

// child works on a database until there is nothing to do, or forever if the
// task is "churn". It prints the UUID of everyone it has claimed.
func child(task, path string) error {
	ctx := context.Background()
	db, err := sql.Open("sqlite", sqlstore.SQLiteDSN(path))
	if err != nil {
		return err
	}
	defer db.Close()
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	if err != nil {
		return err
	}
	if err := s.Migrate(ctx); err != nil {
		return err
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

func startChild(t *testing.T, task, path string) *process {
	t.Helper()
	exe, err := os.Executable()
	require.NoError(t, err)
	cmd := exec.CommandContext(t.Context(), exe)
	cmd.Env = append(os.Environ(), childTask+"="+task, childPath+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	return &process{cmd, bufio.NewScanner(out)}
}
