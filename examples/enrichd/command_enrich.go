package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"time"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

var enrichCommand = command{
	name: "enrich", args: "UUID|ADDRESS...", summary: "query the providers about attackers now",
	help: `  -force                  also those providers whose findings are fresh
`,
	prepare: func(fs *flag.FlagSet) func(context.Context, *tool) error {
		force := fs.Bool("force", false, "")
		return func(ctx context.Context, t *tool) error {
			if len(t.args) == 0 {
				return misuse("name the attackers by UUID or address")
			}
			var options []intel.EnrichOption
			if *force {
				options = append(options, intel.Force())
			}
			return t.withWorker(ctx, func(d *daemon) error { return t.enrich(ctx, d, options) })
		}
	},
}

// enrich queries the providers about the attackers in the arguments, and prints
// what is known then. An attacker that fails does not keep the others from it.
func (t *tool) enrich(ctx context.Context, d *daemon, options []intel.EnrichOption) error {
	ids, errs, err := t.named(ctx, d.store)
	if err != nil {
		return err
	}
	var all []enrichedRecord
	for _, id := range ids {
		r, err := d.worker.Enrich(ctx, id, options...)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		all = append(all, enriched(&r))
	}
	errs = append(errs, t.printEnriched(all))
	return errors.Join(errs...)
}

// enrichedRecord is an attacker with what each provider says about it, in JSON.
type enrichedRecord struct {
	listedRecord
	Providers []providerEntry `json:"providers"`
}

// providerEntry is one provider's part of a record.
type providerEntry struct {
	Name       string           `json:"name"`
	State      string           `json:"state"`
	Verdict    provider.Verdict `json:"verdict"`
	Known      bool             `json:"known"`
	ObservedAt time.Time        `json:"observed_at,omitzero"`
	ExpiresAt  time.Time        `json:"expires_at,omitzero"`
	DueAt      time.Time        `json:"due_at,omitzero"`
	Error      string           `json:"error,omitempty"`
}

func enriched(r *store.Record) enrichedRecord {
	e := enrichedRecord{listedRecord: listed(r), Providers: []providerEntry{}}
	for _, entry := range r.Entries {
		p := providerEntry{Name: entry.Provider, State: entry.State.String(), DueAt: entry.Due, ExpiresAt: entry.Expires, Error: entry.Error}
		if f := entry.Finding; f != nil {
			p.Verdict, p.Known, p.ObservedAt = f.Verdict, f.Known, f.ObservedAt
		}
		e.Providers = append(e.Providers, p)
	}
	return e
}

// printEnriched prints records for people, or as JSON: an object if there is one
// record, and else an array.
func (t *tool) printEnriched(all []enrichedRecord) error {
	switch {
	case t.json && len(all) == 1:
		return t.printJSON(all[0])
	case t.json && len(all) > 1:
		return t.printJSON(all)
	case t.json:
		return nil
	}
	for i, r := range all {
		if i > 0 {
			fmt.Fprintln(t.out)
		}
		why := r.Why
		if why == "" {
			why = "nothing is known yet"
		}
		fmt.Fprintf(t.out, "%s  %s\n%s\n", printable(r.IP), r.UUID, why)
		table := t.table()
		for _, p := range r.Providers {
			fmt.Fprintf(table, "  %s\t%s\t%s\n", p.Name, p.opinion(), p.schedule())
		}
		if err := table.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// opinion is what the provider said, in words.
func (p *providerEntry) opinion() string {
	switch {
	case p.ObservedAt.IsZero():
		return "no answer"
	case p.Verdict != provider.None:
		return p.Verdict.String()
	case p.Known:
		return "no opinion"
	}
	return "not listed"
}

// schedule is what happens next, in words.
func (p *providerEntry) schedule() string {
	text := p.State
	switch p.State {
	case store.Fresh.String():
		text += " until " + minute(p.ExpiresAt)
	case store.Due.String():
		if !p.DueAt.IsZero() {
			text += " at " + minute(p.DueAt)
		}
	}
	if p.Error != "" {
		text += "; " + printable(p.Error)
	}
	return text
}
