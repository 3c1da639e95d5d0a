package main

import (
	"bytes"
	"context"
	"database/sql"
	"maps"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

// result is what a run of the program inside the test leaves behind.
type result struct {
	code           int
	stdout, stderr string
}

func runWith(t *testing.T, env map[string]string, args ...string) result {
	t.Helper()
	var stdout, stderr bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), wait)
	defer cancel()
	code := run(ctx, args, setting(env), &stdout, &stderr)
	return result{code, stdout.String(), stderr.String()}
}

// setting returns a function that looks up variables in env, and nowhere else.
func setting(env map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, set := env[name]
		return value, set
	}
}

func TestHelp(t *testing.T) {
	r := runWith(t, nil, "-h")
	require.Equal(t, result{exitOK, usage, ""}, r)
	for line := range strings.Lines(usage) {
		require.LessOrEqual(t, len(line), 81, "does not fit on a terminal: %s", line)
	}
	r = runWith(t, nil, "-version")
	require.Equal(t, exitOK, r.code)
	require.Regexp(t, `^enrichd \S+ go1\S+ \w+/\w+\n$`, r.stdout)
}

func TestBadArguments(t *testing.T) {
	for _, c := range []struct {
		args string
		want string
	}{
		{"-unknown", "-unknown"},
		{"now", `unexpected argument "now"`},
		{"-poll-interval 0", "-poll-interval is 0s; it must be 10ms or more, like 60s"},
		{"-poll-interval 9999us", "-poll-interval is 9.999ms; it must be 10ms or more"},
		{"-poll-interval fast", "fast"},
		{"-poll-interval NaN", "neither a duration, like 60s, nor a number of seconds"},
		{"-i 1e300", "neither a duration"},
		{"-i -60", "-poll-interval is -1m0s"},
		{"-ttl-hours 1.5", "not a number of hours"},
		{"-ttl-hours 2562048", "not a number of hours"},
		{"-ttl-hours 0", "-ttl is 0s"},
		{"-ttl -1h", "-ttl is -1h0m0s"},
		{"-batch 0", "-batch is 0; it must be between 1 and 4096"},
		{"-concurrency 5000", "-concurrency is 5000"},
		{"-keep-raw 720s", "-keep-raw is 12m0s; it must be 0, for ever, or 1h0m0s or more"},
		{"-keep-raw -720h", "-keep-raw is -720h0m0s"},
		{"-log-format xml", `-log-format is "xml"`},
		{"-log-level loud", "loud"},
		{"-once -check", "exclude each other"},
		{"-listen 8089", `"8089"`},
		{"-listen :8089", "without asking for credentials"},
		{"-listen 0.0.0.0:8089", "-expose says so"},
		{"-listen 192.168.1.1:8089 -check", "without asking for credentials"},
		{"-ttl -1s -batch -1", "-batch is -1"},
	} {
		r := runWith(t, nil, strings.Fields(c.args)...)
		require.Equal(t, exitUsage, r.code, c.args)
		require.Empty(t, r.stdout, c.args)
		require.Contains(t, r.stderr, c.want, c.args)
		require.Contains(t, r.stderr, "-h for help")
	}
	o, err := parseFlags(strings.Fields("-listen 0.0.0.0:8089 -expose -poll-interval 10ms"))
	require.NoError(t, err)
	require.Equal(t, "0.0.0.0:8089", o.listen)
}

// TestSpellings: the flags of "decnet enrich" mean what they mean there.
func TestSpellings(t *testing.T) {
	for args, want := range map[string][2]time.Duration{
		"":                                   {time.Minute, 24 * time.Hour},
		"-i 30":                              {30 * time.Second, 24 * time.Hour},
		"--poll-interval 0.5 --ttl-hours 48": {500 * time.Millisecond, 48 * time.Hour},
		"--poll-interval=2m --ttl 90m -d":    {2 * time.Minute, 90 * time.Minute},
		"-poll-interval 60 -ttl-hours 1 --daemon": {time.Minute, time.Hour},
	} {
		o, err := parseFlags(strings.Fields(args))
		require.NoError(t, err, args)
		require.Equal(t, want, [2]time.Duration{o.pollInterval, o.ttl}, args)
		c, err := readConfig(o, setting(map[string]string{"DECNET_INTEL_PROVIDERS": "feodo"}))
		require.NoError(t, err)
		if !o.daemon {
			require.Empty(t, c.warnings)
		} else {
			require.Equal(t, []string{"-d has no effect: enrichd stays in the foreground; let systemd run it"}, c.warnings)
		}
	}
}

