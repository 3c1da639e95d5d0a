package upstream

import (
	"fmt"
	"net/http"
	"net/netip"
	"net/url"
	"strconv"
	"time"
)

// AbuseIPDBAnswer is what AbuseIPDB's check says about an address
// (https://docs.abuseipdb.com). The zero value is an address nobody reported.
type AbuseIPDBAnswer struct {
	Score       int   // abuse confidence, 0 to 100
	Reports     int   // in the last maxAgeInDays days
	Users       int   // who made them
	Whitelisted *bool // nil is null: not looked up
	Tor         bool
	Categories  []int     // of every report, 1 to 23
	LastReport  time.Time // zero is null
	CountryCode string    // this and the following: empty is null
	CountryName string
	UsageType   string
	ISP         string
	Domain      string
	Hostnames   []string
}

// maxReports is how many reports a verbose answer lists at most.
const maxReports = 5

type abuseIPDBBody struct {
	IPAddress            string     `json:"ipAddress"`
	IsPublic             bool       `json:"isPublic"`
	IPVersion            int        `json:"ipVersion"`
	IsWhitelisted        *bool      `json:"isWhitelisted"`
	AbuseConfidenceScore int        `json:"abuseConfidenceScore"`
	CountryCode          *string    `json:"countryCode"`
	UsageType            *string    `json:"usageType"`
	ISP                  *string    `json:"isp"`
	Domain               *string    `json:"domain"`
	Hostnames            []string   `json:"hostnames"`
	IsTor                bool       `json:"isTor"`
	TotalReports         int        `json:"totalReports"`
	NumDistinctUsers     int        `json:"numDistinctUsers"`
	LastReportedAt       *time.Time `json:"lastReportedAt"`
	*abuseIPDBVerbose               // absent without the parameter verbose
}

type abuseIPDBVerbose struct {
	CountryName *string           `json:"countryName"`
	Reports     []abuseIPDBReport `json:"reports"`
}

type abuseIPDBReport struct {
	ReportedAt          time.Time `json:"reportedAt"`
	Comment             string    `json:"comment"`
	Categories          []int     `json:"categories"`
	ReporterID          int       `json:"reporterId"`
	ReporterCountryCode string    `json:"reporterCountryCode"`
	ReporterCountryName string    `json:"reporterCountryName"`
}

var (
	abuseCategories = [][]int{{18, 22}, {14}, {18}, {15, 21}, {14, 18, 22}, {4}, {20, 23}}
	abuseCountries  = [][2]string{{"NL", "Netherlands"}, {"US", "United States"}, {"DE", "Germany"}, {"SG", "Singapore"}, {"BR", "Brazil"}}
	abuseUsage      = []string{"Data Center/Web Hosting/Transit", "Fixed Line ISP", "Mobile ISP"}
	abuseISPs       = [][2]string{{"Northern Hosting B.V.", "northern-hosting.example"}, {"Broadband One", "broadband-one.example"}, {"Cloudfield Ltd.", "cloudfield.example"}}
)

func abuseIPDBFor(p Profile, h uint64) AbuseIPDBAnswer {
	country, isp := pick(abuseCountries, h>>12), pick(abuseISPs, h>>16)
	no, yes := false, true
	a := AbuseIPDBAnswer{
		CountryCode: country[0], CountryName: country[1],
		UsageType: pick(abuseUsage, h>>20),
		ISP:       isp[0], Domain: isp[1],
		Whitelisted: &no,
	}
	reports := 1 + int(h>>24%64)
	switch p {
	case Scanner:
		a.Whitelisted = &yes
		a.Categories = []int{14}
	case Suspect:
		a.Score = 25 + int(h>>32%50)
		a.Categories = pick(abuseCategories, h>>36)
	case Attacker, C2:
		a.Score = 75 + int(h>>32%26)
		a.Categories = pick(abuseCategories, h>>36)
		reports *= 10
	default:
		return a
	}
	a.Reports, a.Users = reports, 1+reports/3
	a.LastReport = epoch.Add(-time.Duration(h>>40%(20*24*3600)) * time.Second)
	return a
}

