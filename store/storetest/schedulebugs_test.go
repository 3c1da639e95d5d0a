package storetest_test

import (
	"slices"
	"time"

	"github.com/decnet/enrich/store"
)

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
				req.Grants = map[string]int{name: n * 100}
			}
		}),
		"for nobody":   asking(func(req *store.ClaimRequest) { req.Grants = map[string]int{"a": 100, "b": 100} }),
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
				if left := all["a"] - len(c.Records); left > 0 && err == nil {
					req.Grants = map[string]int{"a": left}
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
