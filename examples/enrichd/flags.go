package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"time"

	"github.com/decnet/enrich/intel/httpapi"
)

const usage = `Usage: enrichd [flags]

Asks threat-intelligence services about the attackers that DECNET's honeypots
saw: those in its database, as they become due, and at once when the bus
announces one. What is learnt goes to the table attacker_intel and, as event
attacker.intel.enriched, to the bus. It takes the place of "decnet enrich".

Flags:
  -poll-interval 60s      time between two looks at the database without events
  -ttl 24h                how long a finding is fresh if its source does not say
  -batch 50               attackers claimed at once
  -concurrency 64         attackers worked on at once
  -keep-raw 720h          once a day, or with -once at the end, remove what
                          services said verbatim that is older, from DECNET's
                          rows, too; findings stay; 0, the default: keep it
  -listen 127.0.0.1:8089  where to answer HTTP; empty: nowhere
  -expose                 let -listen name an address that others can reach;
                          nobody is asked for credentials there
  -once                   work on what is due, and exit
  -check                  check configuration, database, bus and keys without
                          spending a lookup or changing anything, print a table,
                          and exit; a bus that is not there is no failure
  -log-format text        text or json; the log goes to standard error
  -log-level info         debug, info, warn or error
  -version                print the version, and exit
  -h                      print this text, and exit

Environment:
  DECNET_INTEL_ENABLED     false, and no other word: exit at once; default true
  DECNET_INTEL_PROVIDERS   the providers to query, separated by commas; not set:
                           greynoise, abuseipdb, feodo, threatfox; set and
                           empty: none, and enrichd stays up
  DECNET_GREYNOISE_API_KEY, DECNET_ABUSEIPDB_API_KEY, DECNET_THREATFOX_API_KEY
                           GreyNoise answers a little without a key; AbuseIPDB
                           and ThreatFox are left out; Feodo Tracker needs none
  DECNET_GREYNOISE_QUOTA, DECNET_ABUSEIPDB_QUOTA, DECNET_THREATFOX_QUOTA
                           what the plan allows, like 3000/day or none; default:
                           free accounts: 25/week, 1000/day, none
  DECNET_GREYNOISE_URL, DECNET_ABUSEIPDB_URL, DECNET_FEODO_URL,
  DECNET_THREATFOX_URL     another origin to ask, like http://127.0.0.1:8080
  DECNET_DB_URL            sqlite:///var/lib/x.db (absolute), sqlite://x.db
                           (relative), postgres://user:password@host:port/name,
                           mysql://...; drivers of SQLAlchemy, as in
                           mysql+asyncmy://, are ignored; default:
                           sqlite://enrich.db
  DECNET_DB_TYPE           instead of the URL: sqlite, postgres or mysql, with
                           DECNET_DB_HOST, _PORT, _NAME, _USER and _PASSWORD;
                           for sqlite, _NAME is the file
  DECNET_BUS_ENABLED       false: no bus, only looks at the database
  DECNET_BUS_TYPE          unix, nats, or memory, which is heard by nobody else;
                           default unix
  DECNET_BUS_SOCKET        of the bus; default: /run/decnet/bus.sock if that is
                           there or can be made, or ~/.decnet/bus.sock
  DECNET_NATS_URL          default nats://127.0.0.1:4222

HTTP: GET /api/v1/attackers/{uuid}/intel, /api/v1/intel/status, /healthz, and
/readyz.

SIGTERM and Ctrl-C end the program, also with -once, after the lookups that are
under way; a second signal ends it at once. The exit code is 0, 1 if something
failed, and 2 if the arguments or the environment make no sense.
`

// options are the flags.
type options struct {
	pollInterval, ttl    time.Duration
	batch, concurrency   int
	keepRaw              time.Duration // 0 for ever
	listen               string
	expose               bool
	once, check, version bool
	logFormat            string
	logLevel             slog.Level
}

// minPollInterval is the shortest time between two looks at the database.
const minPollInterval = 10 * time.Millisecond

// minKeepRaw is the shortest time for which raw answers are kept: less is a slip
// of the pen.
const minKeepRaw = time.Hour

// maxAtOnce is the greatest number of attackers that can be claimed or worked on
// at once.
const maxAtOnce = 4096

// parseFlags returns flag.ErrHelp if help is wanted, and an error that names
// everything else that is wrong.
func parseFlags(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("enrichd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.DurationVar(&o.pollInterval, "poll-interval", 60*time.Second, "")
	fs.DurationVar(&o.ttl, "ttl", 24*time.Hour, "")
	fs.IntVar(&o.batch, "batch", 50, "")
	fs.IntVar(&o.concurrency, "concurrency", 64, "")
	fs.DurationVar(&o.keepRaw, "keep-raw", 0, "")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:8089", "")
	fs.BoolVar(&o.expose, "expose", false, "")
	fs.BoolVar(&o.once, "once", false, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.BoolVar(&o.version, "version", false, "")
	fs.StringVar(&o.logFormat, "log-format", "text", "")
	fs.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "")
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	if fs.NArg() > 0 {
		return o, fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	return o, o.validate()
}

func (o *options) validate() error {
	var errs []error
	refuse := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	refuse(o.pollInterval < minPollInterval, "-poll-interval is %v; it must be %v or more, like 60s", o.pollInterval, minPollInterval)
	refuse(o.ttl <= 0, "-ttl is %v; it must be positive, like 24h", o.ttl)
	refuse(o.batch < 1 || o.batch > maxAtOnce, "-batch is %d; it must be between 1 and %d", o.batch, maxAtOnce)
	refuse(o.concurrency < 1 || o.concurrency > maxAtOnce, "-concurrency is %d; it must be between 1 and %d", o.concurrency, maxAtOnce)
	refuse(o.keepRaw != 0 && o.keepRaw < minKeepRaw, "-keep-raw is %v; it must be 0, for ever, or %v or more, like 720h", o.keepRaw, minKeepRaw)
	refuse(o.logFormat != "text" && o.logFormat != "json", "-log-format is %q; it must be text or json", o.logFormat)
	refuse(o.once && o.check, "-once and -check exclude each other")
	if o.listen != "" {
		if err := (httpapi.Options{}).CheckListen(o.listen, o.expose); err != nil {
			errs = append(errs, fmt.Errorf("-listen: %w (-expose says so)", err))
		}
	}
	return errors.Join(errs...)
}
