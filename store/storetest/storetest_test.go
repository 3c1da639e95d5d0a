package storetest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/decnet/enrich/internal/suitecheck"
	"github.com/decnet/enrich/store"
	"github.com/decnet/enrich/store/memstore"
	"github.com/decnet/enrich/store/storetest"
)

// bugs are seeded bugs by the check that has to notice them.
type bugs map[string]map[string]func(b *broken)

func allBugs() bugs {
	all := make(bugs)
	for _, some := range []bugs{claimBugs, leaseBugs, scheduleBugs, ledgerBugs, callBugs, addressBugs, optionalBugs, budgetBugs, rawBugs, positionBugs, clockBugs} {
		maps.Copy(all, some)
	}
	return all
}

// withoutBugs are the checks that a test of their own shows to work, some of them
// in package memstore, whose clock they have to shift.
var withoutBugs = []string{"Migrate", "Reopen", "Model", "ClockLease", "ClockTurn", "ClockOutbox"}

func TestEveryCheckNoticesItsBugs(t *testing.T) {
	all := allBugs()
	var names []string
	for _, c := range storetest.Checks() {
		require.NotContains(t, names, c.Name, "two checks of one name")
		names = append(names, c.Name)
		if slices.Contains(withoutBugs, c.Name) {
			continue
		}
		require.NotEmpty(t, all[c.Name], "no bug shows that %s works", c.Name)
		t.Run(c.Name, func(t *testing.T) {
			sound := brokenHarness(func(*broken) {})
			require.Empty(t, failure(t, c, sound), "failed a store without a bug")
			for bug, breakIt := range all[c.Name] {
				require.NotEmpty(t, failure(t, c, brokenHarness(breakIt)), "did not notice a store with the bug %q", bug)
			}
		})
	}
	for name := range all {
		require.Contains(t, names, name, "bugs of a check that does not exist")
	}
}

// failure runs a check where time passes at once.
func failure(t *testing.T, c storetest.Check, h storetest.Harness) (text string) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		text = suitecheck.Failure(t, func(tb testing.TB) { c.Run(tb, h) })
	})
	return text
}

func check(t *testing.T, name string) storetest.Check {
	t.Helper()
	checks := storetest.Checks()
	i := slices.IndexFunc(checks, func(c storetest.Check) bool { return c.Name == name })
	require.GreaterOrEqual(t, i, 0, "no check %s", name)
	return checks[i]
}

func TestReopenNoticesWhatIsLost(t *testing.T) {
	c := check(t, "Reopen")
	for bug, reopen := range map[string]func(b *broken) store.Store{
		"everything lost": func(*broken) store.Store { return memstore.New() },
		"leases lost": func(b *broken) store.Store {
			b.steal()
			return b
		},
		"outbox lost": func(b *broken) store.Store {
			_, _ = b.Expire(background, 0)
			return b
		},
		"schedule lost": func(b *broken) store.Store {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				req.Now = farAhead
				return b.Store.Claim(background, req)
			}
			return b
		},
		"ledger lost": func(b *broken) store.Store {
			b.read = func(r *store.Record) { r.Entries = nil }
			return b
		},
		"large integers rounded": retyped(func(v any) any {
			if n, ok := v.(int64); ok {
				return int64(float64(n)/2) * 2
			}
			return v
		}),
		"whole numbers become integers": retyped(func(v any) any {
			if x, ok := v.(float64); ok && x == 1 {
				return int64(1)
			}
			return v
		}),
		"empty lists become lists of texts": retyped(func(v any) any {
			if list, ok := v.([]int64); ok && len(list) == 0 {
				return []string{}
			}
			return v
		}),
		"budgets lost": func(b *broken) store.Store {
			b.budget = func(string) ([]byte, uint64, error) { return nil, 0, nil }
			return b
		},
		"positions lost": func(b *broken) store.Store {
			b.position = func(string) ([]byte, error) { return nil, nil }
			return b
		},
		"fences lost": func(b *broken) store.Store {
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					c.Records[i].Fence = 1
				}
			}
			return b
		},
	} {
		h := brokenHarness(func(*broken) {})
		require.Empty(t, failure(t, c, h))
		h.Reopen = func(_ testing.TB, s store.Store) store.Store { return reopen(s.(*broken)) }
		require.NotEmpty(t, failure(t, c, h), "did not notice: %s", bug)
	}
}

