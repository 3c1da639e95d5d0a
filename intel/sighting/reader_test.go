package sighting

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"testing/iotest"
	"time"
	"unicode/utf16"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// addresses returns the addresses in a text, separated by blanks, and the report.
func addresses(t testing.TB, text string, o Options) (string, Report) {
	t.Helper()
	r := NewReader(strings.NewReader(text), o)
	var list []string
	for _, s := range all(t, r) {
		list = append(list, s.Addr.String())
	}
	return strings.Join(list, " "), r.Report()
}

func TestTakes(t *testing.T) {
	for text, want := range map[string]string{
		"%ASA-4-106023: Deny tcp src outside:203.0.113.5/54321 dst inside:10.0.0.5/22": "203.0.113.5",
		"%ASA-4-106023: Deny tcp src outside:203.0.113.5/16 dst inside:203.0.113.9/22": "203.0.113.5",
		"1[.]2[.]3[.]4": "1.2.3.4",
		"1.2.3[.]4":     "1.2.3.4",
		"2001[:]db8::1": "2001:db8::1",
		"12:34:56.789012 IP 203.0.113.5.54321 > 10.0.0.5.22: Flags [S]":                                      "203.0.113.5",
		"direct-tcp connection request to 2001:db8::4:80 from 203.0.113.7:4711":                              "203.0.113.7",
		"::ffff:203.0.113.215:60495":                                                                         "203.0.113.215",
		"Mozilla/5.0 (X11; U; rv:1.9.0.14) Gecko/20090101":                                                   "",
		"192.0.2.2:2274->203.0.113.9:993":                                                                    "192.0.2.2",
		"session denied 192.0.2.2/4711->203.0.113.9/22 0x0":                                                  "192.0.2.2",
		"id=firewall time=\"2026-11-29 10:00:00\" fw=203.0.113.8 src=192.0.2.2:443:X1 dst=203.0.113.9:22:X0": "192.0.2.2",
		`{"winlog":{"event_data":{"IpAddress":"192.0.2.2"}},"host":{"ip":["203.0.113.9"]}}`:                  "192.0.2.2",
		"192.0.2.2:2274->198.51.100.9:993":                                                                   "192.0.2.2",
		"1.2.3.4,5.6.7.8;9.9.9.9 8.8.8.8":                                                                    "1.2.3.4 5.6.7.8 9.9.9.9 8.8.8.8",
		"1.2.3.4 1.2.3.4":                                                                                    "1.2.3.4",
		`{"a":"b"} {"src_ip":"1.2.3.4"}`:                                                                     "1.2.3.4",
		`["1.2.3.4","5.6.7.8"]`:                                                                              "1.2.3.4 5.6.7.8",
		`[{"src_ip":"1.2.3.4"},{"src_ip":"5.6.7.8"}]`:                                                        "1.2.3.4 5.6.7.8",
		"[\n  {\n    \"src_ip\": \"1.2.3.4\",\n    \"x\": [{\"dst_ip\": \"5.6.7.8\"}]\n  },\n  {\"src_ip\": \"9.9.9.9\"}\n]\n": "1.2.3.4 9.9.9.9",
		`{"Records":[{"sourceIPAddress":"1.2.3.4"},{"sourceIPAddress":"5.6.7.8"}]}`:                                            "1.2.3.4 5.6.7.8",
		`{"src_ip":"1.2.3.4","inner":[{"src_ip":"5.6.7.8"}]}`:                                                                  "1.2.3.4",
		`{"src_ip":"\u0031.2.3.4","dst_ip":"5.6.7.8"}`:                                                                         "1.2.3.4",
		`{"src_ip":"","client":{"ip":"1.2.3.4"}}`:                                                                              "1.2.3.4",
		`{"pattern":"[ipv4-addr:value = '1.2.3.4']"}`:                                                                          "1.2.3.4",
		`{TCP} 1.2.3.4:5 -> 5.6.7.8:80`:                                                                                        "1.2.3.4",
		`{'src_ip': '1.2.3.4', 'dst_ip': '5.6.7.8'}`:                                                                           "1.2.3.4",
		`Nov 29 08:00:00 h app: {"src_ip":"1.2.3.4","dst_ip":"5.6.7.8"}`:                                                       "1.2.3.4",
		"{\"src_ip\":\"1.2.3.4\",\"cut\n{\"src_ip\":\"5.6.7.8\"}\n":                                                            "1.2.3.4 5.6.7.8",
		"{\"src_ip\":\"1.2.3.4\",\n{\"src_ip\":\"5.6.7.8\"}\n":                                                                 "1.2.3.4 5.6.7.8",
		"{\"src_ip\":\nNov 29 08:00:00 h sshd[1]: Invalid user x from 5.6.7.8 port 9\n":                                        "5.6.7.8",
		"\x00\x00\x00\x001.2.3.4\n":                                                                                            "1.2.3.4",
		"64:ff9b::102:304":                                                                                                     "1.2.3.4",
	} {
		got, _ := addresses(t, text, testOptions())
		require.Equal(t, want, got, "%q", text)
	}
}

