package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/decnet"
)

// totals are what a report adds up to.
type totals struct {
	verdicts map[string]int // addresses, by word
	waiting  int            // addresses that wait for a provider
	pending  int            // addresses that a provider is still to be asked about
	reused   int            // addresses with findings, all of them from earlier runs
}

// report prints what is known about each address, in order. Records are read
// one by one, so that any number of them can be printed.
func (p *program) report(ctx context.Context, w io.Writer) (*totals, error) {
	if !isTerminal(w) { // on a terminal the lines themselves show the progress
		printing := p.term.progress("Printing", len(p.addrs))
		defer printing.end()
		w = &lineCounter{w, printing}
	}
	out := bufio.NewWriter(w)
	table := newTable(p.addrs, p.sources)
	if !p.json {
		table.header(out) // what cannot be written is noticed below
	}
	t := &totals{verdicts: map[string]int{}}
	for _, addr := range p.addrs {
		r, err := p.record(ctx, addr)
		if err != nil {
			return nil, err
		}
		row := table.row(&r)
		t.add(&r, row, p.started)
		if p.json {
			err = printJSON(out, &r)
		} else {
			err = table.print(out, row)
		}
		if err != nil {
			return nil, fmt.Errorf("print the result: %w", err)
		}
	}
	if err := out.Flush(); err != nil {
		return nil, fmt.Errorf("print the result: %w", err)
	}
	return t, nil
}

// printJSON prints the columns of a record's row and, as reasons, the opinions
// behind the verdict.
func printJSON(w io.Writer, r *store.Record) error {
	why := struct {
		Explanation string             `json:"explanation"`
		Reasons     []aggregate.Reason `json:"reasons"`
	}{r.Decision.String(), r.Decision.Reasons}
	if why.Reasons == nil {
		why.Reasons = []aggregate.Reason{} // not null
	}
	text, err := json.Marshal(why)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "%s,%s\n", bytes.TrimSuffix(decnet.RowJSON(r), []byte{'}'}), text[1:])
	return err
}

// record returns the record of an address, which is empty if the run was
// interrupted before the address was registered.
func (p *program) record(ctx context.Context, addr netip.Addr) (store.Record, error) {
	id := store.AttackerID(addr)
	r, err := p.db.Get(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return store.Record{Attacker: store.Attacker{ID: id, IP: addr.String()}}, nil
	}
	return r, err
}

func (t *totals) add(r *store.Record, row row, started time.Time) {
	t.verdicts[row.verdict]++
	if slices.Contains(row.cells, pending) {
		t.pending++
	}
	if slices.Contains(row.cells, waiting) {
		t.waiting++
	}
	if !r.CachedAt.IsZero() && r.CachedAt.Before(started) {
		t.reused++
	}
}

// summary returns some lines for people.
func (t *totals) summary(o options, done *tally) string {
	var parts []string
	for _, word := range words {
		if n := t.verdicts[word]; n > 0 {
			parts = append(parts, thousands(n)+" "+word)
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Verdicts: %s.\n", strings.Join(parts, ", "))
	if o.db != "" {
		fmt.Fprintf(&b, "Reused from %s: %s.\n", o.db, count(t.reused, "address", "addresses"))
	}
	fmt.Fprintf(&b, "Lookups made: %s.\n", thousands(done.lookups))
	if t.waiting > 0 {
		fmt.Fprintf(&b, "Waiting for a provider: %s.\n", count(t.waiting, "address", "addresses"))
		for _, p := range done.resting {
			fmt.Fprintf(&b, "  %s: %s", p.Name, p.State)
			if !p.Until.IsZero() {
				fmt.Fprintf(&b, ", until %s", p.Until.Local().Format(time.DateTime))
			}
			fmt.Fprintln(&b)
		}
	}
	if t.pending > 0 {
		fmt.Fprintf(&b, "Still to be asked: %s.\n", count(t.pending, "address", "addresses"))
	}
	return b.String()
}

// lineCounter reports the lines written to w.
type lineCounter struct {
	w     io.Writer
	lines *progress
}

func (c *lineCounter) Write(b []byte) (int, error) {
	c.lines.add(bytes.Count(b, []byte("\n")))
	return c.w.Write(b)
}
