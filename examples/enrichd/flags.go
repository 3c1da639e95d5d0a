package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"math"
	"strconv"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider/abuseipdb"
)

const usage = `Usage: enrichd [flags]
       enrichd COMMAND [flags] ARGS, with flags of its own: enrichd COMMAND -h

Asks threat-intelligence services about the attackers that DECNET's honeypots
saw: those in its database, as they become due, and at once when the bus
announces one. What is learnt goes to the table attacker_intel and, as event
attacker.intel.enriched, to the bus. It takes the place of "decnet enrich".

Commands:
  list                    list attackers, most recently seen first
  explain                 explain the verdicts on attackers, source by source
  enrich                  query the providers about attackers now
  reask                   query one provider again about all attackers
  rescore                 decide again on all attackers, without a lookup
  forget                  remove attackers with everything known about them
  quota                   show what is left of the quotas, or reset them
  lists                   show the lists, and which are off
  export                  write a block list

Flags:
  -poll-interval 60s      time between two polls of the database without events;
                          a number is in seconds; -i is the same
  -ttl 24h                how long a finding is fresh unless its provider says;
                          -ttl-hours 24 is the same
  -providers LIST         the providers to query, instead of those in
                          DECNET_INTEL_PROVIDERS; empty: none
  -lists LIST             the built-in lists to use, instead of those in
                          DECNET_INTEL_LISTS: names separated by commas, default
                          for those that are on by default; empty: none
  -allow [NAME=]FILE|URL  your own list of harmless networks; any number. Who is
                          in one is benign and costs no lookup
  -deny [NAME=]FILE|URL   your own list of malicious networks; any number
  -state DIR              where lists are kept across restarts; default: the
                          state directory of systemd, or the SQLite file's;
                          processes that share it make one download between
                          them, and each host makes its own
  -batch 50               attackers claimed at once
  -concurrency 64         attackers worked on at once
  -policy strongest       how opinions become a verdict: strongest or weighted
  -lookup-timeout 10s     how long one lookup may take
  -abuseipdb-days 30      how many days back reports to AbuseIPDB count
  -own FILE               your own networks, one a line: no provider is queried
                          about an address in them, and none is an attacker's
  -follow FILE            take attackers from a log: from its beginning, as it
                          grows, and across rotation; any number of times
  -ingest-listen tcp://127.0.0.1:PORT
                          take attackers from what is sent there, as Cowrie's
                          socketlog does; -expose applies to it, too
  -adopt-unknown          take a bus event about an address that no attacker has
                          as an attacker
                          These three, and observations over HTTP, are rejected
                          on DECNET's database
  -db FILE                the database: an SQLite file, or a URL as in
                          DECNET_DB_URL
  -decnet /opt/decnet     DECNET's install directory
  -db-timeout 15s         how long -once waits for a database that does not
                          answer
  -create                 create DECNET's tables where they are missing; without
                          it, a database that is named here, in the environment
                          or by DECNET's install directory must have them
  -keep-raw 720h          once a day, or with -once at the end, remove what
                          services said verbatim that is older, from DECNET's
                          rows, too; findings stay; 0, the default: keep it
  -forget 180d            once a day, or with -once at the end, remove attackers
                          that were not seen for that long, with everything
                          known about them; 0, the default: none; not on
                          DECNET's database, which has its own attackers
  -listen 127.0.0.1:8089  where to answer HTTP; empty: nowhere
  -expose                 let -listen and -export-listen name an address that
                          others can reach although nobody is asked for a
                          token there
  -export-listen ADDRESS  where to serve block lists over HTTP: /plain, /nft,
                          /crowdsec, /csv and /jsonl, with an ETag; default:
                          nowhere; -expose applies to it, too
  -export-verdict LIST, -export-min-score 0, -export-min-sources 1,
  -export-max-age 0, -export-lifetime 24h, -export-max-share 0.1%,
  -export-publish         who is in these lists, see enrichd export -h
  -webhook URL            post each event to this receiver, as Standard Webhooks
                          1.0 specifies it; any number of them
  -webhook-secret-file FILE
                          the secret that signs them, as openssl rand -base64 32
                          prints it; further ones after it sign, too; one file
                          for all, or one for each -webhook
  -webhook-allow-internal let receivers have private or internal addresses
  -host NAME              a name that -listen answers under, besides localhost
                          and its address; several: repeat it
  -cors ORIGIN            an origin, like https://decnet.example, whose pages
                          may read what -listen answers; several: repeat it
  -once                   work on what is due, and exit
  -check                  check configuration, database, bus, keys, inputs and
                          receivers without spending a lookup or changing
                          anything, print a table, and exit; a bus or a receiver
                          that is not there is no failure
  -d, -daemon             accepted because "decnet enrich" has it; no effect
  -log-format text        text or json; the log goes to standard error
  -log-level info         debug, info, warn or error
  -version                print the version, and exit
  -h                      print this text, and exit

Environment:
  DECNET_INTEL_ENABLED     false, and no other word: exit at once; default true
  DECNET_INTEL_PROVIDERS   the providers to query, separated by commas; not set:
                           greynoise, abuseipdb, feodo, threatfox; set and
                           empty: none, and enrichd stays up
  DECNET_INTEL_LISTS       the built-in lists to use, like -lists; not set:
                           scanners, drop_v4, drop_v6, tor and ipsum, except on
                           DECNET's database. By name only: blocklist_de, cins,
                           blacklist_abuseipdb, export_threatfox, iptoasn and
                           clouds
  DECNET_LIST_<NAME>_URL   where a list comes from instead: URLs or files,
                           separated by commas, like DECNET_LIST_IPSUM_URL
  DECNET_GREYNOISE_API_KEY, DECNET_ABUSEIPDB_API_KEY, DECNET_THREATFOX_API_KEY,
  DECNET_FEODO_API_KEY     without its key, GreyNoise allows a few lookups,
                           AbuseIPDB and ThreatFox are left out; Feodo Tracker
                           works without a key
  DECNET_GREYNOISE_API_KEY_FILE and the like
                           a file with the key in it; a systemd credential named
                           DECNET_GREYNOISE_API_KEY is read as well
  DECNET_GREYNOISE_QUOTA, DECNET_ABUSEIPDB_QUOTA, DECNET_THREATFOX_QUOTA
                           what the plan allows, like 3000/day or none; default:
                           free accounts: 25/week, 1000/day, none
  DECNET_GREYNOISE_BATCH   true: ask GreyNoise about many addresses at a time,
                           in calls spread evenly over its quota, if the key is
                           entitled to it; default false
  DECNET_GREYNOISE_URL, DECNET_ABUSEIPDB_URL, DECNET_FEODO_URL,
  DECNET_THREATFOX_URL     a URL to query instead; one without a path, like
                           http://127.0.0.1:8080, keeps the path of the service
  DECNET_INTEL_TOKEN       a token that all of /api then asks for, in the header
                           Authorization: Bearer TOKEN; -listen may then name an
                           address that others can reach.
                           DECNET_INTEL_TOKEN_FILE names a file with it
  HTTPS_PROXY, HTTP_PROXY, NO_PROXY
                           the proxy to the services, and the hosts queried
                           without it
  SSL_CERT_FILE            certificates to trust instead of the system's, like
                           that of a proxy which inspects TLS
  DECNET_DB_TYPE           mysql or postgres: the server in DECNET_DB_URL, or in
                           DECNET_DB_HOST, _PORT, _NAME, _USER and _PASSWORD;
                           sqlite, or not set: decnet.db in DECNET's install
                           directory if there is one, and else DECNET_DB_URL
  DECNET_DB_URL            sqlite:///var/lib/x.db (absolute), sqlite://x.db
                           (relative), postgres://user:password@host:port/name,
                           mysql://...; drivers of SQLAlchemy, as in
                           mysql+asyncmy://, are ignored, and their options are
                           translated; default: sqlite://enrich.db
  DECNET_CONFIG            DECNET's ini file; default: /etc/decnet/decnet.ini.
                           The variables above and below may also be in there,
                           and in .env.local and .env in DECNET's install
                           directory; the environment takes precedence
  DECNET_BUS_ENABLED       false: no bus, only looks at the database
  DECNET_BUS_TYPE          unix, nats, or memory, which is heard by nobody else;
                           default unix
  DECNET_BUS_SOCKET        of the bus; default: /run/decnet/bus.sock if that is
                           there or can be made, or ~/.decnet/bus.sock
  DECNET_NATS_URL          default nats://127.0.0.1:4222

HTTP: / is a dashboard, and /intel-panel.js its panel, for other pages. For
programs: /api/v1/attackers/{uuid}/intel, the same with /explain,
/api/v1/intel/attackers, /api/v1/intel/events, /api/v1/intel/status,
/api/v1/openapi.json, /metrics for Prometheus, /healthz, /readyz, and POST
/api/v1/observations, which takes attackers from lines of JSON:
{"address":..., "time":...}.

SIGHUP reads the files of keys, secrets, own networks and DECNET's configuration
again, and ends nothing. SIGTERM and Ctrl-C end the program, also with -once,
after the lookups that are under way; a second signal ends it at once. The exit
code is 0, 1 if something failed, and 2 if the arguments or the environment make
no sense.
`

