package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/store/sqlstore"
)

var listsCommand = command{
	name: "lists", summary: "show the lists, and which are off", readOnly: true,
	prepare: func(*flag.FlagSet) func(context.Context, *tool) error {
		return func(ctx context.Context, t *tool) error {
			if len(t.args) > 0 {
				return misuse("unexpected argument %.40q", t.args[0])
			}
			return t.showLists(ctx)
		}
	},
}

// listRow is what there is to say about a list.
type listRow struct {
	Name    string   `json:"list"`
	On      bool     `json:"on"`
	Default bool     `json:"default"` // on unless the operator chooses others
	Title   string   `json:"title,omitempty"`
	Meaning string   `json:"meaning,omitempty"`
	Terms   string   `json:"terms,omitempty"`
	Off     string   `json:"off,omitempty"` // why it is off by default
	Places  []string `json:"places"`
	provider.ListStatus
}

// showLists prints the built-in lists and the operator's. It reads files and
// what the daemon has kept, and downloads nothing.
func (t *tool) showLists(ctx context.Context) error {
	used := make(map[string]intel.Provider)
	for _, p := range t.config.lists.inUse(t.onTheirs(ctx)) {
		used[listNames([]intel.Provider{p})[0]] = p
	}
	var rows []listRow
	for _, l := range lists.Known() {
		row := listRow{Name: l.Name, Default: l.Default, Title: l.Title, Meaning: l.Meaning, Terms: l.Terms, Off: l.Off}
		row.describe(ctx, used[l.Name])
		rows = append(rows, row)
	}
	for _, p := range t.config.lists.own {
		row := listRow{Name: p.Name(), Title: "your own"}
		row.describe(ctx, p)
		rows = append(rows, row)
	}
	if t.json {
		return t.printJSON(rows)
	}
	table := t.table()
	fmt.Fprintln(table, "LIST\tSTATE\tNETWORKS\tCURRENT AT\tNEXT\tTITLE")
	for _, r := range rows {
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\t%s\n", r.Name, r.state(), r.networks(), minute(r.LoadedAt), minute(r.NextLoad), r.Title)
	}
	return table.Flush()
}

// onTheirs reports whether the database is DECNET's, where no list is on by default.
func (t *tool) onTheirs(ctx context.Context) (theirs bool) {
	theirs = t.database.mustExist
	_ = t.withStore(ctx, func(s *sqlstore.Store) error { // without a database the lists can be shown as well
		theirs = t.config.isTheirs(ctx, s, t.log)
		return nil
	})
	return theirs
}

// describe enters how a list is; p is nil if it is off.
func (r *listRow) describe(ctx context.Context, p intel.Provider) {
	r.Places = []string{}
	if p == nil {
		return
	}
	r.On = true
	if from, ok := provider.As[interface{ Places() []string }](p); ok {
		r.Places = slices.Clone(from.Places())
	}
	if l, ok := provider.As[provider.Listing](p); ok {
		_ = l.Refresh(ctx) // its status says what failed
		r.ListStatus = l.List()
	}
}

// state says whether a list is used, and what is wrong with it.
func (r *listRow) state() string {
	switch {
	case !r.On && r.Default:
		return "off"
	case !r.On:
		return "off: enable it by name"
	}
	return strings.Join(append([]string{"on"}, r.Remarks()...), "; ")
}

// networks returns the size of a list as text.
func (r *listRow) networks() string {
	if !r.Loaded {
		return "-"
	}
	return fmt.Sprint(r.Rows)
}
