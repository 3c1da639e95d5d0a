package provider

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Lengths of the windows that quotas are counted over. A Month is the longest
// one there is, so that a rolling month never allows more than a calendar one.
const (
	Day   = 24 * time.Hour
	Week  = 7 * Day
	Month = 31 * Day
)

// Quota is an allowance: a number of calls in a window of time. Failed calls
// count too.
type Quota struct {
	// Calls is the number of calls allowed. It must be positive.
	Calls int
	// Window is the time they are counted over, at least a second.
	Window time.Duration
	// Calendar says that the source starts to count afresh at fixed times in
	// UTC: on the first of the month for a [Month], on Monday for a [Week], at
	// midnight for a [Day], and at every multiple of Window otherwise. Without it
	// the window is rolling: a call counts until it is Window old. A rolling
	// window keeps within every other sort, so when in doubt leave it false.
	Calendar bool
}

// Validate returns an error that names what is wrong with the quota.
func (q Quota) Validate() error {
	var errs []error
	if q.Calls <= 0 {
		errs = append(errs, fmt.Errorf("a quota of %d calls; it must be positive", q.Calls))
	}
	if q.Window < time.Second {
		errs = append(errs, fmt.Errorf("a quota over %v; the window must be at least a second", q.Window))
	}
	return errors.Join(errs...)
}

// Validate returns an error that names every limit that makes no sense.
func (l Limits) Validate() error {
	var errs []error
	if l.MaxInFlight < 0 {
		errs = append(errs, fmt.Errorf("MaxInFlight is %d; it must not be negative", l.MaxInFlight))
	}
	if l.MinInterval < 0 {
		errs = append(errs, fmt.Errorf("MinInterval is %v; it must not be negative", l.MinInterval))
	}
	for _, q := range l.Quotas {
		errs = append(errs, q.Validate())
	}
	return errors.Join(errs...)
}

// Start returns when the calendar window that holds now began.
func (q Quota) Start(now time.Time) time.Time {
	now = now.UTC()
	if q.Window == Month {
		return time.Date(now.Year(), now.Month(), 1, 0, 0, 0, 0, time.UTC)
	}
	return now.Truncate(q.Window) // the zero time was a Monday's midnight
}

// End returns when the calendar window that holds now ends.
func (q Quota) End(now time.Time) time.Time {
	if q.Window == Month {
		return q.Start(now).AddDate(0, 1, 0)
	}
	return q.Start(now).Add(q.Window)
}

// Usage is what a source said about its allowance, in the headers of an answer
// or in a refusal. The zero value of each field means that it did not say.
type Usage struct {
	// Limit is the number of calls that the plan allows.
	Limit int
	// Remaining is how many of them are left. It means nothing without Limit.
	Remaining int
	// Window is what Limit is counted over.
	Window time.Duration
	// Reset is when there will be calls left again.
	Reset time.Time
}

var windows = map[string]time.Duration{
	"second": time.Second, "minute": time.Minute, "hour": time.Hour, "day": Day, "week": Week, "month": Month,
}

// ParseQuotas reads quotas as people write them: calls, a slash and a second,
// minute, hour, day, week or month, and several of these separated by commas,
// like "4/minute, 500/day". The windows are rolling unless the word calendar
// follows: "500/day calendar". It returns nil for an empty text, and for "none"
// an empty slice that is not nil.
func ParseQuotas(text string) ([]Quota, error) {
	switch strings.TrimSpace(text) {
	case "":
		return nil, nil
	case "none":
		return []Quota{}, nil
	}
	var quotas []Quota
	for part := range strings.SplitSeq(text, ",") {
		calls, window, _ := strings.Cut(strings.TrimSpace(part), "/")
		window, calendar := strings.CutSuffix(window, " calendar")
		n, err := strconv.Atoi(calls)
		length, ok := windows[strings.TrimSpace(window)]
		if err != nil || !ok || n <= 0 {
			return nil, fmt.Errorf(`%q is no quota; write one like "1000/day", with second, minute, hour, day, week or month`, strings.TrimSpace(part))
		}
		quotas = append(quotas, Quota{Calls: n, Window: length, Calendar: calendar})
	}
	return quotas, nil
}
