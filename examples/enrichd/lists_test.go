package main

import (
	"database/sql"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/lists"
	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// listFiles writes small lists and returns the variables that name them.
func listFiles(t *testing.T) map[string]string {
	t.Helper()
	dir := t.TempDir()
	env := map[string]string{}
	for variable, text := range map[string]string{
		"DECNET_LIST_SCANNERS_URL": "list,network\ncensys-scanning,162.142.125.0/24\n",
		"DECNET_LIST_DROP_V4_URL":  `{"cidr":"1.10.16.0/20","sblid":"SBL256894","rir":"apnic"}` + "\n" + `{"type":"metadata","size":58,"records":1}` + "\n",
		"DECNET_LIST_DROP_V6_URL":  `{"cidr":"2a0e:9bc0::/32","sblid":"SBL1"}` + "\n" + `{"type":"metadata","size":41,"records":1}` + "\n",
		"DECNET_LIST_TOR_URL":      "185.241.208.232\n",
		"DECNET_LIST_IPSUM_URL":    "77.90.185.20\t10\n",
	} {
		path := filepath.Join(dir, variable)
		require.NoError(t, os.WriteFile(path, []byte(text), 0o600))
		env[variable] = path
	}
	return env
}

func TestUnknownList(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		says string
	}{
		{nil, []string{"-lists", "ipsum,greensnow"}, `-lists names "greensnow", which is not known; known are default, scanners, drop_v4`},
		{nil, []string{"-lists", "defaults"}, `-lists names "defaults", which is not known`},
		{map[string]string{"DECNET_INTEL_LISTS": "x"}, nil, `DECNET_INTEL_LISTS names "x", which is not known`},
		{nil, []string{"-allow", "ipsum=x.txt"}, "ipsum is the name of another source"},
		{nil, []string{"-allow", "own=x.txt", "-deny", "own=y.txt"}, "own is the name of an allow list and of a deny list"},
		{nil, []string{"-allow", ""}, "it names no file or URL"},
		{nil, []string{"-lists", "blacklist_abuseipdb"}, "DECNET_ABUSEIPDB_API_KEY"},
		{nil, []string{"-state", "/proc"}, "-state: "}, // where nobody can write
	} {
		r := runWith(t, c.env, append(c.args, "-once")...)
		require.Equal(t, exitUsage, r.code, c.says)
		require.Contains(t, r.stderr, c.says)
	}
}

func TestCheckShowsLists(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret)})
	env := maps.Clone(s.env)
	maps.Copy(env, listFiles(t))
	env["DECNET_LIST_IPSUM_URL"] = filepath.Join(t.TempDir(), "absent")
	rows := table(t, runWith(t, env, "-check", "-lists", "default").stdout)
	require.Equal(t, "ok", rows["scanners"][0])
	require.Contains(t, rows["scanners"][1], ": 1 networks, current at ")
	require.Contains(t, rows["drop_v4"][1], "Spamhaus")
	require.Equal(t, "FAILED", rows["ipsum"][0])
	require.Equal(t, "off", rows["cins"][0])
	require.Contains(t, rows["cins"][1], "enable it by name: its publisher grants no formal licence")
	rows = table(t, runWith(t, env, "-check", "-lists", "").stdout)
	require.Equal(t, "off", rows["scanners"][0])
}

// Names may be written in any case, and repeated.
func TestListNames(t *testing.T) {
	o, err := parseFlags([]string{"-lists", "Tor, DEFAULT,,blocklist_de,tor"})
	require.NoError(t, err)
	c, err := readConfig(o, setting(map[string]string{"DECNET_DB_URL": "sqlite:///x.db"}))
	require.NoError(t, err)
	require.Equal(t, []string{"tor", "scanners", "drop_v4", "drop_v6", "ipsum", "blocklist_de"}, listNames(c.lists.inUse(true)))
}

