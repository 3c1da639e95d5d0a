package feed

import (
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// shown returns the rows of a list: networks, and fields after a colon.
func shown(f *Format, body string) (rows []string, err error) {
	_, err = f.parse(body, AnySyntax, func(l line) error {
		var list []netip.Prefix
		for _, text := range l.addresses {
			list, _ = parseNetworks(list, text)
		}
		var b strings.Builder
		for i, p := range list {
			if i > 0 {
				b.WriteByte(' ')
			}
			if p.IsSingleIP() {
				b.WriteString(p.Addr().String())
			} else {
				b.WriteString(p.String())
			}
		}
		if len(list) == 0 {
			b.WriteByte('?')
		}
		if len(l.fields) > 0 {
			b.WriteString(":" + strings.Join(l.fields, "|"))
		}
		rows = append(rows, b.String())
		return nil
	})
	return rows, err
}

func TestFormats(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		format Format
		body   string
		want   []string
	}{
		"addresses": {body: "1.1.1.1\n2a0e::1\r\n\n  8.8.8.8  \n", want: []string{"1.1.1.1", "2a0e::1", "8.8.8.8"}},
		"no line at the end, and a byte order mark": {body: "\ufeff1.1.1.1", want: []string{"1.1.1.1"}},
		"comments": {
			body: "# one\n; two\n// three\n1.1.1.1 # four\n1.1.1.2;five\n1.1.1.3\t// six\n1.1.1.4#seven\n1.1.1.5//eight\n1.1.1.6 https://nine.example\n",
			want: []string{"1.1.1.1", "1.1.1.2", "1.1.1.3", "1.1.1.4", "1.1.1.5", "1.1.1.6:https://nine.example"},
		},
		"networks": {body: "10.1.2.3/8\n2a0e::/32\n::ffff:1.2.3.0/120", want: []string{"10.0.0.0/8", "2a0e::/32", "1.2.3.0/24"}},
		"ranges": {
			body: "1.1.1.0-1.1.1.255\n1.1.1.1 - 1.1.1.4\n2a0e::-2a0e::1\n1.1.1.2-1.1.1.1\n1.1.1.1-2a0e::\n1.1.1.2- 1.1.1.3\n1.1.1.2 -1.1.1.3",
			want: []string{"1.1.1.0/24", "1.1.1.1 1.1.1.2/31 1.1.1.4", "2a0e::/127", "?", "?", "1.1.1.2/31", "1.1.1.2/31"},
		},
		"ranges of wrapped IPv4 addresses": {
			body: "64:ff9b::1.1.1.2-64:ff9b::1.1.1.3\n64:ff9b::-64:ff9b::ffff:ffff\n::ffff:1.1.1.2-::ffff:1.1.1.3",
			want: []string{"1.1.1.2/31", "0.0.0.0/0", "1.1.1.2/31"},
		},
		"a value after a tab": {body: "# IP\tnumber\n1.1.1.1\t10\n1.1.1.2\t9", want: []string{"1.1.1.1:10", "1.1.1.2:9"}},
		"ranges in columns": {
			format: Format{Ranges: true}, body: "1.0.0.0\t1.0.0.255\t13335\tUS\tSOME NAME, INC\n1.0.1.0\t1.0.1.3\t0\tNone\tNot routed",
			want: []string{"1.0.0.0/24:13335|US|SOME NAME, INC", "1.0.1.0/30:0|None|Not routed"},
		},
		"Spamhaus's text": {body: "; List 2026/09/04\n; Expires: x\n1.10.16.0/20 ; SBL256894\n", want: []string{"1.10.16.0/20"}},
		"CSV": {
			format: Format{Fields: []string{"malware", "missing"}},
			body:   "####\n# Last updated: 2024-04-04, UTC #\n####\n#\n\"first_seen_utc\",\"dst_ip\",\"malware\"\n\"x\",\"1.1.1.1\",\"A, b\"\n\"y\",\"1.1.1.2\",\"C\"\n# END 2 entries",
			want:   []string{"1.1.1.1:A, b|", "1.1.1.2:C|"},
		},
		"CSV whose header is a comment": {
			format: Format{Address: []string{"ioc_value"}, Fields: []string{"ioc_type", "malware"}},
			body: "# Last updated: 2026-08-30 UTC #\n# \"ioc_id\",\"ioc_value\",\"ioc_type\",\"malware\"\n" +
				"\"1\", \"1.1.1.1:8080\", \"ip:port\", \"None\"\n\"2\", \"some.host\", \"domain\", \"a \"b\" c\"\n# Number of entries: 2\n",
			want: []string{"1.1.1.1:ip:port|", "?:domain|a \"b\" c"},
		},
		"CSV of networks":             {format: Format{Fields: []string{"list"}}, body: "list,network\nacme,1.1.1.0/24\nacme,2a0e::/64\n", want: []string{"1.1.1.0/24:acme", "2a0e::/64:acme"}},
		"CSV whose header has spaces": {body: "list , ip ,x\nacme, 1.1.1.1 ,y\n", want: []string{"1.1.1.1"}},
		"JSON lines without metadata": {body: "{\"ip\":\"1.1.1.1\"}\n{\"ip\":\"1.1.1.2\"}\n", want: []string{"1.1.1.1", "1.1.1.2"}},
		"JSON array":                  {body: ` ["1.1.1.1","2a0e::/64", 7]`, want: []string{"1.1.1.1", "2a0e::/64", "?"}},
		"JSON objects": {
			format: Format{Fields: []string{"abuseConfidenceScore", "countryCode", "*"}},
			body:   `{"meta":{},"data":[{"ipAddress":"1.1.1.1","countryCode":null,"abuseConfidenceScore":100}]}`,
			want:   []string{`1.1.1.1:100||{"ipAddress":"1.1.1.1","countryCode":null,"abuseConfidenceScore":100}`},
		},
		"JSON with a list":    {body: `{"name":"x","type":"cidr","list":["1.1.1.0/24"],"matching_attributes":["ip-src"]}`, want: []string{"1.1.1.0/24"}},
		"JSON relays":         {body: `{"relays":[{"exit_addresses":["1.1.1.1"],"or_addresses":["1.1.1.2:443","[2a0e::1]:443"]}]}`, want: []string{"1.1.1.1 1.1.1.2 2a0e::1"}},
		"JSON lines":          {format: Format{Fields: []string{"sblid", "rir"}}, body: "{\"cidr\":\"1.1.1.0/24\",\"sblid\":\"S1\",\"rir\":null}\n{\"type\":\"metadata\",\"size\":46,\"records\":1}\n", want: []string{"1.1.1.0/24:S1|"}},
		"exit nodes":          {body: "@type tordnsel 1.0\nDownloaded 2026-01-01 00:00:00\nExitNode AB\nPublished x\nLastStatus y\nExitAddress 1.1.1.1 2024-03-12 08:10:51\nExitAddress 1.1.1.2 z\n", want: []string{"1.1.1.1", "1.1.1.2"}},
		"nothing":             {body: " \n"},
		"nothing but remarks": {body: "# empty\n"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := shown(&tt.format, tt.body)
			require.NoError(t, err)
			require.Equal(t, tt.want, got)
		})
	}
}

