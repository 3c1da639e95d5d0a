package sighting

import (
	"bytes"
	"strconv"
	"time"
)

// parseTime returns the time that a field holds, and the zero time if it holds
// none.
func (r *Reader) parseTime(text []byte) time.Time {
	text = bytes.Trim(text, ` "[]`)
	if t, ok := r.timeAt(text); ok {
		return t
	}
	if n, err := strconv.ParseFloat(string(text), 64); err == nil {
		return epoch(n)
	}
	return time.Time{}
}

// epoch returns the time of a Unix timestamp in seconds, milliseconds,
// microseconds or nanoseconds, by its size.
func epoch(n float64) time.Time {
	const latest = 1e10 // in seconds: the year 2286
	for range 3 {
		if n > latest {
			n /= 1000
		}
	}
	if !(n >= 1e8 && n <= latest) { // from 1973 on
		return time.Time{}
	}
	return time.UnixMicro(int64(n * 1e6)).UTC()
}

// timeWindow is how far into a line a time is looked for.
const timeWindow = 120

// lineTime returns the first time in a line.
func (r *Reader) lineTime(line []byte) time.Time {
	head := line[:min(len(line), timeWindow)]
	for i := 0; i+8 < len(head); i++ {
		if !startsTime(head, i) {
			continue
		}
		if t, ok := r.timeAt(line[i:min(len(line), i+64)]); ok {
			return t
		}
	}
	// A Unix timestamp at the beginning, in brackets or not.
	word := bytes.TrimLeft(head, "[ ")
	if i := bytes.IndexAny(word, " \t]|,;"); i >= 10 && i < 21 {
		if n, err := strconv.ParseFloat(string(word[:i]), 64); err == nil {
			return epoch(n)
		}
	}
	if _, rest, ok := bytes.Cut(head, []byte("msg=audit(")); ok && len(rest) > 10 {
		if i := bytes.IndexByte(rest, ':'); i >= 10 && i < 21 {
			if n, err := strconv.ParseFloat(string(rest[:i]), 64); err == nil {
				return epoch(n)
			}
		}
	}
	return time.Time{}
}

// hasTime reports whether a time is near the beginning of a line, so that the
// line is of a log.
func hasTime(line []byte) bool {
	r := Reader{options: Options{Location: time.UTC, Now: func() time.Time { return time.Unix(1<<32, 0) }}}
	return !r.lineTime(line).IsZero() || isClock(line)
}

// isClock reports whether a line begins with a time of day.
func isClock(line []byte) bool {
	_, _, ok := clock(line)
	return ok
}

func startsTime(s []byte, i int) bool {
	c := s[i]
	if !isDigit(c) && !isLetter(c) {
		return false
	}
	return i == 0 || !isDigit(s[i-1]) && !isLetter(s[i-1]) && s[i-1] != '.' && s[i-1] != '-'
}

// timeAt returns the time at the beginning of s.
func (r *Reader) timeAt(s []byte) (time.Time, bool) {
	if len(s) < 8 {
		return time.Time{}, false
	}
	if isDigit(s[0]) {
		return r.numericTime(s)
	}
	// Mon Jan _2 15:04:05[.000] 2006, Mon, 02 Jan 2006 15:04:05 -0700
	if weekday(s) {
		rest := bytes.TrimLeft(s[3:], ", ")
		return r.timeAt(rest)
	}
	// Jan _2 15:04:05, Jan _2 2006 15:04:05, Jan _2 15:04:05 2006
	month, n := monthName(s)
	if month == 0 {
		return time.Time{}, false
	}
	rest := bytes.TrimLeft(s[n:], " -/")
	day, n := number(rest, 1, 2)
	if n == 0 {
		return time.Time{}, false
	}
	rest = rest[n:]
	year := 0
	after := bytes.TrimLeft(rest, ", -/")
	if y, n := number(after, 4, 4); n == 4 && (len(after) == 4 || after[4] != ':') {
		year, after = y, after[4:]
	} else if y, n := number(after, 2, 2); n == 2 && len(after) > 2 && after[2] == ' ' { // Apr-07-13
		year, after = 2000+y, after[2:]
	}
	after = bytes.TrimLeft(after, " :,")
	clk, n, ok := clock(after)
	if !ok {
		return time.Time{}, false
	}
	rest = after[n:]
	if year == 0 {
		if y, n := number(bytes.TrimLeft(rest, " "), 4, 4); n == 4 && len(rest) > 0 && rest[0] == ' ' && yearAlone(bytes.TrimLeft(rest, " ")) {
			year = y
		}
	}
	return r.date(year, month, day, clk, rest)
}

