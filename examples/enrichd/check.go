package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"syscall"
	"text/tabwriter"
	"time"
)

// checkTimeout is how long one check may take.
const checkTimeout = 15 * time.Second

// The results of a check.
const (
	checkOK     = "ok"
	checkNote   = "note" // nothing is wrong, but there is something to know
	checkFailed = "FAILED"
)

// row is the result of one check.
type row struct{ what, result, detail string }

func failed(what string, err error) row { return row{what, checkFailed, err.Error()} }

// check checks everything that can be checked without spending a lookup, given
// what is wrong with the configuration, and prints a table. It returns the exit
// code.
func check(ctx context.Context, o options, c config, wrong error, stdout io.Writer) int {
	rows := checkConfig(c, wrong)
	if wrong == nil {
		rows = append(rows, checkAll(ctx, o, c)...)
		rows = append(rows, checkLists(ctx, c)...)
	}
	code := exitOK
	table := tabwriter.NewWriter(stdout, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		if r.result == checkFailed {
			code = exitFailed
		}
		fmt.Fprintf(table, "%s\t%s\t%s\n", r.what, r.result, strings.ReplaceAll(r.detail, "\n", "; "))
	}
	if err := table.Flush(); err != nil {
		return exitFailed
	}
	return code
}

// checkConfig returns what there is to say about the configuration.
func checkConfig(c config, wrong error) []row {
	const what = "configuration"
	var rows []row
	if several, ok := wrong.(interface{ Unwrap() []error }); ok {
		for _, err := range several.Unwrap() {
			rows = append(rows, failed(what, err))
		}
		return rows
	}
	if !c.enabled {
		rows = append(rows, row{what, checkNote, "enrichd does nothing: DECNET_INTEL_ENABLED says so"})
	}
	for _, warning := range c.warnings {
		rows = append(rows, row{what, checkNote, warning})
	}
	asks := "asks " + strings.Join(c.names(), ", ")
	switch {
	case len(c.sources) > 0 && c.chosen != "":
		rows = append(rows, row{what, checkOK, asks + ", as " + c.chosen + " says"})
	case rows == nil:
		rows = append(rows, row{what, checkOK, asks})
	}
	return rows
}

// checkAll checks everything outside of this program at once.
func checkAll(ctx context.Context, o options, c config) []row {
	checks := []func(context.Context) row{
		c.database.check,
		func(ctx context.Context) row { return c.bus.check(ctx, o) },
		func(ctx context.Context) row { return checkListen(ctx, "http", "-listen", o.listen) },
	}
	checks = append(checks, inputChecks(o, c)...)
	for _, s := range c.sources {
		checks = append(checks, s.check)
	}
	rows := make([]row, len(checks))
	var running sync.WaitGroup
	for i, check := range checks {
		running.Go(func() {
			ctx, cancel := context.WithTimeoutCause(ctx, checkTimeout, errors.New("no answer in time"))
			defer cancel()
			rows[i] = check(ctx)
		})
	}
	running.Wait()
	return rows
}

func checkListen(ctx context.Context, what, flag, address string) row {
	l, err := listen(ctx, flag, address)
	switch {
	case err != nil:
		return row{what, checkNote, err.Error() + " (or is enrichd running?)"}
	case l == nil:
		return row{what, checkOK, "off"}
	}
	_ = l.Close()
	return row{what, checkOK, address}
}

func (c busConfig) check(ctx context.Context, o options) row {
	b, err := c.open()
	if err != nil {
		return failed("bus", err)
	}
	if b == nil {
		return row{"bus", checkOK, fmt.Sprintf("off; the database is looked at every %v", o.pollInterval)}
	}
	defer b.Close()
	_, err = b.Subscribe(ctx, "attacker.observed")
	switch {
	case err == nil:
		return row{"bus", checkOK, c.String()}
	case absent(err):
		return row{"bus", checkNote, fmt.Sprintf("%v; until it is there the database is looked at every %v, and events wait", err, o.pollInterval)}
	}
	return failed("bus", err)
}

// absent reports whether an error says that nobody listens, and not that
// somebody refuses us.
func absent(err error) bool {
	return errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED)
}
