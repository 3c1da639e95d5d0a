package memstore

import (
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

// Answers implements [store.Answers].
func (s *Store) Answers(ctx context.Context, now time.Time, addrs ...netip.Addr) ([]store.Answer, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	var answers []store.Answer
	for i, addr := range addrs {
		addr = provider.Canonical(addr)
		if slices.ContainsFunc(addrs[:i], func(before netip.Addr) bool { return provider.Canonical(before) == addr }) {
			continue
		}
		start := len(answers)
		for _, r := range s.byAddr[addr] {
			for j := range r.entries {
				e := &r.entries[j]
				if e.Finding == nil || e.Finding.Addr != addr || !store.Reusable(e.Finding, e.Expires, now) {
					continue
				}
				offered := store.Answer{Finding: e.Finding, Expires: e.Expires}
				if best := sameProvider(answers[start:], e.Finding.Provider); best == nil {
					answers = append(answers, offered)
				} else if offered.Expires.After(best.Expires) {
					*best = offered
				}
			}
		}
	}
	return answers, nil
}

func sameProvider(answers []store.Answer, name string) *store.Answer {
	for i := range answers {
		if answers[i].Finding.Provider == name {
			return &answers[i]
		}
	}
	return nil
}

// index brings byAddr up to date for a row whose entries are about to be
// replaced.
func (s *Store) index(r *row, entries []store.Entry) {
	for i := range r.entries {
		f := r.entries[i].Finding
		if f != nil && !mentions(r.entries[:i], f.Addr) && !mentions(entries, f.Addr) {
			rows := s.byAddr[f.Addr]
			at := slices.Index(rows, r)
			rows = slices.Delete(rows, at, at+1)
			if s.byAddr[f.Addr] = rows; len(rows) == 0 {
				delete(s.byAddr, f.Addr)
			}
		}
	}
	for i := range entries {
		f := entries[i].Finding
		if f != nil && !mentions(entries[:i], f.Addr) && !mentions(r.entries, f.Addr) {
			s.byAddr[f.Addr] = append(s.byAddr[f.Addr], r)
		}
	}
}

// mentions reports whether a finding in entries is about addr.
func mentions(entries []store.Entry, addr netip.Addr) bool {
	return slices.ContainsFunc(entries, func(e store.Entry) bool {
		return e.Finding != nil && e.Finding.Addr == addr
	})
}