func yearAlone(s []byte) bool {
	return (s[0] == '1' && s[1] == '9' || s[0] == '2' && s[1] == '0') && (len(s) == 4 || s[4] == ']' || s[4] == ' ' || s[4] == ':')
}

// numericTime reads the times that begin with a digit.
func (r *Reader) numericTime(s []byte) (time.Time, bool) {
	first, n := number(s, 1, 4)
	if n == 0 || n == len(s) || n == 3 {
		return time.Time{}, false
	}
	sep := s[n]
	if sep != '-' && sep != '/' && sep != '.' && sep != ' ' && sep != ':' {
		return time.Time{}, false
	}
	rest := s[n+1:]
	if month, used := monthName(rest); month != 0 && n <= 2 { // 02/Jan/2006:15:04:05 -0700, 02 Jan 2006 15:04:05
		rest = bytes.TrimLeft(rest[used:], "./- ")
		year, n := number(rest, 4, 4)
		if n == 0 {
			return time.Time{}, false
		}
		rest = bytes.TrimLeft(rest[n:], ": ,")
		clk, n, ok := clock(rest)
		if !ok {
			return time.Time{}, false
		}
		return r.date(year, month, first, clk, rest[n:])
	}
	second, m := number(rest, 1, 2)
	if m == 0 || m == len(rest) || rest[m] != sep {
		return time.Time{}, false
	}
	rest = rest[m+1:]
	third, k := number(rest, 1, 4)
	if k == 0 || k == 3 {
		return time.Time{}, false
	}
	year, month, day := first, second, third
	switch {
	case n == 4 && k <= 2:
	case k == 4 && n <= 2 && sep == '/' && (second > 12 || first <= 12):
		year, month, day = third, first, second // 01/31/2006, and 01/02/2006 as in the United States
	case k == 4 && n <= 2:
		year, month, day = third, second, first // 02-01-2006
	default:
		return time.Time{}, false
	}
	if month < 1 || month > 12 {
		return time.Time{}, false
	}
	rest = rest[k:]
	if bytes.HasPrefix(rest, []byte(" time=")) { // date=2006-01-02 time=15:04:05
		rest = joined([]byte{'T'}, rest[len(" time="):])
	}
	if len(rest) == 0 || bytes.IndexByte([]byte("T t-_:,"), rest[0]) < 0 {
		return time.Time{}, false
	}
	rest = bytes.TrimLeft(rest, "Tt -_:,")
	clk, c, ok := clock(rest)
	if !ok {
		return time.Time{}, false
	}
	return r.date(year, time.Month(month), day, clk, rest[c:])
}

// date puts a time together. Rest may begin with a zone.
func (r *Reader) date(year int, month time.Month, day int, clk time.Duration, rest []byte) (time.Time, bool) {
	if day < 1 || day > 31 {
		return time.Time{}, false
	}
	loc := r.options.Location
	if offset, ok := zone(rest); ok {
		loc = offset
	}
	at := func(year int) time.Time {
		return time.Date(year, month, day, 0, 0, 0, 0, loc).Add(clk).UTC()
	}
	if loc != time.UTC { // a day with a change of the clocks has not 24 hours
		at = func(year int) time.Time {
			h, m, s := int(clk/time.Hour), int(clk/time.Minute)%60, int(clk/time.Second)%60
			return time.Date(year, month, day, h, m, s, int(clk%time.Second), loc).UTC()
		}
	}
	if year != 0 {
		return at(year), true
	}
	now := r.options.Now()
	t := at(now.In(loc).Year())
	if t.After(now.Add(24 * time.Hour)) {
		t = at(now.In(loc).Year() - 1)
	}
	return t, true
}

