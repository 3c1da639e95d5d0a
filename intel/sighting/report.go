package sighting

import (
	"fmt"
	"strings"
)

// Reason says why something like an address was not taken.
type Reason uint8

// The reasons.
const (
	// Guarded: [Options.Allow] refuses the address.
	Guarded Reason = iota
	// OwnSide: the source is on our side: it answers a client, or opened a
	// connection outwards.
	OwnSide
	// NotSource: the line names the address as something else than its source, for
	// example as the destination, the sensor or a host in a URL.
	NotSource
	// Version: the text is a version, a serial number or an object identifier.
	Version
	// Malformed: the text looks like an address and is none, like 1.2.3.256.
	Malformed
	// TooLarge: the record is too large or too deeply nested to be read.
	TooLarge
	reasons // their number
)

// String returns the reason in words, in the plural.
func (r Reason) String() string {
	switch r {
	case Guarded:
		return "guarded addresses (private, special or your own)"
	case OwnSide:
		return "sources on your own side"
	case NotSource:
		return "addresses that are no source"
	case Version:
		return "versions and serial numbers"
	case Malformed:
		return "malformed addresses"
	case TooLarge:
		return "records too large to read"
	}
	return fmt.Sprintf("Reason(%d)", uint8(r))
}

// Report says what a [Reader] read.
type Report struct {
	// Lines is the number of lines and JSON records. Blank lines, comments and
	// headers do not count.
	Lines int64
	// Sightings is the number of addresses taken, each as often as it was seen.
	Sightings int64
	// WithoutAddress counts lines without anything like an address.
	WithoutAddress Count
	// Networks counts prefixes and ranges, which are left out.
	Networks Count
	// NotTaken counts, by [Reason], what looks like an address and was not taken.
	NotTaken [reasons]Count
}

// Count is a number of things and the first of them.
type Count struct {
	// N is the number.
	N int64
	// Line is the number of the line with the first; 0 if N is 0.
	Line int64
	// Text is the first, cut to 80 bytes; empty if N is 0.
	Text string
}

func (c *Count) add(line int64, text string) {
	if c.N++; c.N == 1 {
		if len(text) > maxExample {
			text = text[:maxExample]
		}
		c.Line, c.Text = line, strings.ToValidUTF8(text, "?")
	}
}

const maxExample = 80

func (r *Report) miss(why Reason, line int64, text string) { r.NotTaken[why].add(line, text) }

// Add adds the counts of another report, of which the lines follow.
func (r *Report) Add(o Report) {
	r.Lines += o.Lines
	r.Sightings += o.Sightings
	sum(&r.WithoutAddress, o.WithoutAddress)
	sum(&r.Networks, o.Networks)
	for i := range r.NotTaken {
		sum(&r.NotTaken[i], o.NotTaken[i])
	}
}

func sum(c *Count, o Count) {
	if c.N == 0 {
		*c = o
		return
	}
	c.N += o.N
}

// Left describes what was read and not taken, each kind with its number and its
// first. It is empty if everything was taken.
func (r *Report) Left() string {
	var parts []string
	part := func(c Count, what string) {
		if c.N > 0 {
			parts = append(parts, fmt.Sprintf("%s: %d (first in line %d: %q)", what, c.N, c.Line, c.Text))
		}
	}
	part(r.WithoutAddress, "lines without an address")
	part(r.Networks, "networks")
	for i, c := range r.NotTaken {
		part(c, Reason(i).String())
	}
	return strings.Join(parts, "; ")
}
