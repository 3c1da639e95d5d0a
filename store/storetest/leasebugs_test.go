package storetest_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

var leaseBugs = bugs{
	"LeaseExcludes": {
		"nobody": func(b *broken) { b.claimed = func(store.ClaimRequest, *store.Claimed) { b.steal() } },
		"others only": func(b *broken) {
			owner := ""
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if req.Owner == owner {
					b.steal()
				}
				owner = req.Owner
				return b.Store.Claim(background, req)
			}
		},
		"on the clock of the request": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if req.Now.After(time.Now().Add(time.Hour)) {
					b.steal()
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"LeaseExpires": {
		"never":     asking(func(req *store.ClaimRequest) { req.Lease = 100 * time.Hour }),
		"too early": asking(func(req *store.ClaimRequest) { req.Lease = min(req.Lease, 50*time.Millisecond) }),
		"any fence": latestFence,
		"the late save wins": func(b *broken) {
			b.update = func(u *store.Update) {
				if u.Fence != b.fence(u.ID) {
					u.Fence = b.fence(u.ID)
					u.Hold = true
				}
			}
		},
	},
	"LeaseExpiresUnfinished": {
		"parked by the claim": func(b *broken) {
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for _, rec := range c.Records {
					if e := rec.Entry("a"); e != nil && e.State == store.Waiting {
						_ = b.Store.Save(background, store.Update{
							Lease: store.Lease{ID: rec.ID, Fence: rec.Fence}, IP: rec.IP, Hold: true,
							Entries: []store.Entry{{Provider: "a", State: store.NotApplicable}},
						})
					}
				}
			}
		},
		"a new provider is offered once": func(b *broken) {
			offered := false
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if offered {
					req.Providers = nil
				}
				offered = offered || len(req.Providers) > 0
				return b.Store.Claim(background, req)
			}
		},
	},
	"FenceRefusesLostLease": {
		"any fence": latestFence,
		"all or nothing": func(b *broken) {
			b.save = func(ups []store.Update) error {
				for _, u := range ups {
					if err := b.Store.Save(background, u); err != nil {
						return err
					}
				}
				return nil
			}
		},
		"whole": func(b *broken) {
			b.save = func(ups []store.Update) error {
				if b.Store.Save(background, ups...) != nil {
					return store.ErrConflict
				}
				return nil
			}
		},
		"another error": func(b *broken) {
			b.save = func(ups []store.Update) error {
				err := b.Store.Save(background, ups...)
				if e, ok := errors.AsType[*store.SaveError](err); ok {
					for id := range e.Failed {
						e.Failed[id] = errors.New("lost")
					}
				}
				return err
			}
		},
		"one fence for all": func(b *broken) {
			latestFence(b)
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					c.Records[i].Fence = 1
				}
			}
		},
		"silent": func(b *broken) {
			b.save = func(ups []store.Update) error {
				_ = b.Store.Save(background, ups...)
				return nil
			}
		},
		"nobody named": func(b *broken) {
			b.save = func(ups []store.Update) error {
				if b.Store.Save(background, ups...) != nil {
					return &store.SaveError{}
				}
				return nil
			}
		},
		"all named": func(b *broken) {
			b.save = func(ups []store.Update) error {
				err := b.Store.Save(background, ups...)
				if err != nil {
					for _, u := range ups {
						err = alsoFailed(err, u.ID, store.ErrConflict)
					}
				}
				return err
			}
		},
	},
	"FenceSurvivesForget": {
		"restarts": func(b *broken) {
			claims := make(map[uuid.UUID]uint64)
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				for i := range c.Records {
					claims[c.Records[i].ID]++
					c.Records[i].Fence = claims[c.Records[i].ID]
				}
			}
			b.forget = func(ids []uuid.UUID) error {
				for _, id := range ids {
					delete(claims, id)
				}
				return b.Store.Forget(background, ids...)
			}
			b.update = func(u *store.Update) {
				if u.Fence == claims[u.ID] {
					u.Fence = b.fence(u.ID)
				} else {
					u.Fence = 0
				}
			}
		},
	},
	"FenceAdmitsOneSave": {
		"all succeed": func(b *broken) {
			b.save = func(ups []store.Update) error {
				_ = b.Store.Save(background, ups...)
				return nil
			}
		},
		"none succeeds": func(b *broken) {
			b.save = func(ups []store.Update) error {
				_ = b.Store.Save(background, ups...)
				return fmt.Errorf("%w: somebody else saves", store.ErrConflict)
			}
		},
		"the lease goes on": updating(func(u *store.Update) { u.Hold = true }),
		"stores another":    updating(func(u *store.Update) { u.Revision = 1 }),
	},
	"HoldKeepsLease": {
		"ignored":  updating(func(u *store.Update) { u.Hold = false }),
		"for good": updating(func(u *store.Update) { u.Hold = true }),
		"stores nothing": func(b *broken) {
			b.save = func(ups []store.Update) error {
				if ups[0].Hold {
					return nil
				}
				return b.Store.Save(background, ups...)
			}
		},
	},
	"HoldSavedTogether": {
		"only the last": func(b *broken) {
			b.save = func(ups []store.Update) error { return b.Store.Save(background, ups[len(ups)-1]) }
		},
		"only the first": func(b *broken) {
			b.save = func(ups []store.Update) error { return b.Store.Save(background, ups[0]) }
		},
		"raws of the last alone": func(b *broken) {
			b.save = func(ups []store.Update) error {
				for i := range ups[:len(ups)-1] {
					ups[i].Entries = slices.Clone(ups[i].Entries)
					for j, e := range ups[i].Entries {
						bare := *e.Finding
						bare.Raw = nil
						ups[i].Entries[j].Finding = &bare
					}
				}
				return b.Store.Save(background, ups...)
			}
		},
	},
	"Release": {
		"does nothing": releasing(func(b *broken, due time.Time, leases []store.Lease) error { return nil }),
		"due ignored": releasing(func(b *broken, _ time.Time, leases []store.Lease) error {
			return b.Store.Release(background, time.Unix(1, 0), leases...)
		}),
		"parks": releasing(func(b *broken, _ time.Time, leases []store.Lease) error {
			return b.Store.Release(background, farAhead, leases...)
		}),
		"first only": releasing(func(b *broken, due time.Time, leases []store.Lease) error {
			return b.Store.Release(background, due, leases[0])
		}),
		"without a time": func(b *broken) {
			b.release = func(due time.Time, leases []store.Lease) error {
				if due.IsZero() {
					due = time.Now()
				}
				return b.Store.Release(background, due, leases...)
			}
		},
		"refused but released": func(b *broken) {
			b.release = func(due time.Time, leases []store.Lease) error {
				if due.IsZero() {
					_ = b.Store.Release(background, time.Unix(1, 0), leases...)
				}
				return b.Store.Release(background, due, leases...)
			}
		},
	},
	"ReleaseLostLease": {
		"any fence": func(b *broken) {
			b.release = func(due time.Time, leases []store.Lease) error {
				for _, l := range leases {
					l.Fence = b.fence(l.ID)
					_ = b.Store.Release(background, due, l)
				}
				return nil
			}
		},
		"fails": func(b *broken) {
			b.release = func(due time.Time, leases []store.Lease) error {
				for _, l := range leases {
					if l.Fence != b.fence(l.ID) {
						return store.ErrConflict
					}
				}
				return b.Store.Release(background, due, leases...)
			}
		},
		"stops at the first": func(b *broken) {
			b.release = func(due time.Time, leases []store.Lease) error { return b.Store.Release(background, due, leases[0]) }
		},
	},
}

// releasing breaks every call of Release that a store would not refuse.
func releasing(release func(b *broken, due time.Time, leases []store.Lease) error) func(b *broken) {
	return func(b *broken) {
		b.release = func(due time.Time, leases []store.Lease) error {
			if due.IsZero() {
				return b.Store.Release(background, due, leases...)
			}
			return release(b, due, leases)
		}
	}
}

// alsoFailed adds a failure to what Save returned.
func alsoFailed(err error, id uuid.UUID, why error) error {
	failed := map[uuid.UUID]error{id: why}
	if e, ok := errors.AsType[*store.SaveError](err); ok {
		maps.Copy(failed, e.Failed)
	}
	return &store.SaveError{Failed: failed}
}
