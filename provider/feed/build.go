package feed

import (
	"cmp"
	"errors"
	"fmt"
	"iter"
	"net/netip"
	"strings"

	"github.com/decnet/enrich/provider"
)

// leastShare is the share of the last version's rows that a new one must have, in
// percent.
const leastShare = 70

// mostBad is how many rows of a part may name no network for each that does.
const mostBad = 9

// maxRows is the greatest number of rows of a list.
const maxRows = 8 << 20

var errShrunk = errors.New("the list has shrunk")

// partError says why a part of a list is refused.
type partError struct {
	part int
	err  error
}

func (e *partError) Error() string { return e.err.Error() }
func (e *partError) Unwrap() error { return e.err }

// build returns the table of all parts, of which those with an empty body are not
// loaded. The error says why the list is refused.
func (f *Feed[T]) build(bodies []string) (table *Table[T], skipped int, err error) {
	b := builder[T]{o: &f.o}
	lines := 0
	for _, body := range bodies {
		lines += strings.Count(body, "\n") + 1
	}
	b.prefixes, b.values = make([]netip.Prefix, 0, min(lines, maxRows)), make([]T, 0, min(lines, maxRows))
	if f.o.Merge != nil {
		b.at = make(map[netip.Prefix]int)
	}
	for i, body := range bodies {
		if body == "" { // not loaded
			continue
		}
		b.label, b.row, b.bad, b.good = f.parts[i].Label, 0, 0, 0
		saysEmpty, err := f.o.Format.parse(body, f.parts[i].Syntax, b.add)
		switch {
		case err != nil:
		case b.bad > mostBad*b.good:
			err = b.badRows()
		case b.row == 0 && !saysEmpty && !f.o.Operator:
			err = errEmpty
		}
		if err != nil && len(bodies) > 1 {
			err = fmt.Errorf("%s: %w", f.parts[i].shown(), err)
		}
		if err != nil {
			return nil, 0, &partError{i, err}
		}
	}
	if len(b.prefixes) == 0 && !f.o.MayBeEmpty && !f.o.Operator {
		if b.skipped > 0 {
			return nil, 0, errNoRows
		}
		return nil, 0, errEmpty
	}
	table, err = newTable(func(yield func(netip.Prefix, T) bool) {
		for i, p := range b.prefixes {
			if !yield(p, b.values[i]) {
				return
			}
		}
	}, len(b.prefixes))
	return table, b.skipped, err
}

// check returns an error if a new table is so much smaller than the old one that
// it must be a mistake.
func (f *Feed[T]) check(next, last *Table[T]) error {
	was, is := last.Len(), next.Len()
	if f.o.MayBeEmpty || f.o.Operator || is*100 >= was*leastShare {
		return nil
	}
	hint := ""
	if f.o.Dir != "" {
		hint = "; to accept that, stop enriching, remove " + f.path(".list") + " and start again"
	}
	return fmt.Errorf("%w: %d rows are less than %d %% of the last %d%s", errShrunk, is, leastShare, was, hint)
}

// builder gathers the rows of a table.
type builder[T any] struct {
	o        *Options[T]
	label    string
	prefixes []netip.Prefix
	values   []T
	at       map[netip.Prefix]int // the row of each prefix; nil if rows are not merged
	seen     int                  // rows of the list so far
	row      int                  // rows of the present part so far
	good     int                  // rows of the present part that name a network
	bad      int                  // rows of the present part that name none
	skipped  int
	scratch  []netip.Prefix
}

func (b *builder[T]) badRows() error {
	if b.good == 0 {
		return errNoRows
	}
	return fmt.Errorf("%d of %d rows name no network", b.bad, b.bad+b.good)
}

func (b *builder[T]) add(row line) error {
	b.row++
	if b.seen++; b.seen > maxRows {
		return fmt.Errorf("the list has more than %d rows", maxRows)
	}
	value, ok := b.o.Row(b.label, row.fields)
	if !ok {
		return nil
	}
	b.scratch = b.scratch[:0]
	var err error
	for _, text := range row.addresses {
		var wrong error
		if b.scratch, wrong = parseNetworks(b.scratch, text); wrong != nil {
			err = wrong
		}
	}
	if len(row.addresses) == 0 || err != nil && len(b.scratch) == 0 {
		if b.bad++; b.o.Operator {
			return fmt.Errorf("row %d is %w", b.row, errNoNetwork)
		}
		b.skipped++
		return nil
	}
	b.good++
	for _, p := range b.scratch {
		if tooWide(p) && !b.o.AnyWidth {
			return fmt.Errorf("row %d is wider than /%d (IPv4) or /%d (IPv6)", b.row, widest4, widest6)
		}
		if !b.o.Operator && !allowed(p) {
			b.skipped++
			continue
		}
		if len(b.prefixes) == maxRows {
			return fmt.Errorf("the list has more than %d networks", maxRows)
		}
		if b.at == nil {
			b.prefixes, b.values = append(b.prefixes, p), append(b.values, value)
			continue
		}
		if i, found := b.at[p]; found {
			b.values[i] = b.o.Merge(b.values[i], value)
			continue
		}
		b.at[p] = len(b.prefixes)
		b.prefixes, b.values = append(b.prefixes, p), append(b.values, value)
	}
	return nil
}

// guard keeps special-purpose addresses out of lists.
var guard provider.Guard

func allowed(p netip.Prefix) bool {
	return guard.Allows(p.Addr()) && (p.IsSingleIP() || guard.Allows(lastOf(p)))
}

// difference appends to list the networks that one table has and the other has
// not, or has with another value.
func difference[T any](list []netip.Prefix, was, is *Table[T], same func(a, b T) bool) []netip.Prefix {
	if was.Len() == 0 {
		for p := range is.All() {
			list = append(list, p)
		}
		return list
	}
	nextOld, stopOld := iter.Pull2(was.All())
	defer stopOld()
	nextNew, stopNew := iter.Pull2(is.All())
	defer stopNew()
	p, before, old := nextOld()
	q, value, more := nextNew()
	for old || more {
		order := 0
		switch {
		case !more:
			order = -1
		case !old:
			order = 1
		default:
			order = compare(p, q)
		}
		switch {
		case order < 0:
			list = append(list, p)
		case order > 0 || !same(before, value):
			list = append(list, q)
		}
		if order <= 0 {
			p, before, old = nextOld()
		}
		if order >= 0 {
			q, value, more = nextNew()
		}
	}
	return list
}

// compare orders networks as [Table.All] does.
func compare(p, q netip.Prefix) int {
	return cmp.Or(cmp.Compare(p.Addr().BitLen(), q.Addr().BitLen()), p.Addr().Compare(q.Addr()), cmp.Compare(p.Bits(), q.Bits()))
}