// TestProvidersFlag: -providers takes precedence over the variable, also to query
// none, and -check says which of them applies.
func TestProvidersFlag(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		args []string
		want string
	}{
		{map[string]string{"DECNET_INTEL_PROVIDERS": ""}, []string{"-providers", "feodo"}, "asks feodo, as -providers says"},
		{map[string]string{"DECNET_INTEL_PROVIDERS": "greynoise"}, []string{"-providers", ""}, "no provider is queried: -providers is set and empty; remove it to query all"},
		{map[string]string{"DECNET_INTEL_PROVIDERS": "feodo"}, nil, "asks feodo, as DECNET_INTEL_PROVIDERS says"},
		{nil, []string{"-providers", "shodan"}, `-providers names "shodan", which is not known`},
	} {
		o, err := parseFlags(c.args)
		require.NoError(t, err)
		got, wrong := readConfig(o, setting(c.env))
		rows := checkConfig(got, wrong)
		require.Len(t, rows, 1)
		require.Contains(t, rows[0].detail, c.want)
	}
}

// TestBadEnvironment: what makes no sense is named, and no secret is repeated.
func TestBadEnvironment(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"DECNET_INTEL_ENABLED": "perhaps"}, `DECNET_INTEL_ENABLED is "perhaps"; it must be true or false`},
		{map[string]string{"DECNET_INTEL_PROVIDERS": "feodo, shodan"}, `DECNET_INTEL_PROVIDERS names "shodan", which is not known; known are greynoise, abuseipdb, feodo, threatfox`},
		{map[string]string{"DECNET_INTEL_PROVIDERS": "abuseipdb"}, "no provider is left to ask"},
		{map[string]string{"DECNET_INTEL_PROVIDERS": ","}, "no provider is left to ask"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY": secret + "\n" + secret}, "DECNET_GREYNOISE_API_KEY"},
		{map[string]string{"DECNET_GREYNOISE_QUOTA": "many"}, "DECNET_GREYNOISE_QUOTA"},
		{map[string]string{"DECNET_GREYNOISE_BATCH": "many"}, `DECNET_GREYNOISE_BATCH is "many"; it must be true or false`},
		{map[string]string{"DECNET_GREYNOISE_BATCH": "true", "DECNET_GREYNOISE_URL": "https://h/x"}, "BaseURL does not end in /community"},
		{map[string]string{"DECNET_FEODO_URL": "https://user:" + secret + "@example.org"}, "DECNET_FEODO_URL"},
		{map[string]string{"DECNET_FEODO_URL": "https://example.org/#part"}, "has a fragment"},
		{map[string]string{"DECNET_BUS_ENABLED": "2"}, "DECNET_BUS_ENABLED"},
		{map[string]string{"DECNET_BUS_TYPE": "kafka"}, `DECNET_BUS_TYPE is "kafka"; it must be unix, nats or memory`},
		{map[string]string{"DECNET_BUS_TYPE": "nats", "DECNET_NATS_URL": "http://user:" + secret + "@host"}, "DECNET_NATS_URL"},
		{map[string]string{"DECNET_DB_URL": secret}, "DECNET_DB_URL: it is not a URL"},
		{map[string]string{"DECNET_DB_URL": "oracle://user:" + secret + "@host/name"}, `it begins with "oracle"; known are sqlite`},
		{map[string]string{"DECNET_DB_URL": "mysql://user:" + secret + "%@host/name"}, "have to be escaped"},
		{map[string]string{"DECNET_DB_URL": "mysql://user:pass@" + secret + "#word@host/name"}, "have to be escaped"},
		{map[string]string{"DECNET_DB_URL": "mysql://user:12?" + secret + "@host/name"}, "have to be escaped"},
		{map[string]string{"DECNET_DB_URL": "mysql://user:12/" + secret + "@host/name"}, "have to be escaped"},
		{map[string]string{"DECNET_DB_URL": "mysql://user:" + secret + "@host:port/name"}, "DECNET_DB_URL: "},
		{map[string]string{"DECNET_DB_URL": "postgres://user:" + secret + "@host:70000/name"}, "the port is not a number between 1 and 65535"},
		{map[string]string{"DECNET_DB_URL": "sqlite://"}, "it names no file"},
		{map[string]string{"DECNET_DB_URL": "sqlite:///:memory:"}, "it names no file"},
		{map[string]string{"DECNET_DB_URL": "sqlite:///var/lib/"}, "it names no file"},
		{map[string]string{"DECNET_DB_URL": "sqlite:///x%zz.db"}, "%25"},
		{map[string]string{"DECNET_DB_URL": "sqlite:///a/x.db?mode=ro"}, "parameters are not supported"},
		{map[string]string{"DECNET_DB_URL": "sqlite+aiosqlite:///decnet.db"}, "write sqlite://decnet.db for the current directory, sqlite:///decnet.db for the root"},
		{map[string]string{"DECNET_DB_TYPE": "mysql", "DECNET_DB_URL": "sqlite://x.db"}, "DECNET_DB_URL: it is a URL of SQLite, and DECNET_DB_TYPE is \"mysql\"; make them agree"},
		{map[string]string{"DECNET_DB_TYPE": "sqlite", "DECNET_DB_URL": "mysql://u:" + secret + "@h/n"}, "DECNET_DB_URL: it is a URL of MySQL, and DECNET_DB_TYPE is \"sqlite\""},
		{map[string]string{"DECNET_CONFIG": "/nowhere/decnet.ini"}, "DECNET_CONFIG: open /nowhere/decnet.ini"},
		{map[string]string{"DECNET_DB_TYPE": "oracle"}, `DECNET_DB_TYPE: it is "oracle"; it must be sqlite, postgres or mysql`},
		{map[string]string{"DECNET_DB_TYPE": "mysql", "DECNET_DB_PORT": "mysql"}, "the port is not a number"},
	} {
		r := runWith(t, c.env, "-once")
		require.Equal(t, exitUsage, r.code, c.env)
		require.Contains(t, r.stderr, c.want)
		require.Contains(t, r.stderr, "-h for help")
		require.NotContains(t, r.stderr, secret)

		r = runWith(t, c.env, "-check")
		require.Equal(t, exitFailed, r.code, c.env)
		require.Regexp(t, `^configuration +FAILED `, r.stdout)
		require.Contains(t, r.stdout, c.want)
		require.NotContains(t, r.stdout, secret)
	}
}

