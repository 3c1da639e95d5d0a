package sighting

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"unicode/utf16"
	"unicode/utf8"
)

// BinaryError is returned for an input that is not text.
type BinaryError struct {
	// Format names what the input is, for example "pcap".
	Format string
	// Hint says how to get text from it; it may be empty.
	Hint string
}

func (e *BinaryError) Error() string {
	if e.Hint == "" {
		return fmt.Sprintf("the input is %s, not text", e.Format)
	}
	return fmt.Sprintf("the input is %s, not text; %s", e.Format, e.Hint)
}

// magics are the first bytes of binary formats that people have beside logs.
var magics = []struct{ magic, format, hint string }{
	{"\xd4\xc3\xb2\xa1", "pcap", "convert it with: tcpdump -nr FILE"},
	{"\xa1\xb2\xc3\xd4", "pcap", "convert it with: tcpdump -nr FILE"},
	{"\x4d\x3c\xb2\xa1", "pcap", "convert it with: tcpdump -nr FILE"},
	{"\xa1\xb2\x3c\x4d", "pcap", "convert it with: tcpdump -nr FILE"},
	{"\x0a\x0d\x0d\x0a", "pcapng", "convert it with: tcpdump -nr FILE"},
	{"PK\x03\x04", "a zip archive", "unpack it"},
	{"\xfd7zXZ\x00", "xz", "decompress it with: xz -dc FILE"},
	{"\x28\xb5\x2f\xfd", "zstd", "decompress it with: zstd -dc FILE"},
	{"BZh", "bzip2", "decompress it with: bzip2 -dc FILE"},
	{"\x04\x22\x4d\x18", "lz4", "decompress it with: lz4 -dc FILE"},
	{"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it"},
	{"SQLite format 3\x00", "an SQLite database", "export its rows with: sqlite3 -csv -header"},
	{"ElfFile\x00", "a Windows event log (evtx)", "export it as text or XML"},
	{"LPKSHHRH", "a systemd journal", "export it with: journalctl -o json --file FILE"},
	{"PAR1", "Parquet", "export it as CSV or JSON"},
	{"Obj\x01", "Avro", "export it as JSON"},
	{"\x7fELF", "an ELF binary", ""},
	{"%PDF-", "PDF", "copy its text"},
	{"\xa5\x0c", "an nfcapd file", "export it with: nfdump -o csv -r FILE"},
}

// binaryFormat returns the error for a binary format that begins with head, and nil if
// it may be text.
func binaryFormat(head []byte) error {
	for _, m := range magics {
		if bytes.HasPrefix(head, []byte(m.magic)) {
			return &BinaryError{Format: m.format, Hint: m.hint}
		}
	}
	if len(head) > 262 && string(head[257:262]) == "ustar" {
		return &BinaryError{Format: "a tar archive", Hint: "unpack it"}
	}
	odd := 0
	for _, c := range head {
		// A log that was truncated while it was written has a run of zeros.
		if c < ' ' && c != 0 && c != '\n' && c != '\r' && c != '\t' && c != '\f' && c != 0x1b {
			odd++
		}
	}
	if len(head) >= 8 && odd*8 > len(head) {
		return &BinaryError{Format: "of an unknown binary format"}
	}
	return nil
}

const (
	readSize  = 64 << 10
	maxRecord = 1 << 20  // of JSON
	maxLine   = 64 << 10 // of text
)

// input is the text of a source, of which a window is in memory.
type input struct {
	src    io.Reader
	first  *bufio.Reader // of src, until its encoding is known
	text   io.Reader     // decoded; nil before the first read
	skip   int64         // bytes of text to skip at first
	window []byte        // all that is in memory
	start  int           // of what was not consumed yet
	before int64         // bytes of text before the window
	err    error         // of the last read
}

// unread is what is in memory and was not consumed.
func (in *input) unread() []byte { return in.window[in.start:] }

// offset is where unread begins in the text.
func (in *input) offset() int64 {
	if in.text == nil {
		return in.skip
	}
	return in.before + int64(in.start)
}

func (in *input) consume(n int) { in.start += n }

// more reads more text behind what is unread. It returns false, with in.err, if
// there is none.
func (in *input) more() bool {
	if in.err != nil {
		return false
	}
	if in.text == nil {
		if in.err = in.open(); in.err != nil {
			return false
		}
	}
	if in.start > 0 && (in.start == len(in.window) || len(in.window)+readSize > cap(in.window)) {
		in.before += int64(in.start)
		in.window = in.window[:copy(in.window, in.window[in.start:])]
		in.start = 0
	}
	if free := cap(in.window) - len(in.window); free < readSize/2 {
		bigger := make([]byte, len(in.window), max(2*cap(in.window), 2*readSize))
		copy(bigger, in.window)
		in.window = bigger
	}
	for range 100 {
		n, err := in.text.Read(in.window[len(in.window):cap(in.window)])
		in.window, in.err = in.window[:len(in.window)+n], err
		if n > 0 {
			return true
		}
		if err != nil {
			return false
		}
	}
	in.err = io.ErrNoProgress
	return false
}

