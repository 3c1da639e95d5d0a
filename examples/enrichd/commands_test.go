package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/export"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store"
)

// tool runs a command inside the test, in the environment of the site.
func (s *site) tool(t *testing.T, args ...string) result {
	t.Helper()
	r := runWith(t, s.env, args...)
	require.NotContains(t, r.stdout+r.stderr, secret)
	return r
}

// toolJSON runs a command that succeeds with -json and decodes what it prints.
func (s *site) toolJSON(t *testing.T, into any, args ...string) {
	t.Helper()
	r := s.tool(t, append(args, "-json")...)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.NoError(t, json.Unmarshal([]byte(r.stdout), into), r.stdout)
}

// newTool returns a site with three attackers of which enrichd has enriched two.
func newTool(t *testing.T) (s *site, bad, good, private uuid.UUID) {
	s = newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	bad, good, private = uuid.New(), uuid.New(), uuid.New()
	s.profile(private, "10.0.0.1")
	s.profile(good, "198.20.69.74")
	s.profile(bad, notorious(s.up, 1))
	require.Equal(t, exitOK, s.tool(t, "-once").code)
	return s, bad, good, private
}

// TestFindByAddress: an argument names all attackers that have an address, however
// DECNET spelled it.
func TestFindByAddress(t *testing.T) {
	s, bad, _, _ := newTool(t)
	same, six := uuid.New(), uuid.New()
	s.profile(same, "45.9.0.1")
	s.profile(six, "2A02:C207:0::ADD:E55")
	require.Equal(t, exitOK, s.tool(t, "-once").code)
	for arg, want := range map[string][]uuid.UUID{
		"45.9.0.1": {bad, same}, "::ffff:45.9.0.1": {bad, same}, "2a02:c207::add:e55": {six}, six.String(): {six},
	} {
		r := s.tool(t, "explain", "-json", arg)
		require.Equal(t, exitOK, r.code, r.stderr)
		for _, id := range want {
			require.Contains(t, r.stdout, id.String(), arg)
		}
		require.Equal(t, len(want), strings.Count(r.stdout, `"attacker_uuid"`), r.stdout)
	}
	for _, arg := range []string{"45.9.0.2", "2a02:c207::add:e56"} {
		r := s.tool(t, "explain", arg)
		require.Equal(t, exitFailed, r.code)
		require.Contains(t, r.stderr, "there is no attacker with address "+arg)
	}
}

func TestCommandHelp(t *testing.T) {
	for _, c := range commands() {
		require.Regexp(t, `(?m)^  `+c.name+` +`+regexp.QuoteMeta(c.summary)+`$`, usage, "in the help of enrichd")
		r := runWith(t, nil, c.name, "-h")
		require.Equal(t, exitOK, r.code)
		require.Contains(t, r.stdout, "Usage: enrichd "+c.name)
		for line := range strings.Lines(r.stdout) {
			require.LessOrEqual(t, len(line), 81, "does not fit: %s", line)
		}
		r = runWith(t, nil, c.name, "-nonsense")
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, "enrichd "+c.name+": flag provided but not defined: -nonsense")
		r = runWith(t, nil, c.name, "-once")
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, "does not take -once, a flag of the daemon")
	}
	r := runWith(t, nil, "-db", "x.db", "list")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "the command comes first, and then its flags: enrichd list")
	r = runWith(t, nil, "nonsense")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, `unexpected argument "nonsense"; the commands are list, `)
}

// TestCommandNoDatabase: a command makes no database, and says which is missing or
// not ready.
func TestCommandNoDatabase(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	for _, args := range []string{"list", "enrich " + uuid.NewString(), "rescore", "quota", "quota reset feodo"} {
		args := strings.Fields(args)
		r := s.tool(t, append(args, "-db", s.file+".nothing")...)
		require.Equal(t, exitFailed, r.code, args)
		require.Contains(t, r.stderr, "there is no database "+s.file+".nothing; name it with -db")
		require.NoFileExists(t, s.file+".nothing")
	}
	r := s.tool(t, "list")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "was not prepared by this version of enrichd yet")
	require.NotContains(t, s.column("SELECT name FROM sqlite_master"), "enrich_ledger")
}

