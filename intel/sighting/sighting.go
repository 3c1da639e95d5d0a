package sighting

import (
	"errors"
	"io"
	"net/netip"
	"time"

	"github.com/decnet/enrich/provider"
)

// Sighting is an attacker's address in a line.
type Sighting struct {
	// Addr is the address, in the form of [provider.Canonical].
	Addr netip.Addr
	// Time is when the line says it was seen, in UTC; zero if it does not say.
	Time time.Time
	// Format names the format of the line, for example cowrie, sshd or text.
	Format string
	// Line is the number of the line, from 1, where each JSON object of an array
	// starts on the line of its opening brace.
	Line int64
}

// Options are settings of a [Reader]. The zero value is ready to use.
type Options struct {
	// Allow reports whether an address may be taken. It is passed canonical
	// addresses. Nil means the zero [provider.Guard], which allows the globally
	// reachable ones; the method Allows of a Guard with Own excludes networks of
	// your own as well.
	Allow func(netip.Addr) bool
	// Location is the time zone of times that name none; nil means time.Local.
	Location *time.Location
	// Now tells the time, by which a date without a year gets the latest year
	// that does not put it into the future; nil means time.Now.
	Now func() time.Time
	// Start is where to continue, as [Reader.Position] returned it; the zero
	// Position is the beginning. The input is passed from its beginning all the
	// same.
	Start Position
}

// Position is a place between two lines of an input. It can be stored as JSON.
type Position struct {
	// Offset counts the bytes of the text, after gzip and UTF-16 are decoded.
	Offset int64 `json:"offset"`
	// Line counts the lines before it.
	Line int64 `json:"line"`
	// Header is the line that names the columns; empty if there was none.
	Header string `json:"header,omitempty"`
	// Depth is the number of JSON containers around it that are too large to be
	// read as one record.
	Depth int `json:"depth,omitempty"`
}

// Reader extracts sightings from an input. It is not safe for concurrent use.
type Reader struct {
	in       input
	options  Options
	line     int64 // complete lines so far
	depth    int   // open containers too large for a record
	columns  *columns
	pending  []Sighting // found in the last record
	next     int        // first of pending that was not returned
	report   Report
	refanged []byte
	cands    []candidate
	position Position // behind the last record whose sightings were all returned
	err      error
	resume   func() error // goes on with what is being skipped
}

// NewReader returns a Reader of r. It reads r when [Reader.Next] is called, and
// no more than it needs to complete a line, so r may block, as a connection does.
func NewReader(r io.Reader, o Options) *Reader {
	if o.Allow == nil {
		o.Allow = provider.Guard{}.Allows
	}
	if o.Location == nil {
		o.Location = time.Local
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	reader := &Reader{options: o, in: input{src: r}, line: o.Start.Line, depth: o.Start.Depth, position: o.Start}
	reader.in.skip = o.Start.Offset
	if o.Start.Header != "" {
		reader.columns = headerOf([]byte(o.Start.Header))
	}
	return reader
}

// ErrWait is what a source returns that has no more text for now, for example at
// the end of a file that grows. [Reader.Next] returns it, and may be called again.
var ErrWait = errors.New("no more text for now")

// Next returns the next sighting. At the end of the input the error is io.EOF. It
// is a [*BinaryError] if the input is no text, and otherwise the error of the
// underlying reader; after an error other than io.EOF an incomplete last line is
// not read. After an error other than [ErrWait], Next returns the same error again.
func (r *Reader) Next() (Sighting, error) {
	for r.next == len(r.pending) {
		r.pending, r.next = r.pending[:0], 0
		r.savePosition()
		if err := r.err; err != nil {
			if errors.Is(err, ErrWait) {
				r.err, r.in.err = nil, nil
			}
			return Sighting{}, err
		}
		r.err = r.step()
	}
	s := r.pending[r.next]
	r.next++
	if r.next == len(r.pending) {
		r.savePosition()
	}
	return s, nil
}

// Position returns the place behind the last line of which Next has returned all
// sightings. A Reader that starts there returns those that follow.
func (r *Reader) Position() Position { return r.position }

// Report returns what was read so far.
func (r *Reader) Report() Report { return r.report }

func (r *Reader) savePosition() {
	if r.resume != nil {
		return // in the middle of a line
	}
	r.position.Offset, r.position.Line, r.position.Depth = r.in.offset(), r.line, r.depth
	if r.columns != nil {
		r.position.Header = r.columns.header
	} else {
		r.position.Header = ""
	}
}

// take adds a sighting of addr, unless it may not be taken.
func (r *Reader) take(addr netip.Addr, at time.Time, format string) {
	if !r.options.Allow(addr) {
		r.report.miss(Guarded, r.line+1, addr.String())
		return
	}
	for _, s := range r.pending {
		if s.Addr == addr {
			return
		}
	}
	r.report.Sightings++
	r.pending = append(r.pending, Sighting{Addr: addr, Time: at, Format: format, Line: r.line + 1})
}

// takeForwarded takes the source of a connection, or the last forwarded address
// that may be taken if the source may not.
func (r *Reader) takeForwarded(source netip.Addr, forwarded []netip.Addr, at time.Time, format string) {
	if !source.IsValid() || !r.options.Allow(source) {
		for i := len(forwarded) - 1; i >= 0; i-- {
			if r.options.Allow(forwarded[i]) {
				r.take(forwarded[i], at, format)
				return
			}
		}
	}
	if source.IsValid() {
		r.take(source, at, format)
	}
}
