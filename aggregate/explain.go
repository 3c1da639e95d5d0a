package aggregate

import (
	"fmt"
	"strings"
	"time"

	"github.com/decnet/enrich/provider"
)

// Bounds of what String writes, whatever the decision holds.
const (
	maxListed = 8  // opinions in one list
	maxWord   = 32 // bytes of a name, as in provider.ValidateName
)

// String explains the decision in one sentence of plain English, like
//
//	malicious: threatfox (malicious, 2 days old) decides; abuseipdb (benign) is outranked
//
// Ages are those at the time of the decision; an age below an hour is left out.
// Reasons without an opinion are left out where there are opinions.
//
// The sentence depends on nothing but the decision. It holds ASCII letters,
// digits, spaces and the characters _-:;,.()? only, and has a bounded length:
// any other character of a name is replaced by a question mark, and long names
// and lists are cut.
func (d Decision) String() string {
	var decisive, against, weaker, outweighed, cannotTell []*Reason
	ignored := map[Ignored][]*Reason{}
	var others []Ignored // reasons of a policy's own, in order of appearance
	harmful := d.Verdict > provider.Benign
	for i := range d.Reasons {
		switch r := &d.Reasons[i]; {
		case r.Verdict == provider.None:
		case r.Verdict == provider.Unknown:
			cannotTell = append(cannotTell, r)
		case r.Ignored != "":
			if ignored[r.Ignored] == nil {
				others = append(others, r.Ignored)
			}
			ignored[r.Ignored] = append(ignored[r.Ignored], r)
		case r.Decisive:
			decisive = append(decisive, r)
		case d.Verdict <= provider.Unknown || r.harmful() == harmful:
			weaker = append(weaker, r)
		case d.Conflict:
			against = append(against, r)
		default:
			outweighed = append(outweighed, r)
		}
	}

	var clauses []string
	add := func(reasons []*Reason, one, many string) {
		if len(reasons) > 0 {
			clauses = append(clauses, list(reasons)+" "+plural(len(reasons), one, many))
		}
	}
	switch {
	case d.Verdict <= provider.Unknown:
		add(decisive, "does not suffice", "do not suffice")
		if d.Conflict && len(decisive) > 1 {
			clauses[0] += ", they contradict each other"
		}
	case len(decisive) > 0:
		add(decisive, "decides", "decide")
		if len(against) > 0 {
			clauses[0] += ", in conflict with " + list(against)
		}
	default:
		add(against, "is in conflict with that", "are in conflict with that")
	}
	add(weaker, "is weaker", "are weaker")
	add(outweighed, "is outweighed", "are outweighed")
	add(ignored[Outranked], "is outranked", "are outranked")
	add(ignored[Derived], "only repeats its sources", "only repeat their sources")
	add(ignored[Dependent], "is in a group that already counts", "are in groups that already count")
	add(ignored[Weightless], "has no weight", "have no weight")
	for _, why := range others {
		switch why {
		case Outranked, Derived, Dependent, Weightless:
		default:
			because := ": " + word(string(why))
			add(ignored[why], "does not count"+because, "do not count"+because)
			delete(ignored, why)
			if len(clauses) > maxListed {
				clauses = append(clauses[:maxListed], "and more")
			}
		}
	}
	if len(clauses) == 0 && len(cannotTell) > 0 {
		clauses = append(clauses, list(cannotTell)+" cannot tell")
	}

	head := d.Verdict.String()
	switch {
	case d.Verdict == provider.None && len(clauses) == 0:
		return "no verdict: no source has an opinion"
	case d.Verdict == provider.None:
		head = "no verdict"
	}
	if len(clauses) == 0 {
		return head
	}
	return head + ": " + strings.Join(clauses, "; ")
}

func plural(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// list names opinions, the last after an "and".
func list(reasons []*Reason) string {
	var parts []string
	for i, r := range reasons {
		if i == maxListed {
			parts = append(parts, fmt.Sprintf("%d more", len(reasons)-i))
			break
		}
		parts = append(parts, r.words())
	}
	if n := len(parts) - 1; n > 0 {
		return strings.Join(parts[:n], ", ") + " and " + parts[n]
	}
	return parts[0]
}

// words names the provider and its opinion, like "threatfox (malicious, 2 days
// old, stale)".
func (r *Reason) words() string {
	var b strings.Builder
	b.WriteString(word(r.Provider) + " (" + r.Verdict.String())
	count := func(n int64, unit string) {
		fmt.Fprintf(&b, ", %d %s old", n, plural(int(n), unit, unit+"s"))
	}
	switch hours := int64(r.Age / time.Hour); {
	case hours >= 48:
		count(hours/24, "day")
	case hours > 0:
		count(hours, "hour")
	}
	if r.Stale {
		b.WriteString(", stale")
	}
	b.WriteString(")")
	return b.String()
}

// word returns text without anything that could be more than a name.
func word(text string) string {
	b := make([]byte, 0, min(len(text), maxWord)+2)
	for _, c := range text {
		if len(b) == maxWord {
			b = append(b, "..."...)
			break
		}
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '_', c == '-', c == ' ':
			b = append(b, byte(c))
		default:
			b = append(b, '?')
		}
	}
	if len(b) == 0 {
		return "?"
	}
	return string(b)
}