func TestList(t *testing.T) {
	s, bad, good, private := newTool(t)
	r := s.tool(t, "list")
	require.Equal(t, exitOK, r.code, r.stderr)
	lines := strings.Split(strings.TrimSpace(r.stdout), "\n")
	require.Len(t, lines, 4)
	require.Regexp(t, `^45\.9\.0\.1 +malicious +\S+Z +\S+Z +`+bad.String()+`$`, lines[1])
	require.Regexp(t, `^10\.0\.0\.1 +- +\S+Z +- +`+private.String()+`$`, lines[3])

	for args, want := range map[string][]uuid.UUID{
		"list":                    {bad, good, private},
		"list -limit 2":           {bad, good},
		"list -verdict malicious": {bad},
		"list -verdict malicious,suspicious,benign,unknown,none": {bad, good},
		"list -enriched -text 198.20":                            {good},
		"list -text " + private.String()[:8]:                     {private},
		"list -since 1h":                                         {bad, good, private},
	} {
		var got []listedRecord
		s.toolJSON(t, &got, strings.Fields(args)...)
		ids := []uuid.UUID{}
		for _, l := range got {
			ids = append(ids, uuid.MustParse(l.UUID))
		}
		require.Equal(t, want, ids, args)
	}
	r = s.tool(t, "list", "-json", "-text", "nobody")
	require.Equal(t, "[]\n", r.stdout)
	for args, want := range map[string]string{
		"list x":            `unexpected argument "x"`,
		"list -limit -1":    "-limit is -1",
		"list -verdict bad": "is none of malicious",
		"list -since -1h":   "-since is -1h0m0s",
	} {
		r := s.tool(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
}

// TestListHostile: what others have put into the table cannot control a terminal.
func TestListHostile(t *testing.T) {
	s, _, _, _ := newTool(t)
	s.profile(uuid.New(), "\x1b[31m1.2.3.4\r\n"+strings.Repeat("x", 1000))
	require.Equal(t, exitOK, s.tool(t, "-once").code)
	r := s.tool(t, "list")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.NotContains(t, r.stdout, "\x1b")
	require.NotContains(t, r.stdout, "\r")
}

func TestEnrichCommand(t *testing.T) {
	s, bad, _, private := newTool(t)
	id := uuid.New()
	s.profile(id, notorious(s.up, 2))

	r := s.tool(t, "enrich", id.String())
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Contains(t, r.stdout, "45.9.0.2  "+id.String()+"\nmalicious: ")
	require.Regexp(t, `(?m)^  threatfox +malicious +fresh until \S+Z$`, r.stdout)

	var one enrichedRecord
	s.toolJSON(t, &one, "enrich", "-db", s.file, "45.9.0.2")
	require.Equal(t, id.String(), one.UUID)
	require.Len(t, one.Providers, 4)
	var several []enrichedRecord
	s.toolJSON(t, &several, "enrich", bad.String(), private.String())
	require.Len(t, several, 2)
	require.Equal(t, "not applicable", several[1].Providers[0].State)

	r = s.tool(t, "enrich", uuid.Nil.String())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "there is no attacker 00000000-")
	r = s.tool(t, "enrich", "192.0.2.77", bad.String())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "there is no attacker with address 192.0.2.77")
	require.Contains(t, r.stdout, bad.String(), "the others are enriched")
	for _, args := range [][]string{{"enrich"}, {"enrich", "someone"}} {
		require.Equal(t, exitUsage, s.tool(t, args...).code)
	}
}

// TestEnrichSeveral: beside DECNET an address may be that of several attackers.
func TestEnrichSeveral(t *testing.T) {
	s, bad, _, _ := newTool(t)
	twin := uuid.New()
	s.profile(twin, "45.9.0.1")
	require.Equal(t, exitOK, s.tool(t, "-once").code)
	var both []enrichedRecord
	s.toolJSON(t, &both, "enrich", "::ffff:45.9.0.1")
	require.ElementsMatch(t, []string{bad.String(), twin.String()}, []string{both[0].UUID, both[1].UUID})
}

