package storetest_test

import (
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/decnet/enrich/store"
)

// ranking returns a bug that changes the entries that Save stores.
func ranking(change func(e *store.Entry)) func(b *broken) {
	return updating(func(u *store.Update) {
		for i := range u.Entries {
			change(&u.Entries[i])
		}
	})
}

var scheduleBugs = bugs{
	"Parked": {
		"due some day": updating(func(u *store.Update) {
			if u.Due.IsZero() {
				u.Due = time.Now().AddDate(1, 0, 0)
			}
		}),
		"for good":     asking(func(req *store.ClaimRequest) { req.Providers = nil }),
		"for nobody":   asking(func(req *store.ClaimRequest) { req.Providers = append([]string{"zzz"}, req.Providers...) }),
		"by the count": asking(func(req *store.ClaimRequest) { req.Providers = req.Providers[:max(0, len(req.Providers)-1)] }),
		"first only": func(b *broken) {
			calls := 0
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if slices.Contains(req.Providers, "c") {
					if calls++; calls > 1 {
						req.Providers = nil
					}
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"Waiting": {
		"for good": asking(func(req *store.ClaimRequest) { req.Grants = nil }),
		"grants without limit": asking(func(req *store.ClaimRequest) {
			for name, n := range req.Grants {
				n.Calls *= 100
				req.Grants = map[string]store.Grant{name: n}
			}
		}),
		"for nobody": asking(func(req *store.ClaimRequest) {
			req.Grants = map[string]store.Grant{"a": {Calls: 100}, "b": {Calls: 100}}
		}),
		"oldest first": returning(oldestFirst),
		"still waits": func(b *broken) {
			b.update = func(u *store.Update) {
				for i := range u.Entries {
					if u.Entries[i].Provider == "b" {
						u.Entries[i].State = store.Waiting
					}
				}
			}
		},
	},
	"WaitingOrDue": {
		"due ones use the grant": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				all := req.Grants
				req.Grants = nil
				c, err := b.Store.Claim(background, req)
				if left := all["a"].Calls - len(c.Records); left > 0 && err == nil {
					req.Grants = map[string]store.Grant{"a": {Calls: left}}
					more, _ := b.Store.Claim(background, req)
					c.Records = append(c.Records, more.Records...)
				}
				return c, err
			}
		},
		"not due while waiting": func(b *broken) {
			b.update = func(u *store.Update) { u.Due = time.Time{} }
		},
	},
	"WaitingRank": {
		"no ranks":     ranking(func(e *store.Entry) { e.Rank = 0 }),
		"small first":  ranking(func(e *store.Entry) { e.Rank = -e.Rank }),
		"rank for all": ranking(func(e *store.Entry) { e.Rank = max(e.Rank, 0) }),
		"rank for good": func(b *broken) {
			ranks := make(map[uuid.UUID]int)
			b.update = func(u *store.Update) {
				if _, ok := ranks[u.ID]; !ok && len(u.Entries) > 0 {
					ranks[u.ID] = u.Entries[0].Rank
				}
				for i := range u.Entries {
					u.Entries[i].Rank = ranks[u.ID]
				}
			}
		},
	},
	"WaitingLongest": {
		"newest only": asking(func(req *store.ClaimRequest) {
			for name, g := range req.Grants {
				req.Grants = map[string]store.Grant{name: {Calls: g.Calls}}
			}
		}),
		"more than calls": asking(func(req *store.ClaimRequest) {
			for name, g := range req.Grants {
				req.Grants = map[string]store.Grant{name: {Calls: max(g.Calls, g.Oldest), Oldest: g.Oldest}}
			}
		}),
		"shortest first": ranking(func(e *store.Entry) { e.Since = time.Unix(0, 0).Add(farAhead.Sub(e.Since)) }),
	},
	"WaitingGranted": {
		"none": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i := range c.Records {
				c.Records[i].Granted = nil
			}
		}),
		"all that wait": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i, r := range c.Records {
				c.Records[i].Granted = nil
				for _, e := range r.Entries {
					if e.State == store.Waiting {
						c.Records[i].Granted = append(c.Records[i].Granted, e.Provider)
					}
				}
			}
		}),
		"one only": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i, r := range c.Records {
				c.Records[i].Granted = r.Granted[:min(1, len(r.Granted))]
			}
		}),
	},
	"SeenAhead": {
		"never":  updating(func(u *store.Update) { u.Ahead = time.Time{} }),
		"always": updating(func(u *store.Update) { u.Ahead = time.Unix(1, 0) }),
		"without being seen": updating(func(u *store.Update) {
			if !u.Ahead.IsZero() && u.Ahead.Before(u.Due) {
				u.Due = u.Ahead
			}
		}),
		"later than due": updating(func(u *store.Update) {
			if u.Ahead.After(u.Due) {
				u.Due = u.Ahead
			}
		}),
		"for good": func(b *broken) {
			ahead := make(map[uuid.UUID]time.Time)
			b.update = func(u *store.Update) {
				if !u.Ahead.IsZero() {
					ahead[u.ID] = u.Ahead
				}
				u.Ahead = ahead[u.ID]
			}
		},
	},
	"KeepDue": {
		"due as the lease says": updating(func(u *store.Update) { u.KeepDue = false }),
		"due at once": updating(func(u *store.Update) {
			if u.KeepDue {
				u.KeepDue, u.Due = false, time.Now().Add(-time.Hour)
			}
		}),
		"due never": updating(func(u *store.Update) {
			if u.KeepDue {
				u.KeepDue, u.Due = false, time.Time{}
			}
		}),
		"decision kept": updating(func(u *store.Update) {
			if u.KeepDue {
				u.Decision = nil
			}
		}),
		"lease kept": updating(func(u *store.Update) { u.Hold = u.Hold || u.KeepDue }),
		"only for those due some time": updating(func(u *store.Update) {
			u.KeepDue = u.KeepDue && len(u.Entries) > 0
		}),
	},
	"MixedOrder": {
		"due ones first": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				due := req
				due.Grants, due.Providers = nil, nil
				c, err := b.Store.Claim(background, due)
				if req.Limit -= len(c.Records); req.Limit > 0 && err == nil {
					more, _ := b.Store.Claim(background, req)
					c.Records = append(c.Records, more.Records...)
				}
				return c, err
			}
		},
	},
}
