package main

import (
	"bytes"
	"context"
	"flag"
	"io"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
)

var update = flag.Bool("update", false, "write the golden files anew")

// result is what a run of the program leaves behind.
type result struct {
	code           int
	stdout, stderr string
}

// lines returns the lines of standard output.
func (r result) lines() []string { return strings.Split(strings.TrimSuffix(r.stdout, "\n"), "\n") }

// runText runs the program with a text as standard input.
func runText(ctx context.Context, stdin string, args ...string) result {
	var out, errOut bytes.Buffer
	code := run(ctx, args, strings.NewReader(stdin), &out, &errOut)
	return result{code, out.String(), errOut.String()}
}

// ok runs the program and requires it to succeed.
func ok(t *testing.T, stdin string, args ...string) result {
	t.Helper()
	r := runText(t.Context(), stdin, args...)
	require.Equal(t, exitOK, r.code, r.stderr)
	return r
}

// golden compares got with a file in testdata.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got, "run go test with -update if that is right")
}

// imitate starts imitations of the services, and makes -live ask them.
func imitate(t *testing.T) *upstream.Server {
	t.Helper()
	server, err := upstream.Start(upstream.Options{})
	require.NoError(t, err)
	t.Cleanup(server.Close)
	pointAt(t, server.URL())
	return server
}

// pointAt makes -live ask another origin, with a key for each service.
func pointAt(t *testing.T, origin string) {
	t.Helper()
	for _, name := range []string{"GREYNOISE", "ABUSEIPDB", "FEODO", "THREATFOX"} {
		t.Setenv("DECNET_"+name+"_URL", origin)
		t.Setenv("DECNET_"+name+"_API_KEY", "key-of-"+name)
		t.Setenv("DECNET_"+name+"_QUOTA", "none")
	}
}

func calls(s *upstream.Server) (n int) {
	for _, source := range []upstream.Source{upstream.GreyNoise, upstream.AbuseIPDB, upstream.Feodo, upstream.ThreatFox} {
		n += s.Calls(source)
	}
	return n
}

func TestSampleTable(t *testing.T) {
	r := ok(t, "")
	golden(t, "sample.golden", r.stdout)
	require.Contains(t, r.stderr, "MADE UP")
	require.Contains(t, r.stderr, "here is a sample")
	require.NotContains(t, r.stderr, "\x1b", "standard error is no terminal here")
}

// moment matches the columns that tell when, not the times in what was answered.
var moment = regexp.MustCompile(`(_at":)"[^"]+"`)

func TestSampleJSON(t *testing.T) {
	r := ok(t, "", "-json")
	golden(t, "sample.json.golden", moment.ReplaceAllString(r.stdout, `$1"TIME"`))
}

func TestHelp(t *testing.T) {
	r := ok(t, "", "-h")
	require.Equal(t, usage, r.stdout)
	require.Empty(t, r.stderr)
	for line := range strings.Lines(usage) {
		require.LessOrEqual(t, len(line), 81, "does not fit on a terminal: %s", line)
	}
}

func TestUsageErrors(t *testing.T) {
	file := filepath.Join(t.TempDir(), "hosts")
	require.NoError(t, os.WriteFile(file, []byte("1.2.3.4\n"), 0o600))
	for name, c := range map[string]struct {
		stdin string
		args  []string
		want  string
	}{
		"flag":               {"", []string{"-x"}, "-x"},
		"flag after address": {"", []string{"1.2.3.4", "-x"}, "-x"},
		"flag without value": {"", []string{"-db"}, "-db"},
		"flag with no value": {"", []string{"-db="}, "-db names no file"},
		"no address":         {"", []string{"1.2.3.4", "1.2.3"}, `"1.2.3"`},
		"network":            {"", []string{"10.0.0.0/8"}, "10.0.0.0/8"},
		"file as argument":   {"", []string{file}, "use -f"},
		"garbage":            {"no address in here\n\xff\x00\n", nil, "no IP address in standard input"},
		"only comments":      {"# 1.2.3.4\n\n", nil, "no IP address in standard input"},
		"empty with -f -":    {"", []string{"-f", "-"}, "no IP address in standard input"},
		"empty file":         {"1.2.3.4", []string{"-f", os.DevNull}, os.DevNull},
	} {
		t.Run(name, func(t *testing.T) {
			r := runText(t.Context(), c.stdin, c.args...)
			require.Equal(t, exitUsage, r.code, r.stderr)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, c.want)
			require.Contains(t, r.stderr, "-h for help")
		})
	}
}

