package main

import (
	"database/sql"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// installed makes an install directory of DECNET with the given files in it.
func installed(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}

// TestPrecedenceOfDatabases: -db; a server that DECNET_DB_TYPE names; the file in
// DECNET's install directory; DECNET_DB_URL; enrich.db. The ini file ranks below
// the environment.
func TestPrecedenceOfDatabases(t *testing.T) {
	dir, other := installed(t, nil), installed(t, nil)
	ini := filepath.Join(installed(t, map[string]string{"decnet.ini": "[database]\ntype = mysql\nhost = inihost\nname = intel\npassword = " + secret + "\n"}), "decnet.ini")
	const mysqlURL, sqliteURL = "mysql+asyncmy://u:" + secret + "@urlhost/decnet", "sqlite:///var/lib/x.db"
	const atURL, atParts, inINI = "MySQL decnet on urlhost:3306", "MySQL decnet on parthost:3306", "MySQL intel on inihost:3306"
	file, otherFile := "SQLite "+filepath.Join(dir, "decnet.db"), "SQLite "+filepath.Join(other, "decnet.db")
	type env = map[string]string
	for name, c := range map[string]struct {
		db, decnet string
		byDefault  bool // dir is the default install directory
		env        env
		want       string
		mustExist  bool
		warning    string
	}{
		"-db, a file":                      {db: "x/../y.db", byDefault: true, env: env{"DECNET_DB_TYPE": "mysql", "DECNET_DB_URL": mysqlURL}, want: "SQLite y.db", mustExist: true},
		"-db, a URL":                       {db: mysqlURL, decnet: other, byDefault: true, env: env{"DECNET_DB_TYPE": "sqlite"}, want: atURL, mustExist: true},
		"server by URL":                    {decnet: other, byDefault: true, env: env{"DECNET_DB_TYPE": "mysql", "DECNET_DB_URL": mysqlURL, "DECNET_DB_HOST": "parthost"}, want: atURL, mustExist: true},
		"server by parts":                  {byDefault: true, env: env{"DECNET_DB_TYPE": "MySQL", "DECNET_DB_HOST": "parthost"}, want: atParts, mustExist: true},
		"DECNET's own example":             {byDefault: true, env: env{"DECNET_DB_TYPE": "sqlite", "DECNET_DB_NAME": "decnet"}, want: file, mustExist: true},
		"SQLite despite the URL":           {byDefault: true, env: env{"DECNET_DB_TYPE": "sqlite", "DECNET_DB_URL": mysqlURL}, want: file, mustExist: true, warning: "DECNET_DB_URL is ignored"},
		"no type, a URL":                   {byDefault: true, env: env{"DECNET_DB_URL": mysqlURL}, want: file, mustExist: true, warning: "DECNET_DB_URL is ignored"},
		"nothing, but DECNET is installed": {byDefault: true, want: file, mustExist: true},
		"-decnet":                          {decnet: other, byDefault: true, want: otherFile, mustExist: true},
		"not installed, a URL":             {env: env{"DECNET_DB_URL": sqliteURL}, want: "SQLite /var/lib/x.db", mustExist: true},
		"not installed, type and name":     {env: env{"DECNET_DB_TYPE": "sqlite", "DECNET_DB_NAME": "decnet"}, want: "SQLite enrich.db", warning: "DECNET_DB_NAME is ignored"},
		"nothing":                          {want: "SQLite enrich.db"},
		"ini":                              {byDefault: true, env: env{"DECNET_CONFIG": ini}, want: inINI, mustExist: true},
		"ini below the environment":        {byDefault: true, env: env{"DECNET_CONFIG": ini, "DECNET_DB_TYPE": "sqlite"}, want: file, mustExist: true},
		"parts from both":                  {env: env{"DECNET_CONFIG": ini, "DECNET_DB_HOST": "parthost", "DECNET_DB_NAME": ""}, want: atParts, mustExist: true},
	} {
		t.Run(name, func(t *testing.T) {
			if c.byDefault {
				was := defaultInstallDir
				defaultInstallDir = dir
				defer func() { defaultInstallDir = was }()
			}
			e := env{"DECNET_INTEL_PROVIDERS": ""}
			maps.Copy(e, c.env)
			got, err := readConfig(options{db: c.db, decnet: c.decnet}, setting(e))
			require.NoError(t, err)
			require.Equal(t, c.want, got.database.String())
			require.Equal(t, c.mustExist, got.database.mustExist)
			warnings := strings.Join(got.warnings[:len(got.warnings)-1], "; ") // the last is about providers
			require.Equal(t, c.warning != "", warnings != "", warnings)
			require.Contains(t, warnings, c.warning)
			require.NotContains(t, warnings, secret)
		})
	}
	r := runWith(t, nil, "-decnet", "/nowhere/decnet", "-once")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "-decnet: stat /nowhere/decnet")
}