// options are the flags.
type options struct {
	pollInterval, ttl    time.Duration
	batch, concurrency   int
	keepRaw              time.Duration // 0 for ever
	forget               time.Duration // 0: never
	db                   string        // a URL or an SQLite file; empty: as the environment says
	decnet               string        // DECNET's install directory; empty: the default one
	dbTimeout            time.Duration // how long -once waits for the database
	create               bool          // DECNET's tables, where they are missing
	providers            *string       // nil: as the environment says
	daemon               bool          // without effect
	policy               string
	lookupTimeout        time.Duration
	abuseipdbDays        int
	lists                *string   // nil: as the environment says
	ownLists             []ownList // the operator's
	state                string    // where lists are kept across restarts; empty: as the environment says
	own                  string    // the file of our own networks; empty for none
	observing                      // where attackers come from besides the database
	listen               string
	expose               bool
	hosts, origins       []string // from -host and -cors
	exportListen         string   // where block lists are served; empty: nowhere
	export               export.Options
	webhooks             []string // URLs
	webhookSecrets       []string // files
	webhookInternal      bool
	once, check, version bool
	readOnly             bool // lists are not downloaded, and no files written
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

// policies are those that -policy names.
var policies = map[string]aggregate.Policy{"strongest": aggregate.Strongest{}, "weighted": aggregate.Weighted{}}

// parseFlags returns flag.ErrHelp if help is wanted, and an error that names
// everything else that is wrong.
func parseFlags(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("enrichd", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	o.register(fs)
	if err := fs.Parse(args); err != nil {
		return o, err
	}
	o.readOnly = o.check
	if fs.NArg() > 0 {
		if fs.NArg() < len(args) && commandNamed(fs.Arg(0)) != nil {
			return o, fmt.Errorf("the command comes first, and then its flags: enrichd %s [flags]", fs.Arg(0))
		}
		return o, fmt.Errorf("unexpected argument %q; the commands are %s", fs.Arg(0), commandNames())
	}
	return o, o.validate()
}

// register adds the flags of the daemon to fs, with their defaults. A flag that
// the commands take, too, is named in sharedFlags.
func (o *options) register(fs *flag.FlagSet) {
	o.pollInterval = 60 * time.Second
	fs.Func("poll-interval", "", o.setPollInterval)
	fs.Func("i", "", o.setPollInterval)
	fs.DurationVar(&o.ttl, "ttl", 24*time.Hour, "")
	fs.Func("ttl-hours", "", o.setTTLHours)
	fs.Func("providers", "", func(list string) error {
		o.providers = &list
		return nil
	})
	fs.Func("lists", "", func(list string) error {
		o.lists = &list
		return nil
	})
	fs.Func("allow", "", o.addOwnList(true))
	fs.Func("deny", "", o.addOwnList(false))
	fs.StringVar(&o.state, "state", "", "")
	fs.StringVar(&o.policy, "policy", "strongest", "")
	fs.DurationVar(&o.lookupTimeout, "lookup-timeout", 10*time.Second, "")
	fs.IntVar(&o.abuseipdbDays, "abuseipdb-days", abuseipdb.DefaultMaxAgeDays, "")
	fs.StringVar(&o.own, "own", "", "")
	fs.Func("follow", "", o.addFollow)
	fs.Func("ingest-listen", "", o.setListen)
	fs.BoolVar(&o.unknown, "adopt-unknown", false, "")
	fs.BoolVar(&o.daemon, "d", false, "")
	fs.BoolVar(&o.daemon, "daemon", false, "")
	fs.IntVar(&o.batch, "batch", 50, "")
	fs.IntVar(&o.concurrency, "concurrency", 64, "")
	fs.DurationVar(&o.keepRaw, "keep-raw", 0, "")
	fs.Func("forget", "", func(text string) (err error) {
		o.forget, err = parseAge(text)
		return err
	})
	fs.StringVar(&o.db, "db", "", "")
	fs.StringVar(&o.decnet, "decnet", "", "")
	fs.DurationVar(&o.dbTimeout, "db-timeout", 15*time.Second, "")
	fs.BoolVar(&o.create, "create", false, "")
	fs.StringVar(&o.listen, "listen", "127.0.0.1:8089", "")
	fs.BoolVar(&o.expose, "expose", false, "")
	fs.Func("host", "", o.addHost)
	fs.Func("cors", "", o.addOrigin)
	fs.StringVar(&o.exportListen, "export-listen", "", "")
	exportFlags(fs, "export-", &o.export)
	fs.Func("webhook", "", func(url string) error {
		o.webhooks = append(o.webhooks, url)
		return nil
	})
	fs.Func("webhook-secret-file", "", func(path string) error {
		o.webhookSecrets = append(o.webhookSecrets, path)
		return nil
	})
	fs.BoolVar(&o.webhookInternal, "webhook-allow-internal", false, "")
	fs.BoolVar(&o.once, "once", false, "")
	fs.BoolVar(&o.check, "check", false, "")
	fs.BoolVar(&o.version, "version", false, "")
	fs.StringVar(&o.logFormat, "log-format", "text", "")
	fs.TextVar(&o.logLevel, "log-level", slog.LevelInfo, "")
}

// setPollInterval reads a duration, or a number of seconds as "decnet enrich"
// takes it.
func (o *options) setPollInterval(text string) error {
	if d, err := time.ParseDuration(text); err == nil {
		o.pollInterval = d
		return nil
	}
	seconds, err := strconv.ParseFloat(text, 64)
	if err != nil || !(math.Abs(seconds) <= math.MaxInt32) {
		return errors.New("it is neither a duration, like 60s, nor a number of seconds")
	}
	o.pollInterval = time.Duration(seconds * float64(time.Second))
	return nil
}

// setTTLHours reads a number of hours, as "decnet enrich" takes it.
func (o *options) setTTLHours(text string) error {
	hours, err := strconv.ParseInt(text, 10, 32)
	if err != nil || hours > int64(math.MaxInt64/time.Hour) {
		return errors.New("it is not a number of hours, like 24")
	}
	o.ttl = time.Duration(hours) * time.Hour
	return nil
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
	refuse(o.forget != 0 && o.forget < minForget, "-forget is %v; it must be 0, for never, or %v or more, like 180d", o.forget, minForget)
	refuse(o.dbTimeout < time.Second, "-db-timeout is %v; it must be 1s or more", o.dbTimeout)
	refuse(policies[o.policy] == nil, "-policy is %.40q; it must be strongest or weighted", o.policy)
	refuse(o.lookupTimeout < time.Second || o.lookupTimeout > time.Minute, "-lookup-timeout is %v; it must be between 1s and 1m", o.lookupTimeout)
	refuse(o.abuseipdbDays < 1 || o.abuseipdbDays > 365, "-abuseipdb-days is %d; it must be between 1 and 365", o.abuseipdbDays)
	refuse(o.logFormat != "text" && o.logFormat != "json", "-log-format is %q; it must be text or json", o.logFormat)
	refuse(o.once && o.check, "-once and -check exclude each other")
	errs = append(errs, o.observing.validate(o.once, o.expose)...)
	if o.listen != "" {
		if err := (httpapi.Options{}).CheckListen(o.listen, true); err != nil { // the token decides on the rest
			errs = append(errs, fmt.Errorf("-listen: %w", err))
		}
	}
	if o.exportListen != "" {
		if err := (httpapi.Options{}).CheckListen(o.exportListen, o.expose); err != nil {
			errs = append(errs, fmt.Errorf("-export-listen: %w (-expose says so)", err))
		}
	}
	if err := o.export.Validate(); err != nil {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