func TestFailures(t *testing.T) {
	dir := t.TempDir()
	noDatabase := filepath.Join(dir, "text.db")
	require.NoError(t, os.WriteFile(noDatabase, bytes.Repeat([]byte("no database\n"), 100), 0o600))
	for name, c := range map[string]struct {
		args []string
		want string
	}{
		"no such file":          {[]string{"-f", filepath.Join(dir, "missing")}, "missing"},
		"directory":             {[]string{"-f", dir}, dir},
		"no such directory":     {[]string{"-db", filepath.Join(dir, "missing", "x.db"), "1.2.3.4"}, "x.db"},
		"database that is none": {[]string{"-db", noDatabase, "1.2.3.4"}, noDatabase},
		"database, a directory": {[]string{"-db", dir, "1.2.3.4"}, dir},
	} {
		t.Run(name, func(t *testing.T) {
			r := runText(t.Context(), "", c.args...)
			require.Equal(t, exitFailed, r.code, r.stderr)
			require.Empty(t, r.stdout)
			require.Contains(t, r.stderr, c.want)
		})
	}
}

func TestOutputThatCannotBeWritten(t *testing.T) {
	r, w := io.Pipe()
	require.NoError(t, r.Close())
	var errOut bytes.Buffer
	require.Equal(t, exitFailed, run(t.Context(), nil, strings.NewReader(""), w, &errOut))
	require.Contains(t, errOut.String(), "print the result")
}

func TestInputsAreJoinedInOrder(t *testing.T) {
	file := filepath.Join(t.TempDir(), "log")
	require.NoError(t, os.WriteFile(file, []byte("from 9.9.9.9 port 22\nnothing\n45.148.10.240\n"), 0o600))
	r := ok(t, "8.8.4.4", "-f", file, "45.148.10.240", "-json", "2a10:1fc0:6::2")
	require.Equal(t, []string{"45.148.10.240", "2a10:1fc0:6::2", "9.9.9.9"}, addressesIn(r))
	require.Contains(t, r.stderr, "skipped 1 line without one")

	r = ok(t, "9.9.9.9 8.8.4.4\n9.9.9.9\n", "-json")
	require.Equal(t, []string{"9.9.9.9", "8.8.4.4"}, addressesIn(r))
}

var jsonAddress = regexp.MustCompile(`"attacker_ip":"([^"]*)"`)

// addressesIn returns the addresses in JSON output.
func addressesIn(r result) (addrs []string) {
	for _, match := range jsonAddress.FindAllStringSubmatch(r.stdout, -1) {
		addrs = append(addrs, match[1])
	}
	return addrs
}

func TestSecondRunReusesWhatIsFresh(t *testing.T) {
	server := imitate(t)
	db := filepath.Join(t.TempDir(), "odd name?#%.db")
	text := strings.Join(sample, "\n")

	first := ok(t, text, "-live", "-db", db)
	require.NotZero(t, calls(server))
	require.Contains(t, first.stderr, "Reused from "+db+": 0 addresses.")
	require.FileExists(t, db)

	server.ResetCalls()
	second := ok(t, text, "-live", "-db", db)
	require.Equal(t, first.stdout, second.stdout)
	require.Zero(t, calls(server))
	require.Contains(t, second.stderr, "Reused from "+db+": 9 addresses.", "all but the private one")
	require.Contains(t, second.stderr, "Lookups made: 0.")

	third := ok(t, text+"\n9.9.9.9", "-live", "-db", db)
	require.Contains(t, third.stderr, "Reused from "+db+": 9 addresses.")
	require.Equal(t, 1, server.Calls(upstream.AbuseIPDB), "only the new one is asked about")
	require.Equal(t, first.lines(), third.lines()[:len(first.lines())])
}

func TestMadeUpAndRealAnswersAreKeptApart(t *testing.T) {
	imitate(t)
	dir := t.TempDir()
	fake, live := filepath.Join(dir, "fake.db"), filepath.Join(dir, "live.db")
	ok(t, "", "-db", fake, "9.9.9.9")
	ok(t, "", "-db", live, "-live", "9.9.9.9")

	r := runText(t.Context(), "", "-db", fake, "-live", "9.9.9.9")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "made up")
	r = runText(t.Context(), "", "-db", live, "9.9.9.9")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "real data")

	ok(t, "", "-db", fake, "9.9.9.9")
	ok(t, "", "-db", live, "-live", "9.9.9.9")
}

