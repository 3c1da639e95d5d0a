package bus_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus"
	"github.com/decnet/enrich/bus/bustest"
)

// longest is a topic as long as a topic may be.
var longest = strings.Repeat("a", bus.MaxTopic)

func TestValidate(t *testing.T) {
	for _, tt := range []struct {
		s              string
		topic, pattern bool
	}{
		{"a", true, true},
		{"attacker.intel.enriched", true, true},
		{"a-b_c.D.7", true, true},
		{"größe.攻撃者", true, true},
		{longest, true, true},

		{"*", false, true},
		{"*.*", false, true},
		{"a.*.b", false, true},
		{">", false, true},
		{"a.>", false, true},
		{"*.>", false, true},

		{"", false, false},
		{".", false, false},
		{"a.", false, false},
		{".a", false, false},
		{"a..b", false, false},
		{"*.", false, false},
		{">.", false, false},
		{">.a", false, false},
		{"a.>.b", false, false},
		{"a*", false, false},
		{"*a.b", false, false},
		{"**", false, false},
		{"a.b>", false, false},
		{"*>", false, false},
		{">>", false, false},
		{" ", false, false},
		{"a b", false, false},
		{"a.b ", false, false},
		{"a\tb", false, false},
		{"a\nb", false, false},
		{"a\rb", false, false},
		{"a\x00b", false, false},
		{"a\x7fb", false, false},
		{"a\u0085b", false, false}, // next line
		{"a\u00a0b", false, false}, // no-break space
		{"a\u2028b", false, false}, // line separator
		{"a\xff", false, false},
		{longest + "a", false, false},
	} {
		topicErr, patternErr := bus.ValidateTopic(tt.s), bus.ValidatePattern(tt.s)
		if tt.topic {
			require.NoError(t, topicErr, "%q", tt.s)
		} else {
			require.ErrorIs(t, topicErr, bus.ErrInvalid, "%q", tt.s)
		}
		if tt.pattern {
			require.NoError(t, patternErr, "%q", tt.s)
		} else {
			require.ErrorIs(t, patternErr, bus.ErrInvalid, "%q", tt.s)
		}
	}
}

func TestErrorsSayWhat(t *testing.T) {
	require.EqualError(t, bus.ValidateTopic("a..b"), `bus: invalid topic "a..b": empty token`)
	require.EqualError(t, bus.ValidateTopic("a.*"), `bus: invalid topic "a.*": misplaced wildcard in "*"`)
	require.EqualError(t, bus.ValidatePattern("a.b c"), `bus: invalid pattern "a.b c": white space or control character in "b c"`)
	require.EqualError(t, bus.ValidatePattern("a\xff"), `bus: invalid pattern "a\xff": not UTF-8`)
	require.EqualError(t, bus.ValidateTopic(longest+"a"), "bus: invalid topic: 256 bytes long; at most 255 are allowed")
}

func TestMatch(t *testing.T) {
	for _, w := range bustest.Wildcards {
		for _, topic := range bustest.Topics {
			require.Equal(t, slices.Contains(w.Matches, topic), bus.Match(w.Pattern, topic),
				"pattern %q, topic %q", w.Pattern, topic)
		}
	}
}

// matchTokens is Match as one would define it.
func matchTokens(pattern, topic []string) bool {
	switch {
	case len(pattern) == 0 || len(topic) == 0:
		return len(pattern) == len(topic)
	case pattern[0] == ">" && len(pattern) == 1:
		return true
	case pattern[0] == "*" || pattern[0] == topic[0]:
		return matchTokens(pattern[1:], topic[1:])
	}
	return false
}

func FuzzMatch(f *testing.F) {
	for _, w := range bustest.Wildcards {
		for _, topic := range bustest.Topics[:5] {
			f.Add(w.Pattern, topic)
		}
	}
	f.Add("a.>", "a")
	f.Add("a.*", "a.*")
	f.Fuzz(func(t *testing.T, pattern, topic string) {
		if bus.ValidatePattern(pattern) != nil || bus.ValidateTopic(topic) != nil {
			return
		}
		want := matchTokens(strings.Split(pattern, "."), strings.Split(topic, "."))
		require.Equal(t, want, bus.Match(pattern, topic), "pattern %q, topic %q", pattern, topic)
		require.True(t, bus.Match(">", topic))
		require.True(t, bus.Match(topic, topic))
	})
}

func FuzzValidate(f *testing.F) {
	for _, s := range []string{"a.b", "a.*", "a.>", "", "a..b", "a b", "\xff", "a\x00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if bus.ValidateTopic(s) != nil {
			return
		}
		require.NoError(t, bus.ValidatePattern(s), "every topic is a pattern")
		require.False(t, strings.ContainsAny(s, "*> \t\r\n\x00"), "%q cannot be in a line of a protocol", s)
		for token := range strings.SplitSeq(s, ".") {
			require.NotEmpty(t, token)
		}
	})
}

func BenchmarkMatch(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		bus.Match("attacker.*.enriched", "attacker.intel.enriched")
	}
}
