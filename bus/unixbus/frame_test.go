package unixbus

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/stretchr/testify/require"
)

// withBody returns a frame with a body.
func withBody(line string, body string) []byte {
	b := append([]byte(line), '\n')
	b = binary.BigEndian.AppendUint32(b, uint32(len(body)))
	return append(b, body...)
}

func TestParse(t *testing.T) {
	name := strings.Repeat("n", maxHeader-len("HELLO \n"))
	for _, tt := range []struct {
		bytes           string
		verb, arg, body string
	}{
		{"HELLO me\n\x00\x00\x00\x00", verbHello, "me", ""},
		{"HELLO\n\x00\x00\x00\x00", verbHello, "", ""},
		{"HELLO two words\n\x00\x00\x00\x00", verbHello, "two words", ""},
		{"HELLO  me \r\n\x00\x00\x00\x00", verbHello, "me", ""},
		{"HELLO " + name + "\n\x00\x00\x00\x00", verbHello, name, ""},
		{"SUB a.*\n\x00\x00\x00\x00", verbSub, "a.*", ""},
		{"UNSUB a.>\r\n\x00\x00\x00\x00", verbUnsub, "a.>", ""},
		{"PUB a.b\n\x00\x00\x00\x02{}", verbPub, "a.b", "{}"},
		{"EVT a.b\n\x00\x00\x00\x03\n\x00\xff", verbEvt, "a.b", "\n\x00\xff"},
		{"BYE\n\x00\x00\x00\x00", verbBye, "", ""},
		{"BYE \n\x00\x00\x00\x00", verbBye, "", ""},
		{string(withBody("PUB a", strings.Repeat("x", maxBody))), verbPub, "a", strings.Repeat("x", maxBody)},
	} {
		f, size, err := parse([]byte(tt.bytes + "BYE"))
		require.NoError(t, err, "%.50q", tt.bytes)
		require.Equal(t, len(tt.bytes), size, "%.50q", tt.bytes)
		require.Equal(t, frame{tt.verb, []byte(tt.arg), []byte(tt.body)}, frame{f.verb, append([]byte{}, f.arg...), f.body})
		for _, n := range []int{0, 1, len(tt.bytes) / 2, len(tt.bytes) - 1} {
			_, size, err := parse([]byte(tt.bytes[:n]))
			require.NoError(t, err)
			require.True(t, size == 0 || size == len(tt.bytes), "%d of %d bytes of %.50q", n, len(tt.bytes), tt.bytes)
		}
	}
}

// What is malformed is refused as soon as that can be seen.
func TestParseMalformed(t *testing.T) {
	for _, s := range []string{
		"\n", "\r\n", " HELLO me\n", "hello me\n", "HELLOme\n", "HELLO\tme\n", "GET / HTTP/1.1\r\n", "PUB größe\n",
		"PUB a\x00\n", "BYE\x7f\n", "\x00\x00\x00\x00\n", "PUB a\rb\n",
		strings.Repeat("x", maxHeader), "HELLO " + strings.Repeat("n", maxHeader),
		"PUB a\n\x00\x10\x00\x01", "PUB a\n\xff\xff\xff\xff",
	} {
		_, _, err := parse([]byte(s))
		require.ErrorIs(t, err, errMalformed, "%.50q", s)
	}
}

func TestReader(t *testing.T) {
	var stream []byte
	bodies := []int{0, 1, 5000, 0, maxBody, 3, maxBody - 1, 100_000, 7}
	for _, n := range bodies {
		stream = append(stream, withBody("PUB a", strings.Repeat("x", n))...)
	}
	for _, src := range []io.Reader{
		bytes.NewReader(stream), iotest.HalfReader(bytes.NewReader(stream)), iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		r := reader{src: src}
		for _, n := range bodies {
			f, err := r.next()
			require.NoError(t, err)
			require.Len(t, f.body, n)
		}
		require.LessOrEqual(t, len(r.buf), maxFrame)
		_, err := r.next()
		require.Equal(t, io.EOF, err)
		require.LessOrEqual(t, len(r.buf), maxBuffer, "a long frame's buffer is kept")
	}

	r := reader{src: bytes.NewReader(stream[:len(stream)-1])}
	for range len(bodies) - 1 {
		_, err := r.next()
		require.NoError(t, err)
	}
	_, err := r.next()
	require.Equal(t, io.ErrUnexpectedEOF, err)

	broken := errors.New("broken")
	r = reader{src: iotest.ErrReader(broken)}
	_, err = r.next()
	require.Equal(t, broken, err)
}

// An announced body costs nothing until it is there.
func TestReaderMemory(t *testing.T) {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	const readers = 1000
	all := make([]*reader, readers)
	for i := range all {
		all[i] = &reader{src: strings.NewReader("PUB a\n\x00\x10\x00\x00{")}
		_, err := all[i].next()
		require.Equal(t, io.ErrUnexpectedEOF, err)
	}
	runtime.ReadMemStats(&after)
	require.Less(t, (after.TotalAlloc-before.TotalAlloc)/readers, uint64(2*minBuffer))
	runtime.KeepAlive(all)
}

// TestReaderWaits: whoever is told before waiting is told when, and only when,
// everything that arrived has been returned.
func TestReaderWaits(t *testing.T) {
	three := bytes.Repeat(withBody("PUB a", "{}"), 3)
	var seen []int
	n := 0
	r := reader{src: bytes.NewReader(append(three, "BYE\n"...)), waiting: func() { seen = append(seen, n) }}
	for {
		if _, err := r.next(); err != nil {
			break
		}
		n++
	}
	require.Equal(t, []int{0, 3}, seen)
}

// What is read does not depend on the pieces in which it arrives.
func FuzzReader(f *testing.F) {
	f.Add([]byte("HELLO me\n\x00\x00\x00\x00PUB a\n\x00\x00\x00\x02{}BYE\n\x00\x00\x00\x00"))
	f.Add([]byte("PUB a\n\xff\xff\xff\xff"))
	f.Add([]byte("PUB a\r\n\x00\x00\x00\x09{}"))
	f.Add([]byte("GET / HTTP/1.1\r\n\r\n"))
	f.Add(bytes.Repeat([]byte("x"), maxHeader))
	f.Fuzz(func(t *testing.T, b []byte) {
		whole, wholeErr := readAll(bytes.NewReader(b))
		pieces, piecesErr := readAll(iotest.OneByteReader(bytes.NewReader(b)))
		require.Equal(t, whole, pieces)
		require.Equal(t, wholeErr, piecesErr)

		var again []byte
		for _, frame := range whole {
			require.LessOrEqual(t, len(frame.body), maxBody)
			line := strings.TrimRight(frame.verb+" "+string(frame.arg), " ")
			again = append(again, withBody(line, string(frame.body))...)
		}
		same, err := readAll(bytes.NewReader(again))
		require.Equal(t, io.EOF, err)
		require.Equal(t, whole, same)
	})
}

func readAll(src io.Reader) (frames []frame, err error) {
	r := reader{src: src}
	for {
		f, err := r.next()
		if err != nil {
			return frames, err
		}
		frames = append(frames, frame{f.verb, append([]byte{}, f.arg...), append([]byte{}, f.body...)})
	}
}
