package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/google/uuid"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// command is one use of enrichd as a tool: enrichd NAME [flags] ARGS.
type command struct {
	name    string
	args    string // the arguments, for the usage text
	summary string // one line
	help    string // its own flags, for the usage text; empty if it has none
	// readOnly says that it downloads no lists and writes no files.
	readOnly bool
	// prepare adds the command's own flags to fs and returns the function that
	// runs it once the flags are parsed.
	prepare func(fs *flag.FlagSet) func(ctx context.Context, t *tool) error
}

// commands are all there are, in the order of the usage text.
func commands() []command {
	return []command{
		listCommand,
		explainCommand,
		enrichCommand,
		reaskCommand,
		rescoreCommand,
		forgetCommand,
		quotaCommand,
		listsCommand,
		exportCommand,
	}
}

// sharedFlags are the flags of the daemon that every command takes, too: those
// that choose the database, the providers and how to decide.
var sharedFlags = []string{
	"db", "decnet", "providers", "lists", "allow", "deny", "state", "policy", "own", "lookup-timeout", "abuseipdb-days",
	"ttl", "ttl-hours",
	"webhook", "webhook-secret-file", "webhook-allow-internal", "log-format", "log-level",
}

// commandNamed returns the command with a name, or nil.
func commandNamed(name string) *command {
	all := commands()
	if i := slices.IndexFunc(all, func(c command) bool { return c.name == name }); i >= 0 {
		return &all[i]
	}
	return nil
}

// commandNames lists the names of all commands.
func commandNames() string {
	var names []string
	for _, c := range commands() {
		names = append(names, c.name)
	}
	return strings.Join(names, ", ")
}

// usage returns what -h prints.
func (c *command) usage() string {
	text := fmt.Sprintf("Usage: enrichd %s [flags] %s\n\n%s.\n\nFlags:\n", c.name, c.args, strings.ToUpper(c.summary[:1])+c.summary[1:])
	text = strings.Replace(text, "] \n", "]\n", 1)
	return text + c.help + `  -json                   print JSON
  -h                      print this text, and exit

Flags may stand before or after arguments. These flags of "enrichd -h" count,
too:
` + fold("-"+strings.Join(sharedFlags, ", -")+".") + `
The exit code is 0, 1 if something failed or an attacker is not known, and 2 if
the arguments or the environment make no sense.
`
}

// fold breaks a text into lines that fit on a terminal.
func fold(text string) string {
	var b strings.Builder
	width := 0
	for word := range strings.FieldsSeq(text) {
		switch {
		case width == 0:
		case width+1+len(word) > 79:
			b.WriteByte('\n')
			width = 0
		default:
			b.WriteByte(' ')
			width++
		}
		b.WriteString(word)
		width += len(word)
	}
	return b.String()
}

// usageError says that the arguments make no sense.
type usageError struct{ error }

func misuse(format string, args ...any) error { return usageError{fmt.Errorf(format, args...)} }

// tool is a run of a command.
type tool struct {
	options
	config
	args []string // without flags
	json bool
	out  io.Writer
	err  io.Writer
	log  *slog.Logger
}

// run runs the command with the arguments that follow its name and returns the
// exit code.
func (c *command) run(ctx context.Context, args []string, lookup lookup, stdout, stderr io.Writer) int {
	t := tool{out: stdout, err: stderr}
	fs := flag.NewFlagSet("enrichd "+c.name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	t.options.register(fs)
	fs.BoolVar(&t.json, "json", false, "")
	own := make(map[string]bool) // flags that are not the daemon's
	fs.VisitAll(func(f *flag.Flag) { own[f.Name] = f.Name == "json" })
	work := c.prepare(fs)
	t.logLevel = slog.LevelWarn

	err := parseAnywhere(fs, args, &t.args)
	fs.Visit(func(f *flag.Flag) {
		if daemons, known := own[f.Name]; known && !daemons && !slices.Contains(sharedFlags, f.Name) && err == nil {
			err = fmt.Errorf("enrichd %s does not take -%s, a flag of the daemon", c.name, f.Name)
		}
	})
	if err == nil {
		err = t.options.validate()
	}
	switch {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(stdout, c.usage())
		return exitOK
	case err != nil:
		return c.misused(stderr, err)
	}
	t.log = newLogger(t.options, stderr)
	t.readOnly = c.readOnly
	if t.config, err = readConfig(t.options, lookup); err != nil {
		return c.misused(stderr, err)
	}
	err = work(ctx, &t)
	if _, wrong := errors.AsType[usageError](err); wrong {
		return c.misused(stderr, err)
	}
	if err != nil {
		fmt.Fprintf(stderr, "enrichd %s: %v\n", c.name, err)
		return exitFailed
	}
	return exitOK
}

func (c *command) misused(stderr io.Writer, err error) int {
	fmt.Fprintf(stderr, "enrichd %s: %v\nRun it with -h for help.\n", c.name, err)
	return exitUsage
}

// parseAnywhere parses flags that may stand before, between and after arguments.
// It adds the arguments to rest. After "--" everything is an argument.
func parseAnywhere(fs *flag.FlagSet, args []string, rest *[]string) error {
	for {
		if err := fs.Parse(args); err != nil {
			return err
		}
		left := fs.Args()
		if len(left) == 0 {
			return nil
		}
		if at := len(args) - len(left); at > 0 && args[at-1] == "--" {
			*rest = append(*rest, left...)
			return nil
		}
		*rest, args = append(*rest, left[0]), left[1:]
	}
}

// withStore runs a function on the store. It changes nothing in the database, which
// must be prepared.
func (t *tool) withStore(ctx context.Context, f func(s *sqlstore.Store) error) (err error) {
	if err := t.database.present(); err != nil {
		return err
	}
	db, s, err := t.database.open(t.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch plan, err := s.Plan(ctx); {
	case err != nil:
		return fmt.Errorf("%v: %w", t.database, err)
	case len(plan) > 0:
		return fmt.Errorf("%v was not prepared by this version of enrichd yet; start the daemon, or run enrichd -once", t.database)
	}
	return f(s)
}

// withWorker runs a function with a worker like the daemon's, which does not run.
// It prepares the database first.
func (t *tool) withWorker(ctx context.Context, f func(d *daemon) error) (err error) {
	if err := t.database.present(); err != nil {
		return err
	}
	for _, warning := range t.warnings {
		t.log.Warn(warning)
	}
	d, err := open(t.options, t.config, t.log)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.close()) }()
	if err := d.database.prepareOnce(ctx, d.store); err != nil {
		return fmt.Errorf("prepare %v: %w", d.database, err)
	}
	return f(d)
}

