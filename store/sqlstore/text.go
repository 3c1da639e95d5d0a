package sqlstore

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/google/uuid"
)

// forms returns the two ways DECNET's tables may spell a UUID: with dashes and
// without.
func forms(id uuid.UUID) (dashed, plain string) {
	return id.String(), hex.EncodeToString(id[:])
}

// spellings returns the forms of all ids.
func spellings(ids []uuid.UUID) []string {
	texts := make([]string, 0, 2*len(ids))
	for _, id := range ids {
		dashed, plain := forms(id)
		texts = append(texts, dashed, plain)
	}
	return texts
}

// parseUUID is the inverse of forms. It accepts nothing else, not even capital
// letters, so that an attacker found can be found again.
func parseUUID(text string) (uuid.UUID, bool) {
	if len(text) != 32 && len(text) != 36 {
		return uuid.UUID{}, false
	}
	id, err := uuid.Parse(text)
	if err != nil {
		return uuid.UUID{}, false
	}
	dashed, plain := forms(id)
	return id, text == dashed || text == plain
}

// cleanJSON returns a JSON text as every database can store it: valid UTF-8,
// with U+FFFD for each byte that is not, which is how it reads anyway, and
// without NUL characters, which are no part of JSON.
func cleanJSON(raw []byte) string {
	text := string(raw)
	if !utf8.Valid(raw) {
		text = string([]rune(text))
	}
	return strings.ReplaceAll(text, "\x00", "")
}

// maxOwner is the greatest length of an owner as it is stored.
const maxOwner = 200

// ownerText returns the name of an owner as every database can store it. Long names,
// and those with other characters than ASCII's visible ones, are cut and replaced,
// and then end with a hash, so that different owners stay different.
func ownerText(owner string) string {
	kept := strings.Map(func(r rune) rune {
		if r < ' ' || r > '~' {
			return '?'
		}
		return r
	}, owner[:min(len(owner), maxOwner)])
	if kept == owner {
		return owner
	}
	sum := sha256.Sum256([]byte(owner))
	return kept + "#" + hex.EncodeToString(sum[:8])
}

// plain returns what is stored for a text of the named provider, or of nobody, that is
// not JSON.
func (t *tx) plain(name, text string) string {
	if t.care[name] < inASCII {
		return text
	}
	return strings.Map(func(r rune) rune {
		if r >= utf8.RuneSelf {
			return '?'
		}
		return r
	}, text)
}

// timeLayout is how SQLAlchemy writes a time to SQLite. The other databases
// read it too.
const timeLayout = "2006-01-02 15:04:05.000000"

func formatTime(t time.Time) string { return clamp(t).Format(timeLayout) }

// The first and the last time that every database can store, and Python.
var (
	firstTime = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC)
	lastTime  = time.Date(9999, 12, 31, 23, 59, 59, 999999000, time.UTC)
)

// clamp returns t as a database keeps it: in UTC, to the microsecond, and within
// the years 1 to 9999.
func clamp(t time.Time) time.Time {
	switch {
	case t.Before(firstTime):
		return firstTime
	case t.After(lastTime):
		return lastTime
	}
	return precise(t)
}

// timeLayouts are the ways a time may be spelled in a table; a fraction of a
// second may follow the seconds.
var timeLayouts = [...]string{
	"2006-01-02 15:04:05",
	"2006-01-02T15:04:05Z07:00",
	"2006-01-02 15:04:05Z07:00",
	"2006-01-02T15:04:05",
	"2006-01-02",
}

// timestamp scans a time of DECNET's tables, which a driver may return as text
// or as a time. It is in UTC with microsecond precision, and zero for NULL and
// for what is no time.
type timestamp struct{ time.Time }

// Scan implements sql.Scanner.
func (t *timestamp) Scan(src any) error {
	t.Time = time.Time{}
	switch v := src.(type) {
	case time.Time:
		t.Time = precise(v)
	case string:
		t.Time = parseTime(v)
	case []byte:
		t.Time = parseTime(string(v))
	}
	return nil
}

func parseTime(text string) time.Time {
	for _, layout := range timeLayouts {
		if t, err := time.Parse(layout, text); err == nil {
			return precise(t)
		}
	}
	return time.Time{}
}

// precise returns t as the database keeps it: in UTC, to the microsecond.
func precise(t time.Time) time.Time { return t.UTC().Truncate(time.Microsecond) }

// micros returns t in microseconds since 1970, and 0 for the zero time.
func micros(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return clamp(t).UnixMicro()
}

// fromMicros is the inverse of micros.
func fromMicros(n int64) time.Time {
	if n == 0 {
		return time.Time{}
	}
	return time.UnixMicro(n).UTC()
}
