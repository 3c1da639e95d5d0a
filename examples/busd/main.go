// Busd is DECNET's bus: a server on a UNIX socket that passes events from each
// of its clients to the others. Run it with -h to see how to use it.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/decnet/enrich/bus/unixbus"
)

const usage = `Usage: busd [flags]

Runs DECNET's bus on a UNIX socket until SIGTERM or Ctrl-C. Clients are then told
so and get what is still on its way to them, for up to a second; a second signal
ends the program at once.

Flags:
  -socket PATH   where to listen; default: $DECNET_BUS_SOCKET, or
                 /run/decnet/bus.sock if that is there or can be made, or
                 ~/.decnet/bus.sock
  -name NAME     what to call this bus in the log; default: busd
  -v             log clients that come and go
  -h             print this text

The socket is open to its owner and to the group decnet, if there is one. The
file of a bus that is gone is replaced; if another bus is running there, this one
refuses to start. The log goes to standard error, as JSON. The exit code is 0, 1
if the bus cannot run, and 2 if the arguments make no sense.
`

// The exit codes.
const (
	exitOK     = 0
	exitFailed = 1
	exitUsage  = 2
)

// statsInterval is the time between two lines in the log that say how busy the
// bus is. There is none if nothing has happened.
const statsInterval = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends the program at once
	os.Exit(run(ctx, os.Args[1:], os.Stdout, os.Stderr))
}

// run is the whole program: it serves until ctx is done and returns the exit
// code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	fs := flag.NewFlagSet("busd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	socket := fs.String("socket", "", "")
	name := fs.String("name", "busd", "")
	verbose := fs.Bool("v", false, "")
	err := fs.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stdout, usage)
		return exitOK
	}
	if err == nil && fs.NArg() > 0 {
		err = fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	if err != nil {
		fmt.Fprintf(stderr, "busd: %v\nRun it with -h for help.\n", err)
		return exitUsage
	}
	level := slog.LevelInfo
	if *verbose {
		level = slog.LevelDebug
	}
	log := slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})).With("bus", *name)
	if err := serve(ctx, unixbus.ServerOptions{Path: *socket, Log: log}); err != nil {
		log.Error("the bus cannot run", "error", err)
		return exitFailed
	}
	return exitOK
}

// serve runs a bus until ctx is done.
func serve(ctx context.Context, o unixbus.ServerOptions) error {
	s := unixbus.NewServer(o)
	ctx, stop := context.WithCancel(ctx)
	told := make(chan struct{})
	go func() {
		defer close(told)
		tell(ctx, s, o.Log)
	}()
	err := s.Serve(ctx)
	stop()
	<-told
	return err
}

// tell says from time to time, and in the end, what the bus has done.
func tell(ctx context.Context, s *unixbus.Server, log *slog.Logger) {
	tick := time.NewTicker(statsInterval)
	defer tick.Stop()
	var last unixbus.Stats
	for done := false; !done; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			done = true
		}
		if now := s.Stats(); now != last {
			last = now
			log.Info("the bus so far", "connections", now.Conns, "events", now.Events, "dropped", now.Dropped, "refused", now.Refused)
		}
	}
}
