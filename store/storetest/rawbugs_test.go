package storetest_test

import (
	"net/netip"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"errors"

	"github.com/decnet/enrich/provider"
	"github.com/decnet/enrich/store"
)

var rawBugs = bugs{
	"OddNames": {
		"owner is no text": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if !utf8.ValidString(req.Owner) || strings.Contains(req.Owner, "\x00") {
					return store.Claimed{}, errors.New("invalid byte sequence")
				}
				return b.Store.Claim(background, req)
			}
		},
		"owner is too long": func(b *broken) {
			b.claim = func(req store.ClaimRequest) (store.Claimed, error) {
				if len(req.Owner) > 65535 {
					return store.Claimed{}, errors.New("data too long")
				}
				return b.Store.Claim(background, req)
			}
		},
	},
	"ObserveTwice": {
		"only the last counts": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				return b.Store.Observe(background, attackers[len(attackers)-1])
			}
		},
		"only the first counts": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error { return b.Store.Observe(background, attackers[0]) }
		},
	},
	"AwayAndBack": {
		"not noticed": func(b *broken) {
			b.observe = func(attackers []store.Attacker) error {
				for _, a := range attackers {
					if rec, err := b.Store.Get(background, a.ID); err == nil {
						a.IP = rec.IP
					}
					if err := b.Store.Observe(background, a); err != nil {
						return err
					}
				}
				return nil
			}
		},
		"update dropped": func(b *broken) {
			b.save = func(ups []store.Update) error {
				for _, u := range ups {
					_ = b.Store.Release(background, time.Now(), u.Lease)
				}
				return nil
			}
		},
	},
	"AnswersOnce": {
		"once for each form": func(b *broken) {
			b.answers = func(now time.Time, addrs []netip.Addr) (all []store.Answer, err error) {
				for _, addr := range slices.Compact(addrs) {
					some, err := b.Store.Answers(background, now, addr)
					if err != nil {
						return nil, err
					}
					all = append(all, some...)
				}
				return all, nil
			}
		},
	},
	"Nameless": {
		"stored without a provider": func(b *broken) {
			b.update = func(u *store.Update) {
				for i := range u.Entries {
					if f := u.Entries[i].Finding; f != nil && f.Provider == "" {
						named := *f
						named.Provider = u.Entries[i].Provider
						u.Entries[i].Finding = &named
					}
				}
			}
		},
		"stored under another name": func(b *broken) {
			b.update = func(u *store.Update) {
				for i := range u.Entries {
					if provider.ValidateName(u.Entries[i].Provider) != nil {
						u.Entries[i].Provider = "named"
					}
				}
			}
		},
		"stored without an address": func(b *broken) {
			b.update = func(u *store.Update) {
				for i := range u.Entries {
					if f := u.Entries[i].Finding; f != nil && !f.Addr.IsValid() {
						named := *f
						named.Addr = netip.MustParseAddr("45.9.0.1")
						u.Entries[i].Finding = &named
					}
				}
			}
		},
	},
}