// TestFilesOfDECNET: its ini file and the .env files in its install directory are
// read, each below the one before.
func TestFilesOfDECNET(t *testing.T) {
	dir := installed(t, map[string]string{
		".env.local": "export DECNET_BUS_TYPE=memory\nPATH=/nowhere\n",
		".env":       "\uFEFF# what is here\nDECNET_BUS_TYPE=unix\nDECNET_GREYNOISE_API_KEY='gn-key'\nDECNET_BUS_SOCKET=\"/env.sock\" # there\n",
		"decnet.ini": "\uFEFF; ini\n[bus]\ntype: nats\nsocket = /ini.sock\n[other]\ntype = x\n  more\n" +
			"[decnet]\nintel-providers = nonsense\n[master]\nINTEL-PROVIDERS = greynoise,\n\tfeodo\ngreynoise-api-key = other\ndb-type=postgres\n[database]\ntype = mysql\nhost = inihost\n",
	})
	e := map[string]string{"DECNET_CONFIG": filepath.Join(dir, "decnet.ini")}
	c, err := readConfig(options{decnet: dir}, setting(e))
	require.NoError(t, err)
	require.Equal(t, "memory", c.bus.String())
	require.Equal(t, []string{"greynoise", "feodo"}, c.names())
	require.Equal(t, "gn-key", c.sources[0].key)
	require.Equal(t, "PostgreSQL decnet on inihost:5432", c.database.String())

	e["DECNET_BUS_TYPE"] = "unix"
	c, err = readConfig(options{decnet: dir}, setting(e))
	require.NoError(t, err)
	require.Equal(t, "UNIX socket /env.sock", c.bus.String())

	// Set and empty counts, also in a file.
	dir = installed(t, map[string]string{"decnet.ini": "[master]\nintel-providers =\n"})
	c, err = readConfig(options{}, setting(map[string]string{"DECNET_CONFIG": filepath.Join(dir, "decnet.ini")}))
	require.NoError(t, err)
	require.Empty(t, c.sources)
}

func TestBadFilesOfDECNET(t *testing.T) {
	for text, want := range map[string]string{
		"[master]\n" + secret:                "decnet.ini: line 2: it is neither",
		"[" + secret:                         "decnet.ini: line 1: the section has no closing bracket",
		"[bus]\ntype=unix\nTYPE = " + secret: "decnet.ini: line 3: the section has this key already",
		"[bus]\n= " + secret:                 "decnet.ini: line 2: it is neither",
		"# " + strings.Repeat("x", maxConfigFile) + "\n[bus]\n": "decnet.ini: a line is too long",
	} {
		dir := installed(t, map[string]string{"decnet.ini": text})
		r := runWith(t, map[string]string{"DECNET_CONFIG": filepath.Join(dir, "decnet.ini")}, "-once")
		require.Equal(t, exitUsage, r.code, "%.40q", text)
		require.Contains(t, r.stderr, want)
		require.NotContains(t, r.stderr, secret)
	}
	dir := installed(t, map[string]string{".env": secret})
	r := runWith(t, nil, "-decnet", dir, "-once")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, ".env: line 1: it is not of the form NAME=VALUE")
	require.NotContains(t, r.stderr, secret)
}

