package storetest

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/decnet/enrich/store"
)

// nothingToDo is about calls with nothing in them, which succeed.
func nothingToDo(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	a := f.attackers(1)[0]
	f.save()
	f.release(f.now)
	f.observe()
	f.forget()
	if s, ok := store.As[store.Answers](f.store); ok {
		if got, err := s.Answers(f.ctx, f.now); len(got) > 0 || err != nil {
			f.Errorf("Answers about no address returned %v, %v", got, err)
		}
	}
	if s, ok := store.As[store.Outbox](f.store); ok {
		if err := s.Published(f.ctx); err != nil {
			f.Errorf("Published without events: %v", err)
		}
		if err := s.Published(f.ctx, "unknown"); err != nil {
			f.Errorf("Published of an unknown event: %v", err)
		}
	}
	f.same("Get after nothing was done", f.get(a.ID), store.Record{Attacker: a})
}

// cancelledContext is about calls whose context is done already: they return
// its error and change nothing.
func cancelledContext(tb testing.TB, h Harness) {
	f := setUp(tb, h)
	all := f.attackers(3)
	saved, released, due := all[0], all[1], all[2]
	rec, other := f.take(saved), f.take(released)
	u := f.update(rec, f.fresh("a", saved.Addr()))
	newcomer := f.attacker(8)

	ctx, cancel := context.WithCancel(f.ctx)
	cancel()
	calls := map[string]func() error{
		"Claim": func() error {
			_, err := f.store.Claim(ctx, f.request())
			return err
		},
		"Get": func() error {
			_, err := f.store.Get(ctx, due.ID)
			return err
		},
		"Save":    func() error { return f.store.Save(ctx, u) },
		"Release": func() error { return f.store.Release(ctx, f.now, store.Lease{ID: other.ID, Fence: other.Fence}) },
		"Observe": func() error { return f.reg.Observe(ctx, newcomer) },
		"Forget":  func() error { return f.reg.Forget(ctx, due.ID) },
	}
	if s, ok := store.As[store.Positions](f.store); ok {
		calls["Position"] = func() error {
			_, err := s.Position(ctx, "a")
			return err
		}
		calls["ObserveAt"] = func() error { return s.ObserveAt(ctx, "a", []byte("doc")) }
	}
	if s, ok := store.As[store.Forgetter](f.store); ok {
		calls["ForgetUnseen"] = func() error {
			_, err := s.ForgetUnseen(ctx, f.now.Add(time.Hour), 9)
			return err
		}
	}
	if s, ok := store.As[store.Answers](f.store); ok {
		calls["Answers"] = func() error {
			_, err := s.Answers(ctx, f.now, due.Addr())
			return err
		}
	}
	if s, ok := store.As[store.Outbox](f.store); ok {
		calls["Unpublished"] = func() error {
			_, err := s.Unpublished(ctx, 0, 1)
			return err
		}
		calls["Turn"] = func() error {
			_, err := s.Turn(ctx, "owner", lease)
			return err
		}
		calls["Published"] = func() error { return s.Published(ctx, "unknown") }
		calls["Expire"] = func() error {
			_, err := s.Expire(ctx, time.Hour)
			return err
		}
	}
	if s, ok := store.As[store.QuotaLedger](f.store); ok {
		calls["Budget"] = func() error {
			_, _, err := s.Budget(ctx, "a")
			return err
		}
		calls["SwapBudget"] = func() error {
			_, err := s.SwapBudget(ctx, "a", 0, []byte("doc"))
			return err
		}
	}
	if s, ok := store.As[store.ByAddress](f.store); ok {
		calls["ByAddress"] = func() error {
			_, err := s.ByAddress(ctx, []netip.Prefix{netip.PrefixFrom(address(0), 32)})
			return err
		}
	}
	if s, ok := store.As[store.Lister](f.store); ok {
		calls["List"] = func() error {
			_, err := s.List(ctx, store.ListRequest{Limit: 1})
			return err
		}
	}
	if s, ok := store.As[store.Counter](f.store); ok {
		calls["Count"] = func() error {
			_, err := s.Count(ctx, store.CountRequest{From: f.now.Add(-time.Hour), To: f.now, Every: time.Minute})
			return err
		}
	}
	if s, ok := store.As[store.Pruner](f.store); ok {
		calls["Prune"] = func() error {
			_, err := s.Prune(ctx, f.now.Add(time.Hour))
			return err
		}
	}
	if s, ok := store.As[store.Statistician](f.store); ok {
		calls["Stats"] = func() error {
			_, err := s.Stats(ctx, f.now)
			return err
		}
	}
	for name, call := range calls {
		if err := call(); !errors.Is(err, context.Canceled) {
			f.Errorf("%s with a cancelled context returned %v; want an error that wraps context.Canceled", name, err)
		}
	}

	f.same("Get after calls that were cancelled", f.get(saved.ID), store.Record{Attacker: saved})
	if _, err := f.store.Get(f.ctx, newcomer.ID); !errors.Is(err, store.ErrNotFound) {
		f.Errorf("Get of an attacker whose registration was cancelled returned %v; want an error that wraps ErrNotFound", err)
	}
	f.expect("a claim after calls that were cancelled", f.claim().Records, due)
	f.save(u)
}