func TestLiveWithoutKeys(t *testing.T) {
	server := imitate(t)
	t.Setenv("DECNET_GREYNOISE_API_KEY", "")
	t.Setenv("DECNET_ABUSEIPDB_API_KEY", "")
	t.Setenv("DECNET_THREATFOX_API_KEY", " ")
	r := ok(t, "", "-live", "77.90.185.20")
	for _, want := range []string{"Leaving out abuseipdb", "DECNET_ABUSEIPDB_API_KEY", "Leaving out threatfox", "DECNET_THREATFOX_API_KEY", "greynoise without a key"} {
		require.Contains(t, r.stderr, want)
	}
	require.NotContains(t, r.stderr, "MADE UP")
	require.Equal(t, []string{"77.90.185.20", "malicious", "malicious", "not", "asked", "no", "opinion", "not", "asked", "greynoise"},
		strings.Fields(r.lines()[1]))
	require.Zero(t, server.Calls(upstream.AbuseIPDB)+server.Calls(upstream.ThreatFox))
	require.Equal(t, 1, server.Calls(upstream.GreyNoise))
}

func TestPrivateAddressesStayHere(t *testing.T) {
	server := imitate(t)
	r := ok(t, "", "-live", "192.168.1.5", "fe80::1%eth0", "203.0.113.9")
	require.Len(t, r.lines(), 1+3)
	for _, line := range r.lines()[1:] {
		require.Equal(t, 5, strings.Count(line, notAsked), line)
	}
	require.Zero(t, server.Calls(upstream.GreyNoise)+server.Calls(upstream.AbuseIPDB)+server.Calls(upstream.ThreatFox))
}

// From a log only the attackers are taken, and what is left out is said.
func TestOnlyAttackersAreTaken(t *testing.T) {
	log := `{"eventid":"cowrie.direct-tcpip.request","src_ip":"45.148.10.240","dst_ip":"8.8.8.8","sensor":"5.9.1.2"}
{"eventid":"cowrie.session.connect","src_ip":"5.9.1.7","dst_ip":"5.9.1.2"}
{"eventid":"cowrie.session.connect","src_ip":"192.168.1.5","dst_ip":"5.9.1.2"}
Nov 28 08:09:10 bait sshd[1]: Failed password for root from 77.90.185.20 port 4711 ssh2
10.0.0.0/8
`
	file := filepath.Join(t.TempDir(), "own")
	require.NoError(t, os.WriteFile(file, []byte("5.9.1.0/24 # office\n"), 0o600))
	for _, own := range []string{"5.9.1.0/24", file, "192.0.2.0/24,5.9.1.0/24"} {
		r := ok(t, log, "-json", "-own", own)
		require.Equal(t, []string{"45.148.10.240", "77.90.185.20"}, addressesIn(r))
		require.Contains(t, r.stderr, `guarded addresses (private, special or your own): 2 (first in line 2: "5.9.1.7")`)
		require.Contains(t, r.stderr, `networks: 1 (first in line 5: "10.0.0.0/8")`)
	}

	r := runText(t.Context(), "10.0.0.0/8\n10.1.1.1\n")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "no address was taken from standard input; left out: networks: 1")
	r = runText(t.Context(), "\xd4\xc3\xb2\xa1\x02\x00\x04\x00")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "the input is pcap, not text")

	server := imitate(t)
	r = ok(t, "", "-live", "-own", "45.148.0.0/16", "45.148.10.240")
	require.Equal(t, 5, strings.Count(r.lines()[1], notAsked))
	require.Zero(t, calls(server)-server.Calls(upstream.Feodo))

	for own, want := range map[string]string{"nowhere": "-own: open nowhere", "1.2.3.4/33": "-own: ", "": "-own names no file"} {
		r := runText(t.Context(), "", "-own="+own)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, want)
	}
}

