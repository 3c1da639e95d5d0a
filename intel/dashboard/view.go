package dashboard

import (
	"fmt"
	"html/template"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/decnet/enrich/intel"
	"github.com/decnet/enrich/intel/httpapi"
	"github.com/decnet/enrich/internal/human"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// indexPage is what the first page shows.
type indexPage struct {
	Now       time.Time
	Form      form
	Problem   string // instead of attackers
	Attackers []httpapi.Attacker
	Next      string // where the next page is; empty after the last
	Chart     *chart // nil if there are no counts
	Worker    *workerView
	Live      bool
	Changes   []httpapi.Change
	Sources   []string // for the filter
}

// form are the filters as they were entered.
type form struct {
	Text, Source, Since string
	Verdict             map[string]bool
	Cursor              bool // not the first page
}

// Any reports whether anything is filtered.
func (f form) Any() bool {
	return f.Text != "" || f.Source != "" || f.Since != "" || f.Cursor || slices.ContainsFunc(verdictNames, func(v string) bool { return f.Verdict[v] })
}

// verdictNames are the verdicts that can be filtered by, and their classes.
var verdictNames = []string{"malicious", "suspicious", "benign", "unknown", "none"}

// Verdicts are what the filter offers.
func (form) Verdicts() []string { return verdictNames }

// Times are what the filter offers: durations before now.
func (form) Times() []choice {
	return []choice{{"", "any time"}, {"1h", "the last hour"}, {"24h", "the last day"}, {"168h", "the last week"}, {"720h", "the last 30 days"}}
}

type choice struct{ Value, Text string }

// workerView is how the worker is doing.
type workerView struct {
	intel.Status
	Providers []providerView // those without a list
	Lists     []providerView
	Waiting   int    // entries that wait for a quota
	Drain     string // how long the backlog takes
}

// providerView is how one provider is doing.
type providerView struct {
	intel.ProviderStatus
	Waiting int // attackers that wait for it
	Quotas  []quotaView
	Failed  uint64
	Class   string // good, warn or bad
}

// quotaView is a quota as a bar.
type quotaView struct {
	intel.QuotaStatus
	Used    int
	Percent int
	Window  string
	Class   string
}

func (p *indexPage) fillStatus(s intel.Status, known bool, now time.Time) {
	if !known {
		return
	}
	v := &workerView{Status: s, Drain: "unknown"}
	for _, ps := range s.Providers {
		p.Sources = append(p.Sources, ps.Name)
		pv := providerView{ProviderStatus: ps, Class: "good"}
		switch ps.State {
		case "failing", "unauthorized":
			pv.Class = "bad"
		case "rate limited", "quota exhausted":
			pv.Class = "warn"
		}
		for _, n := range ps.Errors {
			pv.Failed += n
		}
		for _, q := range ps.Quotas {
			qv := quotaView{QuotaStatus: q, Used: max(q.Limit-q.Remaining, 0), Window: human.Duration(time.Duration(q.Seconds) * time.Second), Class: "good"}
			if q.Limit > 0 {
				qv.Percent = min(100*qv.Used/q.Limit, 100)
			}
			switch {
			case q.Remaining <= 0:
				qv.Class = "bad"
			case qv.Percent >= 80:
				qv.Class = "warn"
			}
			pv.Quotas = append(pv.Quotas, qv)
		}
		if s.Backlog != nil {
			pv.Waiting = s.Backlog.Waiting[ps.Name]
			v.Waiting += pv.Waiting
		}
		if ps.List != nil {
			pv.State, pv.Class = listState(ps.List)
			v.Lists = append(v.Lists, pv)
		} else {
			v.Providers = append(v.Providers, pv)
		}
	}
	if b := s.Backlog; b != nil {
		switch {
		case b.Due+b.Leased+v.Waiting == 0:
			v.Drain = "nothing to do"
		case b.DrainSeconds >= 0:
			v.Drain = "about " + human.Duration(time.Duration(min(b.DrainSeconds, 1e9)*float64(time.Second)))
		}
	}
	p.Worker = v
}

// listState says whether a list is used, and its class.
func listState(l *provider.ListStatus) (state, class string) {
	switch {
	case !l.Loaded && l.Error == "":
		return "being loaded", ""
	case !l.Loaded:
		return "not loaded", "bad"
	case l.Stale:
		return "old", "warn"
	case l.Shrunk, l.Error != "":
		return "not updated", "warn"
	}
	return "in use", "good"
}

// chart is the verdicts over time, as stacked bars.
type chart struct {
	Days  []day
	Total int
	Max   int
}

// day is one bar, and one row of the table that says the same.
type day struct {
	Date   time.Time
	X      int
	Parts  []part
	Counts [5]int // in the order of verdictNames
	Total  int
}

// part is one verdict's part of a bar.
type part struct {
	Class     string
	Y, Height float64
}

// The chart in its own units.
const (
	chartHeight = 120.
	barWidth    = 26
	barStep     = 34
)

// newChart returns a chart of the counts of the last days.
func newChart(counts []store.Count, now time.Time) *chart {
	first := now.UTC().Truncate(24*time.Hour).AddDate(0, 0, 1-days)
	c := &chart{Days: make([]day, days)}
	for i := range c.Days {
		c.Days[i].Date, c.Days[i].X = first.AddDate(0, 0, i), i*barStep
	}
	for _, n := range counts {
		i := int(n.From.Sub(first) / (24 * time.Hour))
		if i < 0 || i >= days || n.From.Before(first) {
			continue
		}
		c.Days[i].Counts[slices.Index(verdictNames, kind(n.Verdict))] += n.Attackers
		c.Days[i].Total += n.Attackers
		c.Total += n.Attackers
		c.Max = max(c.Max, c.Days[i].Total)
	}
	for i := range c.Days {
		y := chartHeight
		for v, n := range c.Days[i].Counts {
			if n == 0 {
				continue
			}
			h := max(chartHeight*float64(n)/float64(c.Max), 1)
			y -= h
			c.Days[i].Parts = append(c.Days[i].Parts, part{verdictNames[v], y, h})
		}
	}
	return c
}

// Width is the width of the chart.
func (c *chart) Width() int { return days*barStep - (barStep - barWidth) }

// BarWidth is the width of one bar.
func (c *chart) BarWidth() int { return barWidth }

// stamp returns an element with a time, which the browser shows in local form.
func stamp(v any) template.HTML {
	t := toTime(v)
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return "—"
	}
	exact := t.UTC().Format(time.RFC3339)
	return template.HTML(`<time datetime="` + exact + `" title="` + exact + `">` + t.UTC().Format("2006-01-02 15:04 UTC") + `</time>`)
}

