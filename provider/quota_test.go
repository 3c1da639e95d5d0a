package provider_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/provider"
)

func TestCalendarWindows(t *testing.T) {
	at := time.Date(2026, 11, 26, 13, 45, 30, 5, time.FixedZone("", 3*3600)) // a Thursday, 10:45 in UTC
	day := func(y int, m time.Month, d int) time.Time { return time.Date(y, m, d, 0, 0, 0, 0, time.UTC) }
	for _, c := range []struct {
		window     time.Duration
		start, end time.Time
	}{
		{provider.Month, day(2026, 11, 1), day(2026, 12, 1)},
		{provider.Week, day(2026, 11, 23), day(2026, 11, 30)},
		{provider.Day, day(2026, 11, 26), day(2026, 11, 27)},
		{time.Hour, time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC), time.Date(2026, 11, 26, 11, 0, 0, 0, time.UTC)},
		{time.Second, time.Date(2026, 11, 26, 10, 45, 30, 0, time.UTC), time.Date(2026, 11, 26, 10, 45, 31, 0, time.UTC)},
	} {
		q := provider.Quota{Calls: 1, Window: c.window, Calendar: true}
		require.Equal(t, c.start, q.Start(at), c.window)
		require.Equal(t, c.end, q.End(at), c.window)
		require.Equal(t, c.start, q.Start(c.start))
		require.Equal(t, c.end, q.Start(c.end))
	}
}

func TestLimitsValidate(t *testing.T) {
	require.NoError(t, provider.Limits{MaxInFlight: 1, MinInterval: 1, Quotas: []provider.Quota{{Calls: 1, Window: time.Second}}}.Validate())
	err := provider.Limits{MaxInFlight: -1, MinInterval: -2, Quotas: []provider.Quota{{Calls: 0, Window: time.Hour}, {Calls: 1}}}.Validate()
	for _, want := range []string{"MaxInFlight is -1", "MinInterval is -2ns", "0 calls", "over 0s"} {
		require.ErrorContains(t, err, want)
	}
}

func TestParseQuotas(t *testing.T) {
	for text, want := range map[string][]provider.Quota{
		"":                              nil,
		" none ":                        {},
		"25/week":                       {{Calls: 25, Window: provider.Week}},
		"4/minute, 500/day,15500/month": {{Calls: 4, Window: time.Minute}, {Calls: 500, Window: provider.Day}, {Calls: 15500, Window: provider.Month}},
		"1/second calendar, 100/hour":   {{Calls: 1, Window: time.Second, Calendar: true}, {Calls: 100, Window: time.Hour}},
	} {
		got, err := provider.ParseQuotas(text)
		require.NoError(t, err, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"25", "25/", "/day", "0/day", "-1/day", "x/day", "25/fortnight", "25/day,", "1/day/day", "99999999999999999999/day"} {
		_, err := provider.ParseQuotas(text)
		require.ErrorContains(t, err, `write one like "1000/day"`, text)
	}
}