func TestForceAndReask(t *testing.T) {
	s, bad, _, _ := newTool(t)
	calls := s.up.Calls(upstream.ThreatFox)
	require.Equal(t, exitOK, s.tool(t, "enrich", bad.String()).code)
	require.Equal(t, calls, s.up.Calls(upstream.ThreatFox), "it is fresh")
	require.Equal(t, exitOK, s.tool(t, "enrich", bad.String(), "-force").code)
	require.Equal(t, calls+1, s.up.Calls(upstream.ThreatFox))

	r := s.tool(t, "reask", "threatfox")
	require.Equal(t, result{exitOK, "queried threatfox about 2 attackers again: 2 answers, 0 failures\n", ""}, r)
	require.Equal(t, calls+3, s.up.Calls(upstream.ThreatFox))
	for _, args := range []string{"reask", "reask all", "reask shodan", "reask feodo threatfox"} {
		require.Equal(t, exitUsage, s.tool(t, strings.Fields(args)...).code, args)
	}
}

func TestForgetCommand(t *testing.T) {
	s, bad, _, _ := newTool(t)
	r := s.tool(t, "forget", bad.String())
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "its attackers are DECNET's, so enrichd forgets none of them")
	require.Len(t, s.column("SELECT uuid FROM attackers"), 3)

	own := newOwnSite(t, "45.9.0.1", "45.9.0.2", "45.9.0.3")
	var done map[string]int
	own.toolJSON(t, &done, "forget", "45.9.0.1", store.AttackerID(netip.MustParseAddr("45.9.0.3")).String())
	require.Equal(t, 2, done["forgotten"])
	require.Equal(t, []string{"45.9.0.2"}, own.column("SELECT ip FROM attackers"))
	require.Equal(t, exitFailed, own.tool(t, "forget", "45.9.0.1").code)
	require.Equal(t, exitUsage, own.tool(t, "forget").code)
}

// newOwnSite is a site without DECNET, with the given attackers, which were last
// seen a year ago, and a day later each.
func newOwnSite(t *testing.T, ips ...string) *site {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.file += ".own"
	db, records, err := database{engine: engineFor("sqlite"), path: s.file}.open(nil)
	require.NoError(t, err)
	require.NoError(t, s.db.Close())
	s.db, s.env["DECNET_DB_URL"] = db, "sqlite://"+s.file
	require.NoError(t, records.Migrate(t.Context()))
	for i, ip := range ips {
		addr := netip.MustParseAddr(ip)
		seen := time.Now().AddDate(-1, 0, i)
		require.NoError(t, records.Observe(t.Context(), store.Attacker{ID: store.AttackerID(addr), IP: ip, LastSeen: seen}))
	}
	return s
}

// TestForgetByAge: attackers that were not seen for long are forgotten, but not
// DECNET's.
func TestForgetByAge(t *testing.T) {
	for _, once := range []bool{true, false} {
		own := newOwnSite(t, "45.9.0.1", "45.9.0.2", "45.9.0.3")
		require.Equal(t, exitOK, own.tool(t, "-once").code)
		_, err := own.db.Exec("UPDATE attackers SET last_seen = ? WHERE ip = '45.9.0.2'", sqlalchemy(time.Now()))
		require.NoError(t, err)
		_, err = own.db.Exec("UPDATE enrich_ledger SET last_seen = ? WHERE ip = '45.9.0.2'", time.Now().UnixMicro())
		require.NoError(t, err)
		args := []string{"-forget", "180d"}
		if once {
			args = append(args, "-once")
		}
		p := own.start(args...)
		require.EqualValues(t, 2, p.until("forgot attackers")["attackers"])
		if !once {
			p.signal(syscall.SIGTERM)
		}
		require.Equal(t, exitOK, p.code(), p.output())
		require.Equal(t, []string{"45.9.0.2"}, own.column("SELECT ip FROM attackers"))
	}
	s, _, _, _ := newTool(t)
	p := s.start("-forget", "180d")
	p.until("-forget has no effect")
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code())
	require.Equal(t, exitFailed, s.tool(t, "-once", "-forget", "24h").code)
	for args, want := range map[string]string{
		"-forget 1h": "-forget is 1h0m0s; it must be 0, for never, or 24h0m0s or more", "-forget x": "neither a number of days", "-forget -5d": "neither a number of days",
	} {
		r := s.tool(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
}

func TestRescoreCommand(t *testing.T) {
	s, _, _, _ := newTool(t)
	r := s.tool(t, "rescore")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, "2 attackers, 0 decisions changed, 0 verdicts among them; 0 were busy, 0 failed\n", r.stdout)
	var done map[string]int
	s.toolJSON(t, &done, "rescore", "-policy", "weighted")
	require.Equal(t, 2, done["changed"])
	require.Equal(t, exitUsage, s.tool(t, "rescore", "x").code)
}

