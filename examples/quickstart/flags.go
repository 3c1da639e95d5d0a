package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"github.com/decnet/enrich/provider"
)

const usage = `Usage: quickstart [flags] [ADDRESS...]

Queries GreyNoise, AbuseIPDB, Feodo Tracker and ThreatFox about IP addresses and
prints a verdict on each. Without -live it queries fake services inside the
program. Their answers are made up, and no key and no network is needed.

The addresses come from the arguments, -f FILE or standard input. Without any of
them, a small sample is used. The text can be anything: a block list, a report,
the log of a honeypot, a firewall or a service, also gzipped. Of a line of a log
the attacker's address is taken, not the destination or the sensor; each address
once. Networks such as 10.0.0.0/8, addresses that are private or your own (-own)
and lines that begin with # are left out, and counted.

Flags:
  -f FILE    read addresses from FILE; "-" is standard input
  -own FILE  your own networks, one a line, or as a list with commas in place of
             FILE: no address in them is taken from a text or sent to anybody
  -db FILE   keep findings in FILE, an SQLite database; findings in it that
             are still fresh are not queried again
  -json      print one JSON object per address and line, its keys the columns
             of the table attacker_intel, and explanation and reasons
  -live      query the real services, with the keys in the environment
  -h         print this text

Keys for -live:
  DECNET_GREYNOISE_API_KEY   GreyNoise; it allows a few lookups without a key
  DECNET_ABUSEIPDB_API_KEY   AbuseIPDB; left out without a key
  DECNET_THREATFOX_API_KEY   ThreatFox; left out without a key
Feodo Tracker needs no key. DECNET_GREYNOISE_URL, DECNET_ABUSEIPDB_URL,
DECNET_FEODO_URL and DECNET_THREATFOX_URL are URLs to query instead; one without
a path, like http://127.0.0.1:8080, keeps the path of the service.
DECNET_GREYNOISE_QUOTA, DECNET_ABUSEIPDB_QUOTA and DECNET_THREATFOX_QUOTA are
what your plans allow, like 3000/day or none. The defaults are those of free
accounts: 25/week for GreyNoise, 1000/day for AbuseIPDB, none for ThreatFox.
HTTPS_PROXY, HTTP_PROXY and NO_PROXY name the proxy to the services, and
SSL_CERT_FILE the certificates to trust.

The cells of the table:
  malicious, suspicious, benign, unknown
                the provider's verdict
  no opinion    the provider answered and has no verdict
  not answered  the provider failed
  not asked     the provider does not apply (a private address, for example, is
                never sent to anybody) or was left out
  waiting       the quota is spent or the provider is paused; a later run with
                -db continues
  pending       the run was interrupted before
Only "benign" means harmless.

Ctrl-C ends a run: finished results are saved and printed. The exit code is 0; 1
if something failed, no provider answered or addresses are pending; and 2 if the
arguments or the input make no sense.
`

// options are the flags and arguments.
type options struct {
	file, db    string
	own         string
	ownNetworks []netip.Prefix
	json, live  bool
	addresses   []string
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
	fs.StringVar(&o.own, "own", "", "")
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
	if len(errs) == 0 && o.own != "" {
		var err error
		if o.ownNetworks, err = ownNetworks(o.own); err != nil {
			errs = append(errs, fmt.Errorf("-own: %w", err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return usageError{err}
	}
	return nil
}

// ownNetworks reads networks from a list with commas, or from the file of that
// name.
func ownNetworks(text string) ([]netip.Prefix, error) {
	list, err := provider.ParseNetworks(strings.NewReader(strings.ReplaceAll(text, ",", "\n")))
	if err == nil && len(list) > 0 {
		return list, nil
	}
	f, err := os.Open(text)
	if err != nil {
		return nil, err
	}
	defer f.Close() // only read
	if list, err = provider.ParseNetworks(f); err != nil {
		return nil, fmt.Errorf("%s: %w", text, err)
	}
	return list, nil
}