// What is not taken is counted, with the first of each kind.
func TestReports(t *testing.T) {
	text := strings.Join([]string{
		"# a comment with 9.9.9.9",
		"",
		"192.0.2.1",
		"nothing",
		"192.0.2.0/24",
		"192.0.2.1-192.0.2.9",
		"Nov 29 08:00:00 h x: from 10.0.0.1",
		"Nov 29 08:00:00 h x: connecting to 203.0.113.9",
		"firmware 1.2.3.4",
		"1.2.3.256",
		`{"event_type":"alert","src_ip":"203.0.113.5","direction":"to_client"}`,
		"nothing again",
	}, "\n")
	_, report := addresses(t, text, testOptions())
	require.EqualValues(t, 10, report.Lines)
	require.EqualValues(t, 1, report.Sightings)
	require.Equal(t, Count{N: 2, Line: 4, Text: "nothing"}, report.WithoutAddress)
	require.Equal(t, Count{N: 2, Line: 5, Text: "192.0.2.0/24"}, report.Networks)
	require.Equal(t, Count{N: 1, Line: 7, Text: "10.0.0.1"}, report.NotTaken[Guarded])
	require.Equal(t, Count{N: 1, Line: 8, Text: "203.0.113.9"}, report.NotTaken[NotSource])
	require.Equal(t, Count{N: 1, Line: 9, Text: "1.2.3.4"}, report.NotTaken[Version])
	require.Equal(t, Count{N: 1, Line: 10, Text: "1.2.3.256"}, report.NotTaken[Malformed])
	require.Equal(t, Count{N: 1, Line: 11, Text: "203.0.113.5"}, report.NotTaken[OwnSide])
	require.Contains(t, report.Left(), `networks: 2 (first in line 5: "192.0.2.0/24")`)

	var sum Report
	sum.Add(report)
	sum.Add(report)
	require.EqualValues(t, 4, sum.Networks.N)
	require.EqualValues(t, 5, sum.Networks.Line)
}

// Without options, addresses that are not globally reachable are not taken, and
// with a Guard nor are one's own.
func TestGuard(t *testing.T) {
	text := "8.8.8.8\n10.0.0.1\n203.0.113.9\n1.1.1.1\n2001:db8::1\n"
	got, report := addresses(t, text, Options{})
	require.Equal(t, "8.8.8.8 1.1.1.1", got)
	require.EqualValues(t, 3, report.NotTaken[Guarded].N)
	own := provider.Guard{Own: []netip.Prefix{netip.MustParsePrefix("1.1.1.0/24")}}
	got, _ = addresses(t, text, Options{Allow: own.Allows})
	require.Equal(t, "8.8.8.8", got)
}

