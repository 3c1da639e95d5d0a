package upstream

import (
	"net/http"
	"net/netip"
	"time"
)

// FeodoRow is one row of Feodo Tracker's block list
// (https://feodotracker.abuse.ch/blocklist).
type FeodoRow struct {
	Addr       netip.Addr
	Port       int
	Offline    bool   // the server no longer answers
	Hostname   string // empty is null
	ASN        int
	ASName     string
	Country    string // two letters
	FirstSeen  time.Time
	LastOnline time.Time
	Malware    string
}

// oldRows is the block list unless another is set.
var oldRows = []FeodoRow{
	{Addr: netip.MustParseAddr("162.243.103.246"), Port: 8080, Offline: true, ASN: 14061, ASName: "DIGITALOCEAN-ASN", Country: "US",
		FirstSeen: epoch.AddDate(-4, -5, 3), LastOnline: epoch.AddDate(0, 0, -20), Malware: "Emotet"},
	{Addr: netip.MustParseAddr("50.16.16.211"), Port: 443, ASN: 14618, ASName: "AMAZON-AES", Country: "US",
		FirstSeen: epoch.AddDate(0, -10, -2), LastOnline: epoch, Malware: "QakBot"},
}

// FeodoRows returns the rows of a block list that agrees with the other
// services: one for each of the addresses whose [ProfileOf] is [C2].
func FeodoRows(addrs ...netip.Addr) []FeodoRow {
	rows := []FeodoRow{}
	for _, addr := range addrs {
		if ProfileOf(addr) == C2 {
			rows = append(rows, feodoRow(addr))
		}
	}
	return rows
}

func feodoRow(addr netip.Addr) FeodoRow {
	h := hash(addr)
	return FeodoRow{
		Addr: addr, Port: 443,
		ASN: 64496 + int(h>>16%16), ASName: "HOSTING-AS", Country: pick(abuseCountries, h>>12)[0],
		FirstSeen:  epoch.Add(-time.Duration(h>>24%(90*24*3600)) * time.Second),
		LastOnline: epoch,
		Malware:    pick(families, h>>8)[1],
	}
}

type feodoBody struct {
	IPAddress  string  `json:"ip_address"`
	Port       int     `json:"port"`
	Status     string  `json:"status"`
	Hostname   *string `json:"hostname"`
	ASNumber   int     `json:"as_number"`
	ASName     string  `json:"as_name"`
	Country    string  `json:"country"`
	FirstSeen  string  `json:"first_seen"`
	LastOnline string  `json:"last_online"`
	Malware    string  `json:"malware"`
}

func feodoJSON(rows []FeodoRow) []byte {
	list := make([]feodoBody, len(rows))
	for i, r := range rows {
		status := "online"
		if r.Offline {
			status = "offline"
		}
		list[i] = feodoBody{
			IPAddress: r.Addr.String(), Port: r.Port, Status: status, Hostname: orNull(r.Hostname),
			ASNumber: r.ASN, ASName: r.ASName, Country: r.Country,
			FirstSeen:  r.FirstSeen.UTC().Format(time.DateTime),
			LastOnline: r.LastOnline.UTC().Format(time.DateOnly),
			Malware:    r.Malware,
		}
	}
	return encode(list)
}

func (s *Server) feodo(c *call) response {
	s.book.mu.RLock()
	defer s.book.mu.RUnlock()
	r := jsonResponse(http.StatusOK, s.book.feodoBody)
	if !s.validators {
		return r
	}
	r.header = http.Header{"Etag": {s.book.feodoTag}, "Last-Modified": {s.book.feodoTime}}
	if c.ifNoneMatch == s.book.feodoTag || c.ifNoneMatch == "" && c.ifModifiedSince == s.book.feodoTime {
		r.status, r.body = http.StatusNotModified, nil
	}
	return r
}
