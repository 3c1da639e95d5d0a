package sqlstore

import (
	"context"

	"github.com/decnet/enrich/store"
)

// Position implements [store.Positions].
func (s *Store) Position(ctx context.Context, name string) (doc []byte, err error) {
	err = s.read(ctx, func(t *tx) error {
		doc = nil
		_, err := t.one("read a position", "SELECT doc FROM enrich_position WHERE name = ?", []any{name}, &doc)
		return err
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