// Behind a forwarder the source is the address that the connection came from,
// unless that is ours.
func TestForwarded(t *testing.T) {
	for text, want := range map[string]string{
		`{"remote_addr":"203.0.113.1","x_forwarded_for":"203.0.113.2"}`:                                   "203.0.113.1",
		`{"remote_addr":"10.0.0.1","x_forwarded_for":"203.0.113.2, 203.0.113.3"}`:                         "203.0.113.3",
		`{"remote_addr":"10.0.0.1","x_forwarded_for":"203.0.113.2, 203.0.113.3, 10.0.0.2"}`:               "203.0.113.3",
		`{"remote_addr":"10.0.0.1","headers":{"X-Forwarded-For":["203.0.113.2"]}}`:                        "203.0.113.2",
		`{"remote_addr":"10.0.0.1","forwarded":"for=203.0.113.2;proto=http, for=\"[2001:db8::7]:4711\""}`: "2001:db8::7",
		`{"remote_addr":"10.0.0.1"}`:                               "",
		`{"xff":"203.0.113.2","message":"{\"xff\":\"10.0.0.1\"}"}`: "203.0.113.2",
		`t=1 remote_addr=10.0.0.1 xff="203.0.113.2, 203.0.113.3"`:  "203.0.113.3",
	} {
		got, _ := addresses(t, text, testOptions())
		require.Equal(t, want, got, "%s", text)
	}
}

func TestTimes(t *testing.T) {
	want := time.Date(2026, 11, 28, 8, 9, 10, 0, time.UTC)
	for _, text := range []string{
		`{"src_ip":"192.0.2.1","timestamp":"2026-11-28T08:09:10Z"}`,
		`{"src_ip":"192.0.2.1","timestamp":"2026-11-28T09:09:10.000000+0100"}`,
		`{"src_ip":"192.0.2.1","ts":1795853350}`,
		`{"src_ip":"192.0.2.1","ts":1795853350000}`,
		`{"src_ip":"192.0.2.1","time":"1795853350.000"}`,
		`{"src_host":"192.0.2.1","local_time":"2026-11-28 03:09:10","utc_time":"2026-11-28 08:09:10"}`,
		`2026-11-28T08:09:10+00:00 h sshd[1]: Invalid user x from 192.0.2.1`,
		`Nov 28 08:09:10 h sshd[1]: Invalid user x from 192.0.2.1`,
		`<38>1 2026-11-28T08:09:10Z h sshd 1 - - Invalid user x from 192.0.2.1`,
		`192.0.2.1 - - [28/Nov/2026:03:09:10 -0500] "GET / HTTP/1.1" 200 1`,
		`[Sat Nov 28 08:09:10.000 2026] [error] [client 192.0.2.1] x`,
		`2026/11/28 08:09:10 [error] 1#1: *1 x, client: 192.0.2.1, server: x`,
		`1795853350.000 5 192.0.2.1 TCP_MISS/200 1 GET http://x/ - HIER_NONE/- -`,
		`28-Nov-2026 08:09:10.000 client 192.0.2.1#53: query denied`,
		`11/28/2026 8:09:10 AM login failed from 192.0.2.1`,
		`date=2026-11-28 time=08:09:10 srcip=192.0.2.1 dstip=198.51.100.4`,
		`Nov 28 08:09:10 pf filterlog[1]: 5,,,1,igb0,match,block,in,4,0x0,,244,1,0,none,6,tcp,40,192.0.2.1,198.51.100.4,4000,22,0,S,1,,1,,`,
		`{"ClientAddr":"192.0.2.1:4000","StartUTC":"2026-11-28T08:09:10Z"}`,
		`{"remote_addr":"192.0.2.1","time_iso8601":"2026-11-28T08:09:10+00:00"}`,
		`{"EventID":4625,"TimeCreated":"2026-11-28T08:09:10Z","IpAddress":"192.0.2.1"}`,
	} {
		r := NewReader(strings.NewReader(text), testOptions())
		found := all(t, r)
		require.Len(t, found, 1, text)
		require.Equal(t, want, found[0].Time.Truncate(time.Second), text)
	}
	// A date without a year is of the last year if it would be in the future.
	r := NewReader(strings.NewReader("Dec 24 08:00:00 h sshd[1]: Invalid user x from 192.0.2.1"), testOptions())
	require.Equal(t, 2025, all(t, r)[0].Time.Year())
}

