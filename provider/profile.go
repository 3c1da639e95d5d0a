package provider

import (
	"errors"
	"fmt"
)

// The ranks of a source, see [Profile].
const (
	// RankReputation is the rank of reports and sensors. It is the default.
	RankReputation = 0
	// RankVerified is the rank of a source that checks what it lists: lists of
	// command-and-control servers, of hijacked networks, of known scanners.
	RankVerified = 1
	// RankOperator is the rank of the operator's own judgement: allow and deny
	// lists.
	RankOperator = 2
)

// Profiled is implemented by a provider that declares how much its opinion is
// worth. Find it with [As]. A provider that does not implement it has the zero
// [Profile].
type Profiled interface {
	// Profile returns the same value at every call. It must not be modified.
	Profile() Profile
}

// Profile says how much a source's opinion is worth. The zero value is the
// profile of an independent source of reputation that nobody has assessed.
type Profile struct {
	// Confidence is how far the source is trusted, from 0 to 1. Zero means the
	// policy's default. A source whose opinion must not count has a confidence
	// of less than 0.0005.
	Confidence float64
	// Group is the name that sources with the same owner share, in the form of
	// [ValidateName]. Sources of one group count once. Empty: the source is in
	// no group.
	Group string
	// DerivedFrom are the names of the sources that this one copies. Its opinion
	// counts only while none of them has one. Sources that are not configured
	// may be named.
	DerivedFrom []string
	// Rank is [RankReputation], [RankVerified] or [RankOperator]. An opinion
	// silences the opinions of lower rank that contradict it: a benign one the
	// harmful ones (malicious and suspicious), a harmful one the benign ones.
	Rank int
	// Local says that the source answers from memory, in microseconds.
	Local bool
	// NoRepublish says that the source's terms forbid republishing what it
	// says: its opinion must never be the only ground for what is published.
	NoRepublish bool
}

// Validate returns an error that names every field that makes no sense.
func (p Profile) Validate() error {
	var errs []error
	if !(p.Confidence >= 0 && p.Confidence <= 1) {
		errs = append(errs, fmt.Errorf("Confidence is %v; it must be from 0 to 1", p.Confidence))
	}
	if p.Group != "" {
		if err := ValidateName(p.Group); err != nil {
			errs = append(errs, fmt.Errorf("Group: %w", err))
		}
	}
	for _, name := range p.DerivedFrom {
		if err := ValidateName(name); err != nil {
			errs = append(errs, fmt.Errorf("DerivedFrom: %w", err))
		}
	}
	if p.Rank < RankReputation || p.Rank > RankOperator {
		errs = append(errs, fmt.Errorf("Rank is %d; it must be 0, 1 or 2", p.Rank))
	}
	return errors.Join(errs...)
}
