package upstream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"
)

// GreyNoiseAnswer is what the community service of GreyNoise says about an
// address (https://docs.greynoise.io/reference/getcommunityip). An address
// with neither Noise nor RIOT is answered by 404.
type GreyNoiseAnswer struct {
	Noise          bool   // seen scanning the internet
	RIOT           bool   // a common business service
	Classification string // benign, malicious, suspicious, unknown
	Name           string // of the actor; "unknown" if not known
	LastSeen       string // like 2026-11-01
}

type greyNoiseBody struct {
	IP             string `json:"ip,omitempty"`
	Noise          bool   `json:"noise"`
	RIOT           bool   `json:"riot"`
	Classification string `json:"classification,omitempty"`
	Name           string `json:"name,omitempty"`
	Link           string `json:"link,omitempty"`
	LastSeen       string `json:"last_seen,omitempty"`
	Message        string `json:"message"`
}

var scannerNames = []string{"Shodan.io", "Censys", "Shadowserver.org", "BinaryEdge", "ONYPHE"}

func greyNoiseFor(p Profile, h uint64) GreyNoiseAnswer {
	a := GreyNoiseAnswer{
		Noise:    true,
		Name:     "unknown",
		LastSeen: epoch.AddDate(0, 0, -int(h>>40%60)).Format(time.DateOnly),
	}
	switch p {
	case Scanner:
		a.Classification, a.Name = "benign", pick(scannerNames, h>>8)
	case Suspect:
		a.Classification = "suspicious"
	case Attacker, C2:
		a.Classification = "malicious"
	default:
		return GreyNoiseAnswer{}
	}
	return a
}

func (s *Server) greyNoise(c *call) response {
	if c.many != nil {
		return s.greyNoiseMany(c.many)
	}
	if !c.addr.Is4() || !c.addr.IsGlobalUnicast() || c.addr.IsPrivate() {
		return jsonResponse(http.StatusBadRequest, []byte(`{"message":"Request is not a valid routable IPv4 address"}`))
	}
	a := s.greyNoiseAbout(c.addr)
	body := greyNoiseBody{IP: c.addr.String(), Noise: a.Noise, RIOT: a.RIOT}
	if !a.Noise && !a.RIOT {
		body.Message = "IP not observed scanning the internet."
		return jsonResponse(http.StatusNotFound, encode(body))
	}
	body.Classification, body.Name, body.LastSeen = a.Classification, a.Name, a.LastSeen
	body.Link = "https://viz.greynoise.io/ip/" + body.IP
	body.Message = "Success"
	return jsonResponse(http.StatusOK, encode(body))
}

func (s *Server) greyNoiseAbout(addr netip.Addr) GreyNoiseAnswer {
	s.book.mu.RLock()
	defer s.book.mu.RUnlock()
	if a, ok := s.book.greyNoise[addr]; ok {
		return a
	}
	return greyNoiseFor(s.book.profile(GreyNoise, addr), hash(addr))
}

// greyNoiseRow is an element of an answer about many addresses, in its quick form.
type greyNoiseRow struct {
	IP       string `json:"ip"`
	Business struct {
		Found      *bool  `json:"found"`
		TrustLevel string `json:"trust_level"`
	} `json:"business_service_intelligence"`
	Scanner struct {
		Found          bool   `json:"found"`
		Classification string `json:"classification"`
	} `json:"internet_scanner_intelligence"`
}

// greyNoiseMost is how many addresses may be asked about at once.
const greyNoiseMost = 10_000

// greyNoiseMany answers about many addresses as to a free account: with status 206 and
// without business services. Addresses that were not observed are only named.
func (s *Server) greyNoiseMany(texts []string) response {
	if len(texts) == 0 || len(texts) > greyNoiseMost {
		return jsonResponse(http.StatusBadRequest, []byte(`{"message":"Request must have between 1 and 10000 IPs"}`))
	}
	rows, notFound, invalid := []greyNoiseRow{}, []string{}, []string{}
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil || !addr.Is4() || !addr.IsGlobalUnicast() || addr.IsPrivate() {
			invalid = append(invalid, text)
			continue
		}
		a := s.greyNoiseAbout(addr)
		if !a.Noise {
			notFound = append(notFound, text)
			continue
		}
		row := greyNoiseRow{IP: text}
		row.Scanner.Found, row.Scanner.Classification = true, a.Classification
		rows = append(rows, row)
	}
	return jsonResponse(http.StatusPartialContent, encode(map[string]any{
		"data": rows,
		"request_metadata": map[string]any{
			"restricted_fields": []string{"business_service_intelligence"}, "ips_not_found": notFound, "invalid_ips": invalid,
		},
	}))
}

// greyNoiseLimited is the refusal seen in the wild, which names the plan's
// quota in a code of its own and sends no Retry-After.
func greyNoiseLimited(q Quota) []byte {
	unit := "W"
	switch {
	case q.Window < time.Hour:
		unit = "M"
	case q.Window < 24*time.Hour:
		unit = "H"
	case q.Window < 7*24*time.Hour:
		unit = "D"
	}
	return fmt.Appendf(nil, `{"plan":"Community","rate_limit":"%d-%s","message":"You have exceeded your provisioned rate limit."}`, q.Calls, unit)
}

// greyNoiseSubject returns what the path asks about.
func greyNoiseSubject(path string) (netip.Addr, bool) {
	text, ok := strings.CutPrefix(path, "/v3/community/")
	if !ok {
		return netip.Addr{}, false
	}
	addr, _ := netip.ParseAddr(text) // the zero Addr is answered by 400
	return addr, true
}

// greyNoiseSubjects returns what the body of a question about many addresses asks, and
// the first address.
func greyNoiseSubjects(body []byte) (many []string, first netip.Addr) {
	question := struct{ IPs []string }{}
	if json.Unmarshal(body, &question) != nil || question.IPs == nil {
		return []string{}, netip.Addr{} // answered by 400
	}
	if len(question.IPs) > 0 {
		first, _ = netip.ParseAddr(question.IPs[0])
	}
	return question.IPs, first
}