func TestWhatIsNoList(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"<!doctype html><p>no": "a web page, not a list", "\n <html>": "a web page, not a list",
		"\xff\xfe1\x00": "binary data or UTF-16", "1\x00.\x00": "binary data or UTF-16", "\xc3\x28": "binary data or UTF-16",
		`{"cidr":"1.1.1.0/24"}` + "\n" + `{"cidr":"1.1.2.0/24"}` + "\n":                                      "the list breaks off",
		`{"cidr":"1.1.1.0/24"}` + "\n" + `{"cidr":`:                                                          "JSON that breaks off",
		`{"cidr":"1.1.1.0/24"}` + "\n" + `{"type":"metadata","size":22,"records":2}`:                         "has 2 rows, and has 1",
		`{"cidr":"1.1.1.0/24"}` + "\n" + `{"type":"metadata","size":9,"records":1}`:                          "take 9 bytes, and they take 22",
		`{"cidr":"1.1.1.0/24"}` + "\n" + `{"type":"metadata","size":22,"records":1}` + "\n" + `{"cidr":"x"}`: "goes on after its end",
		`["1.1.1.1"`: "JSON that breaks off", `{"error":"no"}`: "JSON without an array of rows",
		`{"error":"no","ip":"1.1.1.1"}` + "\n": "JSON without an array of rows",
		"a,ip\nb,1.1.1.1\n# END 3 entries":     "has 3 rows, and has 1", "1.1.1.1\n# Number of entries: 5": "has 5 rows, and has 1",
		"ExitNode A\nExitAddress 1.1.1.1 x\n<html>": "a line that no list of exit nodes has",
	} {
		_, err := shown(&Format{Metadata: true}, body)
		require.ErrorContains(t, err, want, "%q", body)
	}
}

