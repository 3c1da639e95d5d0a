package main

import (
	"runtime/debug"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestTuneGC: the garbage collector is set up, unless the operator does that.
func TestTuneGC(t *testing.T) {
	percent, limit := debug.SetGCPercent(100), debug.SetMemoryLimit(-1)
	defer debug.SetGCPercent(percent)
	defer debug.SetMemoryLimit(limit)
	tuneGC(setting(map[string]string{"GOGC": "50", "GOMEMLIMIT": "1GiB"}))
	require.Equal(t, limit, debug.SetMemoryLimit(-1))
	require.Equal(t, 100, debug.SetGCPercent(100))
	tuneGC(setting(nil))
	require.EqualValues(t, memoryLimit, debug.SetMemoryLimit(-1))
	require.Equal(t, gcPercent, debug.SetGCPercent(100))
}
