package integration

import (
	"database/sql"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// TestMySQLParameters: parameters of the URL that change how times are read, or when
// transactions begin, change nothing about what is stored and what is due.
func TestMySQLParameters(t *testing.T) {
	for _, params := range []string{
		"loc=Europe%2FBerlin", "loc=Europe%2FBerlin&parseTime=true", "loc=America%2FLos_Angeles&parseTime=true&time_zone=%27%2B05%3A00%27",
		"autocommit=0", "autocommit=0&parseTime=true",
	} {
		t.Run(params, func(t *testing.T) {
			dsn := onMySQL.create(t)
			plain := onMySQL.newStore(t, onMySQL.open(t, dsn))
			updates := claimed(t, plain, 3)
			require.NoError(t, plain.Save(t.Context(), updates...))
			want, err := plain.Get(t.Context(), updates[0].ID)
			require.NoError(t, err)

			db := onMySQL.open(t, dsn+"&"+params)
			s := onMySQL.newStore(t, db)
			require.NoError(t, s.Validate(t.Context()))
			got, err := s.Get(t.Context(), updates[0].ID)
			require.NoError(t, err)
			require.Equal(t, want, got)
			c, err := s.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 10})
			require.NoError(t, err)
			require.Empty(t, c.Records, "all are fresh")

			// What somebody else wrote is adopted with the times that it has.
			_, err = db.Exec("DELETE FROM enrich_ledger")
			require.NoError(t, err)
			_, err = db.Exec("COMMIT")
			require.NoError(t, err)
			again, err := s.Get(t.Context(), updates[0].ID)
			require.NoError(t, err)
			require.Equal(t, want.LastSeen, again.LastSeen)
			require.Equal(t, want.Row, again.Row)
		})
	}
}

// TestMySQLConnectionErrors: the error of a connection has the server's text, and no
// value of a parameter.
func TestMySQLConnectionErrors(t *testing.T) {
	db, err := sql.Open("mysql", onMySQL.create(t)+"&sql_mode=s3cr3t+s3cr3t")
	require.NoError(t, err)
	defer db.Close()
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: sqlstore.MySQL})
	require.NoError(t, err)
	err = s.Validate(t.Context())
	require.ErrorContains(t, err, "1064")
	require.ErrorContains(t, err, "You have an error in your SQL syntax")
	require.False(t, strings.Contains(err.Error(), "s3cr3t"), err)
}
