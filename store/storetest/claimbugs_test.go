package storetest_test

import (
	"errors"
	"slices"
	"time"

	"github.com/decnet/enrich/store"
)

var farAhead = time.Now().AddDate(30, 0, 0)

// asking returns a bug that changes what is asked of Claim.
func asking(change func(req *store.ClaimRequest)) func(b *broken) {
	return func(b *broken) {
		b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
			change(&req)
			return b.Store.Claim(background, req)
		}
	}
}

// returning returns a bug that changes what Claim returns.
func returning(change func(req store.ClaimRequest, c *store.Claimed)) func(b *broken) {
	return func(b *broken) { b.claimed = change }
}

// updating returns a bug that changes what Save stores.
func updating(change func(u *store.Update)) func(b *broken) {
	return func(b *broken) { b.update = change }
}

// unlessOverflow calls a function unless the limit is the greatest number there is.
func unlessOverflow[T any](limit int, call func() (T, error)) (result T, err error) {
	if limit+1 < limit {
		return result, errors.New("LIMIT must not be negative")
	}
	return call()
}

func oldestFirst(_ store.ClaimRequest, c *store.Claimed) { slices.Reverse(c.Records) }

// latestFence accepts updates under any fence.
func latestFence(b *broken) {
	b.update = func(u *store.Update) {
		if fence := b.fence(u.ID); fence > 0 {
			u.Fence = fence
		}
	}
}

var claimBugs = bugs{
	"ClaimNewestFirst": {
		"oldest first":  returning(oldestFirst),
		"limit ignored": asking(func(req *store.ClaimRequest) { req.Limit = 1000 }),
		"not leased":    func(b *broken) { b.claimed = func(store.ClaimRequest, *store.Claimed) { b.steal() } },
	},
	"ClaimNeverEnriched": {
		"not due before it was seen": returning(func(req store.ClaimRequest, c *store.Claimed) {
			c.Records = slices.DeleteFunc(c.Records, func(r store.Record) bool { return r.LastSeen.After(req.Now) })
		}),
		"old ones left out": returning(func(req store.ClaimRequest, c *store.Claimed) {
			c.Records = slices.DeleteFunc(c.Records, func(r store.Record) bool { return r.LastSeen.Before(req.Now.AddDate(-1, 0, 0)) })
		}),
		"no fence": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i := range c.Records {
				c.Records[i].Fence = 0
			}
		}),
		"times lost": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			for i := range c.Records {
				c.Records[i].FirstSeen = time.Time{}
			}
		}),
		"fence in Get": func(b *broken) { b.read = func(r *store.Record) { r.Fence = 1 } },
	},
	"ClaimDueBoundary": {
		"late":  asking(func(req *store.ClaimRequest) { req.Now = req.Now.Add(-time.Microsecond) }),
		"early": asking(func(req *store.ClaimRequest) { req.Now = req.Now.Add(time.Microsecond) }),
	},
	"ClaimOnly": {
		"ignored":       asking(func(req *store.ClaimRequest) { req.Only = nil }),
		"limit ignored": asking(func(req *store.ClaimRequest) { req.Limit = 1000 }),
		"due ones only": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				chosen := req.Only
				req.Only = nil
				c, err := b.Store.Claim(background, req)
				c.Records = slices.DeleteFunc(c.Records, func(r store.Record) bool {
					return chosen != nil && !slices.Contains(chosen, r.ID)
				})
				return c, err
			}
		},
		"leased ones too": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if len(req.Only) > 1 {
					b.steal()
				}
				return b.Store.Claim(background, req)
			}
		},
		"unknown ones fail": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				for _, id := range req.Only {
					if _, err := b.Store.Get(background, id); err != nil {
						return store.Claimed{}, err
					}
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"ClaimRefusesNonsense": {
		"taken for defaults": asking(func(req *store.ClaimRequest) {
			if req.Owner == "" || req.Now.IsZero() || req.Lease <= 0 || req.Limit <= 0 {
				req.Owner, req.Now, req.Lease, req.Limit = "anybody", time.Now(), time.Minute, 1
			}
		}),
		"another error": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if req.Validate() != nil {
					return store.Claimed{}, errors.New("invalid")
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"ClaimGreatestLimit": {
		"one more": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				return unlessOverflow(req.Limit, func() (store.Claimed, error) { return b.Store.Claim(background, req) })
			}
		},
		"some at once": asking(func(req *store.ClaimRequest) { req.Limit = min(req.Limit, 3) }),
		"some of who waits": asking(func(req *store.ClaimRequest) {
			for name := range req.Grants {
				req.Grants[name] = store.Grant{Calls: req.Grants[name].Calls + 1}
			}
		}),
		"time of the next": returning(func(req store.ClaimRequest, c *store.Claimed) { c.NextDue = req.Now }),
	},
	"ClaimConcurrently": {
		"one twice": func(b *broken) {
			var last []store.Record
			b.claimed = func(_ store.ClaimRequest, c *store.Claimed) {
				b.mu.Lock()
				defer b.mu.Unlock()
				if len(c.Records) > 0 {
					c.Records, last = append(c.Records, last...), c.Records[:1:1]
				}
			}
		},
		"one lost": returning(func(_ store.ClaimRequest, c *store.Claimed) {
			if len(c.Records) > 1 {
				c.Records = c.Records[1:]
			}
		}),
		"busy": func(b *broken) {
			calls := 0
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				b.mu.Lock()
				calls++
				busy := calls == 20
				b.mu.Unlock()
				if busy {
					return store.Claimed{}, errors.New("database is locked")
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"NextDue": {
		"never": returning(func(_ store.ClaimRequest, c *store.Claimed) { c.NextDue = time.Time{} }),
		"now":   returning(func(req store.ClaimRequest, c *store.Claimed) { c.NextDue = req.Now }),
		"of what was returned": returning(func(req store.ClaimRequest, c *store.Claimed) {
			if len(c.Records) > 0 {
				c.NextDue = req.Now.Add(req.Lease)
			}
		}),
		"parked ones are due now": updating(func(u *store.Update) {
			if u.Due.IsZero() {
				u.Due = time.Now().Add(time.Second)
			}
		}),
	},
	"NextDueOfLease": {
		"leases left out": returning(func(req store.ClaimRequest, c *store.Claimed) {
			if c.NextDue.After(req.Now.Add(30 * time.Minute)) {
				c.NextDue = time.Time{}
			}
		}),
		"lease only": returning(func(req store.ClaimRequest, c *store.Claimed) { c.NextDue = req.Now.Add(req.Lease) }),
		"always now": returning(func(req store.ClaimRequest, c *store.Claimed) { c.NextDue = req.Now }),
	},
	"NextDueBeyondLimit": {
		"later": returning(func(req store.ClaimRequest, c *store.Claimed) {
			if !c.NextDue.After(req.Now) {
				c.NextDue = req.Now.Add(time.Hour)
			}
		}),
		"none": returning(func(_ store.ClaimRequest, c *store.Claimed) { c.NextDue = time.Time{} }),
	},
}
