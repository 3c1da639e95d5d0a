package memstore

import (
	"bytes"
	"context"
)

// budget is a document of a quota ledger.
type budget struct {
	doc     []byte // replaced as a whole, never modified
	version uint64
}

// Budget implements [store.QuotaLedger].
func (s *Store) Budget(ctx context.Context, provider string) ([]byte, uint64, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	b := s.budgets[provider]
	return bytes.Clone(b.doc), b.version, nil
}

// SwapBudget implements [store.QuotaLedger].
func (s *Store) SwapBudget(ctx context.Context, provider string, version uint64, doc []byte) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.budgets[provider].version != version {
		return false, nil
	}
	s.budgets[provider] = budget{bytes.Clone(doc), version + 1}
	return true, nil
}
