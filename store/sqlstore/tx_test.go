package sqlstore

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/store"
)

func TestListsHaveFewLengths(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 4, 5: 8, 64: 64, 65: 128} {
		list := make([]string, n)
		for i := range list {
			list[i] = string(rune('a' + i))
		}
		text, args := (&tx{s: &Store{d: &mysql}}).among(list)
		require.Equal(t, "IN "+params(want), text)
		require.Len(t, args, want)
		require.Equal(t, list[0], args[0])
		require.Equal(t, list[n-1], args[want-1], "the last is repeated")
	}
}

func TestArraysAreQuoted(t *testing.T) {
	text, args := (&tx{s: &Store{d: &postgres}}).among([]string{"a", `"b\`, "", "{c,d}"})
	require.Equal(t, "= ANY (CAST(CAST(? AS TEXT) AS TEXT[]))", text)
	require.Equal(t, []any{`{"a","\"b\\","","{c,d}"}`}, args)
}

func TestInsertsHaveFewLengths(t *testing.T) {
	for n, want := range map[int]int{1: 1, 2: 2, 3: 3, 5: 4, 7: 6, 11: 8, 12: 12, 63: 48, 64: 64, 95: 64, 96: 96, 127: 96, 128: 128} {
		require.Equal(t, want, round(n))
	}
}

func TestPlaceholdersAreNumbered(t *testing.T) {
	s := &Store{d: &postgres}
	for range 2 { // the second time from what it keeps
		require.Equal(t, "a = $1 AND b IN ($2, $3)", s.placed("a = ? AND b IN (?, ?)"))
	}
	require.Equal(t, "a = ?", (&Store{d: &mysql}).placed("a = ?"))
}

func TestQueuesAreReadBack(t *testing.T) {
	since := time.UnixMicro(1795541400000001)
	r := schedule{queues: queuesOf([]store.Entry{
		{Provider: "a", State: store.Waiting, Rank: -3, Since: since}, {Provider: "b"}, {Provider: "c", State: store.Waiting},
	}, never)}
	require.Equal(t, []place{{"waiting:a", -3, since.UnixMicro()}, {queue: "waiting:c"}}, r.places())
	k := candidate{queues: r.queues}
	require.True(t, k.stands("waiting:a"))
	require.False(t, k.stands("waiting:b"))
	require.False(t, k.stands("waiting:"))

	r.queues = queuesOf([]store.Entry{{Provider: "a"}, {Provider: "b"}}, never)
	require.Equal(t, []place{{queue: "parked:a,b"}}, r.places())
	k.queues = r.queues
	require.True(t, k.stands("parked:a,b"))
	require.False(t, k.stands("parked:a"))
	require.Empty(t, queuesOf([]store.Entry{{Provider: "a"}}, 5))
}

func TestTimesAtTheEdgeAreStorable(t *testing.T) {
	for _, at := range []time.Time{
		{}, time.Unix(math.MinInt64, 0), time.Unix(math.MaxInt64, 0), time.Date(-5, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC),
	} {
		text := formatTime(at)
		require.Len(t, text, len("2006-01-02 15:04:05.000000"), "%v", at)
		require.Equal(t, text, formatTime(parseTime(text)))
		if !at.IsZero() {
			require.Equal(t, clamp(at), fromMicros(micros(at)), "%v", at)
		}
	}
	require.Equal(t, "2026-11-24 10:00:00.000000", mysql.time(time.Date(2026, 11, 24, 10, 0, 0, 999999999, time.UTC)))
}

func TestTextIsCutToTheColumn(t *testing.T) {
	require.Equal(t, "abc", (&dialect{}).cut("abc"))
	require.Equal(t, "ab", (&dialect{maxText: 2}).cut("abc"))
	require.Equal(t, "a", (&dialect{maxText: 2}).cut("aü"))
}

// dialer is a connector that connects with an error of no known kind.
type dialer struct {
	driver.Connector
	calls int
}

var errCut = errors.New("invalid connection")

func (d *dialer) Connect(context.Context) (driver.Conn, error) {
	d.calls++
	return nil, errCut
}

func TestConnectingIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, local := range []bool{false, true} {
			dial := new(dialer)
			s := &Store{d: &dialect{begin: []string{"BEGIN"}, local: local}, db: sql.OpenDB(dial), code: code, local: newLocal()}
			start := time.Now()
			f := func(*tx) error { return nil }
			require.ErrorIs(t, s.write(t.Context(), f), errCut)
			if local {
				require.Equal(t, 1, dial.calls, "a file will not come back")
			} else {
				require.Greater(t, time.Since(start), outage)
				require.Greater(t, dial.calls, 20)
			}

			require.NoError(t, s.db.Close())
			calls := dial.calls
			start = time.Now()
			require.ErrorIs(t, s.write(t.Context(), f), errClosed)
			require.Equal(t, calls, dial.calls)
			require.Zero(t, time.Since(start), "nobody opens it again")
		}
	})
}