// TestEveryMistakeIsNamed: not only the first.
func TestEveryMistakeIsNamed(t *testing.T) {
	r := runWith(t, map[string]string{"DECNET_BUS_TYPE": "kafka", "DECNET_DB_TYPE": "oracle", "DECNET_INTEL_PROVIDERS": "x,y"})
	require.Equal(t, exitUsage, r.code)
	for _, want := range []string{"DECNET_BUS_TYPE", "DECNET_DB_TYPE", `"x"`, `"y"`} {
		require.Contains(t, r.stderr, want)
	}
}

func TestProviders(t *testing.T) {
	keys := map[string]string{"DECNET_ABUSEIPDB_API_KEY": "a", "DECNET_THREATFOX_API_KEY": "t"}
	for _, c := range []struct {
		list     string
		env      map[string]string
		names    []string
		warnings []string
	}{
		{"unset", keys, []string{"greynoise", "abuseipdb", "feodo", "threatfox"}, []string{"greynoise"}},
		{" Feodo , threatfox,feodo,", keys, []string{"feodo", "threatfox"}, nil},
		{"unset", nil, []string{"greynoise", "feodo"}, []string{"greynoise", "abuseipdb", "threatfox"}},
		{"abuseipdb,feodo,abuseipdb", map[string]string{"DECNET_ABUSEIPDB_API_KEY": "  "}, []string{"feodo"}, []string{"abuseipdb"}},
		{"greynoise", map[string]string{"DECNET_GREYNOISE_API_KEY": "g"}, []string{"greynoise"}, nil},
	} {
		env := maps.Clone(c.env)
		if env == nil {
			env = map[string]string{}
		}
		if c.list != "unset" {
			env["DECNET_INTEL_PROVIDERS"] = c.list
		}
		got, err := readConfig(options{}, setting(env))
		require.NoError(t, err)
		require.Equal(t, c.names, got.names())
		require.Len(t, got.warnings, len(c.warnings), got.warnings)
		for i, name := range c.warnings {
			require.Contains(t, got.warnings[i], "DECNET_"+strings.ToUpper(name)+"_API_KEY")
		}
	}
}

