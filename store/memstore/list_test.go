package memstore

import (
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func FuzzCursor(f *testing.F) {
	r := &row{seen: -5}
	r.ID = uuid.New()
	f.Add(cursor(r))
	f.Add("")
	f.Add("1.")
	f.Add("x." + r.ID.String())
	f.Fuzz(func(t *testing.T, text string) {
		last, err := parseCursor(text)
		if err != nil {
			require.ErrorIs(t, err, store.ErrInvalid)
			return
		}
		again, err := parseCursor(cursor(last))
		require.NoError(t, err)
		require.Equal(t, last, again)
	})
}
