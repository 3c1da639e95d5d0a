package panics_test

import (
	"errors"
	"io"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/intel/internal/panics"
)

// broken is an error that panics when it is read.
type broken struct{}

func (broken) Error() string { panic("broken") }
func (broken) RuntimeError() {}

func TestCatch(t *testing.T) {
	require.NoError(t, panics.Catch(func() error { return nil }))
	require.Equal(t, io.EOF, panics.Catch(func() error { return io.EOF }))
	const unshown = "panic; its value is not shown, because it may quote a key"
	for _, c := range []struct {
		value any
		says  string
	}{
		{"the key s3cret", unshown}, {errors.New("the key s3cret"), unshown}, {broken{}, unshown}, {7, unshown},
	} {
		err := panics.Catch(func() error { panic(c.value) })
		require.EqualError(t, err, c.says)
		panicked, ok := errors.AsType[*panics.Error](err)
		require.True(t, ok)
		require.Equal(t, c.value, panicked.Value)
		require.Contains(t, string(panicked.Stack), "TestCatch")
	}
	var none *int
	require.ErrorContains(t, panics.Catch(func() error { *none = 1; return nil }), "panic: runtime error: invalid memory address")
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = panics.Catch(func() error { return nil }) }))
}