// open recognizes the encoding of the source and skips what was read before.
func (in *input) open() error {
	if in.first == nil {
		in.first = bufio.NewReaderSize(in.src, readSize)
	}
	if err := sniff(in.first); err != nil {
		return err
	}
	text, seekable, err := decode(in.first)
	if err != nil {
		return err
	}
	if file, ok := in.src.(io.Seeker); ok && seekable && in.skip > 0 {
		if end, err := file.Seek(0, io.SeekEnd); err == nil && end >= in.skip {
			if _, err = file.Seek(in.skip, io.SeekStart); err != nil {
				return err
			}
			in.text, in.before = in.src, in.skip
			return nil
		}
	}
	if in.skip > 0 {
		n, err := io.CopyN(io.Discard, text, in.skip)
		if err != nil {
			if errors.Is(err, io.EOF) {
				return fmt.Errorf("the input has %d bytes of text and was read up to byte %d before: %w", n, in.skip, io.ErrUnexpectedEOF)
			}
			return err
		}
	}
	in.text, in.before = text, in.skip
	return nil
}

// decode returns the text in src, of which sniff has read the beginning, as UTF-8,
// and the error for a binary format. Raw says that the text is what src reads, byte
// by byte.
func decode(src *bufio.Reader) (text io.Reader, raw bool, err error) {
	raw = true
	if magic, _ := src.Peek(2); string(magic) == "\x1f\x8b" {
		zip, err := gzip.NewReader(src)
		if err != nil {
			return nil, false, fmt.Errorf("gzip: %w", err)
		}
		src = bufio.NewReaderSize(zip, readSize)
		if err := sniff(src); err != nil {
			return nil, false, err
		}
		raw = false
	}
	head, _ := src.Peek(min(src.Buffered(), 512))
	switch {
	case bytes.HasPrefix(head, []byte("\xff\xfe")):
		_, _ = src.Discard(2) // they have been read
		return &utf16Reader{src: src}, false, nil
	case bytes.HasPrefix(head, []byte("\xfe\xff")):
		_, _ = src.Discard(2)
		return &utf16Reader{src: src, big: true}, false, nil
	case bytes.HasPrefix(head, []byte("\uFEFF")):
		_, _ = src.Discard(3)
		return src, false, nil
	case looksUTF16(head, 1):
		return &utf16Reader{src: src}, false, nil
	case looksUTF16(head, 0):
		return &utf16Reader{src: src, big: true}, false, nil
	}
	return src, raw, binaryFormat(head)
}

// sniff reads the beginning of src into its buffer: as many bytes as the first
// read returns, and at least two unless there are fewer, since src may block.
func sniff(src *bufio.Reader) error {
	if _, err := src.Peek(2); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// looksUTF16 reports whether head is UTF-16 without a byte order mark: the bytes
// at odd places, or at even ones, are zero as they are for ASCII.
func looksUTF16(head []byte, zeroAt int) bool {
	if len(head) < 16 {
		return false
	}
	zeros, others := 0, 0
	for i := range len(head) &^ 1 {
		switch {
		case head[i] != 0:
		case i%2 == zeroAt:
			zeros++
		default:
			others++
		}
	}
	return zeros*10 >= len(head)*4 && others*8 <= zeros
}

// utf16Reader decodes UTF-16.
type utf16Reader struct {
	src  *bufio.Reader
	big  bool
	high rune   // the first half of a surrogate pair
	rest []byte // decoded, not yet returned
	buf  []byte
	err  error
}

func (u *utf16Reader) Read(p []byte) (int, error) {
	for len(u.rest) == 0 {
		if err := u.err; err != nil {
			if errors.Is(err, ErrWait) {
				u.err = nil
			}
			return 0, err
		}
		u.decode()
	}
	n := copy(p, u.rest)
	u.rest = u.rest[n:]
	return n, nil
}

// decode decodes what is buffered, at least one unit.
func (u *utf16Reader) decode() {
	out := u.buf[:0]
	for n := 0; n == 0 || u.src.Buffered() >= 2 && n < readSize; n++ {
		var pair []byte
		if pair, u.err = u.src.Peek(2); u.err != nil {
			break // half a unit stays where it is
		}
		c := rune(pair[0]) | rune(pair[1])<<8
		if u.big {
			c = rune(pair[1]) | rune(pair[0])<<8
		}
		_, _ = u.src.Discard(2) // they have been read
		switch {
		case u.high != 0:
			out = utf8.AppendRune(out, utf16.DecodeRune(u.high, c))
			u.high = 0
		case c >= 0xd800 && c < 0xdc00:
			u.high = c
		default:
			out = utf8.AppendRune(out, c)
		}
	}
	u.buf, u.rest = out, out
}