func TestProvidersThatFail(t *testing.T) {
	server := imitate(t)
	server.Fail(upstream.GreyNoise, upstream.ServerError)
	server.Fail(upstream.Feodo, upstream.HTML)
	r := ok(t, "", "-live", "77.90.185.20")
	fields := regexp.MustCompile(`\s{2,}`).Split(r.lines()[1], -1)
	require.Equal(t, []string{"77.90.185.20", "malicious", notAnswered, "malicious", notAnswered, noOpinion,
		"abuseipdb (score 91), feodo failed: bad response, greynoise failed: unavailable"}, fields)
	require.Contains(t, r.stderr, "level=WARN")
	for _, secret := range []string{"key-of-", upstream.Canary} {
		require.NotContains(t, r.stdout+r.stderr, secret)
	}

	server.Fail(upstream.AbuseIPDB, upstream.Unauthorized)
	server.Fail(upstream.ThreatFox, upstream.Reset)
	r = runText(t.Context(), "", "-live", "77.90.185.20")
	require.Equal(t, exitFailed, r.code)
	require.Equal(t, 5, strings.Count(r.lines()[1], notAnswered))
	require.Contains(t, r.stderr, "no provider answered")
}

// A provider that cannot take all lookups at once gets to all of them.
func TestSlowProviderAnswersAll(t *testing.T) {
	server := imitate(t)
	server.Delay(upstream.GreyNoise, 300*time.Millisecond)
	r := ok(t, manyAddresses(300), "-live")
	require.Len(t, r.lines(), 1+300)
	require.NotContains(t, r.stdout, pending)
	require.NotContains(t, r.stdout, notAnswered)
	require.Equal(t, 300, server.Calls(upstream.GreyNoise))
}

func TestManyAddresses(t *testing.T) {
	r := ok(t, "# a list\n"+manyAddresses(1200))
	require.Len(t, r.lines(), 1+1200)
	require.NotContains(t, r.stdout, pending)
	require.Contains(t, r.stderr, "Read 1,200 addresses")
	require.Equal(t, strings.Fields(manyAddresses(1200)), firstFields(r.lines()[1:]))
}

func firstFields(lines []string) (fields []string) {
	for _, line := range lines {
		fields = append(fields, strings.Fields(line)[0])
	}
	return fields
}

func TestCtrlC(t *testing.T) {
	server := imitate(t)
	ctx, ctrlC := context.WithCancel(t.Context())
	defer ctrlC()
	server.Delay(upstream.GreyNoise, 50*time.Millisecond)
	gate := httptest.NewServer(cancelAfter(server, 100, ctrlC))
	defer gate.Close()
	pointAt(t, gate.URL)
	db := filepath.Join(t.TempDir(), "x.db")

	cut := runText(ctx, manyAddresses(400), "-live", "-db", db)
	require.Equal(t, exitFailed, cut.code)
	require.Contains(t, cut.stderr, "interrupted; what was learnt is in "+db)
	require.Contains(t, cut.stderr, "Still to be asked: ")
	require.Len(t, cut.lines(), 1+400)
	done := 0
	for _, line := range cut.lines()[1:] {
		if !strings.Contains(line, pending) {
			done++
		}
	}
	require.NotZero(t, done)
	require.Less(t, done, 400)

	rest := ok(t, manyAddresses(400), "-live", "-db", db)
	require.NotContains(t, rest.stdout, pending)
	require.Equal(t, 400, server.Calls(upstream.AbuseIPDB), "nothing is asked twice")
	require.Equal(t, 400, server.Calls(upstream.ThreatFox), "nothing is asked twice")
}

// What a run that was killed had in its hands is left alone for a while.
func TestAnotherRunHasAnAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	ok(t, "9.9.9.9", "-db", path)

	db, err := openDatabase(t.Context(), options{db: path})
	require.NoError(t, err)
	addr := netip.MustParseAddr("8.8.4.4")
	require.NoError(t, db.Observe(t.Context(), store.Attacker{ID: store.AttackerID(addr), IP: addr.String()}))
	claimed, err := db.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "killed", Lease: time.Hour, Limit: 1})
	require.NoError(t, err)
	require.Len(t, claimed.Records, 1)
	require.NoError(t, db.close())

	r := runText(t.Context(), "9.9.9.9 8.8.4.4", "-db", path)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "another run has some of the addresses")
	require.NotContains(t, r.lines()[1], pending)
	require.Equal(t, 5, strings.Count(r.lines()[2], pending))
}

func TestCtrlCWhileReading(t *testing.T) {
	ctx, ctrlC := context.WithCancel(t.Context())
	defer ctrlC()
	r, w := io.Pipe()
	defer w.Close()
	go func() {
		_, _ = w.Write([]byte("1.2.3.4\n")) // returns once it is read
		ctrlC()
	}()
	var out, errOut bytes.Buffer
	require.Equal(t, exitFailed, run(ctx, nil, r, &out, &errOut))
	require.Empty(t, out.String())
	require.Contains(t, errOut.String(), "canceled")
}
