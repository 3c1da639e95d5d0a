package integration

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func TestPrune(t *testing.T) { onEach(t, testPrune) }

func testPrune(t *testing.T, on *database) {
	d := newDECNET(t, on)
	ids := make([]string, 4) // old, new, gone, gone and DECNET's
	for i := range ids {
		ids[i] = uuid.NewString()
		d.profile(ids[i], "45.9.0.1", d.now.Add(-time.Duration(i)*time.Minute))
	}
	d.enrich(ids[3], "45.9.0.1", d.now, d.now.Add(time.Hour))
	recs := d.claim()
	require.Equal(t, ids[:3], idsOf(recs))
	for i, at := range []time.Time{d.now.AddDate(0, 0, -9), d.now, d.now} {
		u := enriched(recs[i], at)
		f := *u.Entries[0].Finding
		f.Provider = "shodan"
		u.Entries = append(u.Entries, store.Entry{Provider: "shodan", State: store.Fresh, Finding: &f, Expires: u.Entries[0].Expires})
		u.Changed = append(u.Changed, "shodan")
		require.NoError(t, d.store.Save(t.Context(), u))
	}
	before, err := d.store.Get(t.Context(), recs[1].ID)
	require.NoError(t, err)
	d.deleteUnchecked("WHERE uuid IN ('" + ids[2] + "', '" + ids[3] + "')")

	pruned, err := d.store.Prune(t.Context(), d.now.AddDate(0, 0, -1))
	require.NoError(t, err)
	require.Equal(t, store.Pruned{Raws: 5, Orphans: 2}, pruned)
	old, err := d.store.Get(t.Context(), recs[0].ID)
	require.NoError(t, err)
	for _, e := range old.Entries {
		require.NotEmpty(t, e.Finding.Attrs)
		require.Empty(t, e.Finding.Raw, e.Provider)
	}
	after, err := d.store.Get(t.Context(), recs[1].ID)
	require.NoError(t, err)
	require.Equal(t, before, after)
	var left []string
	for _, row := range contents(t, d.db, "attacker_intel") {
		left = append(left, row["attacker_uuid"])
	}
	require.ElementsMatch(t, []string{ids[0], ids[1], ids[3]}, left, "what DECNET wrote is not ours to delete")
	require.Len(t, contents(t, d.db, "enrich_ledger"), 2)
	require.Len(t, contents(t, d.db, "enrich_raw"), 1)

	pruned, err = d.store.Prune(t.Context(), d.now.AddDate(0, 0, -1))
	require.NoError(t, err)
	require.Zero(t, pruned, "again")
}
