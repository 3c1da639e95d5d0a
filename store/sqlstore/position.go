package sqlstore

import (
	"context"
	"database/sql"
	"errors"

	"github.com/decnet/enrich/store"
)

// Position implements [store.Positions] by one statement.
func (s *Store) Position(ctx context.Context, name string) (doc []byte, err error) {
	text := s.placed("SELECT doc FROM enrich_position WHERE name = ?")
	err = s.retry(ctx, maxWaits, func() error {
		err := s.db.QueryRowContext(ctx, text, name).Scan(&doc)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return s.failed("read a position", err)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return doc, nil
}

// ObserveAt implements [store.Positions]. It adds attackers as [Store.Observe]
// does.
func (s *Store) ObserveAt(ctx context.Context, name string, doc []byte, attackers ...store.Attacker) error {
	if err := store.CheckPositionName(name); err != nil {
		return err
	}
	return s.observe(ctx, func(t *tx) error {
		if doc == nil {
			return t.exec("remove a position", "DELETE FROM enrich_position WHERE name = ?", name)
		}
		return t.insert("store a position", "INSERT INTO enrich_position (name, doc, changed_at)", params(3),
			t.s.d.upsert("name", []string{"doc", "changed_at"}), [][]any{{name, doc, t.clock}})
	}, attackers)
}
