package aggregate_test

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/aggregate"
	"github.com/decnet/enrich/provider"
)

func TestDecisionInWords(t *testing.T) {
	many := aggregate.Decision{Verdict: malicious}
	for _, name := range strings.Split("abcdefghijkl", "") {
		many.Reasons = append(many.Reasons, aggregate.Reason{Provider: name, Verdict: malicious, Decisive: true})
	}
	type reasons = []aggregate.Reason
	for want, d := range map[string]aggregate.Decision{
		"no verdict: no source has an opinion": {Reasons: reasons{{Provider: "feodo"}}},
		"malicious":                            {Verdict: malicious}, // as in rows that DECNET wrote
		"unknown: greynoise (unknown) cannot tell": {
			Verdict: unknown, Reasons: reasons{{Provider: "greynoise", Verdict: unknown, Decisive: true}, {Provider: "feodo"}},
		},
		"unknown: a (unknown, 3 hours old) and b (unknown, stale) cannot tell": {
			Verdict: unknown,
			Reasons: reasons{{Provider: "a", Verdict: unknown, Age: 3*time.Hour + time.Minute}, {Provider: "b", Verdict: unknown, Stale: true}},
		},
		"unknown: a (benign, 1 hour old) and b (suspicious, 2 days old, stale) do not suffice": {
			Verdict: unknown,
			Reasons: reasons{
				{Provider: "a", Verdict: benign, Age: time.Hour, Decisive: true},
				{Provider: "b", Verdict: suspicious, Age: 71 * time.Hour, Stale: true, Decisive: true},
				{Provider: "c", Verdict: unknown, Decisive: true},
			},
		},
		"unknown: a (benign) and b (suspicious) do not suffice, they contradict each other": {
			Verdict: unknown, Conflict: true,
			Reasons: reasons{{Provider: "a", Verdict: benign, Decisive: true}, {Provider: "b", Verdict: suspicious, Decisive: true}},
		},
		"unknown: a (malicious, 365 days old) has no weight": {
			Verdict: unknown,
			Reasons: reasons{{Provider: "a", Verdict: malicious, Age: 365 * day, Ignored: aggregate.Weightless, Decisive: true}},
		},
		"malicious: a (malicious), b (malicious) and c (malicious) decide; d (suspicious) is weaker": {
			Verdict: malicious,
			Reasons: reasons{
				{Provider: "a", Verdict: malicious, Decisive: true}, {Provider: "b", Verdict: malicious, Decisive: true},
				{Provider: "c", Verdict: malicious, Decisive: true}, {Provider: "d", Verdict: suspicious},
			},
		},
		"benign: a (benign) decides; b (suspicious) and c (suspicious) are outweighed": {
			Verdict: benign,
			Reasons: reasons{
				{Provider: "a", Verdict: benign, Decisive: true}, {Provider: "b", Verdict: suspicious}, {Provider: "c", Verdict: suspicious},
			},
		},
		"suspicious: a (malicious) decides, in conflict with b (benign)": {
			Verdict: suspicious, Conflict: true,
			Reasons: reasons{{Provider: "a", Verdict: malicious, Decisive: true}, {Provider: "b", Verdict: benign}},
		},
		"malicious: a (malicious), b (malicious), c (malicious), d (malicious), e (malicious), f (malicious), " +
			"g (malicious), h (malicious) and 4 more decide": many,
		"benign: a (benign) decides; b (malicious) does not count: ?b?our own??b?": {
			Verdict: benign,
			Reasons: reasons{
				{Provider: "a", Verdict: benign, Decisive: true}, {Provider: "b", Verdict: malicious, Ignored: "<b>our own</b>"},
			},
		},
		"suspicious: ??????? (suspicious) and aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa... (Verdict(9)) decide; ? (malicious) is outranked": {
			Verdict: suspicious,
			Reasons: reasons{
				{Provider: "\x00\x1b\n\"<\u202eé", Verdict: suspicious, Decisive: true, Age: -time.Hour},
				{Provider: strings.Repeat("a", 1000), Verdict: 9, Decisive: true},
				{Verdict: malicious, Ignored: aggregate.Outranked},
			},
		},
		"Verdict(200): a (malicious, 106751 days old) is weaker": {
			Verdict: 200, Reasons: reasons{{Provider: "a", Verdict: malicious, Age: math.MaxInt64}},
		},
	} {
		require.Equal(t, want, d.String())
	}
}

// plain is what String promises to write.
var plain = regexp.MustCompile(`^[A-Za-z0-9 _:;,.()?-]+$`)

func FuzzDecisionString(f *testing.F) {
	f.Add("threatfox", "dependent", uint8(4), uint8(0xff), int64(1e15), 3)
	f.Add("\x00<script>", "a\xff", uint8(200), uint8(3), int64(-1), 300)
	f.Fuzz(func(t *testing.T, name, ignored string, verdict, bits uint8, age int64, n int) {
		d := aggregate.Decision{Verdict: provider.Verdict(verdict), Conflict: bits&1 != 0}
		for i := range max(n, 0) % 1000 {
			d.Reasons = append(d.Reasons, aggregate.Reason{
				Provider: name + strings.Repeat("x", i%40), Verdict: provider.Verdict(bits>>1+uint8(i)) % 6, Age: time.Duration(age),
				Stale: bits&2 != 0, Decisive: i%3 == 0, Ignored: aggregate.Ignored(strings.Repeat(ignored, i%5)),
			})
		}
		s := d.String()
		require.Regexp(t, plain, s)
		require.LessOrEqual(t, len(s), 8000)
		require.Equal(t, s, d.String())
		require.Equal(t, s, (&d).String())
	})
}