// retyped makes a store that gives back other attributes after it was reopened.
func retyped(change func(any) any) func(b *broken) store.Store {
	return func(b *broken) store.Store {
		b.read = func(r *store.Record) {
			r.Entries = slices.Clone(r.Entries)
			for i := range r.Entries {
				if r.Entries[i].Finding == nil {
					continue
				}
				f := *r.Entries[i].Finding
				f.Attrs = maps.Clone(f.Attrs)
				for name, v := range f.Attrs {
					f.Attrs[name] = change(v)
				}
				r.Entries[i].Finding = &f
			}
		}
		return b
	}
}

// migrating is a store with tables to migrate.
type migrating struct {
	*memstore.Store
	migrate func(s *memstore.Store) error
}

func (m migrating) Migrate(context.Context) error { return m.migrate(m.Store) }

func TestMigrateNoticesHarm(t *testing.T) {
	c := check(t, "Migrate")
	with := func(migrate func(*memstore.Store) error) storetest.Harness {
		return storetest.Harness{New: func(testing.TB) store.Store { return migrating{memstore.New(), migrate} }}
	}
	require.Empty(t, failure(t, c, with(func(*memstore.Store) error { return nil })))
	require.NotEmpty(t, failure(t, c, with(func(*memstore.Store) error { return errors.New("table exists") })))
	require.NotEmpty(t, failure(t, c, with(func(s *memstore.Store) error {
		page, err := s.List(background, store.ListRequest{Limit: 9})
		for _, rec := range page.Records {
			_ = s.Forget(background, rec.ID)
		}
		return err
	})))
}

// decorated hides everything but the methods of store.Store.
type decorated struct{ store.Store }

func (d decorated) Unwrap() store.Store { return d.Store }

func TestOptionalInterfacesAreFoundBehindDecorators(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(testing.TB) store.Store { return decorated{memstore.New()} },
	})
}

func TestStoreWithoutRegistrarIsRefused(t *testing.T) {
	h := storetest.Harness{New: func(testing.TB) store.Store { return struct{ store.Store }{memstore.New()} }}
	require.Contains(t, failure(t, check(t, "ClaimNewestFirst"), h), "store.Registrar")
}

// bare has no optional interface but the one the suite needs.
type bare struct {
	store.Store
	store.Registrar
}

func TestOptionalInterfacesAreOptional(t *testing.T) {
	storetest.Run(t, storetest.Harness{
		New: func(testing.TB) store.Store {
			s := memstore.New()
			return bare{s, s}
		},
	})
}

func TestModelNoticesSubtleBugs(t *testing.T) {
	noticed := func(h storetest.Harness) bool {
		for seed := range uint64(60) {
			run := storetest.Check{Run: func(tb testing.TB, h storetest.Harness) { storetest.Model(tb, h, seed) }}
			if text := failure(t, run, h); text != "" {
				require.Contains(t, text, fmt.Sprintf("seed %d", seed))
				return true
			}
		}
		return false
	}
	require.False(t, noticed(brokenHarness(func(*broken) {})), "failed a store without a bug")
	for bug, breakIt := range modelBugs {
		require.True(t, noticed(brokenHarness(breakIt)), "did not notice a store with the bug %q", bug)
	}
}

func FuzzModel(f *testing.F) {
	f.Add(uint64(1))
	f.Fuzz(func(t *testing.T, seed uint64) {
		storetest.Model(t, storetest.Harness{New: func(testing.TB) store.Store { return memstore.New() }}, seed)
	})
}