// ago is stamp for times that are shown relative to now.
func ago(v any) template.HTML {
	t := toTime(v)
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return "—"
	}
	exact := t.UTC().Format(time.RFC3339)
	text := human.Duration(time.Since(t)) + " ago"
	if d := time.Until(t); d > 0 {
		text = "in " + human.Duration(d)
	}
	return template.HTML(`<time class="ago" datetime="` + exact + `" title="` + exact + `">` + text + `</time>`)
}

func toTime(v any) time.Time {
	switch t := v.(type) {
	case time.Time:
		return t
	case *time.Time:
		if t != nil {
			return *t
		}
	}
	return time.Time{}
}

// ageOf returns an age in seconds in words.
func ageOf(seconds int64) string { return human.Duration(time.Duration(seconds) * time.Second) }

// kind is the class of a verdict.
func kind(v provider.Verdict) string {
	if name := v.String(); slices.Contains(verdictNames, name) {
		return name
	}
	return "none"
}

// label is a verdict, as the filter names it.
func label(name string) string {
	if name == "none" {
		return "no opinion"
	}
	return name
}

// word is a verdict for people, as DECNET's panel names it.
func word(v provider.Verdict, revision uint64) string {
	switch {
	case revision == 0:
		return "not looked up"
	case v <= provider.Unknown:
		return "no signal"
	}
	return v.String()
}

// titles are the names of the services that DECNET shows.
var titles = map[string]string{"greynoise": "GreyNoise", "abuseipdb": "AbuseIPDB", "feodo": "Feodo Tracker", "threatfox": "ThreatFox"}

// title is the name of a provider for people.
func title(name string) string {
	if t, ok := titles[name]; ok {
		return t
	}
	return human.Text(name)
}

// number returns a number with its thousands set apart.
func number(v any) string {
	text := fmt.Sprint(v)
	if _, err := strconv.ParseInt(text, 10, 64); err != nil {
		return text
	}
	sign := ""
	if strings.HasPrefix(text, "-") {
		sign, text = "-", text[1:]
	}
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "\u202f" + text[i:]
	}
	return sign + text
}

// count returns a number of things.
func count(n any, thing string) string {
	text := number(n)
	if text == "1" {
		return "1 " + thing
	}
	return text + " " + thing + "s"
}
