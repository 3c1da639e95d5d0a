package main

import (
	"context"
	"flag"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

var quotaCommand = command{
	name: "quota", args: "[reset PROVIDER...]", summary: "show what is left of the quotas, or reset them",
	help: `  reset PROVIDER...       forget what was spent of a provider's quotas, and how
                          long it asked to be left alone; all: of all providers
`,
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		return func(ctx context.Context, t *tool) error {
			switch {
			case len(t.args) == 0:
				return t.withStore(ctx, func(s *sqlstore.Store) error { return t.showQuotas(ctx, s) })
			case t.args[0] != "reset":
				return misuse("unexpected argument %q; reset is the only one", t.args[0])
			}
			names, err := t.providersNamed(t.args[1:])
			if err != nil {
				return err
			}
			return t.withStore(ctx, func(s *sqlstore.Store) error { return t.resetQuotas(ctx, s, names) })
		}
	},
}

// providersNamed checks names of providers; all stands for those configured.
func (t *tool) providersNamed(args []string) (names []string, err error) {
	if len(args) == 0 {
		return nil, misuse("name the providers, or all")
	}
	configured := t.names()
	if slices.Equal(args, []string{"all"}) {
		return configured, nil
	}
	for _, name := range args {
		if !slices.Contains(configured, name) {
			return nil, misuse("there is no provider %.40q; configured are %s", name, strings.Join(configured, ", "))
		}
	}
	return args, nil
}

// showQuotas prints what is left of each quota, and who waits for it.
func (t *tool) showQuotas(ctx context.Context, s *sqlstore.Store) error {
	w, err := intel.NewWorker(intel.Config{Store: s, Providers: append(t.config.providers(), t.config.lists.inUse(t.config.isTheirs(ctx, s, t.log))...), Logger: t.log})
	if err != nil {
		return err
	}
	status, err := w.Status(ctx)
	if err != nil {
		return err
	}
	if t.json {
		return t.printJSON(quotasOf(status))
	}
	table := t.table()
	fmt.Fprintln(table, "PROVIDER\tQUOTA\tLEFT\tRESET\tWAITING\tSTATE")
	for _, p := range quotasOf(status) {
		if len(p.Quotas) == 0 {
			fmt.Fprintf(table, "%s\tnone\t-\t-\t%d\t%s\n", p.Name, p.Waiting, p.pause())
		}
		for _, q := range p.Quotas {
			window := strings.TrimSuffix(strings.TrimSuffix((time.Duration(q.Seconds)*time.Second).String(), "0s"), "0m")
			fmt.Fprintf(table, "%s\t%d in %s\t%d\t%s\t%d\t%s\n", p.Name, q.Limit, window, q.Remaining, minute(q.Reset), p.Waiting, p.pause())
		}
	}
	return table.Flush()
}

// providerQuotas is what is left of one provider's quotas.
type providerQuotas struct {
	Name    string              `json:"provider"`
	Quotas  []intel.QuotaStatus `json:"quotas"`
	State   string              `json:"state,omitempty"` // why it is left alone
	Until   time.Time           `json:"until,omitzero"`
	Waiting int                 `json:"waiting"`
}

// quotasOf takes the quotas out of the status of a worker.
func quotasOf(s intel.Status) (all []providerQuotas) {
	for _, p := range s.Providers {
		q := providerQuotas{Name: p.Name, Quotas: p.Quotas, Until: p.Until}
		if q.Quotas == nil {
			q.Quotas = []intel.QuotaStatus{}
		}
		if !p.Until.IsZero() {
			q.State = p.State
		}
		if s.Backlog != nil {
			q.Waiting = s.Backlog.Waiting[p.Name]
		}
		all = append(all, q)
	}
	return all
}

// pause is why a provider is left alone, and until when.
func (q *providerQuotas) pause() string {
	if q.State == "" {
		return "-"
	}
	return q.State + " until " + minute(q.Until)
}

// resetQuotas forgets what was spent of the named providers' quotas, and shows
// all quotas then. A daemon that runs notices within a minute.
func (t *tool) resetQuotas(ctx context.Context, s *sqlstore.Store, names []string) error {
	for _, name := range names {
		if err := resetQuota(ctx, s, name); err != nil {
			return fmt.Errorf("reset the quotas of %s: %w", name, err)
		}
	}
	return t.showQuotas(ctx, s)
}

// resetQuota replaces a provider's budget by an empty one.
func resetQuota(ctx context.Context, ledger store.QuotaLedger, name string) error {
	for {
		_, version, err := ledger.Budget(ctx, name)
		if err != nil || version == 0 {
			return err
		}
		if swapped, err := ledger.SwapBudget(ctx, name, version, nil); swapped || err != nil {
			return err
		}
	}
}