func TestEncodings(t *testing.T) {
	text := "192.0.2.1 from ä\n{\"src_ip\":\"192.0.2.2\"}\n\U0001F600 192.0.2.3\n"
	sixteen := func(order binary.ByteOrder, bom bool) []byte {
		units := utf16.Encode([]rune(text))
		if bom {
			units = append([]uint16{0xfeff}, units...)
		}
		b := make([]byte, 2*len(units))
		for i, u := range units {
			order.PutUint16(b[2*i:], u)
		}
		return b
	}
	zip := func(b []byte) []byte {
		var out bytes.Buffer
		w := gzip.NewWriter(&out)
		_, _ = w.Write(b)
		require.NoError(t, w.Close())
		return out.Bytes()
	}
	for name, input := range map[string][]byte{
		"UTF-8": []byte(text), "UTF-8 with a mark": []byte("\uFEFF" + text),
		"UTF-16LE": sixteen(binary.LittleEndian, true), "UTF-16BE": sixteen(binary.BigEndian, true),
		"UTF-16LE without a mark": sixteen(binary.LittleEndian, false), "UTF-16BE without a mark": sixteen(binary.BigEndian, false),
		"gzip": zip([]byte(text)), "UTF-16 in gzip": zip(sixteen(binary.LittleEndian, true)),
		"gzip of two members": append(zip([]byte(text[:20])), zip([]byte(text[20:]))...),
	} {
		for _, r := range []io.Reader{bytes.NewReader(input), iotest.HalfReader(bytes.NewReader(input))} {
			found := all(t, NewReader(r, testOptions()))
			require.Len(t, found, 3, name)
		}
	}
}

func TestBinaryIsRejectedByName(t *testing.T) {
	for magic, want := range map[string]string{
		"\xd4\xc3\xb2\xa1\x02\x00\x04\x00": "pcap", "\x0a\x0d\x0d\x0a\x1c\x00": "pcapng", "PK\x03\x04xx": "zip", "\xfd7zXZ\x00": "xz",
		"SQLite format 3\x00": "SQLite", "\x7fELF\x02": "ELF", "\x01\x02\x03\x04\x05\x06\x07\x08": "unknown binary format",
	} {
		for range 2 {
			_, err := NewReader(strings.NewReader(magic), Options{}).Next()
			var bad *BinaryError
			require.ErrorAs(t, err, &bad, "%q", magic)
			require.Contains(t, err.Error(), want)
			var zipped bytes.Buffer
			w := gzip.NewWriter(&zipped)
			_, _ = w.Write([]byte(magic))
			require.NoError(t, w.Close())
			magic = zipped.String()
		}
	}
}

// A reader that starts at a position returns what follows, wherever it is.
func TestResumes(t *testing.T) {
	var text strings.Builder
	for _, s := range samples(t) {
		if s.format == "zeek-conn" || s.format == "cowrie-json" || s.format == "sshd" || s.format == "list" {
			if s.header != "" {
				text.WriteString(s.header + "\n")
			}
			text.WriteString(s.line + "\n")
		}
	}
	text.WriteString(`{"hits":{"pad":"` + strings.Repeat("x", maxRecord) + `","hits":[{"src_ip":"192.0.2.7"},{"src_ip":"192.0.2.8"}],"more":"192.0.2.9"}}` + "\n192.0.2.10\n")
	whole := all(t, NewReader(strings.NewReader(text.String()), testOptions()))
	require.Equal(t, "192.0.2.10", whole[len(whole)-1].Addr.String())
	require.Equal(t, "192.0.2.8", whole[len(whole)-2].Addr.String())
	var zipped bytes.Buffer
	w := gzip.NewWriter(&zipped)
	_, _ = w.Write([]byte(text.String()))
	require.NoError(t, w.Close())
	for name, open := range map[string]func() io.Reader{
		"seekable": func() io.Reader { return strings.NewReader(text.String()) },
		"stream":   func() io.Reader { return iotest.DataErrReader(strings.NewReader(text.String())) },
		"gzip":     func() io.Reader { return bytes.NewReader(zipped.Bytes()) },
	} {
		o := testOptions()
		var found []Sighting
		for range len(whole) + 1 {
			r := NewReader(open(), o)
			s, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err)
			found = append(found, s)
			// A position before a line of which a sighting was returned gives that
			// sighting again.
			position := r.Position()
			stored, err := json.Marshal(position)
			require.NoError(t, err)
			o.Start = Position{}
			require.NoError(t, json.Unmarshal(stored, &o.Start))
			require.Equal(t, position, o.Start)
			if len(r.pending) > 1 {
				for _, s := range r.pending[1:] {
					_, err := r.Next()
					require.NoError(t, err)
					found = append(found, s)
				}
				o.Start = r.Position()
			}
		}
		require.Equal(t, whole, found, name)
	}
}

