// Enrichd does the work of DECNET's service "decnet enrich": it waits for
// attackers on DECNET's bus and in its database, asks threat-intelligence
// services about them, and stores and announces what they say. With a command it
// is the operator's tool for the same database. Run it with -h to see how to use
// it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

func main() {
	tuneGC(os.LookupEnv)
	os.Exit(run(untilSignal(), os.Args[1:], os.LookupEnv, os.Stdout, os.Stderr))
}

// The live heap is small, so collecting garbage less often takes little memory and saves
// processor time. Near the limit it is collected as usual.
const (
	gcPercent   = 800
	memoryLimit = 512 << 20
)

// tuneGC sets up the garbage collector, unless GOGC or GOMEMLIMIT do.
func tuneGC(lookup lookup) {
	if _, set := lookup("GOGC"); !set {
		debug.SetGCPercent(gcPercent)
	}
	if _, set := lookup("GOMEMLIMIT"); !set {
		debug.SetMemoryLimit(memoryLimit)
	}
}

// untilSignal returns a context that the first signal ends. The second one ends
// the program, with the exit code that a shell has for it.
func untilSignal() context.Context {
	ctx, cancel := context.WithCancel(context.Background())
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM)
	signal.Notify(hangups, syscall.SIGHUP)
	go func() {
		<-signals
		cancel()
		os.Exit(128 + int((<-signals).(syscall.Signal)))
	}()
	return ctx
}

// run is the whole program: it works until ctx is done and returns the exit
// code. It reads its environment with lookup, as with os.LookupEnv.
func run(ctx context.Context, args []string, lookup lookup, stdout, stderr io.Writer) int {
	if len(args) > 0 {
		if c := commandNamed(args[0]); c != nil {
			return c.run(ctx, args[1:], lookup, stdout, stderr)
		}
	}
	o, err := parseFlags(args)
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, usage)
		return exitOK
	case err != nil:
		return misused(stderr, err)
	case o.version:
		fmt.Fprintln(stdout, versionLine())
		return exitOK
	}
	c, err := readConfig(o, lookup)
	if err := guardListen(o, c.token); err != nil {
		return misused(stderr, err)
	}
	switch {
	case o.check:
		return check(ctx, o, c, err, stdout)
	case err != nil:
		return misused(stderr, err)
	}
	log := newLogger(o, stderr)
	for _, warning := range c.warnings {
		log.Warn(warning)
	}
	switch {
	case !c.enabled:
		err = rest(lookup, log)
	case o.once:
		err = once(ctx, o, c, log)
	default:
		err = serve(ctx, o, c, lookup, log)
	}
	if err != nil {
		log.Error("enrichd cannot go on", "error", err)
		if errors.As(err, new(usageError)) {
			return exitUsage
		}
		return exitFailed
	}
	return exitOK
}

// misused reports arguments or an environment that make no sense.
func misused(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "enrichd: %v\nRun it with -h for help.\n", err)
	return exitUsage
}
