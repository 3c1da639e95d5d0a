package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

// bare is a store without optional interfaces.
type bare struct{ store.Store }

// decorator hides all optional interfaces of what it decorates.
type decorator struct{ store.Store }

func (d decorator) Unwrap() store.Store { return d.Store }

// counted is a store with one optional interface.
type counted struct {
	store.Store
	attackers int
}

func (c counted) Stats(context.Context, time.Time) (store.Stats, error) {
	return store.Stats{Attackers: c.attackers}, nil
}

func (c counted) Unwrap() store.Store { return c.Store }

func TestAs(t *testing.T) {
	attackers := func(s store.Store) int {
		t.Helper()
		st, ok := store.As[store.Statistician](s)
		require.True(t, ok)
		got, err := st.Stats(t.Context(), time.Now())
		require.NoError(t, err)
		return got.Attackers
	}
	inner := counted{bare{}, 1}
	require.Equal(t, 1, attackers(inner))
	require.Equal(t, 1, attackers(decorator{decorator{inner}}), "behind two decorators")
	require.Equal(t, 2, attackers(counted{decorator{inner}, 2}), "the outermost wins")

	for _, s := range []store.Store{nil, bare{}, decorator{bare{}}, decorator{nil}, bare{inner}} {
		st, ok := store.As[store.Statistician](s)
		require.False(t, ok, "%#v", s)
		require.Nil(t, st)
	}
	_, ok := store.As[store.Outbox](decorator{inner})
	require.False(t, ok, "another interface")
}
