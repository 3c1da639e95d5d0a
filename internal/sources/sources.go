// Package sources says what the answers of the four services mean: whether the
// service knows the address, and its verdict. The providers go by it, and so does
// whoever reads an answer back from a row of attacker_intel.
package sources

import (
	"encoding/json"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/lenient"
	"github.com/decnet/enrich/provider"
)

// GreyNoise is an answer of GreyNoise's community API.
type GreyNoise struct {
	// Classification is the text of the answer, whatever its case; empty if it has
	// none. An address that was not observed has none.
	Classification string
	// Noise and RIOT say that the address was seen scanning, and that it belongs to
	// a common business service.
	Noise, RIOT bool
}

// Class returns the classification in lower case; "unknown" if there is none.
func (a GreyNoise) Class() string {
	if class := strings.ToLower(strings.TrimSpace(a.Classification)); class != "" {
		return class
	}
	return "unknown"
}

// Meaning returns what the answer means. RIOT is no opinion.
func (a GreyNoise) Meaning() (known bool, verdict provider.Verdict) {
	known = a.Classification != "" || a.Noise || a.RIOT
	switch a.Class() {
	case "malicious":
		return known, provider.Malicious
	case "suspicious":
		return known, provider.Suspicious
	case "benign":
		return known, provider.Benign
	}
	return known, provider.Unknown
}

// AbuseIPDB is an answer of AbuseIPDB's check.
type AbuseIPDB struct {
	Score       int64 // the abuse confidence score, 0 to 100
	Reports     int64 // in the period that was asked for
	Whitelisted bool  // the address is in a network that AbuseIPDB trusts
}

// Meaning returns what the answer means. An address without reports is never
// benign, whitelisted or not.
func (a AbuseIPDB) Meaning() (known bool, verdict provider.Verdict) {
	known = a.Score > 0 || a.Reports > 0
	switch {
	case a.Score >= 75:
		return known, provider.Malicious
	case a.Score >= 25:
		return known, provider.Suspicious
	case known && a.Whitelisted:
		return known, provider.Benign
	}
	return known, provider.Unknown
}

// Feodo is what Feodo Tracker's list says about an address.
type Feodo struct {
	Listed bool
	Online bool // some row of the address is online; others are history
}

// Meaning returns what the list means.
func (a Feodo) Meaning() (known bool, verdict provider.Verdict) {
	switch {
	case !a.Listed:
		return false, provider.None
	case a.Online:
		return true, provider.Malicious
	}
	return true, provider.Suspicious
}

// ThreatFox is what ThreatFox's indicators say about an address.
type ThreatFox struct {
	Listed bool // some indicator's host is the address
	// Strong says that one of them, by itself, makes the address malicious; see
	// [Indicator.Strong].
	Strong bool
}

// Meaning returns what the indicators mean.
func (a ThreatFox) Meaning() (known bool, verdict provider.Verdict) {
	switch {
	case !a.Listed:
		return false, provider.None
	case a.Strong:
		return true, provider.Malicious
	}
	return true, provider.Suspicious
}

// Indicator is what an indicator of ThreatFox says about itself.
type Indicator struct {
	FirstSeen, LastSeen time.Time // zero if it does not say
	Confidence          int64     // 0 to 100
	NoConfidence        bool      // it does not say
	Compromised         bool      // the host is somebody else's, and was broken into
}

// Strong reports whether the indicator, at now, makes its address malicious: it
// was seen in the last 180 days, has a confidence of at least 50, and is about a
// host that was not compromised. What it does not say does not weaken it.
func (i Indicator) Strong(now time.Time) bool {
	seen := i.LastSeen
	if seen.IsZero() {
		seen = i.FirstSeen
	}
	old := !seen.IsZero() && now.Sub(seen) > 180*24*time.Hour
	return !old && (i.NoConfidence || i.Confidence >= 50) && !i.Compromised
}

// ReadIndicator reads an indicator as the service writes it.
func ReadIndicator(row []byte) (i Indicator) {
	var raw map[string]json.RawMessage
	_ = json.Unmarshal(row, &raw) // what is no object says nothing
	date := func(name string) time.Time { t, _ := lenient.Text(raw[name]); return readTime(t) }
	i.FirstSeen, i.LastSeen = date("first_seen"), date("last_seen")
	confidence, ok := lenient.Int(raw["confidence_level"])
	i.Confidence, i.NoConfidence = confidence, !ok
	i.Compromised, _ = lenient.Bool(raw["is_compromised"])
	return i
}

// readTime reads a date of abuse.ch. A text that is none, or before 1970, gives
// the zero time.
func readTime(text string) time.Time {
	text = strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(text), "UTC"))
	for _, layout := range []string{time.DateTime, time.RFC3339, "2006-01-02T15:04:05", time.DateOnly} {
		if t, err := time.Parse(layout, text); err == nil && t.Unix() > 0 {
			return t.UTC()
		}
	}
	return time.Time{}
}

// Judge sets Known and Verdict of a finding that was read from a row of
// attacker_intel, by its attributes and its raw answer. A row may lack the raw
// answer; the attributes then have to do. Judge leaves a finding of another
// provider as it is.
func Judge(f *provider.Finding) {
	var raw map[string]json.RawMessage
	_ = json.Unmarshal(f.Raw, &raw) // what is no object says nothing
	text := func(name string) string { t, _ := lenient.Text(raw[name]); return t }
	number := func(name string) int64 { n, _ := lenient.Int(raw[name]); return n }
	flag := func(name string) bool { b, _ := lenient.Bool(raw[name]); return b }
	listed, _ := f.Attrs["listed"].(bool)
	switch f.Provider {
	case "greynoise":
		a := GreyNoise{Noise: flag("noise"), RIOT: flag("riot")}
		// The column has "unknown" of an address that was not observed, too.
		if class, _ := f.Attrs["classification"].(string); class != "unknown" || text("classification") == class {
			a.Classification = class
		}
		f.Known, f.Verdict = a.Meaning()
	case "abuseipdb":
		score, _ := f.Attrs["score"].(int64)
		f.Known, f.Verdict = AbuseIPDB{score, number("totalReports"), flag("isWhitelisted")}.Meaning()
	case "feodo":
		f.Known, f.Verdict = Feodo{listed, len(f.Raw) == 0 || IsOnline(text("status"))}.Meaning()
	case "threatfox":
		a := ThreatFox{Listed: listed}
		var rows []json.RawMessage
		if json.Unmarshal(f.Raw, &rows) != nil || len(rows) == 0 { // then the column has to do
			a.Strong = true
		}
		for _, row := range rows {
			a.Strong = a.Strong || ReadIndicator(row).Strong(f.ObservedAt)
		}
		f.Known, f.Verdict = a.Meaning()
	}
}

// IsOnline reads the status of a row of Feodo Tracker's list.
func IsOnline(status string) bool { return strings.EqualFold(strings.TrimSpace(status), "online") }