func TestResumeBehindTheEnd(t *testing.T) {
	o := Options{Start: Position{Offset: 100}}
	for _, r := range []io.Reader{strings.NewReader("short\n"), iotest.HalfReader(strings.NewReader("short\n"))} {
		_, err := NewReader(r, o).Next()
		require.ErrorIs(t, err, io.ErrUnexpectedEOF)
	}
}

func TestReadErrorIsReturned(t *testing.T) {
	broken := errors.New("broken disk")
	r := NewReader(io.MultiReader(strings.NewReader("192.0.2.1\n192.0.2.2"), iotest.ErrReader(broken)), testOptions())
	s, err := r.Next()
	require.NoError(t, err)
	require.Equal(t, "192.0.2.1", s.Addr.String())
	for range 2 {
		_, err = r.Next()
		require.ErrorIs(t, err, broken, "the incomplete line is not read")
	}
}

// A line is read as soon as it is complete, and a JSON object as soon as it is
// closed.
func TestDoesNotWaitForMore(t *testing.T) {
	from, to := io.Pipe()
	r := NewReader(from, testOptions())
	for _, text := range []string{"192.0.2.1\n", `{"src_ip":"192.0.2.2"}`, "\n", "192.0.2.3\n"} {
		go func() { _, _ = to.Write([]byte(text)) }()
		if text == "\n" {
			continue
		}
		_, err := r.Next()
		require.NoError(t, err)
	}
}

// stutter returns ErrWait before each part of a text.
type stutter struct {
	text   string
	n      int
	waited bool
}

func (s *stutter) Read(p []byte) (int, error) {
	if s.waited = !s.waited; s.waited {
		return 0, ErrWait
	}
	if s.text == "" {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), s.n)], s.text)
	s.text = s.text[n:]
	return n, nil
}

// A source may have no more text for now, wherever it is.
func TestWaits(t *testing.T) {
	var text strings.Builder
	for _, s := range samples(t) {
		if s.header == "" {
			text.WriteString(s.line + "\n")
		}
	}
	text.WriteString(`{"src_ip":"192.0.2.7","pad":"` + strings.Repeat("x", 2*maxRecord) + "\"}\n192.0.2.8\n")
	text.WriteString(`{"pad":"` + strings.Repeat(`\"x`, maxRecord) + "\",\"l\":[{\"src_ip\":\"192.0.2.9\"}]}\n192.0.2.10\n")
	text.WriteString("Nov 28 08:09:10 h x: from 192.0.2.11 " + strings.Repeat("x ", maxLine) + "\n192.0.2.12")
	want := all(t, NewReader(strings.NewReader(text.String()), testOptions()))
	require.Equal(t, "192.0.2.12", want[len(want)-1].Addr.String())
	for _, n := range []int{7001, 100_003} {
		r := NewReader(&stutter{text: text.String(), n: n, waited: true}, testOptions())
		var got []Sighting
		for {
			s, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if errors.Is(err, ErrWait) {
				continue
			}
			require.NoError(t, err)
			got = append(got, s)
		}
		require.Equal(t, len(want), len(got))
		require.Equal(t, want, got)
	}
}