// FuzzConfigFiles: whatever is in a file, it makes an error that repeats none of
// it, or variables of DECNET.
func FuzzConfigFiles(f *testing.F) {
	f.Add("[master]\nintel-providers = feodo\n  greynoise\n[bus]\ntype: unix")
	f.Add("DECNET_BUS_TYPE='unix'\nexport DECNET_X=\"y # z")
	f.Add("[")
	f.Add("\uFEFF[bus]\n : x")
	f.Fuzz(func(t *testing.T, text string) {
		const marked = "QqXzZqQ"
		text = strings.ReplaceAll(text, "=", "="+marked)
		ini, err := parseINI(strings.NewReader(text))
		if err != nil {
			require.NotContains(t, err.Error(), marked)
		}
		dotenv, err := parseDotenv(strings.NewReader(text))
		if err != nil {
			require.NotContains(t, err.Error(), marked)
		}
		for _, variables := range []map[string]string{ini, dotenv} {
			for name := range variables {
				require.True(t, strings.HasPrefix(name, "DECNET_"), name)
			}
		}
	})
}

// TestDatabaseOfSomebodyElse: a database that is named and is not DECNET's is left
// alone. -check and -once fail; the daemon stays up, is not ready, says so once,
// and begins when DECNET has created its tables.
func TestDatabaseOfSomebodyElse(t *testing.T) {
	s := newSite(t, upstream.Options{Handler: pinged(secret + "greynoise")})
	dir := installed(t, nil)
	file := filepath.Join(dir, "decnet.db")
	delete(s.env, "DECNET_DB_URL")
	s.env["DECNET_DB_TYPE"], s.env["DECNET_DB_NAME"], s.env["DECNET_BUS_ENABLED"] = "sqlite", "decnet", "false"

	const want = "it has no table attackers, so it is not DECNET's; name DECNET's database with -db or -decnet, or create the tables with -create"
	r := runWith(t, s.env, "-check", "-listen", "", "-decnet", dir)
	require.Equal(t, exitFailed, r.code, r.stdout)
	require.Equal(t, [2]string{"FAILED", "SQLite " + file + ": " + want}, table(t, r.stdout)["database"])
	p := s.start("-once", "-decnet", dir)
	require.Equal(t, exitFailed, p.code())
	require.Contains(t, p.output(), want)
	require.NoFileExists(t, file)

	address := freePort(t)
	p = s.start("-decnet", dir, "-poll-interval", "10ms", "-listen", address)
	line := p.until("cannot enrich; looking again at each poll")
	require.Equal(t, want, line["error"])
	status, _ := get(t, "http://"+address+"/readyz")
	require.Equal(t, http.StatusServiceUnavailable, status)
	require.NoFileExists(t, file)

	// DECNET comes up. It creates its tables in one transaction.
	decnet, err := sql.Open("sqlite", sqlstore.SQLiteDSN(file))
	require.NoError(t, err)
	defer decnet.Close()
	eventually(t, "the tables are there", func() bool { // the daemon looks at the file just then
		_, err := decnet.Exec("BEGIN IMMEDIATE;" + decnetSchema + ";COMMIT")
		return err == nil
	})
	now, ip := "2026-11-29 00:00:00.000000", notorious(s.up, 1)
	_, err = decnet.Exec("INSERT INTO attackers (uuid, ip, first_seen, last_seen, event_count, services, updated_at) VALUES (?, ?, ?, ?, 1, '[]', ?)",
		uuid.NewString(), ip, now, now, now)
	require.NoError(t, err)
	eventually(t, "the attacker has a verdict", func() bool {
		var n int
		return decnet.QueryRow("SELECT count(*) FROM attacker_intel WHERE aggregate_verdict = 'malicious'").Scan(&n) == nil && n == 1
	})
	p.signal(syscall.SIGTERM)
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, 1, strings.Count(p.output(), "cannot enrich"), "said once")

	other := installed(t, nil)
	p = s.start("-once", "-decnet", other, "-create")
	require.Equal(t, exitOK, p.code(), p.output())
	require.FileExists(t, filepath.Join(other, "decnet.db"))
}
