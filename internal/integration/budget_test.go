package integration

import (
	"sync"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store/sqlstore"
)

func TestBudgetIsKeptByteForByte(t *testing.T) { onEach(t, testBudgetIsKeptByteForByte) }

func testBudgetIsKeptByteForByte(t *testing.T, on *database) {
	s, _ := on.openStore(t)
	for i, doc := range []string{"", "\x00\xff'\"", `{"left":5}`} {
		swapped, err := s.SwapBudget(t.Context(), "a", uint64(i), []byte(doc))
		require.NoError(t, err)
		require.True(t, swapped)
		got, version, err := s.Budget(t.Context(), "a")
		require.NoError(t, err)
		require.Equal(t, doc, string(got))
		require.EqualValues(t, i+1, version)
	}
	swapped, err := s.SwapBudget(t.Context(), "b", 0, nil)
	require.NoError(t, err)
	require.True(t, swapped)
}

// TestBudgetsAreSwappedOnceByAll has several pools of connections count up
// together.
func TestBudgetsAreSwappedOnceByAll(t *testing.T) { onEach(t, testBudgetsAreSwappedOnceByAll) }

func testBudgetsAreSwappedOnceByAll(t *testing.T, on *database) {
	const pools, each = 4, 25
	dsn := on.create(t)
	stores := make([]*sqlstore.Store, pools)
	for i := range stores {
		stores[i] = on.newStore(t, on.open(t, dsn))
	}
	var (
		wg   sync.WaitGroup
		lost atomic.Int64
	)
	for _, s := range stores {
		wg.Go(func() {
			for done := 0; done < each; {
				doc, version, err := s.Budget(t.Context(), "a")
				if err != nil {
					t.Errorf("Budget: %v", err)
					return
				}
				swapped, err := s.SwapBudget(t.Context(), "a", version, append(doc, 'x'))
				if err != nil {
					t.Errorf("SwapBudget: %v", err)
					return
				}
				if swapped {
					done++
				} else {
					lost.Add(1)
				}
			}
		})
	}
	wg.Wait()
	doc, version, err := stores[0].Budget(t.Context(), "a")
	require.NoError(t, err)
	require.Len(t, doc, pools*each)
	require.EqualValues(t, pools*each, version)
	t.Logf("%d of %d swaps came too late", lost.Load(), lost.Load()+pools*each)
}
