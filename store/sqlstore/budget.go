package sqlstore

import (
	"context"
	"database/sql"
	"errors"
)

// Budget implements [store.QuotaLedger] by one statement.
func (s *Store) Budget(ctx context.Context, provider string) (doc []byte, version uint64, err error) {
	text := s.placed("SELECT doc, version FROM enrich_quota WHERE provider = ?")
	err = s.retry(ctx, maxWaits, func() error {
		err := s.db.QueryRowContext(ctx, text, provider).Scan(&doc, &version)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return s.failed("read a budget", err)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return doc, version, nil
}

// SwapBudget implements [store.QuotaLedger] by one statement, but for the first
// document of a provider. If ctx ends or the connection is lost while it runs,
// the document may have been stored all the same.
func (s *Store) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error) {
	if doc == nil {
		doc = []byte{} // nil would be NULL
	}
	if version == 0 {
		return s.createBudget(ctx, provider, doc)
	}
	text := s.placed("UPDATE enrich_quota SET doc = ?, changed_at = ?, version = version + 1 WHERE provider = ? AND version = ?")
	err = s.retry(ctx, maxWaits, func() error {
		res, err := s.db.ExecContext(ctx, text, doc, s.localTime().UnixMicro(), provider, int64(version))
		if err != nil {
			return s.failed("change a budget", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return s.failed("change a budget", err)
		}
		swapped = n > 0
		return nil
	})
	return swapped, err
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
