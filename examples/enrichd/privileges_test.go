package main

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
	"github.com/decnet/enrich/store/sqlstore"
)

// limitedUser makes a database of DECNET's and a user who may do in it what the
// grants say. It returns the URL with that user.
func limitedUser(t *testing.T, eng *engine, prepare bool, grants ...string) (s *site, limited string) {
	t.Helper()
	s = newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	all := newDatabase(t, eng)
	admin, err := parseDatabaseURL(all)
	require.NoError(t, err)
	db, err := eng.open(admin)
	require.NoError(t, err)
	t.Cleanup(func() { _ = db.Close() })
	run(t.Context(), []string{"-once", "-create", "-providers", "", "-db", all, "-listen", ""}, setting(s.env), discard{}, discard{})
	if !prepare {
		for _, table := range []string{"enrich_ledger", "enrich_queue", "enrich_address", "enrich_raw", "enrich_outbox", "enrich_cursor",
			"enrich_quota", "enrich_turn", "enrich_migrations"} {
			_, err := db.Exec("DROP TABLE " + table)
			require.NoError(t, err)
		}
	}
	user := "enrich_test_" + strings.ReplaceAll(uuid.NewString(), "-", "")[:12]
	quoted := user
	create := []string{"CREATE ROLE " + user + " LOGIN", "REVOKE CREATE ON SCHEMA public FROM PUBLIC"}
	drop := []string{"DROP OWNED BY " + user, "DROP ROLE " + user}
	if eng.title == "MySQL" {
		quoted = "'" + user + "'@'127.0.0.1'"
		create, drop = []string{"CREATE USER " + quoted}, []string{"DROP USER " + quoted}
	}
	for _, text := range create {
		_, err := db.Exec(text)
		require.NoError(t, err, text)
	}
	t.Cleanup(func() {
		for _, text := range drop {
			_, _ = db.Exec(text)
		}
	})
	for _, grant := range grants {
		_, err := db.Exec(strings.NewReplacer("DB", admin.name, "USER", quoted).Replace(grant))
		require.NoError(t, err, grant)
	}
	u, err := url.Parse(all)
	require.NoError(t, err)
	u.User = url.User(user)
	return s, u.String()
}

type discard struct{}

func (discard) Write(p []byte) (int, error) { return len(p), nil }

// TestMissingPrivileges: -check and a start say which privilege is missing and how to
// grant it.
func TestMissingPrivileges(t *testing.T) {
	postgres, mysql := engineFor("postgres"), engineFor("mysql")
	for name, c := range map[string]struct {
		eng     *engine
		prepare bool
		grants  []string
		params  string
		want    []string
	}{
		"PostgreSQL without CREATE": {postgres, false, []string{"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO USER"}, "",
			[]string{"permission denied for schema public", "GRANT USAGE, CREATE ON SCHEMA"}},
		"PostgreSQL that may not write attacker_intel": {postgres, true, []string{
			"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO USER", "REVOKE UPDATE ON attacker_intel FROM USER"}, "",
			[]string{"privilege UPDATE on attacker_intel", "GRANT SELECT, INSERT, UPDATE, DELETE ON attackers, attacker_intel"}},
		"PostgreSQL nowhere": {postgres, true, []string{"GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO USER"}, "&search_path=nowhere",
			[]string{"search_path names no schema that exists"}},
		"MySQL without CREATE": {mysql, false, []string{"GRANT SELECT, INSERT, UPDATE, DELETE ON DB.* TO USER"}, "",
			[]string{"CREATE", "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE"}},
		"MySQL that may not write attacker_intel": {mysql, true, []string{"GRANT SELECT ON DB.* TO USER"}, "",
			[]string{"privilege INSERT on attacker_intel", "GRANT SELECT, INSERT, UPDATE, DELETE, CREATE"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, limited := limitedUser(t, c.eng, c.prepare, c.grants...)
			r := runWith(t, s.env, "-check", "-listen", "", "-db", limited+c.params)
			require.Equal(t, exitFailed, r.code, r.stdout)
			for _, want := range c.want {
				require.Contains(t, table(t, r.stdout)["database"][1], want)
			}
			if !c.prepare || c.params != "" {
				p := s.start("-once", "-db", limited+c.params)
				require.Equal(t, exitFailed, p.code(), p.output())
				for _, want := range c.want[len(c.want)-1:] {
					require.Contains(t, p.logged("enrichd cannot go on")["error"], want)
				}
			}
		})
	}
}

// TestIndexOfAttackers: -check and a start say that an index is missing, and the
// statement that creates it.
func TestIndexOfAttackers(t *testing.T) {
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	s.exec("DROP INDEX ix_attackers_updated_at")
	const want = "CREATE INDEX ix_attackers_updated_at ON attackers (updated_at)"
	r := runWith(t, s.env, "-check", "-listen", "", "-providers", "")
	require.Equal(t, exitOK, r.code, r.stdout)
	require.Equal(t, "note", table(t, r.stdout)["database"][0])
	require.Contains(t, table(t, r.stdout)["database"][1], want)
	p := s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Contains(t, p.output(), want)
	s.exec(want)
	r = runWith(t, s.env, "-check", "-listen", "", "-providers", "")
	require.Equal(t, "ok", table(t, r.stdout)["database"][0], r.stdout)
}

// TestReadOnlyFile: a file that cannot be written is noticed by -check.
func TestReadOnlyFile(t *testing.T) {
	s := newSite(t, upstream.Options{})
	r := runWith(t, s.env, "-once", "-providers", "", "-listen", "")
	require.Equal(t, exitOK, r.code, r.stderr)
	db, err := sql.Open("sqlite", "file:"+s.file+"?mode=ro")
	require.NoError(t, err)
	defer db.Close()
	records, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.SQLite})
	require.NoError(t, err)
	err = records.CheckPrivileges(t.Context())
	require.ErrorContains(t, err, "readonly database")
	require.ErrorContains(t, err, "chown or chmod")
}
