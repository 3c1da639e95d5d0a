// Quickstart tells what threat-intelligence services say about IP addresses,
// with the worker, the providers and the stores of this module. Run it with -h
// to see how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second Ctrl-C ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
}

// run is the whole program: it returns the exit code, and ends soon after ctx
// with what was done by then saved and printed.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	term := newTerminal(stderr)
	o, err := parseFlags(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if err == nil {
		err = quickstart(ctx, o, stdin, stdout, term)
	}
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(term, "quickstart: %v\n", err)
	if _, ok := errors.AsType[usageError](err); ok {
		fmt.Fprintln(term, "Run it with -h for help.")
		return exitUsage
	}
	return exitFailed
}

// program is one run.
type program struct {
	options
	addrs   []netip.Addr
	sources *sources
	db      *database
	term    *terminal
	started time.Time
}

// quickstart does what the options say.
func quickstart(ctx context.Context, o options, stdin io.Reader, stdout io.Writer, term *terminal) (err error) {
	p := &program{options: o, term: term, started: time.Now()}
	if p.addrs, err = input(ctx, o, stdin, term); err != nil {
		return err
	}
	if p.sources, err = openSources(o, p.addrs, term); err != nil {
		return err
	}
	defer p.sources.close()
	if p.db, err = openDatabase(ctx, o); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, p.db.close()) }()

	done, err := p.enrich(ctx)
	if err != nil && ctx.Err() == nil {
		return err
	}
	// What is done is printed after Ctrl-C, too.
	totals, err := p.report(context.WithoutCancel(ctx), stdout)
	if err != nil {
		return err
	}
	fmt.Fprint(term, totals.summary(o, done))
	switch {
	case ctx.Err() != nil:
		return errors.New("interrupted; " + o.kept())
	case totals.pending > 0:
		return errors.New("another run has some of the addresses, or had until it was killed; try again in 2 minutes")
	case done.lookups > 0 && done.answers == 0:
		return errors.New("no provider answered")
	}
	return nil
}
