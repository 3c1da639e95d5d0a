package sqlstore

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"

	"github.com/decnet/enrich/store"
)

//go:embed migrations
var migrations embed.FS

// Migrations returns the SQL files that [Store.Migrate] runs for a dialect, for
// those who run them by other means: the numbered ones, in order, create our
// own tables, and attackers.sql and attacker_intel.sql create DECNET's where
// they are absent. It returns an error for a value that is no dialect.
func Migrations(d Dialect) (fs.FS, error) {
	known := d.dialect()
	if known == nil {
		return nil, fmt.Errorf("sqlstore: %d is no dialect", d)
	}
	return fs.Sub(migrations, "migrations/"+known.name)
}

// migration is a numbered file.
type migration struct {
	version int
	text    string
}

// DECNET's tables, in the order in which they can be created.
var decnetTables = []string{"attackers", "attacker_intel"}

// Migrate implements [store.Migrator]. The tables attackers and attacker_intel
// are created if they are absent; if they are there, they are left as they are,
// and an error that wraps [store.ErrSchema] names what they lack.
func (s *Store) Migrate(ctx context.Context) error {
	files, all, err := s.d.migrations()
	if err != nil {
		return err
	}
	return s.write(ctx, func(t *tx) error {
		for _, table := range decnetTables {
			if there, err := s.exists(t, table); err != nil || there {
				if err != nil {
					return err
				}
				continue
			}
			if err := t.script("create "+table, files[table]); err != nil {
				return err
			}
		}
		if err := s.checkDECNET(t); err != nil {
			return err
		}
		at, err := s.version(t)
		if err != nil {
			return err
		}
		if newest := all[len(all)-1].version; at > newest {
			return fmt.Errorf("%w: the tables are of version %d and this program knows versions up to %d; use a newer program",
				store.ErrSchema, at, newest)
		}
		for _, m := range all {
			if m.version <= at {
				continue
			}
			if err := t.script(fmt.Sprintf("migrate to version %d", m.version), m.text); err != nil {
				return err
			}
			err := t.exec("record a migration", "INSERT INTO enrich_migrations (version, applied_at) VALUES (?, ?)",
				m.version, t.clock)
			if err != nil {
				return err
			}
		}
		return nil
	})
}

// version returns the version of the tables, 0 if there are none. It creates
// the table that tells.
func (s *Store) version(t *tx) (int, error) {
	err := t.exec("create enrich_migrations",
		"CREATE TABLE IF NOT EXISTS enrich_migrations (version INTEGER NOT NULL PRIMARY KEY, applied_at BIGINT NOT NULL)")
	if err != nil {
		return 0, err
	}
	var at *int
	if _, err := t.one("read the version of the tables", "SELECT max(version) FROM enrich_migrations", nil, &at); err != nil {
		return 0, err
	}
	if at == nil {
		return 0, nil
	}
	return *at, nil
}

func (s *Store) exists(t *tx, table string) (bool, error) {
	var n int
	_, err := t.one("look for the table "+table, s.d.exists, []any{table}, &n)
	return n > 0, err
}

// checkDECNET prepares the statements that use DECNET's tables.
func (s *Store) checkDECNET(t *tx) error {
	for table, text := range map[string]string{
		"attackers":      "SELECT uuid, ip, first_seen, last_seen, updated_at FROM attackers",
		"attacker_intel": s.intel.statement(columnProviders, true).text,
	} {
		if _, err := t.prepare(text); err != nil {
			return fmt.Errorf("%w: table %s is not as this program needs it; upgrade DECNET: %w", store.ErrSchema, table, err)
		}
	}
	return nil
}

// Uninstall drops our own tables, those named enrich_*, with all schedules,
// budgets and unpublished events. DECNET's tables stay as they are. Nothing may use the
// store until [Store.Migrate] was called again.
func (s *Store) Uninstall(ctx context.Context) error {
	return s.write(ctx, func(t *tx) error {
		for _, table := range []string{
			"enrich_queue", "enrich_raw", "enrich_address", "enrich_quota", "enrich_outbox", "enrich_cursor", "enrich_ledger",
			"enrich_migrations",
		} {
			if err := t.exec("drop "+table, "DROP TABLE IF EXISTS "+table); err != nil {
				return err
			}
		}
		return nil
	})
}

// migrations returns the files that create DECNET's tables, by table, and the
// numbered ones in order.
func (d *dialect) migrations() (files map[string]string, all []migration, err error) {
	dir := "migrations/" + d.name
	entries, err := migrations.ReadDir(dir)
	if err != nil {
		return nil, nil, fmt.Errorf("sqlstore: read migrations: %w", err)
	}
	files = make(map[string]string)
	for _, e := range entries {
		b, err := migrations.ReadFile(dir + "/" + e.Name())
		if err != nil {
			return nil, nil, fmt.Errorf("sqlstore: read migration %s: %w", e.Name(), err)
		}
		number, _, _ := strings.Cut(e.Name(), "_")
		if version, err := strconv.Atoi(number); err == nil {
			all = append(all, migration{version, string(b)})
		} else {
			files[strings.TrimSuffix(e.Name(), ".sql")] = string(b)
		}
	}
	slices.SortFunc(all, func(a, b migration) int { return a.version - b.version })
	return files, all, nil
}

// script runs the statements of a file. Each ends with a semicolon at the end
// of a line; comments stand on lines of their own or hold no such semicolon.
func (t *tx) script(purpose, text string) error {
	for statement := range strings.SplitSeq(text, ";\n") {
		if statement = strings.TrimSpace(statement); statement == "" {
			continue
		}
		if err := t.exec(purpose, statement); err != nil {
			return err
		}
	}
	return nil
}
