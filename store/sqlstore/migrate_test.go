package sqlstore

import (
	"io/fs"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestOwnTables: those that Validate looks at and Uninstall drops are the ones
// that the files create.
func TestOwnTables(t *testing.T) {
	for _, d := range []Dialect{SQLite, PostgreSQL, MySQL} {
		files, err := Migrations(d)
		require.NoError(t, err)
		names, err := fs.Glob(files, "*.sql")
		require.NoError(t, err)
		var got []string
		for _, name := range names {
			text, err := fs.ReadFile(files, name)
			require.NoError(t, err)
			for _, m := range regexp.MustCompile(`(?m)^CREATE TABLE (?:IF NOT EXISTS )?(enrich_\w+)`).FindAllSubmatch(text, -1) {
				got = append(got, string(m[1]))
			}
		}
		require.ElementsMatch(t, ownTables, got, d)
	}
}
