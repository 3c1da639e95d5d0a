package bustest_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/bus/bustest"
	"github.com/decnet/enrich/internal/suitecheck"
)

// bugs are, for each check, the seeded bugs that it has to notice.
type bugs map[string]map[string]func(b *broken)

// allBugs puts the tables of the other files together.
func allBugs() bugs {
	all := bugs{}
	for _, table := range []bugs{deliveryBugs, envelopeBugs, refusalBugs, slowBugs, endBugs, lostBugs} {
		maps.Copy(all, table)
	}
	return all
}

// TestBugs shows that every check passes on a good bus and fails on each bus
// that has one of its bugs. It runs in bubbles, in which waiting in vain takes
// no time.
func TestBugs(t *testing.T) {
	all := allBugs()
	var names []string
	for _, c := range bustest.Checks() {
		names = append(names, c.Name)
		t.Run(c.Name, func(t *testing.T) {
			require.NotEmpty(t, all[c.Name], "no bug shows that this check can fail")
			synctest.Test(t, func(t *testing.T) {
				h := brokenHarness(func(*broken) {})
				require.Empty(t, suitecheck.Failure(t, func(tb testing.TB) { c.Run(tb, h) }))
			})
			for name, breakIt := range all[c.Name] {
				t.Run(name, func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) {
						failure := suitecheck.Failure(t, func(tb testing.TB) { c.Run(tb, brokenHarness(breakIt)) })
						require.NotEmpty(t, failure, "the check does not notice the bug")
						t.Log(failure)
					})
				})
			}
		})
	}
	require.ElementsMatch(t, names, slices.Collect(maps.Keys(all)), "bugs of checks that do not exist")
}
