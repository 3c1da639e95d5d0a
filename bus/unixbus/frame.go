package unixbus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"github.com/decnet/enrich/bus"
)

// The limits of the wire, in bytes.
const (
	maxHeader = 4096 // with the newline
	maxBody   = 1 << 20
	maxFrame  = maxHeader + 4 + maxBody
)

// The verbs.
const (
	verbHello = "HELLO"
	verbSub   = "SUB"
	verbUnsub = "UNSUB"
	verbPub   = "PUB"
	verbEvt   = "EVT"
	verbBye   = "BYE"
)

// errMalformed is wrapped by errors about frames that are none.
var errMalformed = errors.New("malformed frame")

// frame is what was read. It refers to the buffer of the reader and is valid
// until the next frame is read.
type frame struct {
	verb string // one of the constants
	arg  []byte
	body []byte
}

// parse returns the frame at the beginning of b and its size. The size is
// greater than len(b) if only a part of the frame is there, and 0 if that part
// does not tell how long the whole is.
func parse(b []byte) (f frame, size int, err error) {
	line, _, whole := bytes.Cut(b[:min(len(b), maxHeader)], []byte{'\n'})
	end := len(line)
	line = bytes.TrimRight(line, "\r")
	for _, c := range line {
		if c < ' ' || c > '~' {
			return frame{}, 0, fmt.Errorf("%w: byte %#02x in the first line", errMalformed, c)
		}
	}
	if !whole {
		if len(b) >= maxHeader {
			return frame{}, 0, fmt.Errorf("%w: the first line has more than %d bytes", errMalformed, maxHeader)
		}
		return frame{}, 0, nil
	}
	verb, arg, _ := bytes.Cut(line, []byte{' '})
	switch string(verb) {
	case verbPub:
		f.verb = verbPub
	case verbEvt:
		f.verb = verbEvt
	case verbSub:
		f.verb = verbSub
	case verbUnsub:
		f.verb = verbUnsub
	case verbHello:
		f.verb = verbHello
	case verbBye:
		f.verb = verbBye
	default:
		return frame{}, 0, fmt.Errorf("%w: no known verb in the first line", errMalformed)
	}
	f.arg = bytes.Trim(arg, " ")
	rest := b[end+1:]
	if len(rest) < 4 {
		return frame{}, 0, nil
	}
	length := binary.BigEndian.Uint32(rest)
	if length > maxBody {
		return frame{}, 0, fmt.Errorf("%w: a body of %d bytes; at most %d are allowed", errMalformed, length, maxBody)
	}
	size = end + 1 + 4 + int(length)
	if size <= len(b) {
		f.body = rest[4 : 4+length]
	}
	return f, size, nil
}

// appendFrame appends a frame without body.
func appendFrame(dst []byte, verb, arg string) []byte {
	dst = append(dst, verb...)
	if arg != "" {
		dst = append(dst, ' ')
		dst = append(dst, arg...)
	}
	return append(dst, '\n', 0, 0, 0, 0)
}

// seal returns a frame with an event on topic as its body.
func seal(verb, topic string, e *bus.Envelope) []byte {
	const fixed, id, ts = 62, 34, 17 // the rest of the header and of the envelope; an ID and a time that the envelope lacks
	b := make([]byte, 0, fixed+2*len(topic)+max(len(e.ID), id)+len(e.Type)+max(len(e.TS), ts)+len(e.Payload))
	b = appendFrame(b, verb, topic)
	start := len(b)
	b = e.Append(b, topic)
	binary.BigEndian.PutUint32(b[start-4:], uint32(len(b)-start))
	return b
}

// bodySize returns the size of the body of a sealed event.
func bodySize(sealed []byte, topic string) int {
	return len(sealed) - len("PUB ") - len(topic) - len("\n1234")
}

// open returns the event on topic that body holds. An empty body is an envelope
// in which everything is missing.
func open(topic string, body []byte) (bus.Event, error) {
	e, err := envelope(body)
	if err != nil {
		return bus.Event{}, err
	}
	ev, err := e.Event(topic)
	if err != nil {
		return bus.Event{}, err
	}
	ev.Complete()
	return ev, nil
}

func envelope(body []byte) (bus.Envelope, error) {
	if len(body) == 0 {
		return bus.Envelope{}, nil
	}
	return bus.ParseEnvelope(body)
}

// ascii reports whether s can be the topic or pattern of a frame: of those that
// are valid, the wire carries the ones in ASCII.
func ascii(s string) bool {
	for i := range len(s) {
		if s[i] >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// The size of a reader's buffer: when nothing has been read, and without a
// frame that is longer.
const (
	minBuffer = 4 << 10
	maxBuffer = 64 << 10
)

// reader reads frames. Its buffer grows with the bytes that arrive, and not
// with those that are announced.
type reader struct {
	src     io.Reader
	waiting func() // if not nil, called before reading from src, which may take long
	buf     []byte // buf[start:end] was read and not yet returned
	start   int
	end     int
	full    bool // the last read left no room in buf
}

// next returns the next frame. It returns [io.EOF] if there is none, and
// [io.ErrUnexpectedEOF] if there is only a part of one.
func (r *reader) next() (frame, error) {
	for {
		f, size, err := parse(r.buf[r.start:r.end])
		if err != nil {
			return frame{}, err
		}
		if size > 0 && size <= r.end-r.start {
			r.start += size
			return f, nil
		}
		if err := r.fill(); err != nil {
			if err == io.EOF && r.start < r.end {
				err = io.ErrUnexpectedEOF
			}
			return frame{}, err
		}
	}
}

// fill reads once.
func (r *reader) fill() error {
	if r.start > 0 {
		r.end = copy(r.buf, r.buf[r.start:r.end])
		r.start = 0
	}
	switch {
	case len(r.buf) > maxBuffer && r.end < maxBuffer:
		r.resize(maxBuffer)
	case r.end == len(r.buf), r.full && len(r.buf) < maxBuffer:
		r.resize(min(max(2*len(r.buf), minBuffer), maxFrame))
	}
	if r.waiting != nil {
		r.waiting()
	}
	n, err := r.src.Read(r.buf[r.end:])
	r.end += n
	r.full = r.end == len(r.buf)
	if n > 0 {
		return nil // an error will come again
	}
	if err == nil {
		return io.ErrNoProgress
	}
	return err
}

func (r *reader) resize(size int) {
	buf := make([]byte, size)
	copy(buf, r.buf[:r.end])
	r.buf = buf
}
