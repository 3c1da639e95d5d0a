package sqlstore

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

func TestUUIDIsMatchedInBothSpellings(t *testing.T) {
	id := uuid.MustParse("0b2f8e7c-3d4a-4c5b-9e6f-a1b2c3d4e5f6")
	dashed, plain := forms(id)
	require.Equal(t, "0b2f8e7c-3d4a-4c5b-9e6f-a1b2c3d4e5f6", dashed)
	require.Equal(t, "0b2f8e7c3d4a4c5b9e6fa1b2c3d4e5f6", plain)
	for _, text := range []string{dashed, plain} {
		got, ok := parseUUID(text)
		require.True(t, ok)
		require.Equal(t, id, got)
	}
	for _, text := range []string{
		"", "no uuid", "0B2F8E7C-3D4A-4C5B-9E6F-A1B2C3D4E5F6", "{0b2f8e7c-3d4a-4c5b-9e6f-a1b2c3d4e5f6}",
		"urn:uuid:0b2f8e7c-3d4a-4c5b-9e6f-a1b2c3d4e5f6", "0b2f8e7c-3d4a-4c5b-9e6f-a1b2c3d4e5fx",
	} {
		_, ok := parseUUID(text)
		require.False(t, ok, text)
	}
}

func TestTimesAreWrittenAsSQLAlchemyDoes(t *testing.T) {
	berlin := time.FixedZone("", 3600)
	require.Equal(t, "2026-11-23 18:47:10.000000", formatTime(time.Date(2026, 11, 23, 19, 47, 10, 0, berlin)))
	require.Equal(t, "2026-11-23 18:47:10.123456", formatTime(time.Date(2026, 11, 23, 19, 47, 10, 123456789, berlin)))
}

func TestTimesAreReadAsAnybodyWritesThem(t *testing.T) {
	want := time.Date(2026, 11, 23, 18, 47, 10, 123456000, time.UTC)
	for _, v := range []any{
		"2026-11-23 18:47:10.123456", []byte("2026-11-23 18:47:10.123456"), "2026-11-23T18:47:10.123456",
		"2026-11-23T18:47:10.123456Z", "2026-11-23 19:47:10.123456+01:00", "2026-11-23 18:47:10.123456789",
		want.In(time.FixedZone("", 3600)),
	} {
		var ts timestamp
		require.NoError(t, ts.Scan(v))
		require.Equal(t, want, ts.Time, "%v", v)
	}
	for _, v := range []any{nil, "", "yesterday", int64(5), "2026-13-01 00:00:00"} {
		ts := timestamp{want}
		require.NoError(t, ts.Scan(v))
		require.True(t, ts.IsZero(), "%v", v)
	}
}

func FuzzParseTime(f *testing.F) {
	f.Add("2026-11-23 18:47:10.123456")
	f.Add("2026-11-23T18:47:10+01:00")
	f.Fuzz(func(t *testing.T, text string) {
		got := parseTime(text)
		require.Equal(t, time.UTC, got.Location())
		if y := got.Year(); y >= 0 && y <= 9999 {
			require.Equal(t, got, parseTime(formatTime(got)))
		}
	})
}

func TestRawIsMadeStorable(t *testing.T) {
	raw := "{\"a\":\"\xff\xfe\"}"
	require.Equal(t, "{\"a\":\"\uFFFD\uFFFD\"}", cleanJSON([]byte(raw)))
	require.True(t, json.Valid([]byte(cleanJSON([]byte(raw)))))
	require.Equal(t, `{"a":"ü"}`, cleanJSON([]byte(`{"a":"ü"}`)))
}