// A long line costs no memory, and the addresses in it are found.
func TestLongLines(t *testing.T) {
	for name, test := range map[string]struct {
		text func() io.Reader
		want int
	}{
		"a word": {func() io.Reader {
			return io.MultiReader(strings.NewReader("1.2.3.4 "), io.LimitReader(endless('a'), 8<<20), strings.NewReader(" 5.6.7.8"))
		}, 2},
		"a list": {func() io.Reader {
			return strings.NewReader(strings.Repeat("1.2.3.4 ", 100_000) + "5.6.7.8")
		}, 100_001},
		"a record": {func() io.Reader {
			return io.MultiReader(strings.NewReader(`{"src_ip":"1.2.3.4","input":"`), io.LimitReader(endless('a'), 8<<20),
				strings.NewReader("\"}\n{\"src_ip\":\"5.6.7.8\"}"))
		}, 2},
		"a record whose source comes last": {func() io.Reader {
			return io.MultiReader(strings.NewReader(`{"input":"`), io.LimitReader(endless('a'), 8<<20),
				strings.NewReader("\",\"src_ip\":\"1.2.3.4\"}\n{\"src_ip\":\"5.6.7.8\"}"))
		}, 1},
		"nesting": {func() io.Reader {
			return io.MultiReader(strings.NewReader(strings.Repeat(`{"a":`, 1<<20)), strings.NewReader("\n5.6.7.8\n"))
		}, 1},
		"arrays": {func() io.Reader {
			return strings.NewReader(strings.Repeat(`[`, 4<<20) + "\n5.6.7.8\n")
		}, 1},
	} {
		r := NewReader(test.text(), testOptions())
		last, n := "", 0
		for {
			s, err := r.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			require.NoError(t, err, name)
			last, n = s.Addr.String(), n+1
		}
		require.Equal(t, "5.6.7.8", last, name)
		require.LessOrEqual(t, cap(r.in.window), 4*maxRecord, name)
		if name == "a list" {
			require.LessOrEqual(t, n, test.want, name)
			continue
		}
		require.Equal(t, test.want, n, name)
	}
}

type endless byte

func (e endless) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(e)
	}
	return len(b), nil
}

func FuzzReader(f *testing.F) {
	for i, s := range samples(f) {
		if i%5 == 0 {
			f.Add([]byte(s.header + "\n" + s.line + "\n"))
		}
	}
	f.Add([]byte("[{\"src_ip\":\"1.2.3.4\",\"a\":[{\"b\":\"\\u00"))
	f.Add([]byte("\x1f\x8b\x08\x00"))
	f.Add([]byte("\xff\xfe1\x00.\x00"))
	f.Fuzz(func(t *testing.T, text []byte) {
		read := func(r io.Reader, o Options) (found []Sighting, last Position, report Report, err error) {
			in := NewReader(r, o)
			for {
				s, err := in.Next()
				if err != nil {
					return found, in.Position(), in.Report(), err
				}
				require.True(t, o.Allow(s.Addr))
				require.Equal(t, provider.Canonical(s.Addr), s.Addr)
				found = append(found, s)
			}
		}
		o := testOptions()
		found, last, report, err := read(bytes.NewReader(text), o)
		require.EqualValues(t, len(found), report.Sightings)
		again, lastAgain, reportAgain, errAgain := read(iotest.OneByteReader(bytes.NewReader(text)), o)
		_, isBinary := errors.AsType[*BinaryError](err)
		if isBinary || bytes.ContainsFunc(text, func(c rune) bool { return c < ' ' && c != '\n' }) || len(text) > 0 && text[0] > '~' {
			return // recognized by its first bytes, as many as the first read returns
		}
		require.Equal(t, found, again, "depends on how the text arrives")
		require.Equal(t, report, reportAgain)
		require.Equal(t, last, lastAgain)
		require.Equal(t, fmt.Sprint(err), fmt.Sprint(errAgain))

		// The list of what was found reads as itself.
		var list strings.Builder
		for _, s := range found {
			fmt.Fprintln(&list, s.Addr)
		}
		relisted, _, _, _ := read(strings.NewReader(list.String()), o)
		require.Len(t, relisted, len(found))
	})
}

func FuzzTimes(f *testing.F) {
	for _, s := range []string{"2026-11-28T08:09:10.5+01:00", "Nov 28 08:09:10", "28/Nov/2026:08:09:10 -0500", "1795853350.1", "Sat Nov 28 08:09:10 2026"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		r := NewReader(nil, testOptions())
		_ = r.parseTime([]byte(text))
		_ = r.lineTime([]byte(text))
		_ = hasTime([]byte(text))
	})
}
