package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"

	"golang.org/x/term"

	"github.com/decnet/enrich/intel/sighting"
	"github.com/decnet/enrich/provider"
)

// sample are the addresses that are asked about if none are given.
var sample = []string{
	"51.68.181.167",
	"77.90.185.20",
	"156.239.238.244",
	"77.239.124.102",
	"71.6.135.131",
	"45.148.10.240",
	"2.57.122.53",
	"2a01:4f8:c17::5",
	"2a10:1fc0:6::2",
	"192.168.1.5",
}

// input returns the addresses to query about, each once, in the order in which
// they are first named, and what the text held besides. It takes some 60 bytes of
// memory for each.
func input(ctx context.Context, o options, stdin io.Reader, log io.Writer) ([]netip.Addr, error) {
	list := addressList{own: provider.Guard{Own: o.ownNetworks}}
	for _, arg := range o.addresses {
		if err := list.argument(ctx, arg); err != nil {
			return nil, err
		}
	}
	from, r := o.file, stdin
	switch {
	case o.file == "" && len(o.addresses) > 0:
		return list.addrs, nil
	case o.file == "" || o.file == "-":
		from = "standard input"
		if o.file == "" && isTerminal(stdin) {
			return useSample(log), nil
		}
		if isPipe(stdin) {
			fmt.Fprintln(log, "Reading addresses from standard input.")
		}
	default:
		f, err := os.Open(o.file)
		if err != nil {
			return nil, err
		}
		defer f.Close() // only read
		r = f
	}
	before := len(list.addrs)
	report, size, err := list.read(ctx, r)
	left := report.Left()
	_, isBinary := errors.AsType[*sighting.BinaryError](err)
	switch {
	case isBinary:
		return nil, usageError{fmt.Errorf("read %s: %w", from, err)}
	case err != nil:
		return nil, fmt.Errorf("read %s: %w", from, err)
	case size == 0 && o.file == "":
		return useSample(log), nil
	case len(list.addrs) == 0 && left == "":
		return nil, usageError{fmt.Errorf("there is no IP address in %s; any text with addresses in it will do", from)}
	case len(list.addrs) == 0 && report.WithoutAddress.N == report.Lines:
		return nil, usageError{fmt.Errorf("there is no IP address in %s (%s); any text with addresses in it will do", from, left)}
	case len(list.addrs) == 0:
		return nil, usageError{fmt.Errorf("no address was taken from %s; left out: %s", from, left)}
	}
	fmt.Fprintf(log, "Read %s from %s; skipped %s without one.\n", count(len(list.addrs)-before, "address", "addresses"), from,
		count(int(report.WithoutAddress.N), "line", "lines"))
	if left != "" {
		fmt.Fprintf(log, "Left out: %s.\n", left)
	}
	return list.addrs, nil
}

func useSample(log io.Writer) []netip.Addr {
	fmt.Fprintln(log, "No addresses given: here is a sample. Run it with -h to see how to give some.")
	addrs := make([]netip.Addr, len(sample))
	for i, text := range sample {
		addrs[i] = netip.MustParseAddr(text)
	}
	return addrs
}

func notAnAddress(arg string, report sighting.Report) error {
	err := fmt.Errorf("there is no IP address in %q", arg)
	if left := report.Left(); report.WithoutAddress.N == 0 && left != "" {
		err = fmt.Errorf("no address was taken from %q; left out: %s", arg, left)
	}
	if _, statErr := os.Stat(arg); statErr == nil {
		err = fmt.Errorf("%w; to read the file of that name, use -f", err)
	}
	return usageError{err}
}

// addressList collects addresses, each once.
type addressList struct {
	own   provider.Guard
	addrs []netip.Addr
	seen  map[netip.Addr]struct{}
}

// argument adds what an argument holds: an address as it is, or the addresses in
// a text.
func (l *addressList) argument(ctx context.Context, arg string) error {
	if addr, err := provider.ParseAddr(strings.TrimSpace(arg)); err == nil {
		l.add(addr)
		return nil
	}
	report, _, err := l.read(ctx, strings.NewReader(arg))
	if err == nil && report.Sightings == 0 {
		err = notAnAddress(arg, report)
	}
	return err
}

// read adds the attackers' addresses in a text and returns a report and the size
// of the text. It returns early, with the context's error, if ctx ends: reading
// then goes on in vain until the reader returns, and the list must not be used.
func (l *addressList) read(ctx context.Context, r io.Reader) (report sighting.Report, size int64, err error) {
	type result struct {
		report sighting.Report
		size   int64
		err    error
	}
	done := make(chan result, 1)
	go func() {
		counted := &countingReader{r: r}
		in := sighting.NewReader(counted, sighting.Options{Allow: l.own.Allows})
		s, err := in.Next()
		for ; err == nil; s, err = in.Next() {
			l.add(s.Addr)
		}
		if errors.Is(err, io.EOF) {
			err = nil
		}
		done <- result{in.Report(), counted.n, err}
	}()
	select {
	case r := <-done:
		return r.report, r.size, r.err
	case <-ctx.Done():
		return sighting.Report{}, 0, context.Cause(ctx)
	}
}

func (l *addressList) add(addr netip.Addr) {
	if _, ok := l.seen[addr]; ok {
		return
	}
	if l.seen == nil {
		l.seen = map[netip.Addr]struct{}{}
	}
	l.seen[addr] = struct{}{}
	l.addrs = append(l.addrs, addr)
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.n += int64(n)
	return n, err
}

func isTerminal(v any) bool {
	f, ok := v.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

func isPipe(v any) bool {
	f, ok := v.(*os.File)
	if !ok {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket) != 0
}

// count returns a number with its noun.
func count(n int, one, many string) string {
	if n == 1 {
		return "1 " + one
	}
	return fmt.Sprintf("%s %s", thousands(n), many)
}

// thousands writes a number with commas.
func thousands(n int) string {
	s := fmt.Sprint(n)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
