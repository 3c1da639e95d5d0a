package backoff

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestDelay(t *testing.T) {
	const (
		min = 50 * time.Millisecond
		max = 500 * time.Millisecond
	)
	for _, tt := range []struct {
		min, max time.Duration
		failures int
		want     time.Duration
	}{
		{min, max, math.MinInt, min},
		{min, max, -1, min},
		{min, max, 0, min},
		{min, max, 1, min},
		{min, max, 2, 2 * min},
		{min, max, 3, 4 * min},
		{min, max, 4, 8 * min},
		{min, max, 5, max},
		{min, max, 6, max},
		{min, max, 62, max},
		{min, max, 63, max},
		{min, max, 64, max},
		{min, max, 65, max},
		{min, max, math.MaxInt, max},
		{max, max, 1, max},
		{max, max, 7, max},
		{max, min, 1, min},
		{max, min, 7, min},
		{1, math.MaxInt64, 63, 1 << 62},
		{1, math.MaxInt64, 64, math.MaxInt64},
		{3, math.MaxInt64, 63, math.MaxInt64},
		{time.Hour, math.MaxInt64, 1000, math.MaxInt64},
	} {
		low, high := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			d := Delay(tt.min, tt.max, tt.failures)
			require.LessOrEqual(t, d, tt.want, "%+v", tt)
			require.GreaterOrEqual(t, d, tt.want-tt.want/5-1, "%+v", tt)
			if d < low {
				low = d
			}
			if d > high {
				high = d
			}
		}
		if tt.want > time.Microsecond {
			require.Greater(t, high-low, tt.want/10, "%+v: it varies", tt)
		}
	}
}

func TestDelayOfNothing(t *testing.T) {
	for range 100 {
		require.Zero(t, Delay(0, 0, 3))
		require.Zero(t, Delay(time.Second, 0, 3))
		require.LessOrEqual(t, Delay(1, 1, 3), time.Duration(1))
	}
}
