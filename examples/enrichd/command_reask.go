package main

import (
	"context"
	"flag"
	"fmt"
)

var reaskCommand = command{
	name: "reask", args: "PROVIDER", summary: "query one provider again about all attackers",
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		return func(ctx context.Context, t *tool) error {
			if len(t.args) != 1 || t.args[0] == "all" {
				return misuse("name one provider")
			}
			names, err := t.providersNamed(t.args)
			if err != nil {
				return err
			}
			return t.withWorker(ctx, func(d *daemon) error { return t.reask(ctx, d, names[0]) })
		}
	},
}

// reask queries a provider again about all attackers, for as long as that takes,
// and prints how far it came.
func (t *tool) reask(ctx context.Context, d *daemon, name string) error {
	done, err := d.worker.Reask(ctx, name)
	var printing error
	if t.json {
		printing = t.printJSON(map[string]int{"seen": done.Seen, "answered": done.Answered, "failed": done.Failed})
	} else {
		_, printing = fmt.Fprintf(t.out, "queried %s about %d attackers again: %d answers, %d failures\n", name, done.Seen, done.Answered, done.Failed)
	}
	if err == nil {
		err = printing
	}
	return err
}
