package intel

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/decnet/enrich/internal/human"
)

// String returns the explanation as lines of plain text. Text of sources is cut, and
// shown with escapes where it has anything that a terminal could act on or that
// changes the direction of the text.
func (x Explanation) String() string {
	var b strings.Builder
	line := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	line("attacker %s, address %s", x.AttackerUUID, human.Text(x.AttackerIP))
	line("%s", x.Sentence)
	if x.Fingerprint != "" {
		text := fmt.Sprintf("decided by %s, fingerprint %s", human.Text(x.Policy), human.Text(x.Fingerprint))
		if x.Score != 0 {
			text += fmt.Sprintf(", score %.2f", x.Score)
		}
		if x.Outdated {
			text += "; the policy has changed since"
		}
		line("%s", text)
	}
	if !x.CachedAt.IsZero() {
		line("revision %d, stored %s, %s ago", x.Revision, stamp(x.CachedAt), human.Duration(x.At.Sub(x.CachedAt)))
	}
	for i := range x.Sources {
		b.WriteByte('\n')
		x.Sources[i].write(line)
	}
	return b.String()
}

// write writes the lines of one source.
func (x *SourceExplanation) write(line func(format string, args ...any)) {
	head := x.Answer()
	if x.Answered {
		head += ", " + human.Duration(time.Duration(x.AgeSeconds)*time.Second) + " old"
		if x.Stale {
			head += ", stale"
		}
		if x.Weight != 0 {
			head += fmt.Sprintf(", weight %.2f", x.Weight)
		}
	}
	if x.Why != "" {
		head += "; " + human.Text(x.Why)
	}
	line("%s: %s", human.Text(x.Provider), head)
	switch {
	case x.NotApplicable != "":
		line("  not applicable: %s", human.Text(x.NotApplicable))
	case x.Waiting != "" && x.Until.IsZero():
		line("  waiting: %s", human.Text(x.Waiting))
	case x.Waiting != "":
		line("  waiting until %s: %s", stamp(x.Until), human.Text(x.Waiting))
	}
	if x.Error != "" {
		text := "  error: " + human.Text(x.Error)
		if x.ErrorText != "" && x.ErrorText != x.Error {
			text += " (" + human.Text(x.ErrorText) + ")"
		}
		if x.Failures > 1 {
			text += fmt.Sprintf(", %d times in a row", x.Failures)
		}
		if !x.NextTry.IsZero() {
			text += ", next try " + stamp(x.NextTry)
		}
		line("%s", text)
	}
	for _, name := range slices.Sorted(maps.Keys(x.Attrs)) {
		line("  %s: %s", human.Text(name), human.Value(x.Attrs[name]))
	}
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
