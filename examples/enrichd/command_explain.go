package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store/sqlstore"
)

var explainCommand = command{
	name: "explain", args: "UUID|ADDRESS...", summary: "explain the verdicts on attackers, source by source", readOnly: true,
	help: `  -raw                    with -json: include what the sources answered verbatim
`,
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		raw := fs.Bool("raw", false, "")
		return func(ctx context.Context, t *tool) error {
			if len(t.args) == 0 {
				return misuse("name the attackers by UUID or address")
			}
			return t.withStore(ctx, func(s *sqlstore.Store) error { return t.explain(ctx, s, *raw) })
		}
	},
}

// explain explains the verdicts on the attackers in the arguments. With -json it
// prints an object if there is one attacker, and else an array.
func (t *tool) explain(ctx context.Context, s *sqlstore.Store, raw bool) error {
	lists := t.config.lists.inUse(t.config.isTheirs(ctx, s, t.log))
	for _, p := range lists {
		if l, ok := provider.As[provider.Listing](p); ok {
			_ = l.Refresh(ctx) // as the daemon has kept it; a list that it has not says nothing
		}
	}
	w, err := intel.NewWorker(intel.Config{ // which knows quotas and profiles; it queries nobody
		Store: s, Providers: append(t.config.providers(), lists...), Policy: policies[t.policy], Guard: provider.Guard{Own: t.config.own}, Logger: t.log,
	})
	if err != nil {
		return err
	}
	var all []intel.Explanation
	var errs []error
	for _, arg := range t.args {
		records, err := find(ctx, s, arg)
		if _, wrong := errors.AsType[usageError](err); wrong {
			return err
		}
		errs = append(errs, err)
		for i := range records {
			all = append(all, w.ExplainRecord(ctx, &records[i], raw))
		}
	}
	switch {
	case t.json && len(all) == 1:
		errs = append(errs, t.printJSON(all[0]))
	case t.json && len(all) > 1:
		errs = append(errs, t.printJSON(all))
	case !t.json:
		for i, x := range all {
			if i > 0 {
				fmt.Fprintln(t.out)
			}
			_, err := fmt.Fprint(t.out, x)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