func zipped(files ...string) []byte {
	var b bytes.Buffer
	z := zip.NewWriter(&b)
	for i, text := range files {
		w, _ := z.Create(fmt.Sprintf("full_%d.csv", i))
		_, _ = w.Write([]byte(text))
	}
	_ = z.Close()
	return b.Bytes()
}

func gzipped(text string) []byte {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	_, _ = z.Write([]byte(text))
	_ = z.Close()
	return b.Bytes()
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	for _, body := range [][]byte{[]byte("1.1.1.1"), gzipped("1.1.1.1"), zipped("1.1.1.1")} {
		got, err := unpack(body, 100)
		require.NoError(t, err)
		require.Equal(t, "1.1.1.1", string(got))
	}
	bomb := strings.Repeat("0", 1<<20)
	broken := gzipped("1.1.1.1")
	for want, body := range map[string][]byte{
		"gzip data that unpacks to more than": gzipped(bomb), "a zip archive that unpacks to more than": zipped(bomb),
		"gzip data that breaks off": broken[:len(broken)-3], "several files": zipped("a", "b"), "without a file": zipped(),
		"a zip archive that breaks off": zipped("1.1.1.1")[:40],
	} {
		_, err := unpack(body, 1000)
		require.ErrorContains(t, err, want)
	}
}

func TestRangesHoldExactlyTheirAddresses(t *testing.T) {
	t.Parallel()
	for _, text := range []string{"1.0.0.0-1.0.0.0", "1.0.0.1-1.0.3.7", "0.0.0.0-255.255.255.255", "255.255.255.254-255.255.255.255", "2a0e::7-2a0e::1:9"} {
		list, err := parseNetworks(nil, text)
		require.NoError(t, err)
		first, last, _ := strings.Cut(text, "-")
		next := netip.MustParseAddr(first)
		for i, p := range list {
			require.Equal(t, next, p.Addr(), text)
			if i == len(list)-1 {
				require.Equal(t, netip.MustParseAddr(last), lastOf(p), text)
			}
			next = lastOf(p).Next()
		}
	}
}

// seeds are the sample of each syntax.
func seeds(f *testing.F, prefix string) {
	files, err := filepath.Glob("testdata/" + prefix + "*")
	require.NoError(f, err)
	require.NotEmpty(f, files)
	for _, file := range files {
		body, err := os.ReadFile(file)
		require.NoError(f, err)
		f.Add(string(body))
		f.Add(string(body[:len(body)/2]))
	}
}

// fuzzFormat checks that a list of any content makes rows or an error that repeats
// nothing of it, and that what is read is read alike the next time.
func fuzzFormat(f *testing.F, prefix string, formats ...Format) {
	seeds(f, prefix)
	f.Fuzz(func(t *testing.T, body string) {
		if len(body) > 1<<16 {
			return
		}
		for _, format := range formats {
			rows, err := shown(&format, body)
			again, err2 := shown(&format, body)
			require.Equal(t, fmt.Sprint(err), fmt.Sprint(err2))
			require.True(t, slices.Equal(rows, again) || format.Fields != nil)
			if err != nil && len(body) > 40 {
				require.NotContains(t, err.Error(), body)
			}
		}
	})
}

func FuzzLines(f *testing.F)     { fuzzFormat(f, "lines", Format{}, Format{Ranges: true}) }
func FuzzCSV(f *testing.F)       { fuzzFormat(f, "csv", Format{}, Format{Fields: []string{"malware"}}) }
func FuzzJSON(f *testing.F)      { fuzzFormat(f, "json", Format{}, Format{Fields: []string{"*", "port"}}) }
func FuzzJSONLines(f *testing.F) { fuzzFormat(f, "jsonl", Format{}, Format{Fields: []string{"sblid"}}) }
func FuzzExits(f *testing.F)     { fuzzFormat(f, "exits", Format{}) }

func FuzzUnpack(f *testing.F) {
	f.Add(gzipped("1.1.1.1\n"))
	f.Add(zipped("1.1.1.1\n"))
	f.Fuzz(func(t *testing.T, body []byte) {
		got, err := unpack(body, 1<<16)
		require.True(t, err != nil || len(got) <= max(1<<16, len(body)))
	})
}

func FuzzNetworks(f *testing.F) {
	for _, s := range []string{"1.1.1.1", "1.1.1.0/24", "1.1.1.1-1.1.9.7", "[2a0e::1]:80", "2a0e::-2a0e::ffff", "fe80::1%eth0"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		list, err := parseNetworks(nil, text)
		require.Equal(t, err == nil, len(list) > 0)
		for _, p := range list {
			require.True(t, p.IsValid())
			require.Equal(t, provider.CanonicalPrefix(p), p)
		}
	})
}
