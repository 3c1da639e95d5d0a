package storetest_test

import (
	"net/netip"
	"time"

	"github.com/decnet/enrich/store"
)

var clockBugs = bugs{
	"ClockDue": {
		"never":    asking(func(req *store.ClaimRequest) { req.Horizon = 0 }),
		"too soon": asking(func(req *store.ClaimRequest) { req.Horizon = min(req.Horizon, time.Hour) }),
		"always":   asking(func(req *store.ClaimRequest) { req.Horizon = 31 * 24 * time.Hour }),
	},
	"ClockSeen": {
		"the latest time stays": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if r, err := b.Store.Get(background, a.ID); err == nil && !a.LastSeen.After(r.LastSeen) {
						continue
					}
					if err := b.Store.Observe(background, a); err != nil {
						return err
					}
				}
				return nil
			}
		},
		"any time is taken": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if r, err := b.Store.Get(background, a.ID); err == nil && r.LastSeen.After(a.LastSeen) {
						_ = b.Store.Forget(background, a.ID)
					}
					if err := b.Store.Observe(background, a); err != nil {
						return err
					}
				}
				return nil
			}
		},
	},
	"ClockWaiting": {
		"for ever": asking(func(req *store.ClaimRequest) { req.Now, req.Horizon = req.Now.AddDate(90, 0, 0), 0 }),
	},
	"ClockAnswers": {
		"from the future": ranking(func(e *store.Entry) {
			if e.Finding != nil {
				f := *e.Finding
				f.ObservedAt = time.Unix(0, 0).UTC()
				e.Finding = &f
			}
		}),
	},
	"WaitingShared": {
		"never": ranking(func(e *store.Entry) { e.Addr = netip.Addr{} }),
		"for any provider": ranking(func(e *store.Entry) {
			if e.Provider == "b" && e.State == store.Waiting {
				e.Provider = "a"
			}
		}),
		"for any address": ranking(func(e *store.Entry) {
			if e.Addr.IsValid() {
				e.Addr = netip.MustParseAddr("45.9.0.1")
			}
		}),
	},
}