// TestNoProviders: a list that is set and empty names no provider.
func TestNoProviders(t *testing.T) {
	for _, list := range []string{"", " ", "\t\n"} {
		c, err := readConfig(options{}, setting(map[string]string{"DECNET_INTEL_PROVIDERS": list, "DECNET_GREYNOISE_API_KEY": "g", "DECNET_FEODO_URL": "nonsense"}))
		require.NoError(t, err)
		require.Empty(t, c.sources, "%q", list)
		require.Equal(t, []string{"no provider is queried: DECNET_INTEL_PROVIDERS is set and empty; remove it to query all"}, c.warnings)
	}
}

// TestOnlyFalseDisables: the other words for it do not, as in DECNET.
func TestOnlyFalseDisables(t *testing.T) {
	for value, enabled := range map[string]bool{
		"": true, "true": true, "1": true, "0": true, "no": true, "off": true, "False": false, " false\n": false,
	} {
		c, err := readConfig(options{}, setting(map[string]string{"DECNET_INTEL_ENABLED": value, "DECNET_INTEL_PROVIDERS": "feodo"}))
		require.NoError(t, err)
		require.Equal(t, enabled, c.enabled, "%q", value)
		switch value {
		case "0", "no", "off":
			require.Equal(t, []string{`DECNET_INTEL_ENABLED is "` + value + `", which does not switch enrichd off; only false does`}, c.warnings)
		default:
			require.Empty(t, c.warnings, "%q", value)
		}
	}
}

func TestDatabaseURL(t *testing.T) {
	for text, want := range map[string]string{
		"sqlite:///var/lib/decnet/decnet.db":                     "SQLite /var/lib/decnet/decnet.db",
		"sqlite://enrich.db":                                     "SQLite enrich.db",
		"sqlite://data/enrich.db":                                "SQLite data/enrich.db",
		"sqlite:///decnet.db":                                    "SQLite /decnet.db",
		"SQLite+aiosqlite:////var/lib/decnet.db":                 "SQLite /var/lib/decnet.db",
		"sqlite+aiosqlite:///var/lib/decnet.db":                  "SQLite /var/lib/decnet.db",
		"sqlite:///a%20b/x%3F.db":                                "SQLite /a b/x?.db",
		"postgres://u:p@db/intel":                                "PostgreSQL intel on db:5432",
		"postgresql+asyncpg://u:p@db:6432/intel?ssl=require":     "PostgreSQL intel on db:6432",
		"mysql+asyncmy://decnet:p%40ss@10.0.0.5:3307/decnet":     "MySQL decnet on 10.0.0.5:3307",
		"mariadb+pymysql://decnet:p@db/decnet?charset=utf8mb4":   "MySQL decnet on db:3306",
		"mysql://[2001:db8::5]/decnet":                           "MySQL decnet on [2001:db8::5]:3306",
		"mysql://":                                               "MySQL decnet on localhost:3306",
		"postgresql+psycopg2://postgres@127.0.0.1:5432/postgres": "PostgreSQL postgres on 127.0.0.1:5432",
	} {
		d, err := parseDatabaseURL(text)
		require.NoError(t, err, text)
		require.Equal(t, want, d.String(), text)
	}
	d, err := parseDatabaseURL("mysql+asyncmy://decnet:p%40s%2Fs@db/decnet")
	require.NoError(t, err)
	require.Equal(t, "decnet", d.user)
	require.Equal(t, "p@s/s", d.password)
}

