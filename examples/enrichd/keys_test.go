package main

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// TestWhereKeysComeFrom: a variable, a file that a variable names, or a credential
// of systemd.
func TestWhereKeysComeFrom(t *testing.T) {
	dir := installed(t, map[string]string{
		"key": " " + secret + "file\n", "DECNET_THREATFOX_API_KEY": secret + "credential\n",
		"DECNET_GREYNOISE_API_KEY": "unused", "DECNET_FEODO_API_KEY": secret + "feodo",
	})
	c, err := readConfig(options{}, setting(map[string]string{
		"DECNET_GREYNOISE_API_KEY":      secret + "variable",
		"DECNET_ABUSEIPDB_API_KEY_FILE": filepath.Join(dir, "key"),
		"CREDENTIALS_DIRECTORY":         dir,
	}))
	require.NoError(t, err)
	require.Empty(t, c.warnings)
	var keys []string
	for _, s := range c.sources {
		keys = append(keys, strings.TrimPrefix(s.key, secret))
	}
	require.Equal(t, []string{"variable", "file", "feodo", "credential"}, keys)

	c, err = readConfig(options{}, setting(map[string]string{"CREDENTIALS_DIRECTORY": t.TempDir()}))
	require.NoError(t, err, "a credential that is not there is no error")
	require.Equal(t, []string{"greynoise", "feodo"}, c.names())
}

func TestBadKeys(t *testing.T) {
	dir := installed(t, map[string]string{
		"empty": " \n", "long": strings.Repeat("x", 5000), "quoted": "'" + secret + "'\n", "DECNET_FEODO_API_KEY": `"` + secret + `"`,
	})
	at := func(name string) string { return filepath.Join(dir, name) }
	for _, c := range []struct {
		env  map[string]string
		want string
	}{
		{map[string]string{"DECNET_GREYNOISE_API_KEY": `"` + secret + `"`}, "DECNET_GREYNOISE_API_KEY has quotes around the key; remove them"},
		{map[string]string{"DECNET_ABUSEIPDB_API_KEY": "'" + secret}, "DECNET_ABUSEIPDB_API_KEY has quotes around the key"},
		{map[string]string{"DECNET_THREATFOX_API_KEY": `"`}, "DECNET_THREATFOX_API_KEY has quotes"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY_FILE": at("quoted")}, "DECNET_GREYNOISE_API_KEY_FILE has quotes"},
		{map[string]string{"CREDENTIALS_DIRECTORY": dir}, "the credential DECNET_FEODO_API_KEY has quotes"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY": secret, "DECNET_GREYNOISE_API_KEY_FILE": at("quoted")}, "DECNET_GREYNOISE_API_KEY and DECNET_GREYNOISE_API_KEY_FILE are both set"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY_FILE": at("none")}, "DECNET_GREYNOISE_API_KEY_FILE: open " + at("none")},
		{map[string]string{"DECNET_GREYNOISE_API_KEY_FILE": at("empty")}, at("empty") + " is empty"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY_FILE": at("long")}, at("long") + " is too long for a key"},
		{map[string]string{"DECNET_GREYNOISE_API_KEY_FILE": dir}, "is a directory"},
	} {
		r := runWith(t, c.env, "-once")
		require.Equal(t, exitUsage, r.code, c.want)
		require.Contains(t, r.stderr, c.want)
		require.NotContains(t, r.stderr, secret)
	}
}

func TestOwnNetworks(t *testing.T) {
	r := runWith(t, nil, "-own", "/nowhere/own", "-once")
	require.Equal(t, exitUsage, r.code)
	require.Contains(t, r.stderr, "-own: open /nowhere/own")
}

// TestOwnNetworksStayHere: no provider is queried about an address in them.
func TestOwnNetworksStayHere(t *testing.T) {
	s := newSite(t, upstream.Options{})
	file := filepath.Join(installed(t, map[string]string{"own": "45.9.0.1\n"}), "own")
	s.profile(uuid.New(), notorious(s.up, 1))
	s.profile(uuid.New(), notorious(s.up, 2))
	p := s.start("-once", "-own", file)
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, []string{"45.9.0.2"}, s.column("SELECT attacker_ip FROM attacker_intel"))
	require.Equal(t, 1, s.up.Calls(upstream.AbuseIPDB))
	require.Contains(t, s.up.Requests(upstream.AbuseIPDB)[0].URI, "45.9.0.2")
}

// TestTuning: the flags for AbuseIPDB's window, the lookup timeout and the policy
// reach what they are about.
func TestTuning(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.up.Delay(upstream.GreyNoise, time.Minute)
	id := uuid.New()
	s.profile(id, notorious(s.up, 1))
	began := time.Now()
	p := s.start("-once", "-abuseipdb-days", "90", "-lookup-timeout", "1s", "-policy", "weighted")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Less(t, time.Since(began), 9*time.Second, "less than the default timeout")
	require.Contains(t, s.up.Requests(upstream.AbuseIPDB)[0].URI, "maxAgeInDays=90")
	records, err := sqlstore.New(s.db, sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	r, err := records.Get(t.Context(), id)
	require.NoError(t, err)
	require.True(t, strings.HasPrefix(r.Decision.Policy, "weighted/"), r.Decision.Policy)

	for args, want := range map[string]string{
		"-abuseipdb-days 366":  "-abuseipdb-days is 366; it must be between 1 and 365",
		"-lookup-timeout 10ms": "-lookup-timeout is 10ms; it must be between 1s and 1m",
		"-policy loudest":      `-policy is "loudest"; it must be strongest or weighted`,
	} {
		r := runWith(t, nil, strings.Fields(args)...)
		require.Equal(t, exitUsage, r.code)
		require.Contains(t, r.stderr, want)
	}
}
