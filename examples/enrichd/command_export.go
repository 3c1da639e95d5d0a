package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/sqlstore"
)

var exportCommand = command{
	name: "export", summary: "write a block list",
	help: `  -format plain           plain, nft, crowdsec, csv or jsonl
  -o FILE                 replace this file at once by the list, and print a
                          report, with -json as JSON
  -verdict malicious      malicious, suspicious, or both separated by a comma
  -min-score 0            the score that the verdict must have, up to 1; only
                          the policy weighted has scores
  -min-sources 1          how many independent sources must speak for it
  -max-age 720h           only attackers seen since then; each is blocked until
                          it was not seen for that long; 0, the default: all
  -lifetime 24h           how long the others are blocked
  -max-share 0.1%         fail if the list holds more of all IPv4 addresses
  -allow-empty            let an empty list replace a FILE that has entries;
                          without it, the file stays, and the exit code is 1
  -publish                leave out what rests only on sources whose terms
                          forbid republishing
`,
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		var o export.Options
		exportFlags(fs, "", &o)
		format := fs.String("format", string(export.Plain), "")
		file := fs.String("o", "", "")
		fs.BoolVar(&o.AllowEmpty, "allow-empty", false, "")
		return func(ctx context.Context, t *tool) error {
			f, err := export.ParseFormat(*format)
			switch {
			case err != nil:
				return misuse("-format: %w", err)
			case len(t.args) > 0:
				return misuse("unexpected argument %q", t.args[0])
			case t.json && *file == "":
				return misuse("-json prints the report, which needs -o; for the list as JSON use -format jsonl")
			}
			o := t.exportOptions(o)
			if err := o.Validate(); err != nil {
				return usageError{err}
			}
			return t.withStore(ctx, func(s *sqlstore.Store) error { return t.export(ctx, s, o, f, *file) })
		}
	},
}

// exportFlags adds the flags that say which attackers are exported. The daemon has
// them with a prefix.
func exportFlags(fs *flag.FlagSet, prefix string, o *export.Options) {
	fs.Func(prefix+"verdict", "", func(list string) (err error) {
		o.Verdicts, err = parseVerdicts(list)
		return err
	})
	fs.Float64Var(&o.MinScore, prefix+"min-score", 0, "")
	fs.IntVar(&o.MinSources, prefix+"min-sources", 1, "")
	fs.DurationVar(&o.MaxAge, prefix+"max-age", 0, "")
	fs.DurationVar(&o.Lifetime, prefix+"lifetime", 0, "")
	fs.Func(prefix+"max-share", "", func(text string) (err error) {
		o.MaxShare, err = parseShare(text)
		return err
	})
	fs.BoolVar(&o.Publish, prefix+"publish", false, "")
}

// parseShare reads a share, like 0.1% or 0.001.
func parseShare(text string) (float64, error) {
	number, percent := strings.CutSuffix(text, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !(share > 0 && share <= 1) {
		return 0, fmt.Errorf("%.40q is no share above 0 and up to 100%%", text)
	}
	return share, nil
}

// exportOptions adds to options of flags what the configuration says.
func (c *config) exportOptions(o export.Options) export.Options {
	o.Own, o.Profiles = c.own, make(map[string]provider.Profile)
	for i := range services { // also those without a key: what they said counts
		if p, err := services[i].open(serviceOptions{key: func() string { return "none" }}); err == nil {
			o.Profiles[services[i].name] = profileOf(p)
		}
	}
	for _, p := range append(c.providers(), c.lists.inUse(false)...) {
		o.Profiles[p.Name()] = profileOf(p)
	}
	return o
}

func profileOf(p provider.Provider) provider.Profile {
	if declared, ok := provider.As[provider.Profiled](p); ok {
		return declared.Profile()
	}
	return provider.Profile{}
}

// export writes a block list to a file, or to standard output if there is none,
// and reports what was left out.
func (t *tool) export(ctx context.Context, s *sqlstore.Store, o export.Options, f export.Format, file string) error {
	defer debug.SetGCPercent(debug.SetGCPercent(50)) // a fifth less memory and hardly more time
	list, err := export.Collect(ctx, s, o)
	if err != nil {
		return err
	}
	if file == "" {
		err = list.Write(t.out, f)
	} else {
		err = list.WriteFile(file, f)
	}
	switch {
	case errors.Is(err, export.ErrEmpty):
		return fmt.Errorf("%w; %v; -allow-empty replaces it all the same", err, list.Report)
	case err != nil:
		return err
	case t.json:
		return t.printJSON(list.Report)
	}
	_, err = fmt.Fprintln(t.err, list.Report)
	return err
}

// serveExports serves block lists until ctx is done.
func (d *daemon) serveExports(ctx context.Context, l net.Listener, o export.Options) error {
	o = d.exportOptions(o)
	h := export.NewHandler(func(ctx context.Context) (*export.List, error) {
		list, err := export.Collect(ctx, d.store, o)
		if err == nil {
			d.log.Info("collected a block list", "report", list.Report.String())
		}
		return list, err
	}, d.log)
	return serveHTTP(ctx, l, httpapi.NewServer(h, d.log))
}
