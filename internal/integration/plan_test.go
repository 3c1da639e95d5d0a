package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// TestPlansOfSmallTablesServeLargeOnes: PostgreSQL keeps the plans of prepared
// statements. Those made while there was hardly an attacker must not look at all
// of them once there are many.
func TestPlansOfSmallTablesServeLargeOnes(t *testing.T) {
	const many, rounds = 20_000, 20
	s, db := onPostgres.openStore(t)
	db.SetMaxOpenConns(1) // all statements are prepared there
	if column[int](t, db, "SELECT count(*) FROM pg_proc WHERE proname = 'pg_stat_force_next_flush'")[0] == 0 {
		t.Skip("PostgreSQL does not tell what was read before version 15")
	}
	work := func() {
		now := time.Now().UTC()
		c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Hour, Limit: 50})
		require.NoError(t, err)
		require.NotEmpty(t, c.Records)
		for i := range c.Records {
			_, err := s.Answers(t.Context(), now, c.Records[i].Addr())
			require.NoError(t, err)
		}
		var updates []store.Update
		var ids []string
		for _, rec := range c.Records[1:] {
			u := enriched(rec, now)
			updates, ids = append(updates, u), append(ids, u.Event.ID)
		}
		require.NoError(t, s.Save(t.Context(), updates...))
		require.NoError(t, s.Release(t.Context(), now, store.Lease{ID: c.Records[0].ID, Fence: c.Records[0].Fence}))
		_, err = s.Get(t.Context(), c.Records[0].ID)
		require.NoError(t, err)
		_, err = s.Unpublished(t.Context(), 0, 10)
		require.NoError(t, err)
		require.NoError(t, s.Published(t.Context(), ids...))
		for _, req := range []store.ListRequest{{}, {Enriched: true}, {Verdicts: []provider.Verdict{provider.Benign, provider.Suspicious}}} {
			req.Limit = 50
			_, err = s.List(t.Context(), req)
			require.NoError(t, err)
		}
	}
	for range 10 {
		require.NoError(t, s.Observe(t.Context(), crowd(2)...))
		work()
	}
	require.NoError(t, s.Observe(t.Context(), crowd(many)...))
	work() // reads in who is new

	read := func() int {
		_, err := db.ExecContext(t.Context(), "SELECT pg_stat_force_next_flush()")
		require.NoError(t, err)
		return column[int](t, db, `SELECT (SELECT sum(seq_tup_read) FROM pg_stat_user_tables
				WHERE relname IN ('attackers', 'attacker_intel', 'enrich_ledger', 'enrich_outbox', 'enrich_queue', 'enrich_address'))
			+ (SELECT sum(idx_tup_read) FROM pg_stat_user_indexes)`)[0]
	}
	before := read()
	for range rounds {
		work()
	}
	require.Less(t, read()-before, rounds*many/2, "rows read in %d rounds of work on 50 of %d attackers", rounds, many)
}

// TestAnswersReadFewRows: MariaDB must not look at every attacker for an answer about
// one address.
func TestAnswersReadFewRows(t *testing.T) {
	const many = 3000
	s, db := onMySQL.openStore(t)
	db.SetMaxOpenConns(1)
	require.NoError(t, s.Observe(t.Context(), crowd(many)...))
	now := time.Now().UTC()
	c, err := s.Claim(t.Context(), store.ClaimRequest{Now: now, Owner: "test", Lease: time.Hour, Limit: 50})
	require.NoError(t, err)
	var (
		updates []store.Update
		addrs   []netip.Addr
	)
	for _, rec := range c.Records {
		updates, addrs = append(updates, enriched(rec, now)), append(addrs, rec.Addr())
	}
	require.NoError(t, s.Save(t.Context(), updates...))
	read := func() (n int) {
		rows, err := db.QueryContext(t.Context(), "SHOW SESSION STATUS LIKE 'Handler\\_read\\_%'")
		require.NoError(t, err)
		defer rows.Close()
		for rows.Next() {
			var (
				name  string
				count int
			)
			require.NoError(t, rows.Scan(&name, &count))
			n += count
		}
		require.NoError(t, rows.Err())
		return n
	}
	before := read()
	answers, err := s.Answers(t.Context(), now, addrs...)
	require.NoError(t, err)
	require.Len(t, answers, 4*len(addrs))
	require.Less(t, read()-before, many, "rows read for answers about %d addresses", len(addrs))
}
