package main

import (
	"context"
	"flag"
	"fmt"

	"github.com/decnet/enrich/intel"
)

var rescoreCommand = command{
	name: "rescore", summary: "decide again on all attackers, without a lookup",
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		return func(ctx context.Context, t *tool) error {
			if len(t.args) > 0 {
				return misuse("unexpected argument %q; all attackers are decided on", t.args[0])
			}
			return t.withWorker(ctx, func(d *daemon) error {
				done, err := d.worker.Rescore(ctx, "")
				if printing := t.printRescored(done); err == nil {
					err = printing
				}
				return err
			})
		}
	},
}

// printRescored prints what a rescore did, whether or not it came to its end.
func (t *tool) printRescored(done intel.Rescored) error {
	if t.json {
		return t.printJSON(map[string]int{
			"seen": done.Seen, "changed": done.Changed, "verdicts": done.Verdicts, "busy": done.Busy, "failed": done.Failed,
		})
	}
	_, err := fmt.Fprintf(t.out, "%d attackers, %d decisions changed, %d verdicts among them; %d were busy, %d failed\n",
		done.Seen, done.Changed, done.Verdicts, done.Busy, done.Failed)
	return err
}