// TestKeptLists: a check and a command show the list that the daemon downloaded, and
// download and write nothing.
func TestKeptLists(t *testing.T) {
	s, _, _, _ := newTool(t)
	downloads := 0
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		downloads++
		_, _ = w.Write([]byte("185.241.208.232\n185.241.208.233\n"))
	}))
	defer publisher.Close()
	dir := filepath.Join(t.TempDir(), "state")
	s.env["DECNET_LIST_TOR_URL"] = publisher.URL + "/tor.txt"
	check := func() string {
		return table(t, runWith(t, s.env, "-check", "-listen", "", "-lists", "tor", "-state", dir).stdout)["tor"][1]
	}
	require.Contains(t, check(), "not downloaded by this check")
	require.NoDirExists(t, dir)

	require.NoError(t, os.Mkdir(dir, 0o700))
	p, err := lists.New("tor", lists.Options{Places: []string{s.env["DECNET_LIST_TOR_URL"]}, Dir: dir})
	require.NoError(t, err)
	require.NoError(t, p.(provider.Refresher).Refresh(t.Context()))
	require.NoError(t, os.Chtimes(filepath.Join(dir, "tor.next"), time.Unix(0, 0), time.Unix(0, 0)))
	require.Regexp(t, `: 2 networks, current at 20\S+Z; kept from before the start, not checked since;`, check())
	r := s.tool(t, "lists", "-lists", "tor", "-state", dir)
	require.Equal(t, exitOK, r.code, r.stderr)
	require.Regexp(t, `(?m)^tor +on; kept from before the start, not checked since +2 +20\S+Z `, r.stdout)
	require.Equal(t, 1, downloads)
	info, err := os.Stat(filepath.Join(dir, "tor.next"))
	require.NoError(t, err)
	require.True(t, info.ModTime().Equal(time.Unix(0, 0)), "it is not written")
}

// Lists decide in a database of one's own, and a new version of one is applied to
// the attackers that it affects.
func TestListsDecide(t *testing.T) {
	s := newSite(t, upstream.Options{})
	maps.Copy(s.env, listFiles(t))
	own := filepath.Join(filepath.Dir(s.file), "deny.txt")
	require.NoError(t, os.WriteFile(own, []byte("10.0.0.0/8\n"), 0o600))
	db := filepath.Join(t.TempDir(), "own.db")
	once := func(args ...string) string {
		t.Helper()
		p := s.start(append([]string{"-once", "-create", "-db", db, "-deny", "mine=" + own}, args...)...)
		require.Equal(t, exitOK, p.code(), p.output())
		return p.output()
	}
	once()
	here, err := sql.Open("sqlite", sqlstore.SQLiteDSN(db))
	require.NoError(t, err)
	t.Cleanup(func() { _ = here.Close() })
	for i, ip := range []string{"162.142.125.7", "1.10.16.1", "185.241.208.232", "77.90.185.20", "10.1.1.1"} {
		_, err := here.Exec("INSERT INTO attackers VALUES (?, ?, strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now'), strftime('%Y-%m-%d %H:%M:%f000', 'now'))",
			"00000000-0000-4000-8000-00000000000"+string(rune('1'+i)), ip)
		require.NoError(t, err)
	}
	verdicts := func() map[string]string {
		t.Helper()
		rows, err := here.Query("SELECT attacker_ip, coalesce(aggregate_verdict, '') FROM attacker_intel")
		require.NoError(t, err)
		defer rows.Close()
		got := map[string]string{}
		for rows.Next() {
			var ip, verdict string
			require.NoError(t, rows.Scan(&ip, &verdict))
			got[ip] = verdict
		}
		require.NoError(t, rows.Err())
		return got
	}
	once()
	got := verdicts()
	require.Equal(t, "benign", got["162.142.125.7"])
	require.Equal(t, "malicious", got["1.10.16.1"])
	require.Equal(t, "malicious", got["10.1.1.1"])
	require.Contains(t, []string{"suspicious", "malicious"}, got["77.90.185.20"])

	require.NoError(t, os.WriteFile(own, []byte("10.0.0.0/8\n162.142.125.7\n"), 0o600))
	once()
	require.Equal(t, "malicious", verdicts()["162.142.125.7"])

	// A list that is wrong is refused as a whole: the old one stays.
	require.NoError(t, os.WriteFile(own, []byte("0.0.0.0/0\n"), 0o600))
	require.Contains(t, once(), "mine")
	require.Equal(t, "malicious", verdicts()["162.142.125.7"])
}

