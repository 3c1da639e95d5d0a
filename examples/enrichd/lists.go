package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/feed"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/provider/threatfox"
	"github.com/decnet/enrich/store/sqlstore"
)

// listConfig is which lists there are.
type listConfig struct {
	chosen  string              // the flag or variable that names the built-in ones; empty for the default
	builtIn []provider.Provider // the chosen lists, or the default ones
	own     []provider.Provider // the operator's
	keeping
}

// ownList is an operator's list as a flag names it.
type ownList struct {
	name   string
	allow  bool
	places []string
}

// addOwnList returns the flag -allow or -deny: [NAME=]FILE|URL. Lists with the same
// name are one.
func (o *options) addOwnList(allow bool) func(string) error {
	return func(text string) error {
		name, place, named := strings.Cut(text, "=")
		if !named || provider.ValidateName(name) != nil {
			name, place = "", text // an = in a file's name, or in a URL
		}
		if place = strings.TrimSpace(place); place == "" {
			return errors.New("it names no file or URL")
		}
		if name == "" {
			name = o.freeName(allow)
		}
		for i := range o.ownLists {
			l := &o.ownLists[i]
			switch {
			case l.name != name:
			case l.allow != allow:
				return fmt.Errorf("%s is the name of an allow list and of a deny list; use two names", name)
			default:
				l.places = append(l.places, place)
				return nil
			}
		}
		o.ownLists = append(o.ownLists, ownList{name, allow, []string{place}})
		return nil
	}
}

// freeName returns the name of an operator's list without one: allow or deny, and
// then with a number.
func (o *options) freeName(allow bool) string {
	base := "deny"
	if allow {
		base = "allow"
	}
	for n := 1; ; n++ {
		name := base
		if n > 1 {
			name = fmt.Sprintf("%s%d", base, n)
		}
		if !slices.ContainsFunc(o.ownLists, func(l ownList) bool { return l.name == name }) {
			return name
		}
	}
}

// lists reads which lists there are. Without providers, because their variable is
// set and empty, no list is on by default.
func (e *environment) lists(o options, keep keeping, anyProvider bool) listConfig {
	const variable = "DECNET_INTEL_LISTS"
	c := listConfig{keeping: keep}
	text, set := e.lookup(variable)
	switch {
	case o.lists != nil:
		c.chosen, text = "-lists", *o.lists
	case set:
		c.chosen = variable
	case anyProvider:
		text = "default"
	}
	names := providerList{text: text}.names()
	if i := slices.Index(names, "default"); i >= 0 {
		names = providerList{text: strings.Join(slices.Replace(names, i, i+1, lists.Names(true)...), ",")}.names()
	}
	for _, name := range names {
		l, ok := lists.Find(name)
		if !ok {
			e.refuse("%s names %.40q, which is not known; known are default, %s", c.chosen, name, strings.Join(lists.Names(false), ", "))
			continue
		}
		options := lists.Options{Dir: c.dir, ReadOnly: c.readOnly}
		for place := range strings.SplitSeq(e.text("DECNET_LIST_"+strings.ToUpper(name)+"_URL"), ",") {
			if place = strings.TrimSpace(place); place != "" {
				options.Places = append(options.Places, place)
			}
		}
		if l.Key != "" {
			key, err := e.key("DECNET_" + strings.ToUpper(l.Key) + "_API_KEY")
			if err != nil {
				e.refuse("%w", err)
				continue
			}
			options.KeyFunc = func() string { return key }
		}
		p, err := lists.New(name, options)
		if err != nil {
			e.refuse("the list %s: %w", name, err)
			continue
		}
		c.builtIn = append(c.builtIn, p)
	}
	for _, own := range o.ownLists {
		if slices.Contains(known(), own.name) || slices.Contains(lists.Names(false), own.name) {
			e.refuse("-allow or -deny: %s is the name of another source; use another", own.name)
			continue
		}
		p, err := lists.NewOperator(lists.Operator{Name: own.name, Allow: own.allow, Places: own.places, Dir: c.dir, ReadOnly: c.readOnly})
		if err != nil {
			e.refuse("-allow or -deny: %w", err)
			continue
		}
		c.own = append(c.own, p)
	}
	return c
}

// keeping is how lists that are downloaded are kept.
type keeping struct {
	dir      string // empty: they are not
	readOnly bool   // nothing is downloaded or written
}

// keeping returns how lists are kept: in -state, the directory that systemd made, or
// that of the SQLite file.
func (e *environment) keeping(o options, d database) keeping {
	k := keeping{o.state, o.readOnly}
	if k.dir == "" {
		k.dir, _, _ = strings.Cut(e.text("STATE_DIRECTORY"), ":")
	}
	if k.dir == "" && d.path != "" {
		k.dir = filepath.Dir(d.path)
	}
	if o.state != "" && !o.readOnly {
		if err := makeWritable(k.dir); err != nil {
			e.refuse("-state: %w", err)
		}
	}
	return k
}

