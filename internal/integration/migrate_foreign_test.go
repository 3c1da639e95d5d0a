package integration

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/sqlstore"
)

// TestAttackersOfAnotherApplication: nobody who has never heard of DECNET is told to
// upgrade it.
func TestAttackersOfAnotherApplication(t *testing.T) {
	onEach(t, func(t *testing.T, on *database) {
		testAttackersOfAnotherApplication(t, on, "id INTEGER NOT NULL PRIMARY KEY, name VARCHAR(64), goals INTEGER", "it has no column first_seen, it has no column ip")
	})
	const seen = ", first_seen TIMESTAMP, last_seen TIMESTAMP, updated_at TIMESTAMP"
	for _, c := range []struct {
		on            *database
		columns, says string
	}{
		{onPostgres, "uuid UUID PRIMARY KEY, ip VARCHAR(50) NOT NULL" + seen, "its column uuid has the type uuid"},
		{onPostgres, "uuid VARCHAR(36) PRIMARY KEY, ip INET NOT NULL" + seen, "its column ip has the type inet"},
		{onPostgres, "uuid VARCHAR(36) PRIMARY KEY, ip INTEGER NOT NULL, first_seen BIGINT, last_seen BIGINT, updated_at BIGINT",
			"its column first_seen has the type bigint, its column ip has the type integer, its column last_seen has the type bigint"},
		{onMySQL, "uuid BIGINT PRIMARY KEY, ip VARCHAR(50) NOT NULL" + seen, "its column uuid has the type bigint"},
		{onMySQL, "uuid BINARY(16) PRIMARY KEY, ip VARCHAR(50) NOT NULL" + seen, "its column uuid has the type binary"},
	} {
		t.Run(c.on.String()+" "+c.says, func(t *testing.T) { testAttackersOfAnotherApplication(t, c.on, c.columns, c.says) })
	}
}

func testAttackersOfAnotherApplication(t *testing.T, on *database, columns, says string) {
	db := on.open(t, on.create(t))
	_, err := db.Exec("CREATE TABLE attackers (" + columns + ")")
	require.NoError(t, err)
	s, err := sqlstore.New(db, sqlstore.Options{Dialect: on.Dialect})
	require.NoError(t, err)
	_, planned := s.Plan(t.Context())
	for _, err := range []error{planned, s.Migrate(t.Context())} {
		require.ErrorIs(t, err, store.ErrSchema)
		require.ErrorContains(t, err, "the table attackers belongs to another application, as "+says)
		require.ErrorContains(t, err, "of its own")
		require.NotContains(t, err.Error(), "DECNET")
	}
	require.Empty(t, on.ours(t, db))
}

// TestUsualTypesOfAttackers are those that DECNET has had, and what works as well.
func TestUsualTypesOfAttackers(t *testing.T) {
	for on, all := range map[*database][]string{
		onPostgres: {"uuid TEXT PRIMARY KEY, ip TEXT, first_seen TIMESTAMPTZ, last_seen TIMESTAMPTZ, updated_at TIMESTAMPTZ",
			"uuid CHAR(36) PRIMARY KEY, ip VARCHAR, first_seen TIMESTAMP, last_seen TIMESTAMP, updated_at TIMESTAMP"},
		onMySQL: {"uuid CHAR(36) PRIMARY KEY, ip TINYTEXT, first_seen DATETIME(6), last_seen DATETIME(6), updated_at DATETIME(6)",
			"uuid VARCHAR(64) PRIMARY KEY, ip LONGTEXT, first_seen TIMESTAMP, last_seen TIMESTAMP, updated_at TIMESTAMP"},
		onSQLite: {"uuid UUID PRIMARY KEY, ip INET, first_seen, last_seen, updated_at"},
	} {
		for _, columns := range all {
			t.Run(on.String()+" "+columns, func(t *testing.T) {
				db := on.open(t, on.create(t))
				_, err := db.Exec("CREATE TABLE attackers (" + columns + ")")
				require.NoError(t, err)
				s := on.newStore(t, db)
				require.NoError(t, s.Validate(t.Context()))
				require.Len(t, claimed(t, s, 2), 2)
			})
		}
	}
}