// Lists that are downloaded and kept nowhere are downloaded at each start.
func TestForgottenLists(t *testing.T) {
	for _, c := range []struct {
		env     map[string]string
		args    []string
		forgets bool
	}{
		{map[string]string{"DECNET_DB_URL": "postgres://u:p@h/n"}, nil, true},
		{map[string]string{"DECNET_DB_URL": "postgres://u:p@h/n", "STATE_DIRECTORY": "/var/lib/x"}, nil, false},
		{map[string]string{"DECNET_DB_URL": "postgres://u:p@h/n"}, []string{"-state", t.TempDir()}, false},
		{map[string]string{"DECNET_DB_URL": "sqlite:///x.db"}, nil, false},
		{map[string]string{"DECNET_DB_URL": "postgres://u:p@h/n", "DECNET_INTEL_LISTS": "tor", "DECNET_LIST_TOR_URL": "/tmp/x"}, nil, false},
		{map[string]string{"DECNET_DB_URL": "postgres://u:p@h/n", "DECNET_INTEL_LISTS": ""}, nil, false},
	} {
		o, err := parseFlags(c.args)
		require.NoError(t, err)
		got, err := readConfig(o, setting(c.env))
		require.NoError(t, err)
		require.Equal(t, c.forgets, got.lists.forgets(got.lists.inUse(false)), c)
	}
}

// TestRestartsDownloadNothing: restarts within the interval of a list use what is kept.
func TestRestartsDownloadNothing(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.profile(uuid.New(), notorious(s.up, 1))
	for range 5 {
		p := s.start("-once")
		require.Equal(t, exitOK, p.code(), p.output())
	}
	require.Equal(t, 1, s.up.Calls(upstream.Feodo))
	require.Equal(t, []string{"1"}, s.column("SELECT count(*) FROM attacker_intel WHERE feodo_queried_at IS NOT NULL"))
}

// TestAListThatIsOnAgain reaches also the attackers that were decided on while it was off.
func TestAListThatIsOnAgain(t *testing.T) {
	publisher := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte("45.0.0.1\n45.0.0.2\n"))
	}))
	t.Cleanup(publisher.Close)
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.env["DECNET_INTEL_PROVIDERS"] = "feodo"
	s.env["DECNET_LIST_CINS_URL"] = publisher.URL
	listed := func() []string {
		return s.column("SELECT attacker_ip FROM attacker_intel WHERE aggregate_verdict IS NOT NULL ORDER BY attacker_ip")
	}
	for i, step := range []struct {
		ip, lists string
		listed    []string
	}{
		{"45.0.0.1", "cins", []string{"45.0.0.1"}},
		{"45.0.0.2", "", []string{"45.0.0.1"}},
		{"45.0.0.3", "cins", []string{"45.0.0.1", "45.0.0.2"}},
	} {
		s.profile(uuid.New(), step.ip)
		p := s.start("-once", "-lists", step.lists)
		require.Equal(t, exitOK, p.code(), p.output())
		require.Equal(t, step.listed, listed(), "run %d: %s", i, p.output())
	}
	require.Equal(t, exitOK, s.tool(t, "rescore").code) // without the daemon's lists
	require.NoFileExists(t, filepath.Join(filepath.Dir(s.file), "cins.unused"))
}

// TestTheFileOfAnOwnListIsNotWritten: by default, lists are kept beside the database.
func TestTheFileOfAnOwnListIsNotWritten(t *testing.T) {
	s := newSite(t, upstream.Options{})
	own := filepath.Join(filepath.Dir(s.file), "deny.list")
	require.NoError(t, os.WriteFile(own, []byte("45.0.0.1\n"), 0o600))
	p := s.start("-once", "-deny", own)
	require.Equal(t, exitUsage, p.code(), p.output())
	require.Contains(t, p.output(), "rename it")
	text, err := os.ReadFile(own)
	require.NoError(t, err)
	require.Equal(t, "45.0.0.1\n", string(text))
}