// present returns an error if the database is a file that is not there. A command
// does not make one.
func (d database) present() error {
	if d.isMissing() {
		return fmt.Errorf("there is no database %s; name it with -db", d.path)
	}
	return nil
}

// find returns the records of the attackers that an argument names: by UUID or by
// address. There is at least one unless it returns an error.
func find(ctx context.Context, s *sqlstore.Store, arg string) ([]store.Record, error) {
	id, err := uuid.Parse(arg)
	if err == nil {
		r, err := s.Get(ctx, id)
		if errors.Is(err, store.ErrNotFound) {
			return nil, fmt.Errorf("there is no attacker %s", id)
		}
		return []store.Record{r}, err
	}
	addr, err := provider.ParseAddr(arg)
	if err != nil {
		return nil, misuse("%.60q is neither a UUID nor an address", arg)
	}
	found, err := withAddress(ctx, s, addr)
	if err == nil && len(found) == 0 {
		return nil, fmt.Errorf("there is no attacker with address %v", addr)
	}
	return found, err
}

// named returns the attackers that the arguments name, and an error for each
// argument that names none.
func (t *tool) named(ctx context.Context, s *sqlstore.Store) (ids []uuid.UUID, missing []error, err error) {
	for _, arg := range t.args {
		records, err := find(ctx, s, arg)
		if _, wrong := errors.AsType[usageError](err); wrong {
			return nil, nil, err
		}
		if err != nil {
			missing = append(missing, err)
		}
		for i := range records {
			ids = append(ids, records[i].ID)
		}
	}
	return ids, missing, nil
}

// withAddress returns the records of the attackers that have an address. Where
// DECNET adds them there may be several, under UUIDs of its own.
func withAddress(ctx context.Context, s *sqlstore.Store, addr netip.Addr) (found []store.Record, err error) {
	r, err := s.Get(ctx, store.AttackerID(addr))
	switch {
	case err == nil && r.Addr() == addr:
		return []store.Record{r}, nil
	case err != nil && !errors.Is(err, store.ErrNotFound):
		return nil, err
	}
	ids, err := s.ByAddress(ctx, []netip.Prefix{netip.PrefixFrom(addr, addr.BitLen())})
	if err == nil && len(ids) == 0 && addr.Is6() {
		// The text of an IPv6 address may be spelled in several ways, and no index knows.
		err = eachRecord(ctx, s, store.ListRequest{NoRaw: true}, func(r *store.Record) error {
			if r.Addr() == addr {
				ids = append(ids, r.ID)
			}
			return nil
		})
	}
	for _, id := range ids {
		r, err := s.Get(ctx, id)
		switch {
		case errors.Is(err, store.ErrNotFound): // removed meanwhile
			continue
		case err != nil:
			return nil, err
		case r.Addr() == addr:
			found = append(found, r)
		}
	}
	return found, err
}

// eachRecord calls f with each record that a request lists, whatever its limit.
func eachRecord(ctx context.Context, s store.Lister, req store.ListRequest, f func(r *store.Record) error) error {
	for req.Limit = 500; ; {
		page, err := s.List(ctx, req)
		if err != nil {
			return err
		}
		for i := range page.Records {
			if err := f(&page.Records[i]); err != nil {
				return err
			}
		}
		if req.Cursor = page.Next; req.Cursor == "" {
			return nil
		}
	}
}

// table returns a writer that aligns columns separated by tabs. It must be
// flushed.
func (t *tool) table() *tabwriter.Writer { return tabwriter.NewWriter(t.out, 0, 0, 2, ' ', 0) }
