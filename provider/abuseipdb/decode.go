package abuseipdb

import (
	"encoding/json"
	"errors"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/jsontext"
	"github.com/decnet/enrich/internal/sources"
	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/provider/rest"
)

// check is the data object of an answer with status 200.
type check struct {
	IPAddress      rest.String  `json:"ipAddress"`
	Score          rest.Int     `json:"abuseConfidenceScore"`
	TotalReports   rest.Int     `json:"totalReports"`
	DistinctUsers  rest.Int     `json:"numDistinctUsers"`
	IsWhitelisted  rest.Bool    `json:"isWhitelisted"`
	IsTor          rest.Bool    `json:"isTor"`
	CountryCode    rest.String  `json:"countryCode"`
	UsageType      rest.String  `json:"usageType"`
	ISP            rest.String  `json:"isp"`
	Domain         rest.String  `json:"domain"`
	Hostnames      rest.Strings `json:"hostnames"`
	LastReportedAt rest.String  `json:"lastReportedAt"`
	Categories     categories   `json:"reports"`
}

// decode turns an answer about addr into a finding.
func decode(addr netip.Addr, r *rest.Response) (provider.Finding, error) {
	if r.Status != http.StatusOK {
		return provider.Finding{}, refusal(r)
	}
	var body struct {
		Data json.RawMessage `json:"data"`
	}
	var c check
	err := rest.Decode(r.Body, &body)
	if err == nil {
		err = c.read(addr, body.Data)
	}
	if err != nil {
		return provider.Finding{}, r.BadResponse(err)
	}
	f := c.finding(addr, body.Data, r.At)
	f.Usage = usage(r)
	return f, nil
}

// usage returns what an answer says about the allowance, which is counted over
// a day.
func usage(r *rest.Response) *provider.Usage { return r.Usage(provider.Day) }

// read reads c from data. It returns an error if that says nothing about addr.
func (c *check) read(addr netip.Addr, data []byte) error {
	if len(data) == 0 || data[0] != '{' {
		return errors.New("no data object")
	}
	if err := rest.Decode(data, c); err != nil {
		return err
	}
	if !c.Score.OK || c.Score.Value < 0 || c.Score.Value > 100 {
		return errors.New("no score between 0 and 100")
	}
	return rest.About(addr, c.IPAddress)
}

func (c *check) finding(addr netip.Addr, data []byte, now time.Time) provider.Finding {
	f := provider.Finding{
		Provider:   Name,
		Addr:       addr,
		Attrs:      map[string]any{"score": c.Score.Value, "categories": c.Categories.distinct()},
		Raw:        rest.Raw(data),
		ObservedAt: now,
	}
	f.Known, f.Verdict = sources.AbuseIPDB{
		Score: c.Score.Value, Reports: c.TotalReports.Value, Whitelisted: c.IsWhitelisted.Value,
	}.Meaning()
	c.TotalReports.Set(f.Attrs, "total_reports")
	c.DistinctUsers.Set(f.Attrs, "distinct_users")
	c.IsWhitelisted.Set(f.Attrs, "is_whitelisted")
	c.IsTor.Set(f.Attrs, "is_tor")
	c.CountryCode.Set(f.Attrs, "country_code")
	c.UsageType.Set(f.Attrs, "usage_type")
	c.ISP.Set(f.Attrs, "isp")
	c.Domain.Set(f.Attrs, "domain")
	c.LastReportedAt.Set(f.Attrs, "last_reported_at")
	if len(c.Hostnames) > 0 {
		f.Attrs["hostnames"] = []string(c.Hostnames)
	}
	return f
}

// categories has the categories of an answer's reports. A report that cannot be read has
// none.
type categories [maxCategory + 1]bool

// maxCategory is far above the highest category there is, 23.
const maxCategory = 255

// UnmarshalJSON implements [json.Unmarshaler].
func (c *categories) UnmarshalJSON(reports []byte) error {
	*c = categories{}
	add := func(report []byte) {
		var r struct {
			Categories rest.Ints `json:"categories"`
		}
		_ = rest.Decode(report, &r) // what is not an object has none
		for _, n := range r.Categories {
			if n > 0 && n <= maxCategory {
				c[n] = true
			}
		}
	}
	if !jsontext.Elements(reports, add) { // null, or no list: no reports
		var list []json.RawMessage
		_ = json.Unmarshal(reports, &list) // it is less strict
		for _, report := range list {
			add(report)
		}
	}
	return nil
}

// distinct returns the categories in ascending order. It is never nil.
func (c *categories) distinct() []int64 {
	list := []int64{}
	for n, has := range c {
		if has {
			list = append(list, int64(n))
		}
	}
	return list
}

// refusal returns the error that an answer with a status other than 200 means.
func refusal(r *rest.Response) error {
	e := r.StatusError()
	e.Usage = usage(r)
	var body struct {
		Errors []struct {
			Detail rest.String `json:"detail"`
			Source struct {
				Parameter rest.String `json:"parameter"`
			} `json:"source"`
		} `json:"errors"`
	}
	_ = rest.Decode(r.Body, &body) // then the status has to do
	about := func(parameter string) bool {
		for _, e := range body.Errors {
			if e.Source.Parameter.Value == parameter {
				return true
			}
		}
		return false
	}
	switch r.Status {
	case http.StatusTooManyRequests:
		daily := strings.TrimSpace(r.Header.Get("X-RateLimit-Remaining")) == "0"
		for _, e := range body.Errors {
			daily = daily || strings.Contains(strings.ToLower(e.Detail.Value), "daily")
		}
		if daily {
			e.Kind, e.Err = provider.ErrQuotaExhausted, errors.New("the allowance of this day is spent")
		}
		if e.RetryAfter == 0 {
			e.RetryAfter = r.ResetAfter("X-RateLimit-Reset")
		}
	case http.StatusUnprocessableEntity:
		switch {
		case about("ipAddress"):
			e.Kind, e.Err = provider.ErrUnsupported, errors.New("the service does not take this for an address")
		case about("maxAgeInDays"):
			e.Kind, e.Err = provider.ErrConfig, errors.New("the service refuses MaxAgeDays")
		}
	}
	return e
}
