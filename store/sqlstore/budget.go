package sqlstore

import (
	"context"
	"database/sql"
	"errors"
)

// Budget implements [store.QuotaLedger] by one statement.
func (s *Store) Budget(ctx context.Context, provider string) (doc []byte, version uint64, err error) {
	err = s.retry(ctx, func() error {
		row := s.db.QueryRowContext(ctx, "SELECT doc, version FROM enrich_quota WHERE provider = ?", provider)
		if err := row.Scan(&doc, &version); err != nil && !errors.Is(err, sql.ErrNoRows) {
			return failed("read a budget", err)
		}
		return nil
	})
	if err != nil {
		return nil, 0, err
	}
	return doc, version, nil
}

// SwapBudget implements [store.QuotaLedger] by one statement. If ctx ends while
// it runs, the document may have been stored all the same.
func (s *Store) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (swapped bool, err error) {
	if doc == nil {
		doc = []byte{} // nil would be NULL
	}
	text := "UPDATE enrich_quota SET doc = ?, changed_at = ?, version = version + 1 WHERE provider = ? AND version = ?"
	args := []any{doc, s.now().UnixMicro(), provider, int64(version)}
	if version == 0 {
		text = "INSERT INTO enrich_quota (doc, changed_at, provider, version) VALUES (?, ?, ?, 1)" + s.d.upsert("provider", nil)
		args = args[:3]
	}
	err = s.retry(ctx, func() error {
		res, err := s.db.ExecContext(ctx, text, args...)
		if err != nil {
			return failed("store a budget", err)
		}
		n, err := res.RowsAffected()
		if err != nil {
			return failed("store a budget", err)
		}
		swapped = n > 0
		return nil
	})
	return swapped, err
}
