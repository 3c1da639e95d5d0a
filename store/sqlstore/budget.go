package sqlstore

import "context"

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

// SwapBudget implements [store.QuotaLedger]. If ctx ends or the connection is lost
// while it runs, the document may have been stored all the same.
func (s *Store) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error) {
	if doc == nil {
		doc = []byte{} // nil would be NULL
	}
	if version == 0 {
		return s.createBudget(ctx, provider, doc)
	}
	err = s.writeUntimed(ctx, func(t *tx) error {
		n, err := t.changed("change a budget", "UPDATE enrich_quota SET doc = ?, changed_at = ?, version = version + 1 WHERE provider = ? AND version = ?",
			doc, s.localTime().UnixMicro(), provider, int64(version))
		swapped = n > 0
		return err
	})
	return swapped && err == nil, err
}

// createBudget stores a budget unless there is one.
func (s *Store) createBudget(ctx context.Context, provider string, doc []byte) (created bool, err error) {
	err = s.write(ctx, func(t *tx) error {
		known, err := t.one("look for a budget", "SELECT version FROM enrich_quota WHERE provider = ?", []any{provider}, new(uint64))
		if created = err == nil && !known; !created {
			return err
		}
		// If another process comes first, this fails and is tried again.
		return t.exec("create a budget", "INSERT INTO enrich_quota (provider, version, doc, changed_at) VALUES (?, 1, ?, ?)",
			provider, doc, t.clock)
	})
	return created && err == nil, err
}