// TestAmbiguousPath: a path that is relative for SQLAlchemy is taken as
// absolute, with a warning as long as there is no such file.
func TestAmbiguousPath(t *testing.T) {
	dir := t.TempDir()
	there := filepath.Join(dir, "there.db")
	require.NoError(t, os.WriteFile(there, nil, 0o600))
	for url, warns := range map[string]bool{
		"sqlite+aiosqlite://" + dir + "/x.db":  true,
		"sqlite+aiosqlite:///" + dir + "/x.db": false,
		"sqlite://" + dir + "/x.db":            false,
		"sqlite+aiosqlite://" + there:          false,
		"sqlite+aiosqlite://x/y.db":            false,
	} {
		c, err := readConfig(options{}, setting(map[string]string{"DECNET_DB_URL": url, "DECNET_INTEL_PROVIDERS": "feodo"}))
		require.NoError(t, err)
		if !warns {
			require.Empty(t, c.warnings, url)
			continue
		}
		require.Equal(t, []string{"the database is to be the file " + dir + "/x.db, which is not there; if it is one below the current directory, write sqlite:/" +
			dir + "/x.db"}, c.warnings)
	}
}

func TestDatabaseByParts(t *testing.T) {
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{}, "SQLite enrich.db"},
		{map[string]string{"DECNET_DB_TYPE": "sqlite"}, "SQLite enrich.db"},
		{map[string]string{"DECNET_DB_TYPE": "sqlite", "DECNET_DB_NAME": "decnet"}, "SQLite enrich.db"},
		{map[string]string{"DECNET_DB_TYPE": "MySQL"}, "MySQL decnet on localhost:3306"},
		{map[string]string{"DECNET_DB_TYPE": "postgresql", "DECNET_DB_HOST": "db", "DECNET_DB_PORT": "6432", "DECNET_DB_NAME": "intel"}, "PostgreSQL intel on db:6432"},
	} {
		e := &environment{lookup: setting(c.env)}
		require.Equal(t, c.want, e.database(options{}).String())
	}
	e := &environment{lookup: setting(map[string]string{"DECNET_DB_TYPE": "mysql", "DECNET_DB_USER": "me", "DECNET_DB_PASSWORD": " p@:/ "})}
	d := e.database(options{})
	require.Equal(t, []string{"me", " p@:/ "}, []string{d.user, d.password}, "a password is taken as it is")
}

// FuzzDatabaseURL: whatever is written there, it makes an error or a database,
// and a password shows up nowhere.
func FuzzDatabaseURL(f *testing.F) {
	f.Add("mysql+asyncmy", "p%40ss", "@host:3306/name?charset=utf8mb4")
	f.Add("postgres", "p", "@[::1]:5432/name")
	f.Add("sqlite+aiosqlite", "", "/x.db")
	f.Add("mysql", "%zz", "@host:port")
	f.Add("mysql", "@host#", "@host/name")
	f.Add("mysql", "1?2/3", "@host/name?a=b")
	f.Fuzz(func(t *testing.T, scheme, password, rest string) {
		const marked = "QqXzZqQ"
		d, err := parseDatabaseURL(scheme + "://user:" + marked + password + rest)
		if strings.Contains(scheme+rest, marked) || strings.HasPrefix(strings.ToLower(scheme), "sqlite") {
			return
		}
		if err != nil {
			require.NotContains(t, err.Error(), marked)
			return
		}
		require.NotContains(t, d.String(), marked)
	})
}

// TestDriversConnect: the drivers understand what is made of a URL.
func TestDriversConnect(t *testing.T) {
	for text, query := range map[string]string{
		"postgresql+asyncpg://postgres:any@" + serverOf(engineFor("postgres")) + "/postgres?ssl=disable": "SELECT current_setting('application_name') || ' ' || current_database()",
		"mysql+asyncmy://root@" + serverOf(engineFor("mysql")) + "/mysql?charset=utf8mb4":                "SELECT CONCAT('enrichd ', DATABASE())",
	} {
		d, err := parseDatabaseURL(text)
		require.NoError(t, err)
		t.Run(d.title, func(t *testing.T) {
			needServer(t, net.JoinHostPort(d.host, d.port))
			db, err := d.engine.open(d)
			require.NoError(t, err)
			defer db.Close()
			var got string
			require.NoError(t, db.QueryRowContext(t.Context(), query).Scan(&got))
			require.Equal(t, "enrichd "+d.name, got)
			detail, _, err := d.look(t.Context())
			require.NoError(t, err)
			require.NotEmpty(t, detail)
		})
	}
}