func TestQuotaCommand(t *testing.T) {
	s, _, _, _ := newTool(t)
	s.env["DECNET_GREYNOISE_QUOTA"] = "25/week"
	s.profile(uuid.New(), notorious(s.up, 3))
	s.profile(uuid.New(), notorious(s.up, 4))
	require.Equal(t, exitOK, s.tool(t, "-once").code)

	left := func() int {
		var all []providerQuotas
		s.toolJSON(t, &all, "quota")
		require.Len(t, all, 4)
		require.Equal(t, "greynoise", all[2].Name)
		require.Equal(t, 25, all[2].Quotas[0].Limit)
		require.Empty(t, all[0].Quotas)
		return all[2].Quotas[0].Remaining
	}
	require.Equal(t, 23, left())
	r := s.tool(t, "quota")
	require.Regexp(t, `(?m)^greynoise +25 in 168h +23 +`+fmt.Sprint(time.Now().Year())[:2], r.stdout)
	require.Regexp(t, `(?m)^abuseipdb +none +- `, r.stdout)

	r = s.tool(t, "quota", "reset", "greynoise")
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Equal(t, 25, left())
	require.Equal(t, exitOK, s.tool(t, "quota", "reset", "all").code)
	for args, want := range map[string]string{
		"quota x":            `unexpected argument "x"; reset is the only one`,
		"quota reset":        "name the providers, or all",
		"quota reset shodan": `there is no provider "shodan"; configured are greynoise, abuseipdb, feodo, threatfox`,
	} {
		r := s.tool(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
}

func TestExportCommand(t *testing.T) {
	s, bad, _, _ := newTool(t)
	s.profile(uuid.New(), notorious(s.up, 3))
	require.Equal(t, exitOK, s.tool(t, "-once").code)
	r := s.tool(t, "export")
	require.Equal(t, result{exitOK, "45.9.0.1\n45.9.0.3\n", "exported 2 addresses of 2 attackers\n"}, r)
	for _, format := range export.Formats() {
		r := s.tool(t, "export", "-format", string(format), "-publish")
		require.Equal(t, exitOK, r.code, r.stderr)
		require.Contains(t, r.stdout, "45.9.0.1", "ThreatFox may be republished")
		require.NotContains(t, r.stdout, "abuseipdb")
	}
	file, own := filepath.Join(t.TempDir(), "list"), filepath.Join(t.TempDir(), "own")
	require.NoError(t, os.WriteFile(own, []byte("45.9.0.3\n"), 0o600))
	var report export.Report
	s.toolJSON(t, &report, "export", "-o", file, "-format", "jsonl", "-own", own, "-max-age", "1h", "-min-sources", "2", "-max-share", "0.0000001%")
	require.Equal(t, export.Report{Attackers: 2, Exported: 1, Own: 1}, report)
	text, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Contains(t, string(text), bad.String())

	r = s.tool(t, "export", "-o", file, "-max-share", "0.00000003%")
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "too great a share of the internet")
	after, err := os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, text, after, "the old list stays")

	everything := filepath.Join(t.TempDir(), "own")
	require.NoError(t, os.WriteFile(everything, []byte("45.0.0.0/8\n"), 0o600))
	r = s.tool(t, "export", "-o", file, "-format", "jsonl", "-own", everything)
	require.Equal(t, exitFailed, r.code)
	require.Contains(t, r.stderr, "the new list is empty; "+file+" stays as it is; exported 0 addresses of 2 attackers; left out 2 in own networks; -allow-empty")
	after, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Equal(t, text, after, "nobody is unblocked by mistake")
	require.Equal(t, exitOK, s.tool(t, "export", "-o", file, "-format", "jsonl", "-own", everything, "-allow-empty").code)
	after, err = os.ReadFile(file)
	require.NoError(t, err)
	require.Empty(t, after)
	for args, want := range map[string]string{
		"export x":                 `unexpected argument "x"`,
		"export -format xml":       "-format: \"xml\" is no format",
		"export -json":             "use -format jsonl",
		"export -verdict benign":   "only malicious and suspicious attackers can be blocked",
		"export -min-score 2":      "MinScore is 2",
		"export -max-share 200%":   `"200%" is no share`,
		"-export-verdict unknown":  "only malicious and suspicious attackers can be blocked",
		"-export-listen 0.0.0.0:1": "-export-listen: httpapi: refusing to listen",
	} {
		r := s.tool(t, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code, args)
		require.Contains(t, r.stderr, want)
	}
}

