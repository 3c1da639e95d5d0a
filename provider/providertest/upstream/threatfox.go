package upstream

import (
	"encoding/json"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// ThreatFoxRow is one indicator of compromise (https://threatfox.abuse.ch/api).
type ThreatFoxRow struct {
	IOC        string    // empty means the address with port 443
	Type       string    // ioc_type; empty means ip:port
	Threat     string    // threat_type; empty means botnet_cc
	Malware    string    // Malpedia's key, like win.cobalt_strike
	Printable  string    // name for people, like Cobalt Strike
	Alias      string    // comma list; empty is null
	Confidence int       // 0 to 100
	FirstSeen  time.Time // zero is null
	LastSeen   time.Time // zero is null
	Tags       []string  // nil is null
	// Compromised sets is_compromised, which is left out otherwise.
	Compromised bool
}

type threatFoxBody struct {
	ID               string   `json:"id"`
	IOC              string   `json:"ioc"`
	ThreatType       string   `json:"threat_type"`
	ThreatTypeDesc   string   `json:"threat_type_desc"`
	IOCType          string   `json:"ioc_type"`
	IOCTypeDesc      string   `json:"ioc_type_desc"`
	Malware          string   `json:"malware"`
	MalwarePrintable string   `json:"malware_printable"`
	MalwareAlias     *string  `json:"malware_alias"`
	MalwareMalpedia  string   `json:"malware_malpedia"`
	ConfidenceLevel  int      `json:"confidence_level"`
	FirstSeen        *string  `json:"first_seen"`
	LastSeen         *string  `json:"last_seen"`
	Reference        *string  `json:"reference"`
	Reporter         string   `json:"reporter"`
	Tags             []string `json:"tags"`
	MalwareSamples   []string `json:"malware_samples"`
	IsCompromised    bool     `json:"is_compromised,omitempty"`
}

var families = [][2]string{
	{"win.cobalt_strike", "Cobalt Strike"},
	{"win.qakbot", "QakBot"},
	{"elf.mirai", "Mirai"},
	{"win.asyncrat", "AsyncRAT"},
	{"win.emotet", "Emotet"},
}

// threatFoxFor returns a row that is malicious at now: one that would be old by
// its first sighting was seen again today.
func threatFoxFor(h uint64, now time.Time) ThreatFoxRow {
	family := pick(families, h>>8)
	row := ThreatFoxRow{
		Malware: family[0], Printable: family[1],
		Confidence: 50 + 25*int(h>>16%3),
		FirstSeen:  epoch.Add(-time.Duration(h>>24%(90*24*3600)) * time.Second),
		Tags:       []string{strings.ReplaceAll(family[1], " ", "")},
	}
	if today := now.UTC().Truncate(24 * time.Hour); today.Sub(row.FirstSeen) > 150*24*time.Hour {
		row.LastSeen = today
	}
	return row
}

type threatFoxQuery struct {
	Query      string `json:"query"`
	SearchTerm string `json:"search_term"`
	ExactMatch bool   `json:"exact_match"`
}

// threatFoxSubject returns what the request's body asks, and for which address
// if it is about one.
func threatFoxSubject(body []byte) (q threatFoxQuery, addr netip.Addr) {
	if json.Unmarshal(body, &q) != nil { // answered like a query that is missing
		return threatFoxQuery{}, netip.Addr{}
	}
	addr, _ = netip.ParseAddr(q.SearchTerm)
	return q, addr
}

func (s *Server) threatFox(c *call) response {
	switch {
	case c.method != http.MethodPost:
		return jsonResponse(http.StatusMethodNotAllowed, []byte(`{"query_status":"http_post_expected"}`))
	case c.search.Query != "search_ioc":
		return jsonResponse(http.StatusOK, []byte(`{"query_status":"unknown_query"}`))
	case len(c.search.SearchTerm) < 3:
		return jsonResponse(http.StatusOK, []byte(`{"query_status":"illegal_search_term","data":"The search term you have provided is not valid"}`))
	}
	rows := s.search(c)
	if len(rows) == 0 {
		return jsonResponse(http.StatusOK, []byte(`{"query_status":"no_result","data":"Your search did not yield any results"}`))
	}
	return jsonResponse(http.StatusOK, encode(struct {
		Status string          `json:"query_status"`
		Data   []threatFoxBody `json:"data"`
	}{"ok", rows}))
}

// search finds rows as the service does: whose indicator contains the term,
// wherever. So rows of hosts whose address merely contains the one asked for
// are found too.
func (s *Server) search(c *call) []threatFoxBody {
	s.book.mu.RLock()
	defer s.book.mu.RUnlock()
	var rows []threatFoxBody
	add := func(addr netip.Addr, r ThreatFoxRow) {
		body := r.body(addr)
		if c.search.ExactMatch && body.IOC == c.search.SearchTerm ||
			!c.search.ExactMatch && strings.Contains(body.IOC, c.search.SearchTerm) {
			rows = append(rows, body)
		}
	}
	for _, addr := range append([]netip.Addr{c.addr}, longer(c.addr)...) {
		if _, set := s.book.threatFox[addr]; !set && addr.IsValid() && s.book.profile(ThreatFox, addr) == C2 {
			add(addr, threatFoxFor(hash(addr), s.now()))
		}
	}
	for addr, set := range s.book.threatFox {
		for _, r := range set {
			add(addr, r)
		}
	}
	return rows
}

// longer returns the IPv4 addresses whose text is that of addr with one more
// digit at an end.
func longer(addr netip.Addr) []netip.Addr {
	if !addr.Is4() {
		return nil
	}
	var found []netip.Addr
	b := addr.As4()
	for d := range 10 {
		if n := 10*int(b[3]) + d; b[3] > 0 && n <= 255 {
			found = append(found, netip.AddrFrom4([4]byte{b[0], b[1], b[2], byte(n)}))
		}
		front := 10
		if b[0] >= 10 {
			front = 100
		}
		if n := front*d + int(b[0]); b[0] < 100 && d > 0 && n <= 255 {
			found = append(found, netip.AddrFrom4([4]byte{byte(n), b[1], b[2], b[3]}))
		}
	}
	return found
}

func (r ThreatFoxRow) body(addr netip.Addr) threatFoxBody {
	if r.IOC == "" {
		r.IOC = netip.AddrPortFrom(addr, 443).String()
	}
	if r.Type == "" {
		r.Type = "ip:port"
	}
	if r.Threat == "" {
		r.Threat = "botnet_cc"
	}
	body := threatFoxBody{
		ID:               strconv.FormatUint(100000+hash(addr)%1000000, 10),
		IOC:              r.IOC,
		ThreatType:       r.Threat,
		ThreatTypeDesc:   "Indicator that identifies a botnet command&control server (C&C)",
		IOCType:          r.Type,
		IOCTypeDesc:      "ip:port combination that is used for botnet Command&control (C&C)",
		Malware:          r.Malware,
		MalwarePrintable: r.Printable,
		MalwareAlias:     orNull(r.Alias),
		MalwareMalpedia:  "https://malpedia.caad.fkie.fraunhofer.de/details/" + r.Malware,
		ConfidenceLevel:  r.Confidence,
		Reporter:         "abuse_ch",
		Tags:             r.Tags,
		MalwareSamples:   []string{},
		IsCompromised:    r.Compromised,
	}
	if !r.FirstSeen.IsZero() {
		body.FirstSeen = orNull(r.FirstSeen.UTC().Format(threatFoxTime))
	}
	if !r.LastSeen.IsZero() {
		body.LastSeen = orNull(r.LastSeen.UTC().Format(threatFoxTime))
	}
	return body
}

const threatFoxTime = "2006-01-02 15:04:05 UTC"