// TestDriversKeepSecrets: nobody is told the password of a server that is not
// there, refuses it, or is asked with parameters that make no sense.
func TestDriversKeepSecrets(t *testing.T) {
	for _, text := range []string{
		"postgres://nobody:" + secret + "@127.0.0.1:1/x", "mysql://nobody:" + secret + "@127.0.0.1:1/x",
		"postgres://nobody:" + secret + "@" + serverOf(engineFor("postgres")) + "/x",
		"mysql://nobody:" + secret + "@" + serverOf(engineFor("mysql")) + "/x",
		"postgres://nobody:" + secret + "@h/x?sslmode=maybe", "mysql://nobody:" + secret + "@h/x?timeout=soon",
		"postgres://nobody@h/x?sslmode=" + secret, "mysql://nobody@h/x?tls=" + secret,
	} {
		d, err := parseDatabaseURL(text)
		require.NoError(t, err)
		r := d.check(t.Context())
		require.Equal(t, checkFailed, r.result, text)
		require.NotContains(t, r.detail, secret)
		require.Contains(t, r.detail, d.String())
	}
}

// TestSQLiteChecks: a check tells what is wrong, and changes nothing.
func TestSQLiteChecks(t *testing.T) {
	dir := t.TempDir()
	at := func(name string) database {
		d, err := parseDatabaseURL("sqlite://" + filepath.Join(dir, name))
		require.NoError(t, err)
		return d
	}
	r := at("new.db").check(t.Context())
	require.Equal(t, row{"database", checkOK, "SQLite " + filepath.Join(dir, "new.db") + ": the first start will make it"}, r)
	r = at("none/new.db").check(t.Context())
	require.Equal(t, checkFailed, r.result, r)

	make := func(name, schema string) {
		db, err := sql.Open("sqlite", filepath.Join(dir, name))
		require.NoError(t, err)
		_, err = db.Exec(schema)
		require.NoError(t, err)
		require.NoError(t, db.Close())
	}
	make("empty.db", "CREATE TABLE other (x)")
	make("decnet.db", decnetSchema)
	make("strange.db", "CREATE TABLE attackers (id)")
	make("old.db", strings.Replace(decnetSchema, "greynoise_name VARCHAR(128),", "", 1))
	make("newer.db", decnetSchema+"CREATE TABLE enrich_migrations (version INTEGER); INSERT INTO enrich_migrations VALUES (99)")
	require.NoError(t, os.WriteFile(filepath.Join(dir, "text.db"), bytes.Repeat([]byte("no database\n"), 100), 0o600))
	for name, want := range map[string]string{
		"empty.db":   "the first start will make the tables",
		"decnet.db":  "made by DECNET",
		"strange.db": "the table attackers belongs to another application",
		"old.db":     "table attacker_intel is not as this program needs it",
		"newer.db":   "the tables are of version 99",
		"text.db":    "not a database",
	} {
		before, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		r := at(name).check(t.Context())
		require.Contains(t, r.detail, want)
		require.Equal(t, name == "empty.db" || name == "decnet.db", r.result == checkOK, name)
		after, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		require.Equal(t, before, after, name)
	}
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 6, "nothing is left behind")
}

func TestGreyNoiseBatch(t *testing.T) {
	for value, most := range map[string]int{"": 1, "false": 1, "true": 1000} {
		c, err := readConfig(options{}, setting(map[string]string{
			"DECNET_INTEL_PROVIDERS": "greynoise", "DECNET_GREYNOISE_API_KEY": "k", "DECNET_GREYNOISE_BATCH": value,
		}))
		require.NoError(t, err)
		require.Equal(t, most, c.sources[0].Provider.(provider.Batcher).Batch(), value)
	}
}