// makeWritable makes a directory that is not there, and returns an error if no file
// can be written in it.
func makeWritable(dir string) error {
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return err
	}
	file, err := os.CreateTemp(dir, ".enrichd-*")
	if err != nil {
		return err
	}
	return errors.Join(file.Close(), os.Remove(file.Name()))
}

// forgets reports whether one of the lists is downloaded and kept nowhere.
func (c *listConfig) forgets(used []intel.Provider) bool {
	return c.dir == "" && slices.ContainsFunc(used, func(p intel.Provider) bool {
		l, ok := provider.As[provider.Listing](p)
		return ok && !l.List().Watched
	})
}

// markUnused notes which of the lists that are kept are not used. Only who enriches
// does: a command may have other flags than the daemon.
func (d *daemon) markUnused(c config, log *slog.Logger) {
	if c.lists.dir == "" || c.lists.readOnly {
		return
	}
	var names []string
	for _, p := range append(c.providers(), d.lists...) {
		names = append(names, p.Name())
	}
	if err := feed.MarkUnused(c.lists.dir, names); err != nil {
		log.Warn("attackers that come while a list is off may not hear of it when it is on again", "error", err)
	}
}

// answersFor reports whether a list answers in place of a service.
func (c *listConfig) answersFor(name string) bool {
	return slices.ContainsFunc(c.builtIn, func(p provider.Provider) bool { return p.Name() == name })
}

// inUse returns the lists that are used: those on by default are not, on a database
// that is DECNET's.
func (c *listConfig) inUse(theirs bool) []intel.Provider {
	if c.chosen == "" && theirs {
		return slices.Clone(c.own)
	}
	return slices.Concat(c.builtIn, c.own)
}

// listNames returns the names of lists.
func listNames(all []intel.Provider) (names []string) {
	for _, p := range all {
		name := p.Name()
		if name == threatfox.Name {
			name = lists.ExportThreatFox
		}
		names = append(names, name)
	}
	return names
}

// isTheirs reports whether the database is DECNET's: its consumers read the columns
// of the four services, so lists do not decide in their place unless that is
// wanted. A database that does not answer yet is DECNET's if it has to have its
// tables.
func (c *config) isTheirs(ctx context.Context, s *sqlstore.Store, log *slog.Logger) bool {
	if c.database.isMissing() {
		return c.database.mustExist
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	owns, err := s.OwnsAttackers(ctx)
	if err != nil {
		log.Debug("whose database it is cannot be told yet", "error", err)
		return c.database.mustExist
	}
	return !owns
}

// checkLists returns what there is to say about each list.
func checkLists(ctx context.Context, c config) []row {
	used := map[string]provider.Provider{}
	for _, p := range slices.Concat(c.lists.builtIn, c.lists.own) {
		used[listNames([]intel.Provider{p})[0]] = p
	}
	if len(used) == 0 && len(c.sources) == 0 { // nobody is asked anything
		return nil
	}
	var rows []row
	for _, l := range lists.Known() {
		p := used[l.Name]
		detail := fmt.Sprintf("%s; %s; terms: %s", l.Title, l.Meaning, l.Terms)
		switch {
		case p != nil:
			result, state := checkList(ctx, p)
			if c.lists.chosen == "" {
				state += "; on by default, except on DECNET's database"
			}
			rows = append(rows, row{l.Name, result, state + "; " + detail})
		case l.Default:
			rows = append(rows, row{l.Name, checkOff, "not chosen; " + detail})
		default:
			rows = append(rows, row{l.Name, checkOff, "enable it by name: " + l.Off + "; " + detail})
		}
	}
	for _, p := range c.lists.own {
		result, state := checkList(ctx, p)
		rows = append(rows, row{p.Name(), result, state})
	}
	return rows
}

// checkOff is the result of a check of what is not used.
const checkOff = "off"

// checkList reads a list that is a file, and others as the daemon has kept them: a
// download would count.
func checkList(ctx context.Context, p provider.Provider) (result, state string) {
	places, _ := provider.As[interface{ Places() []string }](p)
	from := "from " + strings.Join(places.Places(), ", ")
	listing, _ := provider.As[provider.Listing](p)
	err := listing.Refresh(ctx)
	s := listing.List()
	switch {
	case s.Watched && err != nil:
	case s.Loaded:
		state = fmt.Sprintf("%s: %d networks, current at %s", from, s.Rows, minute(s.LoadedAt))
		return checkOK, strings.Join(append([]string{state}, s.Remarks()...), "; ")
	case !s.Watched:
		return checkOK, from + ", not downloaded by this check"
	case err == nil:
		err = errors.New("not loaded")
	}
	return checkFailed, from + ": " + err.Error()
}