// TestExportListen: the daemon serves the lists where it is told to, and nothing
// else there.
func TestExportListen(t *testing.T) {
	s, _, _, _ := newTool(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	p := s.start("-export-listen", addr, "-export-min-sources", "2")
	p.until("enriching")
	get := func(path, etag string) (int, string, string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+path, nil)
		require.NoError(t, err)
		r.Header.Set("If-None-Match", etag)
		answer, err := http.DefaultClient.Do(r)
		require.NoError(t, err)
		defer answer.Body.Close()
		body, err := io.ReadAll(answer.Body)
		require.NoError(t, err)
		return answer.StatusCode, string(body), answer.Header.Get("ETag")
	}
	defer http.DefaultClient.CloseIdleConnections()
	code, body, etag := get("/plain", "")
	require.Equal(t, 200, code)
	require.Equal(t, "45.9.0.1\n", body)
	code, _, _ = get("/plain", etag)
	require.Equal(t, 304, code)
	code, _, _ = get("/api/v1/intel/status", "")
	require.Equal(t, 404, code)
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code())
}

func TestListsCommand(t *testing.T) {
	s, _, _, _ := newTool(t)
	dir := t.TempDir()
	deny, broken := filepath.Join(dir, "deny.txt"), filepath.Join(dir, "broken.txt")
	require.NoError(t, os.WriteFile(deny, []byte("45.1.0.0/16\n45.2.0.1\n"), 0o600))
	require.NoError(t, os.WriteFile(broken, []byte("<html>"), 0o600))
	var all []listRow
	s.toolJSON(t, &all, "lists", "-lists", "tor", "-deny", deny, "-allow", "mine="+broken)
	rows := make(map[string]listRow, len(all))
	for _, r := range all {
		rows[r.Name] = r
	}
	require.Len(t, rows, 13)
	require.True(t, rows["tor"].On)
	require.False(t, rows["tor"].Loaded, "nothing is downloaded")
	require.False(t, rows["ipsum"].On)
	require.True(t, rows["ipsum"].Default)
	require.NotEmpty(t, rows["cins"].Off)
	require.Equal(t, 2, rows["deny"].Rows)
	require.NotEmpty(t, rows["mine"].Error)

	r := s.tool(t, "lists", "-lists", "tor", "-deny", deny)
	require.Equal(t, exitOK, r.code)
	require.Regexp(t, `(?m)^tor +on; not loaded yet +- `, r.stdout)
	require.Regexp(t, `(?m)^deny +on +2 `, r.stdout)
	require.Equal(t, exitUsage, s.tool(t, "lists", "tor").code)
}

// With DECNET_GREYNOISE_BATCH, attackers share calls; a key that is not entitled is
// used for single lookups, and nobody is lost.
func TestGreyNoiseBatches(t *testing.T) {
	for _, community := range []bool{false, true} {
		s := newSite(t, upstream.Options{Community: community})
		s.env["DECNET_BUS_ENABLED"], s.env["DECNET_GREYNOISE_BATCH"], s.env["DECNET_GREYNOISE_QUOTA"] = "false", "true", "25/week"
		const n = 20
		for i := range n {
			s.profile(uuid.New(), notorious(s.up, i))
		}
		r := s.tool(t, "-once")
		require.Equal(t, exitOK, r.code, r.stderr)
		malicious := s.column("SELECT greynoise_classification FROM attacker_intel WHERE greynoise_classification = 'malicious'")
		if community {
			require.Equal(t, n+1, s.up.Calls(upstream.GreyNoise))
		} else {
			require.LessOrEqual(t, s.up.Calls(upstream.GreyNoise), 2)
		}
		require.Len(t, malicious, n)
	}
}
