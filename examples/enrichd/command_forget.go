package main

import (
	"context"
	"errors"
	"flag"
	"fmt"

	"github.com/decnet/enrich/store/sqlstore"
)

var forgetCommand = command{
	name: "forget", args: "UUID|ADDRESS...", summary: "remove attackers with everything known about them",
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		return func(ctx context.Context, t *tool) error {
			if len(t.args) == 0 {
				return misuse("name the attackers by UUID or address; to forget by age, give the daemon -forget")
			}
			return t.withStore(ctx, func(s *sqlstore.Store) error { return t.forget(ctx, s) })
		}
	},
}

// forget removes the attackers in the arguments. Where DECNET adds attackers it
// removes none.
func (t *tool) forget(ctx context.Context, s *sqlstore.Store) error {
	if err := ownAttackers(ctx, t.database, s); err != nil {
		return err
	}
	ids, errs, err := t.named(ctx, s)
	if err != nil {
		return err
	}
	if err := s.Forget(ctx, ids...); err != nil {
		return err
	}
	if t.json {
		errs = append(errs, t.printJSON(map[string]int{"forgotten": len(ids)}))
	} else {
		fmt.Fprintf(t.out, "forgot %d attackers\n", len(ids))
	}
	return errors.Join(errs...)
}
