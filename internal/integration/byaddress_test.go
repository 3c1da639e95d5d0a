package integration

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// TestUnusualSpellingsOfOlderVersions are found once the sweep has come across them.
func TestUnusualSpellingsOfOlderVersions(t *testing.T) {
	onEach(t, testUnusualSpellingsOfOlderVersions)
}

func testUnusualSpellingsOfOlderVersions(t *testing.T, on *database) {
	s, db := on.openStore(t)
	attackers := crowd(4)
	for i, ip := range []string{"64:ff9b::2d00:1", "::FFFF:45.0.0.2", "2A00:0:0::5", "45.0.0.4"} {
		attackers[i].IP = ip
	}
	require.NoError(t, s.Observe(t.Context(), attackers...))
	networks := []netip.Prefix{netip.MustParsePrefix("45.0.0.0/24"), netip.MustParsePrefix("2a00::5/128")}
	found := func() []uuid.UUID {
		ids, err := s.ByAddress(t.Context(), networks)
		require.NoError(t, err)
		return ids
	}
	all := []uuid.UUID{attackers[0].ID, attackers[1].ID, attackers[2].ID, attackers[3].ID}
	require.Equal(t, all, found())

	_, err := db.Exec("DELETE FROM enrich_address") // as an older version leaves it
	require.NoError(t, err)
	require.Equal(t, all[3:], found())
	for range 2 {
		_, err = db.Exec("UPDATE enrich_cursor SET moved_at = 0 WHERE name = 'ledger'")
		require.NoError(t, err)
		_, err = s.Claim(t.Context(), store.ClaimRequest{Now: time.Now(), Owner: "test", Lease: time.Minute, Limit: 1})
		require.NoError(t, err)
		require.Equal(t, all, found())
	}
}

// TestByManyNetworks: attackers are found also by so many networks that it takes less to
// look at every attacker.
func TestByManyNetworks(t *testing.T) { onEach(t, testByManyNetworks) }

func testByManyNetworks(t *testing.T, on *database) {
	s, _ := on.openStore(t)
	attackers := crowd(4)
	for i, ip := range []string{"45.0.0.1", "64:ff9b::2d00:2", "45.9.0.1", "2A00:0:0::5"} {
		attackers[i].IP, attackers[i].LastSeen = ip, time.Now().Add(-time.Duration(i)*time.Minute)
	}
	require.NoError(t, s.Observe(t.Context(), attackers...))
	many := []netip.Prefix{netip.MustParsePrefix("45.0.0.0/24"), netip.MustParsePrefix("2a00::/32")}
	for n := range 25_000 {
		many = append(many, netip.PrefixFrom(netip.AddrFrom4([4]byte{91, byte(n >> 8), byte(n), 0}), 24))
	}
	ids, err := s.ByAddress(t.Context(), many)
	require.NoError(t, err)
	require.Equal(t, []uuid.UUID{attackers[0].ID, attackers[1].ID, attackers[3].ID}, ids)
}
