package gate

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

var noon = time.Date(2026, 6, 1, 12, 0, 0, 0, time.UTC)

func TestReserve(t *testing.T) {
	p := pace{interval: time.Second}
	reserve := func(now, wait time.Duration) (time.Duration, bool) {
		return p.reserve(noon.Add(now), noon.Add(now+wait))
	}
	for _, c := range []struct {
		now, wait, delay time.Duration
		ok               bool
	}{
		{0, 0, 0, true},
		{0, 0, 0, false},
		{0, time.Second - 1, 0, false}, // which takes no place
		{0, time.Second, time.Second, true},
		{0, 3 * time.Second, 2 * time.Second, true},
		{2500 * time.Millisecond, time.Second, 500 * time.Millisecond, true},
		{4 * time.Second, 0, 0, true},
		{time.Hour, 0, 0, true},
		{time.Hour + time.Second - 1, 0, 0, false},
		{time.Hour + time.Second, 0, 0, true},
	} {
		delay, ok := reserve(c.now, c.wait)
		require.Equal(t, c.ok, ok, "%+v", c)
		require.Equal(t, c.delay, delay, "%+v", c)
	}
}

func TestReserveWithoutInterval(t *testing.T) {
	var p pace
	for range 3 {
		delay, ok := p.reserve(noon, noon)
		require.True(t, ok)
		require.Zero(t, delay)
	}
}

// TestLater: lookups that are put off are told different times, as far apart
// as the provider takes them.
func TestLater(t *testing.T) {
	for _, c := range []struct {
		name     string
		interval time.Duration
		latency  time.Duration
		slots    int
		step     time.Duration
	}{
		{"nothing known", 0, 0, 4, time.Millisecond},
		{"interval", time.Second, 0, 4, time.Second},
		{"latency", 0, 400 * time.Millisecond, 4, 100 * time.Millisecond},
		{"interval above latency", time.Second, 400 * time.Millisecond, 4, time.Second},
		{"latency above interval", 50 * time.Millisecond, 400 * time.Millisecond, 4, 100 * time.Millisecond},
		{"very quick", 0, time.Millisecond, 64, time.Millisecond},
	} {
		t.Run(c.name, func(t *testing.T) {
			p := pace{interval: c.interval, latency: c.latency}
			soonest := noon.Add(time.Second)
			for n := range 10 {
				require.Equal(t, soonest.Add(time.Duration(n+1)*c.step), p.later(noon, soonest, c.slots))
			}
			// Those who come after all these have come are not told to wait.
			much := noon.Add(time.Minute)
			require.Equal(t, much.Add(c.step), p.later(much, much, c.slots))
		})
	}
}

func TestLaterThanReserved(t *testing.T) {
	p := pace{interval: time.Second}
	for range 5 {
		_, ok := p.reserve(noon, noon.Add(time.Minute))
		require.True(t, ok)
	}
	require.Equal(t, noon.Add(6*time.Second), p.later(noon, noon, 1))
}

func TestLaterIsBounded(t *testing.T) {
	p := pace{interval: time.Minute}
	last := noon
	for n := range 200 {
		at := p.later(noon, noon, 1)
		require.Equal(t, noon.Add(min(time.Duration(n+1), 61)*time.Minute), at)
		require.False(t, at.Before(last))
		last = at
	}
}

func TestLaterIsUTC(t *testing.T) {
	var p pace
	at := p.later(noon.In(time.FixedZone("east", 7200)), noon, 1)
	require.Equal(t, time.UTC, at.Location())
}

func TestObserve(t *testing.T) {
	var p pace
	for range 100 {
		p.observe(800 * time.Millisecond)
	}
	require.InDelta(t, 800*time.Millisecond, p.latency, float64(time.Millisecond))
	p.observe(1600 * time.Millisecond)
	require.InDelta(t, 900*time.Millisecond, p.latency, float64(time.Millisecond))
	p.observe(0)
	require.Less(t, p.latency, 800*time.Millisecond)
}
