package memstore

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestQueueGivesRowsInOrderWhoeverLeaves(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	for range 200 {
		q := &queue{key: newest}
		var rows []*row
		for range 1 + rnd.IntN(60) {
			r := &row{seen: rnd.Int64N(20)}
			r.ID = uuid.New()
			r.place.row = r
			q.push(&r.place)
			rows = append(rows, r)
		}
		for range rnd.IntN(len(rows)) {
			i := rnd.IntN(len(rows))
			rows[i].place.leave()
			rows[i].place.leave() // leaving twice is harmless
			rows = slices.Delete(rows, i, i+1)
		}
		slices.SortFunc(rows, byNewest)
		for _, want := range rows {
			got := q.first()
			require.Same(t, want, got)
			got.place.leave()
		}
		require.Nil(t, q.first())
	}
}
