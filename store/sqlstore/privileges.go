package sqlstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// errUndo undoes a transaction that has shown what it had to.
var errUndo = errors.New("undone")

// CheckPrivileges returns an error that names the first privilege that this program
// needs and does not have, and says how to grant it: to write attacker_intel and our
// own tables, and to create tables if [Store.Migrate] has any to create. It wraps the
// driver's error. CheckPrivileges changes nothing: it runs statements that affect no
// row, and undoes them.
func (s *Store) CheckPrivileges(ctx context.Context) error {
	plan, err := s.Plan(ctx)
	if err != nil {
		return err
	}
	err = s.write(ctx, func(t *tx) error {
		if len(plan) > 0 {
			if err := t.mayCreate(); err != nil {
				return err
			}
		}
		for _, table := range append([]string{"attacker_intel"}, ownTables...) {
			there, err := t.exists(table)
			if err != nil {
				return err
			}
			if !there {
				continue
			}
			if err := t.mayWrite(table); err != nil {
				return err
			}
		}
		return errUndo
	})
	if errors.Is(err, errUndo) {
		return nil
	}
	return err
}

// mayWrite returns an error unless rows of the table may be inserted and updated,
// and deleted if the table is one of ours.
func (t *tx) mayWrite(table string) error {
	column := map[string]string{
		"attacker_intel": "uuid", "enrich_cursor": "name", "enrich_turn": "name", "enrich_quota": "provider", "enrich_migrations": "version",
		"enrich_outbox": "event_id", "enrich_position": "name", "enrich_delivery": "delivery",
	}[table]
	if column == "" {
		column = "attacker_uuid"
	}
	statements := [][2]string{
		{"INSERT", "INSERT INTO " + table + " (" + column + ") SELECT " + column + " FROM " + table + " WHERE 1 = 0"},
		{"UPDATE", "UPDATE " + table + " SET " + column + " = " + column + " WHERE 1 = 0"},
	}
	if slices.Contains(ownTables, table) {
		statements = append(statements, [2]string{"DELETE", "DELETE FROM " + table + " WHERE 1 = 0"})
	}
	for _, st := range statements {
		if err := t.exec("check the privilege "+st[0]+" on "+table, st[1]); err != nil {
			return err
		}
	}
	return nil
}

// mayCreate returns an error unless tables may be created.
func (t *tx) mayCreate() error {
	const purpose = "check the privilege to CREATE tables"
	if t.s.d.wholeDDL {
		return t.exec(purpose, "CREATE TABLE enrich_privilege (a INTEGER)")
	}
	var may int
	if _, err := t.one(purpose, t.s.d.mayCreate, nil, &may); err != nil {
		return err
	}
	if may == 0 {
		return fmt.Errorf("sqlstore: %s: the user has none; %s", purpose, t.s.d.advice("1142"))
	}
	return nil
}

// Advice returns what an operator should change for this package to work well on
// the database: sentences with the statement to run. It changes nothing.
func (s *Store) Advice(ctx context.Context) (advice []string, err error) {
	err = s.read(ctx, func(t *tx) (err error) {
		advice, err = t.advice()
		return err
	})
	return advice, err
}

func (t *tx) advice() ([]string, error) {
	there, err := t.exists("attackers")
	if err != nil || !there {
		return nil, err
	}
	var n int
	if _, err := t.one("look for an index of attackers", t.s.d.leadIndex, nil, &n); err != nil || n > 0 {
		return nil, err
	}
	return []string{"the table attackers has no index on updated_at, so that every look for new attackers reads the whole table and " +
		"other writers wait; create it: CREATE INDEX ix_attackers_updated_at ON attackers (updated_at)"}, nil
}
