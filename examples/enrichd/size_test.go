package main

import (
	"fmt"
	"strconv"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider/providertest/upstream"
)

// TestBytesPerAttacker: an attacker with four findings takes at most 1,100 bytes of
// our own tables, with their indexes; DECNET's row does not count.
func TestBytesPerAttacker(t *testing.T) {
	const attackers = 1200
	s := newSite(t, upstream.Options{})
	s.env["DECNET_BUS_ENABLED"] = "false"
	for n := range attackers {
		s.profile(uuid.New(), fmt.Sprintf("45.9.%d.%d", n/250, n%250))
	}
	p := s.start("-once")
	require.Equal(t, exitOK, p.code(), p.output())
	require.Equal(t, []string{strconv.Itoa(attackers)}, s.column(`SELECT count(*) FROM attacker_intel WHERE greynoise_queried_at IS NOT NULL AND
		abuseipdb_queried_at IS NOT NULL AND feodo_queried_at IS NOT NULL AND threatfox_queried_at IS NOT NULL`))
	total, err := strconv.Atoi(s.column(`SELECT sum(pgsize) FROM dbstat WHERE name IN
		(SELECT name FROM sqlite_master WHERE tbl_name LIKE 'enrich%')`)[0])
	require.NoError(t, err)
	t.Logf("%d bytes in our tables and indexes per attacker", total/attackers)
	require.LessOrEqual(t, total/attackers, 1100)
}
