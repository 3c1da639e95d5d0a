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
	"math"
	"os"
	"os/signal"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/unixbus"
)

const usage = `Usage: busd [flags]

Runs DECNET's bus on a UNIX socket until SIGTERM or Ctrl-C. Clients are then told
so and get what is still on its way to them, as long as they read and for up to
ten seconds; a second signal ends the program at once. It takes the place of
"decnet bus".

Flags:
  -s, -socket PATH     where to listen; default: $DECNET_BUS_SOCKET, or
                       /run/decnet/bus.sock if that is there or can be made, or
                       ~/.decnet/bus.sock
  -g, -group GROUP     the group that may connect besides the owner; default:
                       $DECNET_BUS_GROUP, or decnet
  -heartbeat SECONDS   time between two events system.bus.health, by which
                       DECNET's dashboard sees that the bus runs; 0: none;
                       default 10; a duration, like 10s, is accepted
  -d, -daemon          accepted because "decnet bus" has it; no effect
  -name NAME           what to call this bus in the log; default: busd
  -v                   log clients that come and go
  -h                   print this text

If there is no such group, the socket is open to the group of the process. The
file of a bus that is gone is replaced; if another bus is running there, this one
refuses to start. If the socket is removed or replaced while the bus runs, it says
so and ends. The log goes to standard error, as JSON. The exit code is 0, 1 if the
bus cannot run, and 2 if the arguments make no sense.
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
	o := unixbus.ServerOptions{Group: os.Getenv("DECNET_BUS_GROUP")}
	for _, flag := range []string{"s", "socket"} {
		fs.StringVar(&o.Path, flag, "", "")
	}
	for _, flag := range []string{"g", "group"} {
		fs.StringVar(&o.Group, flag, o.Group, "")
	}
	heartbeat := 10 * time.Second
	fs.Func("heartbeat", "", func(text string) (err error) {
		heartbeat, err = parseInterval(text)
		return err
	})
	for _, flag := range []string{"d", "daemon"} {
		fs.Bool(flag, false, "")
	}
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
	o.Log = slog.New(slog.NewJSONHandler(stderr, &slog.HandlerOptions{Level: level})).With("bus", *name)
	if err := serve(ctx, o, heartbeat); err != nil {
		o.Log.Error("the bus cannot run", "error", err)
		return exitFailed
	}
	return exitOK
}

// parseInterval reads a number of seconds, as "decnet bus" takes it, or a duration.
func parseInterval(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil {
		seconds, err := strconv.ParseFloat(text, 64)
		if err != nil || !(seconds <= math.MaxInt32) {
			return 0, errors.New("it is neither a number of seconds nor a duration, like 10s")
		}
		d = time.Duration(seconds * float64(time.Second))
	}
	if d != 0 && d < minHeartbeat {
		return 0, fmt.Errorf("it must be 0, for no events, or %v or more", minHeartbeat)
	}
	return d, nil
}

// minHeartbeat is the shortest time between two events about health.
const minHeartbeat = 10 * time.Millisecond

// serve runs a bus until ctx is done.
func serve(ctx context.Context, o unixbus.ServerOptions, heartbeat time.Duration) error {
	s := unixbus.NewServer(o)
	beating, stop := context.WithCancel(ctx)
	var running sync.WaitGroup
	running.Go(func() { tell(beating, s, o.Log) })
	if heartbeat > 0 {
		running.Go(func() { beat(beating, s, heartbeat) })
	}
	err := s.Serve(ctx)
	stop()
	running.Wait()
	return err
}

// beat publishes that the bus is alive until ctx is done.
func beat(ctx context.Context, s *unixbus.Server, interval time.Duration) {
	started := time.Now()
	tick := time.NewTicker(interval)
	defer tick.Stop()
	for {
		now := time.Now()
		payload := fmt.Appendf(nil, `{"pid":%d,"uptime_sec":%.3f,"ts":%.6f}`,
			os.Getpid(), now.Sub(started).Seconds(), float64(now.UnixMicro())/1e6)
		_ = s.Publish(bus.Event{Topic: "system.bus.health", Type: "bus.health", Payload: payload}) // it is valid
		select {
		case <-tick.C:
		case <-ctx.Done():
			return
		}
	}
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
