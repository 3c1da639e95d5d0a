package provider

import "fmt"

// Verdict is an opinion about an address. The zero value, [None], is the
// absence of an opinion; it is neither [Unknown] nor [Benign]. The constants
// are in order of precedence.
type Verdict uint8

// The verdicts, weakest first.
const (
	None       Verdict = iota // no opinion; NULL in a database, null in JSON
	Unknown                   // the provider looked and cannot tell
	Benign                    // positively known to be harmless
	Suspicious                // some evidence of attacks, or old evidence
	Malicious                 // known to attack
)

var verdictNames = [...]string{"", "unknown", "benign", "suspicious", "malicious"}

// String returns the verdict in lower case, and "" for [None].
func (v Verdict) String() string {
	if int(v) < len(verdictNames) {
		return verdictNames[v]
	}
	return fmt.Sprintf("Verdict(%d)", uint8(v))
}

// ParseVerdict is the inverse of [Verdict.String]. It returns an error for any
// other text.
func ParseVerdict(s string) (Verdict, error) {
	for v, name := range verdictNames {
		if s == name {
			return Verdict(v), nil
		}
	}
	return None, fmt.Errorf("%q is not a verdict; the verdicts are unknown, benign, suspicious and malicious", s)
}

// MarshalJSON encodes the verdict as a string, and [None] as null.
func (v Verdict) MarshalJSON() ([]byte, error) {
	switch {
	case v == None:
		return []byte("null"), nil
	case int(v) < len(verdictNames):
		return []byte(`"` + verdictNames[v] + `"`), nil
	}
	return nil, fmt.Errorf("verdict %d is not one of the five", uint8(v))
}

// UnmarshalJSON decodes what [Verdict.MarshalJSON] encodes.
func (v *Verdict) UnmarshalJSON(b []byte) error {
	if string(b) == "null" || string(b) == `""` {
		*v = None
		return nil
	}
	if len(b) < 2 || b[0] != '"' {
		return fmt.Errorf("verdict is %s, not a string", b)
	}
	parsed, err := ParseVerdict(string(b[1 : len(b)-1]))
	if err == nil {
		*v = parsed
	}
	return err
}
