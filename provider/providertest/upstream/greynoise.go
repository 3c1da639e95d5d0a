package upstream

import (
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
	if !c.addr.Is4() || !c.addr.IsGlobalUnicast() || c.addr.IsPrivate() {
		return jsonResponse(http.StatusBadRequest, []byte(`{"message":"Request is not a valid routable IPv4 address"}`))
	}
	s.book.mu.RLock()
	a, ok := s.book.greyNoise[c.addr]
	if !ok {
		a = greyNoiseFor(s.book.profile(GreyNoise, c.addr), hash(c.addr))
	}
	s.book.mu.RUnlock()
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