// clock reads 15:04:05 with a fraction, if there is one, and PM.
func clock(s []byte) (clk time.Duration, n int, ok bool) {
	h, i := number(s, 1, 2)
	if i == 0 || i >= len(s) || s[i] != ':' || h > 23 {
		return 0, 0, false
	}
	m, k := number(s[i+1:], 2, 2)
	j := i + 1 + k
	if k == 0 || j >= len(s) || s[j] != ':' || m > 59 {
		return 0, 0, false
	}
	sec, k := number(s[j+1:], 2, 2)
	j += 1 + k
	if k == 0 || sec > 60 {
		return 0, 0, false
	}
	clk = time.Duration(h)*time.Hour + time.Duration(m)*time.Minute + time.Duration(sec)*time.Second
	if j+1 < len(s) && (s[j] == '.' || s[j] == ',') && isDigit(s[j+1]) {
		unit := time.Second / 10
		for j++; j < len(s) && isDigit(s[j]); j++ {
			clk += time.Duration(s[j]-'0') * unit
			unit /= 10
		}
	}
	if rest := s[j:]; len(rest) >= 3 && rest[0] == ' ' && (rest[2] == 'M' || rest[2] == 'm') {
		switch {
		case rest[1]|0x20 == 'p' && h < 12:
			clk += 12 * time.Hour
			j += 3
		case rest[1]|0x20 == 'a' && h == 12:
			clk -= 12 * time.Hour
			j += 3
		}
	}
	return clk, j, true
}

// zone reads Z, UTC, GMT or an offset.
func zone(s []byte) (*time.Location, bool) {
	s = bytes.TrimLeft(s, " ")
	switch {
	case len(s) == 0:
		return nil, false
	case s[0] == 'Z' && (len(s) == 1 || !isLetter(s[1])),
		bytes.HasPrefix(s, []byte("UTC")), bytes.HasPrefix(s, []byte("GMT")):
		return time.UTC, true
	case s[0] != '+' && s[0] != '-':
		return nil, false
	}
	digits := 1
	for digits < len(s) && (isDigit(s[digits]) || digits == 3 && s[digits] == ':') {
		digits++
	}
	hhmm := bytes.ReplaceAll(s[1:digits], []byte{':'}, nil)
	if len(hhmm) != 2 && len(hhmm) != 4 {
		return nil, false // the number of something else
	}
	h, _ := number(hhmm[:2], 2, 2)
	m, _ := number(hhmm[2:], 2, 2)
	if h > 15 || m > 59 {
		return nil, false
	}
	offset := h*3600 + m*60
	if offset == 0 {
		return time.UTC, true
	}
	if s[0] == '-' {
		offset = -offset
	}
	return time.FixedZone("", offset), true
}

// number reads a number of least to most digits, and returns 0 digits if there
// are others.
func number(s []byte, least, most int) (v, digits int) {
	for digits < len(s) && digits <= most && isDigit(s[digits]) {
		v = v*10 + int(s[digits]-'0')
		digits++
	}
	if digits < least || digits > most {
		return 0, 0
	}
	return v, digits
}

const months = "janfebmaraprmayjunjulaugsepoctnovdec"

// monthName reads the English name of a month, whole or cut to three letters or
// four, with a dot or without.
func monthName(s []byte) (time.Month, int) {
	if len(s) < 3 {
		return 0, 0
	}
	low := [3]byte{s[0] | 0x20, s[1] | 0x20, s[2] | 0x20}
	for i := 0; i < len(months); i += 3 {
		if months[i:i+3] != string(low[:]) {
			continue
		}
		n := 3
		for n < len(s) && n < 10 && isLetter(s[n]) {
			n++
		}
		if n < len(s) && s[n] == '.' {
			n++
		}
		return time.Month(i/3 + 1), n
	}
	return 0, 0
}

func weekday(s []byte) bool {
	if len(s) < 5 || s[3] != ' ' && s[3] != ',' {
		return false
	}
	switch string(s[:3]) {
	case "Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun":
		return true
	}
	return false
}
