package sighting

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"
)

// all returns the sightings that are left.
func all(t testing.TB, r *Reader) (found []Sighting) {
	t.Helper()
	for {
		s, err := r.Next()
		if errors.Is(err, io.EOF) {
			return found
		}
		require.NoError(t, err)
		found = append(found, s)
	}
}
