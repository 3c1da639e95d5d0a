package sqlstore

import (
	"context"
)

// Budget implements [store.QuotaLedger].
func (s *Store) Budget(ctx context.Context, provider string) (doc []byte, version uint64, err error) {
	err = s.read(ctx, func(t *tx) error {
		doc, version = nil, 0
		_, err := t.one("read a budget", "SELECT doc, version FROM enrich_quota WHERE provider = ?", []any{provider}, &doc, &version)
		return err
	})
	if err != nil {
		return nil, 0, err
	}
	return doc, version, nil
}

// SwapBudget implements [store.QuotaLedger].
func (s *Store) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error) {
	if doc == nil {
		doc = []byte{}
	}
	err = s.write(ctx, func(t *tx) error {
		swapped = false
		n, err := t.changed("change a budget",
			"UPDATE enrich_quota SET doc = ?, version = version + 1, changed_at = ? WHERE provider = ? AND version = ?",
			doc, t.clock, provider, int64(version))
		if err != nil || n > 0 || version > 0 {
			swapped = n > 0
			return err
		}
		known, err := t.one("look for a budget", "SELECT version FROM enrich_quota WHERE provider = ?", []any{provider}, new(uint64))
		if err != nil || known {
			return err
		}
		// If another process comes first, this fails and is tried again.
		swapped = true
		return t.exec("create a budget", "INSERT INTO enrich_quota (provider, version, doc, changed_at) VALUES (?, 1, ?, ?)",
			provider, doc, t.clock)
	})
	return swapped && err == nil, err
}