func (s *Server) abuseIPDB(c *call) response {
	q := c.query
	if !c.addr.IsValid() {
		return abuseIPDBError(c, http.StatusUnprocessableEntity, "ipAddress",
			"The ip address must be a valid IPv4 or IPv6 address (e.g. 8.8.8.8 or 2001:4860:4860::8888).")
	}
	if q.Has("maxAgeInDays") {
		if days, err := strconv.Atoi(q.Get("maxAgeInDays")); err != nil || days < 1 || days > 365 {
			return abuseIPDBError(c, http.StatusUnprocessableEntity, "maxAgeInDays",
				"The max age in days must be between 1 and 365.")
		}
	}
	s.book.mu.RLock()
	a, ok := s.book.abuseIPDB[c.addr]
	if !ok {
		a = abuseIPDBFor(s.book.profile(AbuseIPDB, c.addr), hash(c.addr))
	}
	s.book.mu.RUnlock()
	return jsonResponse(http.StatusOK, a.json(c.addr, q.Has("verbose")))
}

func (a *AbuseIPDBAnswer) json(addr netip.Addr, verbose bool) []byte {
	body := abuseIPDBBody{
		IPAddress:            addr.String(),
		IsPublic:             addr.IsGlobalUnicast() && !addr.IsPrivate(),
		IPVersion:            6,
		IsWhitelisted:        a.Whitelisted,
		AbuseConfidenceScore: a.Score,
		CountryCode:          orNull(a.CountryCode),
		UsageType:            orNull(a.UsageType),
		ISP:                  orNull(a.ISP),
		Domain:               orNull(a.Domain),
		Hostnames:            append([]string{}, a.Hostnames...),
		IsTor:                a.Tor,
		TotalReports:         a.Reports,
		NumDistinctUsers:     a.Users,
	}
	if addr.Is4() {
		body.IPVersion = 4
	}
	if !a.LastReport.IsZero() {
		body.LastReportedAt = &a.LastReport
	}
	if verbose {
		body.abuseIPDBVerbose = &abuseIPDBVerbose{CountryName: orNull(a.CountryName), Reports: []abuseIPDBReport{}}
		for i := range min(a.Reports, maxReports) {
			body.Reports = append(body.Reports, abuseIPDBReport{
				ReportedAt:          a.LastReport.Add(-time.Duration(i) * time.Hour),
				Comment:             "Unsolicited connection attempts",
				Categories:          append([]int{}, a.Categories...),
				ReporterID:          1001 + i,
				ReporterCountryCode: "US",
				ReporterCountryName: "United States",
			})
		}
	}
	return encode(map[string]any{"data": body})
}

func orNull(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// abuseIPDBError returns an error as the service words it: JSON if the request
// accepts that, and else a page of HTML.
func abuseIPDBError(c *call, status int, parameter, detail string) response {
	if !c.acceptsJSON {
		return response{status: status, kind: "text/html; charset=UTF-8",
			body: fmt.Appendf(nil, "<!DOCTYPE html><html><title>%s</title></html>", http.StatusText(status))}
	}
	problem := map[string]any{"detail": detail, "status": status}
	if parameter != "" {
		problem["source"] = map[string]string{"parameter": parameter}
	}
	return jsonResponse(status, encode(map[string]any{"errors": []any{problem}}))
}

const abuseIPDBBadKey = "Authentication failed. Your API key is either missing, incorrect, or revoked. Note: The APIv2 key differs from the APIv1 key."

func abuseIPDBLimited(c *call, calls int) response {
	return abuseIPDBError(c, http.StatusTooManyRequests, "",
		fmt.Sprintf("Daily rate limit of %d requests exceeded for this endpoint. See headers for additional details.", calls))
}

// abuseIPDBHeaders adds the headers that every answer carries, and those that
// only a refusal does. Without a quota the numbers are those of a large plan
// that is never used up.
func abuseIPDBHeaders(h http.Header, b budget, now time.Time) {
	limit, remaining := 50000, 49999
	if b.limited {
		limit, remaining = b.quota.Calls, b.remaining
	}
	h["X-Ratelimit-Limit"] = []string{strconv.Itoa(limit)}
	h["X-Ratelimit-Remaining"] = []string{strconv.Itoa(remaining)}
	if b.refused {
		h["Retry-After"] = []string{strconv.Itoa(wholeSeconds(b.reset.Sub(now)))}
		h["X-Ratelimit-Reset"] = []string{strconv.FormatInt(b.reset.Unix(), 10)}
	}
}

func wholeSeconds(d time.Duration) int { return int((d + time.Second - 1) / time.Second) }

// abuseIPDBSubject returns what the query asks about.
func abuseIPDBSubject(q url.Values) netip.Addr {
	addr, _ := netip.ParseAddr(q.Get("ipAddress")) // the zero Addr is answered by 422
	return addr
}
