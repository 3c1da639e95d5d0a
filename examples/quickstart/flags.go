package main

import (
	"errors"
	"flag"
	"io"
	"strings"
)

const usage = `Usage: quickstart [flags] [ADDRESS...]

Asks GreyNoise, AbuseIPDB, Feodo Tracker and ThreatFox about IP addresses and
prints a verdict on each. Without -live it asks imitations of them inside the
program, whose answers are made up: no key and no network is needed.

The addresses come from the arguments, from -f FILE or from standard input, and
else from a small sample. Any text will do, a block list as well as a log or
JSON: IPv4 and IPv6 addresses are picked out of it, each of them once. Networks
such as 10.0.0.0/8 are skipped, and so are lines that begin with #.

Flags:
  -f FILE    read addresses from FILE; "-" is standard input
  -db FILE   keep what is learnt in FILE, an SQLite database; what is in there
             and still fresh is not asked again
  -json      print one JSON object per address and line, its keys the columns
             of the table attacker_intel
  -live      ask the real services, with the keys in the environment
  -h         print this text

Keys for -live:
  DECNET_GREYNOISE_API_KEY   GreyNoise; it answers a little without one
  DECNET_ABUSEIPDB_API_KEY   AbuseIPDB; left out without one
  DECNET_THREATFOX_API_KEY   ThreatFox; left out without one
Feodo Tracker needs none. DECNET_GREYNOISE_URL, DECNET_ABUSEIPDB_URL,
DECNET_FEODO_URL and DECNET_THREATFOX_URL name another origin to ask instead of
the real one, like http://127.0.0.1:8080. DECNET_GREYNOISE_QUOTA,
DECNET_ABUSEIPDB_QUOTA and DECNET_THREATFOX_QUOTA say what your plans allow,
like 3000/day or none; without them free accounts are assumed: 25/week for
GreyNoise, 1000/day for AbuseIPDB, none for ThreatFox.

In the table, a provider that answered has given a verdict (malicious,
suspicious, benign or unknown) or "no opinion". One that failed has "not
answered". One that does not apply, for example because the address is private
and must not be named to anybody, or that was left out, has "not asked". One
whose quota is spent, or that is being left alone because it fails, leaves
addresses "waiting"; a later run with -db goes on with them. What an interrupted
run did not come to is "pending". None of these means harmless.

Ctrl-C ends a run; what is done by then is saved and printed. The exit code is
0, 1 if something failed, nobody answered or addresses are left pending, and 2
if the arguments or the input make no sense.
`

// options are the flags and arguments.
type options struct {
	file, db   string
	json, live bool
	addresses  []string
}

// kept says where to find what was learnt.
func (o *options) kept() string {
	if o.db == "" {
		return "what was learnt is printed, and kept nowhere as there is no -db"
	}
	return "what was learnt is in " + o.db + "; run it again to go on"
}

// usageError is a mistake of whoever runs the program.
type usageError struct{ error }

// parseFlags returns flag.ErrHelp if help is wanted, and a usageError for
// arguments that make no sense. Flags may stand between and after addresses.
func parseFlags(args []string) (options, error) {
	var o options
	fs := flag.NewFlagSet("quickstart", flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.StringVar(&o.file, "f", "", "")
	fs.StringVar(&o.db, "db", "", "")
	fs.BoolVar(&o.json, "json", false, "")
	fs.BoolVar(&o.live, "live", false, "")
	for {
		err := fs.Parse(args)
		switch {
		case errors.Is(err, flag.ErrHelp):
			return o, err
		case err != nil:
			return o, usageError{err}
		case fs.NArg() == 0:
			return o, o.validate(fs)
		}
		o.addresses = append(o.addresses, fs.Arg(0))
		args = fs.Args()[1:]
	}
}

// validate refuses flags that were given without a value.
func (o *options) validate(fs *flag.FlagSet) error {
	var errs []error
	fs.Visit(func(f *flag.Flag) {
		if strings.TrimSpace(f.Value.String()) == "" {
			errs = append(errs, errors.New("flag -"+f.Name+" names no file"))
		}
	})
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}
